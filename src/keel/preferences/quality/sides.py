"""Left-bias: sides are drawn by a fair coin, so who decides by reading presses left half the time."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from keel.preferences.judgement import Judgement
from keel.preferences.quality.binomial import Share, share, two_sided
from keel.preferences.quality.discovery import adjusted
from keel.preferences.quality.verdict import by_annotator


@dataclass(frozen=True)
class SideBias:
    """`left`: presses on the left among decided votes; `z` > 0 leans left; `p` two-sided, `adjusted` for everybody."""

    left: Share
    z: float
    p: float
    adjusted: float


def side_biases(judgements: Sequence[Judgement], level: float = 0.95) -> dict[str, SideBias]:
    """The test of no bias for everybody with a decided vote, adjusted across them (Benjamini–Hochberg).

        L ~ Binomial(n, ½),   p = P(|L − n/2| ≥ |l − n/2|) exactly,   z = (2l − n)/√n

    Ties, "both bad", skips and flags decide for no side; rankings have no sides, and count nowhere. Left out is whoever
    always had the first answer on the same side: nobody drew sides then (labels made elsewhere), and left means first.
    """
    counts = {}
    for name, said in by_annotator(judgements).items():
        decided = [each for each in said if each.pressed]
        if len({each.shown[0] < each.shown[1] for each in decided}) == 2:
            counts[name] = (sum((each.pressed or 0) < 0 for each in decided), len(decided))
    p = {name: two_sided(left, n) for name, (left, n) in counts.items()}
    across = adjusted(p)
    return {
        name: SideBias(share(left, n, level), (2 * left - n) / math.sqrt(n), p[name], across[name])
        for name, (left, n) in counts.items()
    }
