"""What is watched while PPO runs, and from where on it is too much: the one table of these thresholds.

They are those of Gao et al. (2210.10760) and of common practice. Guards judge by them while the run goes on, the report
after it.
"""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator
from pydantic_core import PydanticCustomError

from keel.config.section import Count, NonNegative, Positive, Section, Whole

Limits = tuple[Positive, Positive]
"""Where amber begins, and where red does; a number that is never reached turns the alarm off."""


class Guards(Section):
    """Alarms while PPO runs. Amber warns; red stops or goes on, and the best policy so far is kept."""

    on_red: Literal["stop", "go_on"] = "go_on"
    """stop = the stage ends, and its model is the best policy so far; go_on = it only says so, the model is the last
    policy, and the best one lies beside it in ppo/best."""

    window: Count = 5
    """A number is judged by the median of so many updates, so that a single batch raises no alarm."""

    best_every: Whole = 10
    """Updates from one best policy that is written down to the next, at least; 0 = none is kept."""

    kl: Limits = (10.0, 30.0)
    """KL against the model that PPO starts from, nats per answer."""

    length: Limits = (1.3, 1.8)
    """Length of the answers, as a multiple of that in the first updates."""

    entropy: Limits = (0.4, 0.7)
    """Entropy that is lost, as a share of that in the first updates."""

    truncated: Limits = (0.05, 0.2)
    """Share of the answers that run into the token limit."""

    disagreement: Limits = (1.5, 2.5)
    """How far the members of an ensemble of reward models (reward.members) are apart, as a multiple of that in the
    first updates. Source: it triples where their mean is over-optimised (2310.02743)."""

    clip_fraction: Positive = 0.3
    """Share of the tokens that the clip holds back; amber only."""

    explained_variance: float = 0.0
    """Explained variance of the critic, below which it is amber: 0 = it foresees no more than a constant would."""

    sampler_kl: Positive = 1e-3
    """KL between sampler and trainer for the same weights, nats per token; amber only."""

    flat_groups: Positive = 0.5
    """Share of the prompts whose answers all score alike, from which a method that compares them learns nothing; amber
    only."""

    gold: NonNegative = 2.0
    """How many standard errors below its best the gold score must lie to have fallen: amber after two evaluations (of
    window updates each) in a row if the reward rises meanwhile, red after three."""

    @model_validator(mode="after")
    def _amber_comes_first(self) -> Guards:
        for key in ("kl", "length", "entropy", "truncated", "disagreement"):
            amber, red = getattr(self, key)
            if amber > red:
                found = {"key": key, "found": [amber, red]}
                raise PydanticCustomError("keel", "{key} must be amber and then red, the smaller one first", found)
        return self
