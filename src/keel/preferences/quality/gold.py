"""Gold items: items whose right answer is known, mixed in unseen among the others."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from keel.preferences.judgement import Judgement
from keel.preferences.quality.binomial import Share, share
from keel.preferences.quality.limits import Limits
from keel.preferences.quality.verdict import Verdict, by_annotator, verdict_of


@dataclass(frozen=True)
class Gold:
    """What may be said about the answers `pair` of this item, in canonical orientation.

    {"first"} is the usual kind: only "the first is better", however slightly, is right. A tie or "both bad" is right
    where it is listed, and a miss where it is not: a gold item should be so clear that neither would do, and a way to
    answer that is never wrong would be the way to pass without reading. Skipping or flagging is no answer.
    """

    item: str
    accepted: frozenset[Verdict]
    pair: tuple[int, int] = (0, 1)

    def __post_init__(self) -> None:
        if not self.accepted or not 0 <= self.pair[0] < self.pair[1]:
            raise ValueError(f"gold item {self.item}: needs an accepted verdict and a pair in ascending order")

    @classmethod
    def expecting(cls, item: str, expected: int) -> "Gold":
        """A gold item of two answers with one right verdict: < 0 the first is better, 0 a tie, > 0 the second."""
        verdict: Verdict = "tie" if expected == 0 else "first" if expected < 0 else "second"
        return cls(item, frozenset({verdict}))


@dataclass(frozen=True)
class Accuracy:
    """`share` of the answered gold items that were right, with prior `Limits.prior`; `doubt` is P(accuracy < limit).

    `missed` names the items that were not, `declined` counts gold items that were skipped or flagged.
    """

    share: Share
    doubt: float
    missed: tuple[str, ...]
    declined: int


def accuracies(judgements: Sequence[Judgement], gold: Iterable[Gold], limits: Limits) -> dict[str, Accuracy]:
    """The accuracy of everybody who met a gold item.

        θ ~ Beta(a, b),   θ | c right of n ~ Beta(a + c, b + n − c),   doubt = I_limit(a + c, b + n − c)

    Rankings, and comparisons of other answers of the item, are left out.
    """
    accepted = {(each.item, each.pair): each.accepted for each in gold}
    found = {}
    for name, said in by_annotator(judgements).items():
        met = [each for each in said if (each.item, tuple(sorted(each.shown))) in accepted]
        answered = [each for each in met if verdict_of(each) is not None]
        missed = [each.item for each in answered if verdict_of(each) not in accepted[each.item, _pair(each)]]
        if met:
            right = share(len(answered) - len(missed), len(answered), limits.level, limits.prior)
            found[name] = Accuracy(right, right.below(limits.accuracy), tuple(missed), len(met) - len(answered))
    return found


def _pair(judgement: Judgement) -> tuple[int, int]:
    first, second = sorted(judgement.shown)
    return first, second
