"""What the KL coefficient β does between one batch of rollouts and the next."""

import math
from dataclasses import dataclass, replace

STEP = 0.2
"""The largest relative error of the KL that the adaptive controller acts on."""


@dataclass(frozen=True)
class FixedKL:
    """β stays what it is. `coef` in reward per nat; raises ValueError below 0."""

    coef: float

    def __post_init__(self) -> None:
        _check_coefficient(self.coef)

    def update(self, kl: float, episodes: int) -> "FixedKL":
        """The same controller: neither the KL nor the episode count matters."""
        return self


@dataclass(frozen=True)
class AdaptiveKL:
    """β follows a target KL.

        β ← β·(1 + clip(KL/target − 1, ±0.2)·n/horizon)

    `coef` is β in reward per nat, `target` the wanted KL(π‖π_ref) per episode in nats (6 in the
    source), `horizon` the episodes over which a full error moves β by a factor of about e^±0.2
    (10 000 in the source). Raises ValueError for β < 0, target ≤ 0 or horizon < 1.
    Source: Ziegler et al. (1909.08593), section 2.2, with the gain of its code, lm-human-preferences.
    """

    coef: float
    target: float
    horizon: int

    def __post_init__(self) -> None:
        _check_coefficient(self.coef)
        if not self.target > 0:
            raise ValueError(f"the target KL must be above 0 nats, not {self.target}")
        if self.horizon < 1:
            raise ValueError(f"the horizon must be at least 1 episode, not {self.horizon}")

    def update(self, kl: float, episodes: int) -> "AdaptiveKL":
        """The controller after `episodes` rollouts whose mean KL was `kl` (nats per episode).

        Departure from the source: a KL that is no finite number, or so many episodes that β could
        change sign (n ≥ 5·horizon), raise ValueError instead of spoiling β.
        """
        if not math.isfinite(kl):
            raise ValueError(f"the KL must be a finite number of nats, not {kl}")
        if not 0 <= episodes * STEP < self.horizon:
            raise ValueError(f"{episodes} episodes in one update do not fit a horizon of {self.horizon}")
        error = min(max(kl / self.target - 1, -STEP), STEP)
        return replace(self, coef=self.coef * (1 + error * episodes / self.horizon))


def _check_coefficient(coef: float) -> None:
    if not coef >= 0:
        raise ValueError(f"the KL coefficient must be 0 or more, not {coef}")
