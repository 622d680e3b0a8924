"""The monitors, by hand, on two rollouts."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from keel.maths.logprobs import TokenLogprobs
from keel.maths.losses import ppo_clipped
from keel.training.algorithm import GAE, PPO
from keel.training.credit import credit
from keel.training.learner import StepReport
from keel.training.monitor import Tally, explained_variance, summarise
from keel.types import CriticSample, Scored, Valued

from .small import rollout


def two() -> list[Valued]:
    """Scores 1 and −.5; KL sums .1 − .2 + .4 = .3 and .7; lengths 3 and 1; the second was cut off."""
    first = rollout((5,), (7, 8, 2), logprobs=(-1.0, -2.0, -0.5))
    second = rollout((6,), (9,), stop="length", logprobs=(-0.75,))
    return [
        Valued(
            Scored(first, 1.0, {"learned": 1.25, "gold": 3.0}), (-1.0, -2.0, -0.6), (-1.1, -1.8, -1.0), (0.5, 0.2, 0.4)
        ),
        Valued(Scored(second, -0.5, {"learned": 0.25, "gold": 2.0}), (-0.75,), (-1.45,), (0.1,)),
    ]


def test_summary_by_hand() -> None:
    update = two()
    samples = credit(update, PPO, 0.2)
    found = summarise(update, samples, Tally(), 0.2)
    assert found["reward"] == pytest.approx(0.25)
    assert found["reward/std"] == pytest.approx(0.75)
    assert (found["reward/learned"], found["reward/gold"]) == (pytest.approx(0.75), pytest.approx(2.5))
    assert found["kl"] == pytest.approx((0.3 + 0.7) / 2)
    assert found["objective"] == pytest.approx(0.25 - 0.2 * 0.5)
    ratios = [-0.1, 0.2, -0.4, -0.7]  # log π_ref − log π
    k3 = [math.exp(u) - 1 - u for u in ratios]
    assert found["kl_k3"] == pytest.approx(sum(k3) / 2, rel=1e-5)  # per answer
    assert found["kl_coef"] == 0.2
    assert found["length"] == 2.0
    assert found["truncated"] == 0.5
    # the trainer found −.6 where the sampler had −.5: u = −.1 at one of four tokens
    assert found["sampler_kl"] == pytest.approx((math.exp(-0.1) - 1 + 0.1) / 4, rel=1e-4)
    assert found["value/mean"] == pytest.approx(1.2 / 4)
    returns = [x for (one,) in samples for x in one.returns]
    assert found["return"] == pytest.approx(sum(returns) / 4)
    assert found["value/explained_variance"] == pytest.approx(explained_variance([one for (one,) in samples]))


def test_truncated_counts_the_token_limit_and_nothing_else() -> None:
    first, second = two()
    third = replace(first, scored=replace(first.scored, rollout=replace(first.scored.rollout, stop="stop")))
    update = [first, second, third]
    assert summarise(update, credit(update, PPO, 0.2), Tally(), 0.2)["truncated"] == pytest.approx(1 / 3)


def test_returns_in_the_summary_are_those_of_the_hand() -> None:
    """λ = γ = 1: returns are the rewards to come, .2 per nat and the score at the end."""
    samples = credit(two(), replace(PPO, credit=GAE(1.0, 1.0)), 0.2)
    rewards = [-0.02, 0.04, 1 - 0.08]
    expected = [sum(rewards), sum(rewards[1:]), rewards[2], -0.5 - 0.14]
    found = summarise(two(), samples, Tally(), 0.2)
    assert found["return"] == pytest.approx(sum(expected) / 4, rel=1e-5)


def sample(values: tuple[float, ...], returns: tuple[float, ...]) -> CriticSample:
    zeros = (0.0,) * len(values)
    return CriticSample(rollout((5,), range(3, 3 + len(values))), zeros, zeros, zeros, zeros, values, returns)


def test_explained_variance() -> None:
    """Over all tokens of the update, not answer by answer."""
    one, other = sample((1.0, 2.0), (1.0, 3.0)), sample((2.0,), (5.0,))
    # returns 1, 3, 5: variance 8/3; errors 0, 1, 3: variance 14/9
    assert explained_variance([one, other]) == pytest.approx(1 - (14 / 9) / (8 / 3), rel=1e-6)
    assert explained_variance([sample((1.0, 3.0, 5.0), (1.0, 3.0, 5.0))]) == 1.0
    assert explained_variance([sample((7.0, 7.0), (1.0, 3.0))]) == pytest.approx(0.0)  # a constant
    assert explained_variance([sample((3.0, 1.0), (1.0, 3.0))]) == pytest.approx(-3.0)  # worse than one
    assert explained_variance([sample((1.0, 2.0), (4.0, 4.0))]) == 0.0  # nothing to explain


def step(loss: float, norm: float, lr: float, skipped: int = 0) -> StepReport:
    return StepReport(loss, norm, lr, skipped)


def test_tally_by_hand() -> None:
    """Ratios 1.5, 1, .5, 1.1 with ε = .2: the first is clipped (A > 0), the third not (A > 0, ρ < 1 + ε)."""
    tally = Tally()
    old = torch.tensor([-1.0, -2.0, -1.0, -3.0])
    ratio = torch.tensor([1.5, 1.0, 0.5, 1.1])
    logprobs = (old + ratio.log()).requires_grad_(True)
    entropy = torch.tensor([0.5, 1.0, 1.5, 0.0])
    advantages = torch.tensor([1.0, -1.0, 2.0, -1.0])
    for part in (slice(0, 3), slice(3, 4)):  # two micro-batches of unequal size: tokens count, not batches
        clipped = ppo_clipped(logprobs[part], old[part], advantages[part], 0.2, 0.2)
        tally.read_policy(TokenLogprobs(logprobs[part], entropy[part]), old[part], clipped)
    tally.step("policy", step(0.5, 2.0, 1e-3, 1))
    tally.step("policy", step(1.5, 4.0, 5e-4, 1))
    tally.step("value", step(3.0, 1.0, 1e-4))
    found = tally.metrics()
    # KL(π_old ‖ π) from tokens of π_old: e^u − 1 − u with u = log ρ
    u = [math.log(r) for r in ratio.tolist()]
    assert found["policy/kl_old"] == pytest.approx(sum(math.exp(x) - 1 - x for x in u) / 4, rel=1e-5)
    assert found["policy/clip_fraction"] == 0.25
    assert found["policy/entropy"] == pytest.approx(0.75)
    assert (found["policy/loss"], found["policy/grad_norm"], found["policy/lr"]) == (1.0, 3.0, 5e-4)
    assert found["policy/skipped"] == 2.0
    assert {name: found[f"value/{name}"] for name in ("loss", "grad_norm", "lr", "skipped")} == {
        "loss": 3.0, "grad_norm": 1.0, "lr": 1e-4, "skipped": 0.0
    }  # fmt: skip
    assert Tally().metrics() == {}


def test_where_nothing_can_be_clipped_nothing_is_said_of_it() -> None:
    tally = Tally()
    tally.read_policy(TokenLogprobs(torch.zeros(1), torch.zeros(1)), torch.zeros(1), None)
    assert "policy/clip_fraction" not in tally.metrics()
    assert tally.metrics()["policy/kl_old"] == 0


def test_the_summary_holds_what_the_tally_found() -> None:
    tally = Tally()
    tally.step("value", step(3.0, 1.0, 1e-4))
    found = summarise(two(), credit(two(), PPO, 0.0), tally, 0.0)
    assert found["value/loss"] == 3.0
    assert found["objective"] == found["reward"]
