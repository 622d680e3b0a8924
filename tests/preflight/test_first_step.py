"""Ratio 1, KL 0, and one opinion of sampler and trainer: true of roles as they are, found where it is broken."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import PreTrainedModel

from keel.data.chat import Chat
from keel.diagnostics.findings import Finding
from keel.models.roles import Roles, separate
from keel.preflight.first_step import agreement, distance, ratio
from keel.preflight.practice import read_as_learnt
from keel.rollout.episode import converse
from keel.rollout.generator import Sampling
from keel.rollout.local import LocalGenerator
from keel.training.annotate import annotate, tree_of
from keel.types import Message, Prompt, Rollout, Scored
from models.small import CONFIGS, build
from stages.small import own_words

FP32, BF16 = torch.float32, torch.bfloat16


def model(noise: float = 0.0) -> PreTrainedModel:
    one = build(CONFIGS["llama"])
    with torch.no_grad():
        for parameter in one.parameters():
            parameter.add_(noise * torch.randn_like(parameter))
    return one


def roles(policy: PreTrainedModel, reference: PreTrainedModel) -> Roles:
    return separate(policy, reference, None, None, None, 0)


def rollouts(sampler: PreTrainedModel, temperature: float) -> list[Rollout]:
    chat = Chat(own_words(), None, "plain")
    prompts = [Prompt(str(n), (Message("user", f"w{40 + n} w{41 + n}"),)) for n in range(4)]
    generator = LocalGenerator(sampler, chat.tokenizer)
    return converse(prompts, generator, chat, Sampling(8, temperature), 0, 0, 2)


def checked(cast: Roles, sampler: PreTrainedModel, temperature: float = 1.0) -> list[Finding]:
    """The three findings, as the preflight of PPO comes by them; the trainer reads at temperature 1."""
    answers = rollouts(sampler, temperature)
    read = annotate([Scored(one, 0.0, {}) for one in answers], cast.policy, cast.reference, 1.0, None)
    once = [x for one in read for x in one.logprobs]
    again = read_as_learnt(cast.policy, [tree_of(answers[i : i + 2]) for i in range(0, 8, 2)], 1.0)
    return [
        ratio(once, again, FP32, 0.2),
        distance(once, [x for one in read for x in one.reference_logprobs]),
        agreement([x for one in answers for x in one.logprobs], once, FP32, 0.2),
    ]


def test_roles_as_they_should_be() -> None:
    policy = model()
    assert [one.verdict for one in checked(roles(policy, model()), policy)] == ["ok", "ok", "ok"]


def test_a_policy_that_is_not_its_reference() -> None:
    policy = model()
    found = checked(roles(policy, model(noise=0.3)), policy)
    assert [one.verdict for one in found] == ["ok", "red", "ok"]


def test_a_sampler_with_other_weights() -> None:
    found = checked(roles(model(), model()), model(noise=0.3))
    assert [one.verdict for one in found] == ["ok", "ok", "red"]


def test_a_sampler_at_another_temperature() -> None:
    policy = model()
    assert checked(roles(policy, model()), policy, temperature=0.7)[2].verdict == "red"
    assert checked(roles(policy, model()), policy, temperature=0.99)[2].verdict == "amber"


def test_ratio_by_hand() -> None:
    """ln 1.1 is a ratio of 1.1."""
    step = math.log(1.1)
    assert "1 within 1.0e-01 over 2 tokens" in ratio([-1.0, -2.0], [-1.0, -2.0 + step], FP32, 0.2).message
    assert ratio([-1.0], [-1.0 + step], FP32, 0.2).verdict == "amber"
    assert ratio([-1.0], [-1.0 + step], FP32, 0.09).verdict == "red"
    assert ratio([-1.0], [-1.0 + 0.01], BF16, 0.2).verdict == "ok"
    assert ratio([-1.0], [-1.0 + 0.01], FP32, 0.2).verdict == "amber"
    assert ratio([-1.0], [math.nan], FP32, 0.2).verdict == "red"


@pytest.mark.parametrize(("shift", "verdict"), [(0.0, "ok"), (0.01, "ok"), (0.05, "amber"), (0.2, "red")])
def test_distance_by_hand(shift: float, verdict: str) -> None:
    """k3 of a shift u is eᵘ − 1 − u, about u²/2: 5e-5, 1.3e-3, 2.1e-2."""
    found = distance([-1.0] * 3, [-1.0 + shift] * 3)
    assert found.verdict == verdict
    assert f"{math.expm1(shift) - shift:.1e}" in found.message


@pytest.mark.parametrize(
    ("shift", "dtype", "verdict"),
    [(0.001, FP32, "ok"), (0.02, FP32, "amber"), (0.02, BF16, "ok"), (0.1, BF16, "amber"), (0.2, BF16, "red")],
)
def test_agreement_by_hand(shift: float, dtype: torch.dtype, verdict: str) -> None:
    """Red where the shift is rl.clip: e^.2 − 1 − .2 = .0214 is above .2²/2 = .02."""
    assert agreement([-1.0], [-1.0 + shift], dtype, 0.2).verdict == verdict
    assert agreement([-1.0], [math.nan], dtype, 0.2).verdict == "red"
