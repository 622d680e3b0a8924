"""An online algorithm is a row of choices: how credit is given, what moves the policy, where the KL stands, which mean.

The loop, the packing and the sampler never ask for an algorithm's name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Estimator = Literal["k1", "k2", "k3"]
Whitening = Literal["advantages", "none"]
"""advantages = to mean 0 and variance 1 over all sampled tokens of an update; returns are never whitened."""


@dataclass(frozen=True)
class GAE:
    """Credit by generalised advantage estimation, with a critic; `gamma` and `lam` per sampled token.

    `value_clip` and `value_coef` are those of the critic's loss.
    """

    gamma: float = 1.0
    lam: float = 0.95
    whiten: Whitening = "advantages"
    value_clip: float = 0.2
    value_coef: float = 0.1


@dataclass(frozen=True)
class ToGo:
    """Each token is thanked for the (discounted) rewards from it on, without a critic."""

    gamma: float = 1.0
    whiten: Whitening = "advantages"


@dataclass(frozen=True)
class Grouped:
    """An answer is compared with the others to its prompt, and all its tokens are thanked alike.

    `by` = "std" (r − mean)/std, "mean" r − mean, "others" r − mean of the others.
    """

    by: Literal["std", "mean", "others"]
    whiten: Whitening = "none"


@dataclass(frozen=True)
class Best:
    """Only the best answer to each prompt is learnt from, with advantage 1; the first of several that are alike."""


@dataclass(frozen=True)
class Contest:
    """The best answer to each prompt (advantage 1) is preferred to the worst (−1); where all score alike, nothing is
    learnt."""


Credit = GAE | ToGo | Grouped | Best | Contest


@dataclass(frozen=True)
class Clipped:
    """The clipped surrogate of PPO, beyond 1 − `low` and 1 + `high`, of a `ratio` per token, or of one per answer."""

    low: float
    high: float
    ratio: Literal["token", "sequence"] = "token"


@dataclass(frozen=True)
class Weighted:
    """A·log π under the ratio, cut off above at 1 + `high` and without a gradient of its own (CISPO)."""

    high: float


@dataclass(frozen=True)
class Plain:
    """A·log π."""


@dataclass(frozen=True)
class Paired:
    """A loss on pairs of answers and their reference (`keel.training.preference`)."""


Surrogate = Clipped | Weighted | Plain | Paired


@dataclass(frozen=True)
class InReward:
    """The KL to the reference is a cost of every token: r_t −= β·estimate_t."""

    estimator: Estimator = "k1"


@dataclass(frozen=True)
class InLoss:
    """The KL to the reference is a part of the loss: L_t += β·w_t·estimate_t, with the loss's own mean; w_t = 1, or the
    "ratio" π_t/π_old,t, through which the gradient runs."""

    estimator: Estimator = "k3"
    weight: Literal["none", "ratio"] = "none"


@dataclass(frozen=True)
class Algorithm:
    """One row. `importance_cap` bounds what a token counts for where sampler and trainer differ; None: each counts 1.

    The mean of the loss is over "token"s of a step, over answers of each one's own mean ("sequence"), or over answers
    times a "constant" length.
    """

    credit: Credit
    surrogate: Surrogate
    kl: InReward | InLoss
    mean: Literal["token", "sequence", "constant"] = "token"
    importance_cap: float | None = None


PPO = Algorithm(GAE(), Clipped(0.2, 0.2), InReward("k1"))
"""Proximal policy optimisation with the settings of lm-human-preferences (1909.08593)."""
GRPO = Algorithm(Grouped("std"), Clipped(0.2, 0.2), InLoss("k3"), "sequence")
"""Group-relative policy optimisation (2402.03300)."""
