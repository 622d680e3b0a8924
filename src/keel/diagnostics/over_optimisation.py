"""Has the policy learnt to please the reward instead of becoming better? Gao et al. (2210.10760).

The proxy is the reward that PPO raises; gold is a score it never sees. While both rise, all is well. Where gold falls
and the proxy goes on rising, the policy exploits what the reward gets wrong.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from keel.diagnostics.smoothing import running_mean

Kind = Literal["over-optimised", "falling", "rising", "level", "unknown"]
ENOUGH = 8
"""Updates below which nothing is said: a quarter of them would be a single one."""


@dataclass(frozen=True)
class Verdict:
    """What happened to gold while the proxy was raised.

    `drop` is how far gold ended below its best, `error` the standard error of that difference, both in points of gold;
    `best` is the update (counted from 1, the middle of its window) where gold was best.
    """

    kind: Kind
    drop: float
    error: float
    best: int
    sentence: str


def judge(proxy: Float[np.ndarray, " N"], gold: Float[np.ndarray, " N"]) -> Verdict:
    """Compare gold in the last quarter of the updates with the best quarter-long stretch before it.

        drop = max_i mean(gold[i : i+q]) − mean(gold[N−q : N]),   q = N // 4,   i + q ≤ N − q
        error = s·√(2/q),   s² = Σ_t (gold_{t+1} − gold_t)² / 2(N − 1)

    The gold has fallen where drop > 2·error; `s` is the noise from one update to the next (von Neumann 1941), which the
    trend hardly enters. It has risen where the last quarter is more than 2·error above the first. One entry per update;
    raises ValueError where the lengths differ.
    """
    if len(proxy) != len(gold):
        raise ValueError(f"{len(proxy)} proxy rewards and {len(gold)} gold scores")
    if len(gold) < ENOUGH:
        return Verdict("unknown", 0.0, 0.0, 0, f"With fewer than {ENOUGH} updates there is nothing to say about it.")
    quarter = len(gold) // 4
    earlier = running_mean(gold[:-quarter], quarter)
    start = int(np.argmax(earlier))
    last = float(gold[-quarter:].mean())
    drop = float(earlier[start]) - last
    error = math.sqrt(float(np.square(np.diff(gold)).mean()) / 2) * math.sqrt(2 / quarter)
    best = start + quarter // 2 + 1
    rise = float(proxy[-quarter:].mean() - proxy[start : start + quarter].mean())
    gained = last - float(gold[:quarter].mean())
    if drop > 2 * error:
        figures = f"its best was {earlier[start]:.2f} around update {best}, and it ended at {last:.2f}"
        if rise > 0:
            sentence = (
                f"The gold score fell while the reward went on rising: {figures}. The policy has begun to exploit what "
                "the reward model gets wrong."
            )
            return Verdict("over-optimised", drop, error, best, sentence)
        sentence = (
            f"The gold score fell, and the reward with it: {figures}. This points to unstable training rather than "
            "exploitation."
        )
        return Verdict("falling", drop, error, best, sentence)
    if gained > 2 * error:
        sentence = (
            f"The gold score rose with the reward, from {gold[:quarter].mean():.2f} in the first quarter of the "
            f"updates to {last:.2f} in the last: no sign of over-optimisation."
        )
        return Verdict("rising", drop, error, best, sentence)
    sentence = (
        f"The gold score neither rose nor fell beyond its noise ({gold[:quarter].mean():.2f} in the first quarter of "
        f"the updates, {last:.2f} in the last)."
    )
    return Verdict("level", drop, error, best, sentence)
