"""Self-consistency: the same question a second time, with the sides swapped."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from keel.preferences.judgement import Judgement
from keel.preferences.quality.binomial import Share, share
from keel.preferences.quality.verdict import by_annotator, verdict_of


@dataclass(frozen=True)
class Consistency:
    """`consistent`: the same verdict both times. `sided`: the same side both times, of those that were decided twice.

    Somebody who presses without reading, left with probability q, is consistent with 2q(1 − q) ≤ ½ and sided with the
    rest: 0 and 1 for always the same side. Somebody who reads and doubts is sided too, as often as inconsistent; where
    `sided` is high, `keel.preferences.quality.sides` says whether one side is meant.
    """

    consistent: Share
    sided: Share


def consistencies(
    judgements: Sequence[Judgement], repeats: Mapping[str, str], level: float = 0.95
) -> dict[str, Consistency]:
    """The consistency of everybody who judged both an item and its repeat.

    `repeats` says which item each repeating item copies; a copy has the same answers in the same order. Counted are
    those shown on opposite sides the second time, with a verdict both times: a tie and a choice differ, two ties agree,
    "both bad" agrees with itself alone. Skips, flags and rankings count nowhere.
    """
    found = {}
    for name, said in by_annotator(judgements).items():
        by_item = {judgement.item: judgement for judgement in said}
        twice = [
            (by_item[original], by_item[copy])
            for copy, original in repeats.items()
            if copy in by_item and original in by_item
        ]
        twice = [(one, other) for one, other in twice if _comparable(one, other)]
        if twice:
            same = sum(verdict_of(one) == verdict_of(other) for one, other in twice)
            pressed = [(one.pressed, other.pressed) for one, other in twice if one.pressed and other.pressed]
            sided = sum((one or 0) * (other or 0) > 0 for one, other in pressed)
            found[name] = Consistency(share(same, len(twice), level), share(sided, len(pressed), level))
    return found


def _comparable(one: Judgement, other: Judgement) -> bool:
    return one.shown == other.shown[::-1] and verdict_of(one) is not None and verdict_of(other) is not None
