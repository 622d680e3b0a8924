"""A sampler that is not the trainer: of older weights, or of coarser ones. What its weights do to one step."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from keel.config import Online, Recipe
from keel.data.chat import Chat
from keel.models.roles import language_role, separate
from keel.rollout.local import LocalGenerator
from keel.rollout.score import FunctionReward
from keel.stages.cast import RoleGenerator
from keel.training.guards import Alarms
from keel.training.online import Update, algorithm_of, practise, reads_once
from keel.types import Message, Prompt

from .small import BARE, record, rows_of, steps_of
from .test_toy import ARMS, PROMPT, REWARDS, arm_rewards, arms, bandit, distribution

pytestmark = pytest.mark.usefixtures("unchecked_shapes")


def stale() -> PreTrainedModel:
    """As the policy was some updates ago: its odds are others."""
    model = bandit()
    with torch.no_grad():
        hidden = model.model(input_ids=torch.tensor([[PROMPT]])).last_hidden_state[0, 0]
        model.lm_head.weight -= torch.linspace(-0.9, 0.9, ARMS)[:, None] * hidden / hidden.square().sum()
    return model


def coarse() -> PreTrainedModel:
    """The policy with the head's weights in steps of ¼, as of a number format with very few bits."""
    model = bandit()
    with torch.no_grad():
        model.lm_head.weight.copy_((model.lm_head.weight * 4).round() / 4)
    return model


def settings(**changes: Any) -> Online:
    """The gradient itself of the expected reward, from many single tokens."""
    given: dict[str, Any] = {
        "updates": 1,
        "batch_size": 4096,
        "samples_per_prompt": 4096,
        "micro_tokens": 100_000,
        "sampling": {"max_tokens": 1, "temperature": 1.0},
        "kl": {"coef": 0.0},
        "optimizer": BARE.model_dump(),
        "missing_eos_score": None,
        "mean": "token",
    }
    return Recipe.model_validate({"method": "reinforce", "rl": {**given, **changes}}).rl


SAMPLERS = {"stale": stale, "coarse": coarse, "own": bandit}


@cache
def stepped(sampler: str, cap: float | None) -> tuple[float, dict[str, float]]:
    """How far from the exact gradient one update is, on answers of this sampler, and the update's metrics."""
    policy, chat = bandit(), Chat(arms(), template="plain")
    roles = separate(policy, bandit(), None, None, None, seed=0)
    role = language_role(SAMPLERS[sampler](), None, 0)
    generator = RoleGenerator(role, LocalGenerator(role.select(), chat.tokenizer))
    asked = [Prompt("p", (Message("user", f"w{PROMPT}"),))]
    scorer, chosen = FunctionReward("arm", arm_rewards), settings(importance_cap=cap)
    with TemporaryDirectory() as folder, record(Path(folder)) as written:
        moved = steps_of(
            policy, lambda: practise(roles, generator, scorer, chat, asked, chosen, 0, written, lambda _: None)
        )
        row = rows_of(Path(folder))[-1]
    return off(moved["lm_head.weight"]), {name: float(value) for name, value in row.items()}


def exact() -> Tensor:
    """−∇ Σ_a π_a·r_a by the head's weights, all arms enumerated."""
    model = bandit()
    odds = model(input_ids=torch.tensor([[PROMPT]])).logits[0, 0].softmax(-1)
    (-(odds * torch.tensor(REWARDS)).sum()).backward()
    assert model.lm_head.weight.grad is not None
    return model.lm_head.weight.grad


def off(moved: Tensor) -> float:
    """The distance as a share of the exact gradient's length."""
    return float((moved - exact()).norm() / exact().norm())


@pytest.mark.parametrize("sampler", ["stale", "coarse"])
def test_weights_undo_what_another_sampler_does(sampler: str) -> None:
    """Without them the step follows another gradient; with a cap out of reach it is the policy's own, within noise."""
    assert 0.5 * float((distribution(SAMPLERS[sampler]()) - distribution(bandit())).abs().sum()) > 0.08
    without, plain = stepped(sampler, None)
    weighted, row = stepped(sampler, 1000.0)
    noise, own = stepped("own", 1000.0)
    assert noise < 0.08
    assert weighted < 0.12
    assert without > max(0.2, 2 * weighted)
    # E[π/q] = 1 under q; without a cap nothing is weighted
    assert row["importance"] == pytest.approx(1, abs=0.04)
    assert plain["importance"] == 1
    assert own["importance"] == pytest.approx(1, abs=1e-6)


def test_a_cap_trades_bias_for_bounded_weights() -> None:
    loose, open_ = stepped("stale", 1000.0)
    held, capped = stepped("stale", 1.2)
    without, _ = stepped("stale", None)
    assert capped["importance"] < open_["importance"] - 0.05
    assert loose < held < without


def test_the_distance_is_measured_and_raises_an_alarm() -> None:
    """k3 of sampler and trainer, as the enumerated KL(q‖π) has it; amber from 1e-3 a token."""
    _, row = stepped("stale", None)
    q, p = distribution(stale()), distribution(bandit())
    assert row["sampler_kl"] == pytest.approx(float((q * (q / p).log()).sum()), rel=0.1)
    assert raised(row) == ["amber"]
    _, row = stepped("own", 1000.0)
    assert row["sampler_kl"] < 1e-6
    assert raised(row) == []


def raised(row: dict[str, float]) -> list[str]:
    """Levels of the guard's alarms in ten updates that all measure this."""
    alarms = Alarms(settings().guards, 0)
    return [alarm.level for step in range(1, 11) for alarm in alarms.judge(step, row) if alarm.name == "sampler_kl"]


ONE_STEP: dict[str, dict[str, Any]] = {
    "grpo": {"kl": {"coef": 0.3}},
    "dr-grpo": {},
    "reinforce++-baseline": {"kl": {"coef": 0.3}},
}


@pytest.mark.parametrize("cap", [None, 1.2])
@pytest.mark.parametrize("method", ONE_STEP)
def test_a_pass_that_is_left_out_changes_nothing(
    method: str, cap: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An update of one step finds log π_old in it: weights and metrics are those of reading the policy before."""
    given = {"batch_size": 64, "samples_per_prompt": 8, "micro_tokens": 40, "importance_cap": cap, "updates": 2}
    given |= {"sampling": {"max_tokens": 3}, "missing_eos_score": None, "optimizer": {"lr": 1e-2}, **ONE_STEP[method]}
    chosen = Recipe.model_validate({"method": method, "rl": given}).rl
    assert reads_once(algorithm_of(chosen), chosen)

    def practised(name: str) -> tuple[dict[str, Tensor], list[dict[str, Any]], int]:
        policy, chat = bandit(), Chat(arms(), template="plain")
        roles, passes = separate(policy, bandit(), None, None, None, seed=0), []
        read = roles.policy.logprobs
        monkeypatch.setattr(roles.policy, "logprobs", lambda *given: (passes.append(1), read(*given))[1])
        generator = RoleGenerator(roles.policy, LocalGenerator(stale(), chat.tokenizer))
        scorer, asked = FunctionReward("arm", arm_rewards), [Prompt("p", (Message("user", f"w{PROMPT}"),))]
        kept: list[Update] = []
        with record(tmp_path / name) as written:
            moved = steps_of(
                policy, lambda: practise(roles, generator, scorer, chat, asked, chosen, 0, written, kept.append)
            )
        for update in kept:
            for one in update.annotated:
                assert one.logprobs != one.scored.rollout.logprobs
        clocks = ("seconds/sampling", "seconds/learning", "tokens_per_second")
        rows = [{key: value for key, value in row.items() if key not in clocks} for row in rows_of(tmp_path / name)]
        return moved, rows, len(passes)

    moved, rows, passes = practised("once")
    monkeypatch.setattr("keel.training.online.reads_once", lambda algorithm, settings: False)
    theirs, before, more = practised("twice")
    assert passes == 0 < more
    assert any(bool(one.any()) for one in moved.values())
    for name, one in moved.items():
        torch.testing.assert_close(one, theirs[name], rtol=0, atol=1e-5, msg=lambda text, at=name: f"{at}: {text}")
    assert len(rows) == len(before) == 2
    for row, other in zip(rows, before, strict=True):
        assert row == pytest.approx(other, rel=1e-4, abs=1e-5)
    assert rows[0]["sampler_kl"] > 1e-3
    assert cap is None or rows[0]["importance"] < 1
