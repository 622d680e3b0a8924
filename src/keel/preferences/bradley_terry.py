"""Bradley–Terry: every answer has a score, and the better-scored answer is preferred more often.

    P(i ≻ j) = σ(s_i − s_j),   s ~ N(0, deviation²),   a tie is half a win for each

takes all annotators alike; `keel.preferences.crowd_bradley_terry` tells them apart. An answer is what stands in it: the
same text under the same prompt, in several items, is one answer, so that pairs which share answers inform each other.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from keel.preferences.aggregate import Aggregate, agreement_with
from keel.preferences.judgement import Item, Votes
from keel.preferences.minimise import minimise


class DisconnectedGraph(UserWarning):
    """Answers to one prompt that no chain of comparisons links: their scores cannot be compared."""


@dataclass(frozen=True, eq=False)
class BradleyTerry(Aggregate):
    """`scores[s]` is in units of log-odds; `first[n]` and `second[n]` say which two belong to `votes.pairs[n]`.

    `probability` is σ(s_first − s_second): what an unbiased annotator who must decide would say. Scores have mean 0 in
    each of the `components` of the comparison graph; between components they are not comparable.
    """

    scores: Float[np.ndarray, " S"]
    first: Int[np.ndarray, " N"]
    second: Int[np.ndarray, " N"]
    components: int


def bradley_terry(items: Sequence[Item], votes: Votes, deviation: float = 1.5) -> BradleyTerry:
    """Fit the scores by maximum posterior (`deviation=inf`: maximum likelihood, which may not exist).

    Reliability is the mean probability of what the annotator chose. Warns (DisconnectedGraph) where answers to one
    prompt are not linked by comparisons.
    """
    first, second, component, size = compared(items, votes)
    worth = 1 - votes.label / 2

    def loss(scores: np.ndarray) -> tuple[float, np.ndarray]:
        gap = (scores[first] - scores[second])[votes.pair]
        value = worth @ np.logaddexp(0, -gap) + (1 - worth) @ np.logaddexp(0, gap)
        pull = np.bincount(votes.pair, weights=sigmoid(gap) - worth, minlength=len(votes.pairs))
        prior = scores / deviation**2
        return float(value + 0.5 * scores @ prior), to_scores(pull, first, second, size) + prior

    scores = fitted(loss, np.zeros(size))
    scores = centred(scores, component)
    probability = sigmoid(scores[first] - scores[second])
    reliability = agreement_with(votes, probability)
    return BradleyTerry(votes, probability, reliability, scores, first, second, int(component.max(initial=-1)) + 1)


def compared(items: Sequence[Item], votes: Votes) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Which answers the pairs compare: first [N], second [N], component [S] of each answer, and S.

    Warns (DisconnectedGraph) where answers to one prompt are not linked by comparisons.
    """
    known = {item.id: item for item in items}
    answers: dict[object, int] = {}
    ends = np.empty((len(votes.pairs), 2), dtype=np.int64)
    for row, pair in enumerate(votes.pairs):
        item = known[pair.item]
        for column, position in enumerate((pair.first, pair.second)):
            ends[row, column] = answers.setdefault((item.prompt, item.answers[position].messages), len(answers))
    component = _components(ends, len(answers))
    prompts = len({known[pair.item].prompt for pair in votes.pairs})
    components = int(component.max(initial=-1)) + 1
    if components > prompts:
        warnings.warn(
            f"the comparisons of {prompts} prompts fall into {components} groups of answers that nothing links: "
            f"scores of different groups cannot be compared",
            DisconnectedGraph,
            stacklevel=3,
        )
    return ends[:, 0], ends[:, 1], component, len(answers)


def _components(ends: np.ndarray, size: int) -> np.ndarray:
    """[N, 2] edges over `size` nodes → component 0… of each node, by union with path halving."""
    parent = list(range(size))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for one, other in ends.tolist():
        parent[root(one)] = root(other)
    return np.unique([root(node) for node in range(size)], return_inverse=True)[1]


def fitted(loss: Callable[[np.ndarray], tuple[float, np.ndarray]], start: np.ndarray) -> np.ndarray:
    """Where `loss` is least; warns where the search did not get there."""
    minimum = minimise(loss, start)
    if not minimum.converged:
        warnings.warn(f"the Bradley–Terry fit has not converged in {minimum.steps} steps", stacklevel=3)
    return minimum.x


def centred(scores: np.ndarray, component: np.ndarray) -> np.ndarray:
    """The scores with mean 0 in each component."""
    means = np.bincount(component, weights=scores) / np.bincount(component)
    return np.asarray(scores - means[component])


def to_scores(pull: np.ndarray, first: np.ndarray, second: np.ndarray, size: int) -> np.ndarray:
    """Slopes [N] in the pairs' differences → slopes [S] in the scores."""
    return np.bincount(first, weights=pull, minlength=size) - np.bincount(second, weights=pull, minlength=size)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + e⁻ˣ), without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)))
