"""An online algorithm is a row of choices: how credit is given, what is clipped, where the KL stands.

The loop, the packing and the sampler never ask for an algorithm's name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Estimator = Literal["k1", "k2", "k3"]


@dataclass(frozen=True)
class GAE:
    """Credit by generalised advantage estimation, with a critic; `gamma` and `lam` per sampled token.

    `whiten` = "advantages" scales the advantages of an update to mean 0 and variance 1; returns are never whitened.
    """

    gamma: float = 1.0
    lam: float = 0.95
    whiten: Literal["advantages", "none"] = "advantages"


@dataclass(frozen=True)
class InReward:
    """The KL to the reference is a cost of every token: r_t −= β·estimate_t."""

    estimator: Estimator = "k1"


@dataclass(frozen=True)
class Algorithm:
    """One row. `clip` = (low, high) of the probability ratio, `value_clip` and `value_coef` of the critic's loss."""

    credit: GAE
    kl: InReward
    clip: tuple[float, float]
    value_clip: float
    value_coef: float


PPO = Algorithm(credit=GAE(), kl=InReward("k1"), clip=(0.2, 0.2), value_clip=0.2, value_coef=0.1)
"""Proximal policy optimisation with the settings of lm-human-preferences (1909.08593)."""
