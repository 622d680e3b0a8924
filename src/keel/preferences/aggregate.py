"""From votes to one probability per pair and one reliability per annotator; and from those to training data.

Here: majority and the mean of the votes. `dawid_skene` and `bradley_terry` have modules of their own. Everywhere
`probability` is P(the first answer is better), in [0, 1], with a tie worth ½; `reliability` is in [0, 1], 1 the best,
nan where the votes tell nothing about an annotator.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from keel.preferences.judgement import Item, Votes
from keel.types import Preference, Vote

STEP = 1 / 3
"""Units of reward per step of stated strength: 1, ⅔, ⅓, as in Llama 2 (2307.09288)."""

_log = logging.getLogger(__name__)
_TIE = 0.01  # models never end at ½ exactly
_WORTH = np.array([1.0, 0.5, 0.0])  # of the labels first, tie, second


@dataclass(frozen=True, eq=False)
class Aggregate:
    """What the votes say: `probability[n]` of `votes.pairs[n]`, `reliability[a]` of `votes.annotators[a]`."""

    votes: Votes
    probability: Float[np.ndarray, " N"]
    reliability: Float[np.ndarray, " A"]

    @property
    def tied(self) -> Bool[np.ndarray, " N"]:
        """The pairs for which neither answer is ahead: `probability` within .01 of ½."""
        return np.asarray(np.abs(self.probability - 0.5) <= _TIE)


def majority(votes: Votes) -> Aggregate:
    """1, ½ or 0: what most annotators chose among first, tie and second; ½ where two of these share the lead.

    Reliability is the share of an annotator's votes that equal the majority of the *others* on that pair.
    """
    counts = votes.counts()
    others = counts[votes.pair]
    others[np.arange(len(votes.pair)), votes.label] -= 1
    agrees = _plurality(others) == _WORTH[votes.label]
    return Aggregate(votes, _plurality(counts), _mean_by_annotator(votes, agrees.astype(float), others.sum(1) > 0))


def mean(votes: Votes) -> Aggregate:
    """The share of the votes for the first answer, a tie counting half: a soft label.

    Reliability is 1 minus the mean distance between an annotator's vote and the mean of the *others* on that pair.
    """
    worth = _WORTH[votes.label]
    total = np.bincount(votes.pair, weights=worth, minlength=len(votes.pairs))
    size = np.bincount(votes.pair, minlength=len(votes.pairs))
    others = size[votes.pair] - 1
    apart = np.abs(worth - (total[votes.pair] - worth) / np.maximum(others, 1))
    return Aggregate(votes, total / size, _mean_by_annotator(votes, 1 - apart, others > 0))


def to_preferences(
    items: Sequence[Item], aggregate: Aggregate, ties: Literal["keep", "drop"], margin_per_step: float
) -> list[Preference]:
    """What a reward model trains on: one Preference per pair that was compared, in the order of `votes.pairs`.

    `chosen` is the answer with probability ≥ ½, `probability` its probability. `margin` is the mean stated strength in
    favour of the chosen answer, in steps of the seven buttons (0…3, never negative), times `margin_per_step` in units
    of reward: ⅓ gives Llama 2's 1, ⅔, ⅓; 0 where strengths were not asked for. Ties are kept as p = ½ with margin 0, or
    dropped; how many there are, `aggregate.tied.sum()`, is logged. The votes on a pair come along.
    """
    prompts = {item.id: item for item in items}
    votes = aggregate.votes
    size = np.bincount(votes.pair, minlength=len(votes.pairs))
    strength = np.bincount(votes.pair, weights=votes.strength, minlength=len(votes.pairs)) / size
    said = _said(votes)
    preferences = []
    columns = zip(votes.pairs, aggregate.probability.tolist(), aggregate.tied, strength.tolist(), said, strict=True)
    for pair, probability, tied, towards_second, on_pair in columns:
        item = prompts[pair.item]
        first, second = item.answers[pair.first].messages, item.answers[pair.second].messages
        if tied:
            if ties == "keep":
                preferences.append(Preference(item.prompt, first, second, 0.5, 0.0, on_pair))
            continue
        chosen, rejected = (first, second) if probability > 0.5 else (second, first)
        if probability <= 0.5:
            on_pair = tuple(Vote(vote.annotator, 1 - vote.preferred, -vote.side) for vote in on_pair)
        stated = max(0.0, -towards_second if probability > 0.5 else towards_second)
        probable = max(probability, 1 - probability)
        preferences.append(Preference(item.prompt, chosen, rejected, probable, margin_per_step * stated, on_pair))
    fate = "kept as p = ½" if ties == "keep" else "dropped"
    declined = ", ".join(f"{count} {kind}" for kind, count in sorted(votes.declined.items())) or "none"
    _log.info(
        "%d pairs → %d preferences; %d ties %s; judgements that compare nothing: %s",
        len(votes.pairs), len(preferences), aggregate.tied.sum(), fate, declined,
    )  # fmt: skip
    return preferences


def _said(votes: Votes) -> list[tuple[Vote, ...]]:
    """The votes on each pair, as if its first answer were the chosen one."""
    said: list[list[Vote]] = [[] for _ in votes.pairs]
    columns = zip(votes.pair.tolist(), votes.annotator.tolist(), votes.label.tolist(), votes.side.tolist(), strict=True)
    for pair, annotator, label, side in columns:
        said[pair].append(Vote(votes.annotators[annotator], float(_WORTH[label]), side))
    return [tuple(on_pair) for on_pair in said]


def agreement_with(votes: Votes, probability: Float[np.ndarray, " N"]) -> Float[np.ndarray, " A"]:
    """Reliability where the method has none of its own: the mean probability of what the annotator chose (a tie: ½)."""
    first = probability[votes.pair]
    worth = _WORTH[votes.label]
    return _mean_by_annotator(votes, worth * first + (1 - worth) * (1 - first), np.ones(len(first), dtype=bool))


def _plurality(counts: np.ndarray) -> np.ndarray:
    """[R, 3] → [R]: the worth of the label with most votes, ½ where the lead is shared."""
    leads = counts == counts.max(axis=1, keepdims=True)
    return np.where(leads.sum(axis=1) == 1, np.asarray(leads @ _WORTH), 0.5)


def _mean_by_annotator(votes: Votes, value: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """[V] → [A]: the mean over an annotator's votes that count, nan where none does."""
    total = np.bincount(votes.annotator, weights=np.where(counts, value, 0), minlength=len(votes.annotators))
    size = np.bincount(votes.annotator, weights=counts, minlength=len(votes.annotators))
    result = np.full(len(size), np.nan)
    np.divide(total, size, out=result, where=size > 0)
    return result
