"""Every surrogate, mean and place of the KL, by its definition, over plain transformers; and the first step of all."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from keel.config import Dpo
from keel.maths.reduce import mean_over
from keel.training.algorithm import (
    Algorithm,
    Clipped,
    Contest,
    Grouped,
    InLoss,
    InReward,
    Paired,
    Plain,
    Surrogate,
    Weighted,
)
from keel.training.annotate import annotate
from keel.training.credit import Group
from keel.training.learner import Learner
from keel.training.monitor import Tally
from keel.training.objective import Objective
from keel.training.online import learn
from keel.types import Sample

from .small import BARE, cast, check_equal, gradients_of, plain, ppo, read, rollout, scored, steps_of

LONGEST = 7


def groups(fresh: bool = False) -> list[Group]:
    """Two prompts with two answers each; old log-probs, advantages and weights are made up, or (fresh) what they are
    before the first step."""
    roles = cast()
    chance = random.Random(8)
    rollouts = [rollout(prompt, [chance.randrange(3, 60) for _ in range(length)])
                for prompt, length in (((5, 6), 3), ((5, 6), 5), ((9, 8, 4), 2), ((9, 8, 4), 4))]  # fmt: skip
    read_ = annotate([scored(one) for one in rollouts], roles.policy, roles.reference, 1.0, 40)
    samples = [
        Sample(
            one.scored.rollout,
            tuple(x + (0.0 if fresh else chance.choice((-0.5, -0.24, -0.1, 0.1, 0.24, 0.5))) for x in one.logprobs),
            tuple(x + chance.uniform(-0.5, 0.5) for x in one.reference_logprobs),
            (chance.uniform(-1, 1),) * len(one.logprobs),
            tuple(1.0 if fresh else chance.uniform(0.5, 2.0) for _ in one.logprobs),
        )
        for one in read_
    ]
    return [(samples[0], samples[1]), (samples[2], samples[3])]


def step(objective: Objective, batch: list[Group], budget: int) -> tuple[dict[str, Tensor], dict[str, float]]:
    """What one optimizer step did to the policy, and its metrics."""
    roles, tally = cast(), Tally()
    policy = Learner(roles.policy.parameters(), BARE, 1)
    settings = ppo(micro_tokens=budget, sampling={"max_tokens": LONGEST, "temperature": 1.0})
    moved = steps_of(roles.policy.select(), lambda: learn(batch, roles, policy, None, objective, settings, tally))
    return moved, tally.metrics()


def surrogate_by_hand(way: Surrogate, logprobs: Tensor, one: Sample) -> tuple[list[Tensor], list[bool]]:
    """The loss of each token, and whether it is held back, by the equations of the papers."""
    old = torch.tensor(one.logprobs, dtype=torch.float64)
    ratios = (logprobs - old).exp()
    if isinstance(way, Clipped) and way.ratio == "sequence":
        ratios = ((logprobs - old).sum() / len(old)).exp().expand(len(old))
    found, held = [], []
    for t, a in enumerate(one.advantages):
        rho = ratios[t]
        match way:
            case Clipped(low, high):
                bounded = min(max(rho.item(), 1 - low), 1 + high)
                caught = a * rho.item() > a * bounded
                found.append(torch.tensor(-a * bounded, dtype=torch.float64) if caught else -a * rho)
                held.append(caught)
            case Weighted(high):
                found.append(-min(rho.item(), 1 + high) * a * logprobs[t])
                held.append(rho.item() > 1 + high)
            case Plain():
                found.append(-a * logprobs[t])
    return found, held


ESTIMATES: dict[str, Callable[[Tensor, float], Tensor]] = {
    "k1": lambda own, reference: own - reference,
    "k2": lambda own, reference: (own - reference) ** 2 / 2,
    "k3": lambda own, reference: (reference - own).exp() - 1 - (reference - own),
}

ROWS = {
    "ppo": Algorithm(Grouped("std"), Clipped(0.2, 0.3), InReward("k1"), "token", 2.0),
    "grpo": Algorithm(Grouped("std"), Clipped(0.2, 0.2), InLoss("k3"), "sequence", 2.0),
    "dr-grpo with k2": Algorithm(Grouped("mean"), Clipped(0.2, 0.2), InLoss("k2"), "constant", 2.0),
    "dapo": Algorithm(Grouped("std"), Clipped(0.2, 0.28), InReward("k1"), "token", 2.0),
    "gspo": Algorithm(Grouped("std"), Clipped(0.02, 0.03, "sequence"), InReward("k1"), "sequence", 2.0),
    "cispo": Algorithm(Grouped("std"), Weighted(0.25), InReward("k1"), "token", 2.0),
    "rloo": Algorithm(Grouped("others"), Plain(), InReward("k1"), "constant", 2.0),
    "k3 times the ratio": Algorithm(Grouped("mean"), Clipped(0.2, 0.2), InLoss("k3", "ratio"), "token", 2.0),
    "k1 in the loss": Algorithm(Grouped("mean"), Clipped(0.2, 0.2), InLoss("k1"), "token", 2.0),
}


@pytest.mark.parametrize("budget", [1, 10, 100_000])
@pytest.mark.parametrize("name", ROWS)
def test_a_step_is_the_loss_by_its_definition(name: str, budget: int) -> None:
    algorithm, batch, beta = ROWS[name], groups(), 0.3
    moved, metrics = step(Objective(algorithm, beta, Dpo()), batch, budget)
    model = plain()
    samples = [one for group in batch for one in group]
    tokens = sum(len(one.logprobs) for one in samples)
    total = torch.zeros((), dtype=torch.float64)
    held: list[bool] = []
    for one in samples:
        asked = one.rollout.prompt_tokens
        logprobs = read(model, asked + one.rollout.tokens)[len(asked) - 1 :]
        losses, caught = surrogate_by_hand(algorithm.surrogate, logprobs, one)
        held += caught
        terms = []
        for t, loss in enumerate(losses):
            term = one.weights[t] * loss
            if isinstance(algorithm.kl, InLoss):
                weight = (logprobs[t] - one.logprobs[t]).exp() if algorithm.kl.weight == "ratio" else 1.0
                term = term + beta * weight * ESTIMATES[algorithm.kl.estimator](logprobs[t], one.reference_logprobs[t])
            terms.append(term)
        divisor = {
            "token": tokens, "sequence": len(samples) * len(terms), "constant": len(samples) * LONGEST
        }[algorithm.mean]  # fmt: skip
        total = total + torch.stack(terms).sum() / divisor
    check_equal(moved, gradients_of(model, total), 2e-6)
    assert metrics["policy/loss"] == pytest.approx(total.item(), rel=1e-5)
    if isinstance(algorithm.surrogate, Plain):
        assert "policy/clip_fraction" not in metrics
    else:
        assert 0 < sum(held) < len(held)
        assert metrics["policy/clip_fraction"] == pytest.approx(sum(held) / len(held))


def gradient(algorithm: Algorithm, beta: float = 0.0) -> dict[str, Tensor]:
    return step(Objective(algorithm, beta, Dpo()), groups(fresh=True), 100_000)[0]


def test_before_the_first_step_every_surrogate_has_the_gradient_of_the_policy() -> None:
    """At ρ = 1: clipped by token, weighted and plain are all −A ∇log π, and GSPO is GRPO with the mean over answers."""
    row = Algorithm(Grouped("mean"), Plain(), InReward())
    plain_ = gradient(row)
    for surrogate in (Clipped(0.2, 0.2), Clipped(1e-4, 1e-4), Weighted(4.0), Weighted(1e-6)):
        check_equal(gradient(replace(row, surrogate=surrogate)), plain_, 1e-6)
    grpo = replace(row, surrogate=Clipped(0.2, 0.2), mean="sequence")
    check_equal(gradient(replace(grpo, surrogate=Clipped(3e-4, 4e-4, "sequence"))), gradient(grpo), 1e-6)
    with pytest.raises(AssertionError):
        check_equal(gradient(grpo), plain_, 1e-3)  # answers differ in length


def test_before_the_first_step_the_ratio_times_k3_has_the_gradient_of_k2() -> None:
    """∇(ρ·k3) = k3·∇log π + ∇k3 = ∇k2 per token at ρ = 1, since k3 + 1 − e^u = −u; k3 alone has another."""
    row = Algorithm(Grouped("mean"), Plain(), InReward(), "sequence")
    known = gradient(replace(row, kl=InLoss("k2")), 0.7)
    check_equal(gradient(replace(row, kl=InLoss("k3", "ratio")), 0.7), known, 1e-6)
    with pytest.raises(AssertionError):
        check_equal(gradient(replace(row, kl=InLoss("k3")), 0.7), known, 1e-2)


def test_advantages_of_nothing_move_nothing() -> None:
    """GRPO's first loss is 0 where advantages cancel, its gradient is not; where all are 0, so is the gradient."""
    row = Algorithm(Grouped("mean"), Clipped(0.2, 0.2), InReward(), "sequence")
    batch = groups(fresh=True)
    still = [tuple(replace(one, advantages=(0.0,) * len(one.logprobs)) for one in group) for group in batch]
    moved, metrics = step(Objective(row, 0.0, Dpo()), still, 100_000)
    assert metrics["policy/loss"] == 0
    assert all(float(change.abs().max()) == 0 for change in moved.values())
    opposed = [
        tuple(
            replace(one, advantages=(sign,) * len(one.logprobs)) for one, sign in zip(group, (1.0, -1.0), strict=True)
        )
        for group in batch
    ]
    moved, metrics = step(Objective(row, 0.0, Dpo()), opposed, 100_000)
    assert metrics["policy/loss"] == pytest.approx(0, abs=1e-6)
    assert max(float(change.abs().max()) for change in moved.values()) > 1e-3


def test_a_step_of_online_dpo_is_dpo_on_the_best_and_the_worst() -> None:
    batch, beta = groups(fresh=True), 0.4
    row = Algorithm(Contest(), Paired(), InReward())
    moved, metrics = step(Objective(row, 0.0, Dpo(beta=beta)), batch, 10)
    model = plain()
    total = torch.zeros((), dtype=torch.float64)
    for group in batch:
        ratios = []
        for one in group:
            asked = one.rollout.prompt_tokens
            logprobs = read(model, asked + one.rollout.tokens)[len(asked) - 1 :]
            ratios.append(logprobs.sum() - sum(one.reference_logprobs))
        total = total - torch.nn.functional.logsigmoid(beta * (ratios[0] - ratios[1])) / len(batch)
    check_equal(moved, gradients_of(model, total), 2e-6)
    assert metrics["policy/loss"] == pytest.approx(total.item(), rel=1e-5)
    assert "policy/clip_fraction" not in metrics


def test_denominators_are_those_of_the_step_whatever_the_micro_batch() -> None:
    """As `mean_over` has it; the losses of micro-batches of one tree add up to that of all."""
    for name, row in ROWS.items():
        alone, whole = (step(Objective(row, 0.3, Dpo()), groups(), budget)[1]["policy/loss"] for budget in (1, 10_000))
        assert alone == pytest.approx(whole, rel=1e-6), name
    assert mean_over(torch.ones(3), 6).item() == pytest.approx(0.5)
    assert not math.isnan(whole)
