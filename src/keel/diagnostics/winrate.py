"""How often one model's answer beats another's, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist


@dataclass(frozen=True)
class WinRate:
    """`rate` in [0, 1] with ties as half wins; [`low`, `high`] covers it with the confidence asked for."""

    rate: float
    low: float
    high: float
    wins: int
    ties: int
    losses: int


def win_rate(ours: Sequence[float], theirs: Sequence[float], confidence: float = 0.95) -> WinRate:
    """Compare two models' scores prompt by prompt: the higher score wins, equal scores tie.

        rate = (wins + ties/2)/n,   Wilson interval:  (p + z²/2n ± z·√(p(1−p)/n + z²/4n²)) / (1 + z²/n)

    Scores [n] each, in the same order of prompts. A tie varies less than a win or a loss does, so with ties the
    interval is on the wide side. Source: Wilson (1927). Raises ValueError unless both hold the same n ≥ 1 scores.
    """
    if len(ours) != len(theirs) or not ours:
        raise ValueError(f"a win rate needs as many scores on both sides, not {len(ours)} and {len(theirs)}")
    wins = sum(mine > other for mine, other in zip(ours, theirs, strict=True))
    ties = sum(mine == other for mine, other in zip(ours, theirs, strict=True))
    n = len(ours)
    p = (wins + ties / 2) / n
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    reach = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return WinRate(p, max(0.0, centre - reach), min(1.0, centre + reach), wins, ties, n - wins - ties)
