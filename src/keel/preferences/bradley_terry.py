"""Bradley–Terry: every answer has a score, and the better-scored answer is preferred more often.

`bradley_terry` takes all annotators alike: P(i ≻ j) = σ(s_i − s_j), a tie is half a win for each. `crowd_bradley_terry`
(Chen et al. 2013, "CrowdBT", with position bias and Rao–Kupper ties) lets annotator k answer the opposite of what they
see with probability 1 − η_k, lean to the left by b_k, and call a tie where the scores are close:

    z = s_first − s_second + b_k·side                        side +1 where the first answer stood on the left, −1 right
    A(z) = σ(z − ln θ),  B(z) = σ(−z − ln θ),  tie = 1 − A − B = (θ² − 1)·A·B,   θ ≥ 1
    P(first) = η_k·A + (1 − η_k)·B,   P(second) = η_k·B + (1 − η_k)·A

with priors s ~ N(0, deviation²), b ~ N(0, 1), η ~ Beta(10, 1), ln ln θ ~ N(−1, 1). An answer is what stands in it: the
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

_HONEST = 10.0  # of the Beta(10, 1) prior on η, as a density over logit η: its mode is 10/11
_WIDTH = -1.0  # mode of the prior N(·, 1) on ln ln θ


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


@dataclass(frozen=True, eq=False)
class CrowdBradleyTerry(BradleyTerry):
    """`reliability` is η; `bias[a]` is the lean to the left in log-odds, `tie_width` is ln θ (0: no ties)."""

    bias: Float[np.ndarray, " A"]
    tie_width: float


def bradley_terry(items: Sequence[Item], votes: Votes, deviation: float = 1.5) -> BradleyTerry:
    """Fit the scores by maximum posterior (`deviation=inf`: maximum likelihood, which may not exist).

    Reliability is the mean probability of what the annotator chose. Warns (DisconnectedGraph) where answers to one
    prompt are not linked by comparisons.
    """
    first, second, component, size = _graph(items, votes)
    worth = 1 - votes.label / 2

    def loss(scores: np.ndarray) -> tuple[float, np.ndarray]:
        gap = (scores[first] - scores[second])[votes.pair]
        value = worth @ np.logaddexp(0, -gap) + (1 - worth) @ np.logaddexp(0, gap)
        pull = np.bincount(votes.pair, weights=_sigmoid(gap) - worth, minlength=len(votes.pairs))
        prior = scores / deviation**2
        return float(value + 0.5 * scores @ prior), _to_scores(pull, first, second, size) + prior

    scores = _fit(loss, np.zeros(size))
    scores = _centred(scores, component)
    probability = _sigmoid(scores[first] - scores[second])
    reliability = agreement_with(votes, probability)
    return BradleyTerry(votes, probability, reliability, scores, first, second, int(component.max(initial=-1)) + 1)


def crowd_bradley_terry(items: Sequence[Item], votes: Votes, deviation: float = 1.5) -> CrowdBradleyTerry:
    """Fit scores, reliabilities, position biases and the width of a tie together, by maximum posterior.

    Needs annotators who overlap or share answers; where nothing is shared the priors decide. Warns as `bradley_terry`
    does.
    """
    first, second, component, size = _graph(items, votes)
    crowd = _Crowd(votes, first, second, size, deviation)
    scores, honesty, bias, width = crowd.split(_fit(crowd.loss, crowd.start()))
    scores = _centred(scores, component)
    return CrowdBradleyTerry(
        votes, _sigmoid(scores[first] - scores[second]), _sigmoid(honesty), scores, first, second,
        int(component.max(initial=-1)) + 1, bias, float(np.exp(width[0])) if crowd.tied else 0.0,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Crowd:
    """The negative log posterior of `crowd_bradley_terry` over x = scores [S], logit η [A], b [A], ln ln θ [0 or 1]."""

    votes: Votes
    first: np.ndarray
    second: np.ndarray
    size: int
    deviation: float

    @property
    def tied(self) -> bool:
        """Without a tie among the votes θ is 1 and no parameter."""
        return bool((self.votes.label == 1).any())

    def start(self) -> np.ndarray:
        annotators = len(self.votes.annotators)
        honesty = np.full(annotators, np.log(_HONEST))
        return np.concatenate([np.zeros(self.size), honesty, np.zeros(annotators), np.full(int(self.tied), _WIDTH)])

    def split(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        annotators = len(self.votes.annotators)
        scores, honesty, bias, log_width = np.split(x, np.cumsum([self.size, annotators, annotators]))
        return scores, honesty, bias, log_width

    def loss(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """The value, in nats up to a constant, and its gradient."""
        votes = self.votes
        scores, honesty, bias, log_width = self.split(x)
        width = float(np.exp(log_width[0])) if self.tied else 0.0
        z = (scores[self.first] - scores[self.second])[votes.pair] + bias[votes.annotator] * votes.side
        surprise, by_z, by_honesty, by_width = _votes_loss(votes.label, z, honesty[votes.annotator], width)

        eta = _sigmoid(honesty)
        value = surprise + 0.5 * (scores @ scores) / self.deviation**2 + 0.5 * (bias @ bias)
        value += float((_HONEST * np.logaddexp(0, -honesty) + np.logaddexp(0, honesty)).sum())
        value += 0.5 * float(((log_width - _WIDTH) ** 2).sum())

        pull = np.bincount(votes.pair, weights=by_z, minlength=len(votes.pairs))
        gradient = [
            _to_scores(pull, self.first, self.second, self.size) + scores / self.deviation**2,
            np.bincount(votes.annotator, weights=by_honesty, minlength=len(bias)) + (_HONEST + 1) * eta - _HONEST,
            np.bincount(votes.annotator, weights=by_z * votes.side, minlength=len(bias)) + bias,
            by_width * width + log_width - _WIDTH,
        ]
        return float(value), np.concatenate(gradient)


def _votes_loss(
    label: np.ndarray, z: np.ndarray, honesty: np.ndarray, width: float
) -> tuple[float, np.ndarray, np.ndarray, float]:
    """−log P of all votes together; its slope in z [V], in logit η [V], and in the width."""
    eta = _sigmoid(honesty)
    turn = np.where(label == 2, -1.0, 1.0)
    # the said answer's probability if honest and if inverted; for a tie: A and B
    toward, against = _sigmoid(turn * z - width), _sigmoid(-turn * z - width)
    tie = label == 1
    said = np.where(tie, 1.0, eta * toward + (1 - eta) * against)
    surprise = -np.log(said)
    honest_slope, inverted_slope = eta * toward * (1 - toward) / said, (1 - eta) * against * (1 - against) / said
    by_z = np.where(tie, toward - against, -turn * (honest_slope - inverted_slope))
    by_honesty = np.where(tie, 0.0, -(toward - against) * eta * (1 - eta) / said)
    by_width = float((honest_slope + inverted_slope)[~tie].sum())
    if tie.any():
        log_both = -np.logaddexp(0, width - z[tie]) - np.logaddexp(0, width + z[tie])
        surprise[tie] = -log_both - np.log(np.expm1(2 * width))
        by_width += float(((1 - toward[tie]) + (1 - against[tie]) + 2 / np.expm1(-2 * width)).sum())
    return float(surprise.sum()), by_z, by_honesty, by_width


def _graph(items: Sequence[Item], votes: Votes) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Which answers the pairs compare: first [N], second [N], component [S] of each answer, and S."""
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


def _fit(loss: Callable[[np.ndarray], tuple[float, np.ndarray]], start: np.ndarray) -> np.ndarray:
    minimum = minimise(loss, start)
    if not minimum.converged:
        warnings.warn(f"the Bradley–Terry fit has not converged in {minimum.steps} steps", stacklevel=3)
    return minimum.x


def _centred(scores: np.ndarray, component: np.ndarray) -> np.ndarray:
    means = np.bincount(component, weights=scores) / np.bincount(component)
    return np.asarray(scores - means[component])


def _to_scores(pull: np.ndarray, first: np.ndarray, second: np.ndarray, size: int) -> np.ndarray:
    return np.bincount(first, weights=pull, minlength=size) - np.bincount(second, weights=pull, minlength=size)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)))
