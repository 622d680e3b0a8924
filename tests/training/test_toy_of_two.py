"""Answers of up to two tokens, all 57 of them enumerable: where an answer's length and its later tokens count."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from keel.config import Online, Recipe
from keel.data.chat import Chat
from keel.models.roles import separate
from keel.rollout.local import LocalGenerator
from keel.rollout.score import FunctionReward
from keel.stages.cast import RoleGenerator
from keel.training.online import practise
from keel.types import Message, Prompt, Rollout
from models.small import EOS, PAD

from .small import record
from .test_toy import ARMS, PROMPT, arms

pytestmark = pytest.mark.usefixtures("unchecked_shapes")

BETA = 0.5
Answer = tuple[int, ...]
ANSWERS: tuple[Answer, ...] = (
    (EOS,),
    *itertools.product((arm for arm in range(ARMS) if arm != EOS), range(ARMS)),
)
_CHANCE = random.Random(3)
REWARDS: dict[Answer, float] = {
    one: 2 * (one[0] % 2) * _CHANCE.choice((-0.8, 0.8)) + _CHANCE.uniform(-0.2, 0.2) if len(one) == 2 else 0.0
    for one in ANSWERS
}
"""After an odd first token the second one matters much, after an even one little: so the KL that a first token leads to
differs, and with it the two optima below."""


def bandit() -> PreTrainedModel:
    """Wide enough to hold any distribution over the answers."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=ARMS, hidden_size=64, intermediate_size=128, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=16, pad_token_id=PAD, bos_token_id=None, eos_token_id=EOS, tie_word_embeddings=False,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.normal_(0, 0.2)
    return model


def rewards(rollouts: Sequence[Rollout]) -> list[float]:
    return [REWARDS[one.tokens] for one in rollouts]


@torch.no_grad()
def distribution(model: Any) -> dict[Answer, float]:
    """π of every answer, token by token, by the model's own forward."""
    first = model(input_ids=torch.tensor([[PROMPT]])).logits[0, -1].double().softmax(-1)
    then = {
        arm: model(input_ids=torch.tensor([[PROMPT, arm]])).logits[0, -1].double().softmax(-1) for arm in range(ARMS)
    }
    return {one: float(first[one[0]]) * (float(then[one[0]][one[1]]) if len(one) == 2 else 1.0) for one in ANSWERS}


def tilted(by: float) -> dict[Answer, float]:
    """π_ref·exp(r/β), normalised."""
    weights = {one: p * math.exp(REWARDS[one] / by) for one, p in distribution(bandit()).items()}
    return {one: weight / sum(weights.values()) for one, weight in weights.items()}


def short_sighted(by: float) -> dict[Answer, float]:
    """Each token tilted by the reward that follows from it, and charged for its own KL alone.

    π(y_2|y_1) ∝ π_ref(y_2|y_1)·exp(r/β),    π(y_1) ∝ π_ref(y_1)·exp(E[r|y_1]/β)
    """
    reference, firsts, found = distribution(bandit()), {}, {}
    for first in {one[0] for one in ANSWERS}:
        mine = [one for one in ANSWERS if one[0] == first]
        share = sum(reference[one] for one in mine)
        weights = {one: reference[one] * math.exp(REWARDS[one] / by) for one in mine}
        found |= {one: weight / sum(weights.values()) for one, weight in weights.items()}
        firsts[first] = share * math.exp(sum(found[one] * REWARDS[one] for one in mine) / by)
    return {one: firsts[one[0]] / sum(firsts.values()) * within for one, within in found.items()}


def apart(one: dict[Answer, float], other: dict[Answer, float]) -> float:
    """Total variation."""
    return 0.5 * sum(abs(one[answer] - other[answer]) for answer in ANSWERS)


def settings(method: str, **changes: Any) -> Online:
    given: dict[str, Any] = {
        "updates": 80,
        "batch_size": 512,
        "samples_per_prompt": 512,
        "micro_tokens": 8192,
        "minibatches": 1,
        "sampling": {"max_tokens": 2, "temperature": 1.0},
        "kl": {"coef": BETA},
        "optimizer": {"lr": 6e-3, "schedule": "linear", "eps": 1e-8},
        "missing_eos_score": None,
    }
    return Recipe.model_validate({"method": method, "rl": {**given, **changes}}).rl


def practised(chosen: Online, directory: Path) -> dict[Answer, float]:
    policy, chat = bandit(), Chat(arms(), template="plain")
    roles = separate(policy, bandit(), None, None, None, seed=0)
    generator = RoleGenerator(roles.policy, LocalGenerator(roles.policy.select(), chat.tokenizer))
    asked = [Prompt("p", (Message("user", f"w{PROMPT}"),))]
    with record(directory) as written:
        practise(
            roles, generator, FunctionReward("answer", rewards), chat, asked, chosen, 0, written, lambda update: None
        )
    return distribution(policy)


def test_the_answers_are_all_there_are() -> None:
    assert len(ANSWERS) == 57
    assert sum(distribution(bandit()).values()) == pytest.approx(1)
    assert apart(distribution(bandit()), tilted(BETA)) > 0.5
    assert apart(short_sighted(BETA), tilted(BETA)) > 0.2


def test_with_the_kl_in_the_reward_the_optimum_is_that_of_whole_answers(tmp_path: Path) -> None:
    assert apart(practised(settings("rloo"), tmp_path), tilted(BETA)) <= 0.05


def test_with_the_kl_in_the_loss_each_token_answers_for_its_own(tmp_path: Path) -> None:
    """Not π*, but what the mathematics says instead."""
    found = practised(settings("rloo", kl={"coef": BETA, "place": "loss", "estimator": "k2"}), tmp_path)
    assert apart(found, short_sighted(BETA)) <= 0.06
    assert apart(found, tilted(BETA)) > 0.2
