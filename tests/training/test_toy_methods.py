"""Every method on the 8-armed choice, through a real transformer: to π*, or demonstrably elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from keel.config import Dpo, Online, Recipe
from keel.data.chat import Chat
from keel.data.forest import Branch, Tree
from keel.models.roles import language_role, separate
from keel.rollout.local import LocalGenerator
from keel.rollout.score import FunctionReward
from keel.stages.cast import RoleGenerator
from keel.training.comparisons import Comparisons, Pair
from keel.training.online import practise
from keel.training.preference import Contested, learn_preferences, read_reference
from keel.types import Message, Prompt

from .small import record
from .test_toy import ARMS, BETA, OPTIMUM, PROMPT, REWARDS, arm_rewards, arms, bandit, distribution

pytestmark = pytest.mark.usefixtures("unchecked_shapes")

NORMALISER = 1.26889
K3_OPTIMUM = tuple(
    BETA * p / (NORMALISER - r) for p, r in zip(torch.linspace(0, -2, ARMS).softmax(0).tolist(), REWARDS, strict=True)
)


def settings(method: str, **changes: Any) -> Online:
    """The method's own choices, on batches of 128 single tokens; rates and β are those of the toy."""
    given: dict[str, Any] = {
        "updates": 80,
        "batch_size": 128,
        "samples_per_prompt": 128,
        "micro_tokens": 8192,
        "minibatches": 1,
        "sampling": {"max_tokens": 1, "temperature": 1.0},
        "kl": {"coef": BETA},
        "optimizer": {"lr": 2e-2, "schedule": "linear"},
        "missing_eos_score": None,
    }
    for name, value in changes.items():
        given[name] = {**given[name], **value} if isinstance(value, dict) and name in given else value
    return Recipe.model_validate({"method": method, "rl": given}).rl


def practised(chosen: Online, directory: Path, pairs: Dpo | None = None) -> list[float]:
    policy = bandit()
    roles = separate(policy, bandit(), None, None, None, seed=0)
    chat = Chat(arms(), template="plain")
    generator = RoleGenerator(roles.policy, LocalGenerator(roles.policy.select(), chat.tokenizer))
    asked = [Prompt("p", (Message("user", f"w{PROMPT}"),))]
    with record(directory) as written:
        practise(
            roles, generator, FunctionReward("arm", arm_rewards), chat, asked, chosen, 0, written, lambda update: None,
            pairs=Dpo() if pairs is None else pairs,
        )  # fmt: skip
    return distribution(policy).tolist()


def distance(found: list[float], other: tuple[float, ...]) -> float:
    return 0.5 * sum(abs(p - q) for p, q in zip(found, other, strict=True))


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("rloo", {}),
        ("reinforce", {}),
        ("reinforce++", {"whiten": "none"}),
        ("dr-grpo", {"kl": {"place": "loss", "estimator": "k2"}}),
        ("dr-grpo", {"kl": {"place": "loss", "estimator": "k3", "weight": "ratio"}}),
        ("dr-grpo", {"kl": {"place": "loss", "estimator": "k1", "weight": "ratio"}}),
        ("reinforce++-baseline", {"whiten": "none"}),
        ("cispo", {"credit": "group-mean"}),
        ("gspo", {"credit": "group-mean", "clip": 0.2, "clip_high": 0.2}),
        ("dapo", {"credit": "group-mean"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_it_reaches_the_optimum(method: str, changes: dict[str, Any], tmp_path: Path) -> None:
    """With one β for all prompts (not divided by the deviation), and with the KL's own gradient."""
    assert distance(practised(settings(method, **changes), tmp_path), OPTIMUM) <= 0.03


def test_k3_in_the_loss_goes_where_the_mathematics_says_instead(tmp_path: Path) -> None:
    assert sum(K3_OPTIMUM) == pytest.approx(1, abs=1e-4)
    chosen = settings("dr-grpo", kl={"place": "loss", "estimator": "k3"})
    found = practised(chosen, tmp_path)
    assert distance(found, K3_OPTIMUM) <= 0.03
    assert distance(found, OPTIMUM) > 0.15


def test_grpo_as_published_does_not_reach_it(tmp_path: Path) -> None:
    """Divided by the deviation, β is another."""
    assert distance(practised(settings("grpo"), tmp_path), OPTIMUM) > 0.3


def test_k1_in_the_loss_holds_nothing(tmp_path: Path) -> None:
    """Its expected gradient is 0: the policy ends on the best arm, as without any KL."""
    chosen = settings("dr-grpo", kl={"place": "loss", "estimator": "k1"})
    assert practised(chosen, tmp_path)[6] > 0.9


def test_imitating_its_best_answers_ends_on_the_best_arm(tmp_path: Path) -> None:
    chosen = settings("rft", samples_per_prompt=8, kl={"coef": 0.0}, updates=60)
    assert practised(chosen, tmp_path)[6] > 0.9


def test_online_dpo_raises_the_better_arms_and_is_held_by_its_beta(tmp_path: Path) -> None:
    chosen = settings("online-dpo", samples_per_prompt=4, updates=30, kl={"coef": 0.0})
    weak, strong = (practised(chosen, tmp_path / str(beta), Dpo(beta=beta)) for beta in (0.2, 5.0))
    start = distribution(bandit()).tolist()
    for found in (weak, strong):
        assert sum(p * r for p, r in zip(found, REWARDS, strict=True)) > sum(
            p * r for p, r in zip(start, REWARDS, strict=True)
        )
    assert distance(strong, tuple(start)) < 0.7 * distance(weak, tuple(start))


def test_dpo_on_exact_preferences_reaches_the_optimum(tmp_path: Path) -> None:
    """All 28 pairs with P = σ(r_i − r_j) in one tree: the loop, the forest and the loss lead to π*."""
    policy = language_role(bandit(), None, 0)
    tree = Tree((PROMPT,), tuple(Branch((arm,), (True,)) for arm in range(ARMS)))
    pairs = tuple(
        Pair(i, j, 1 / (1 + torch.tensor(REWARDS[j] - REWARDS[i]).exp().item()), 0.0)
        for i in range(ARMS)
        for j in range(i + 1, ARMS)
    )
    (reference,) = read_reference(policy, [tree], None)
    chosen = Dpo.model_validate(
        {"beta": BETA, "batch_size": 1, "epochs": 600, "optimizer": {"lr": 1e-2, "warmup_ratio": 0.0}}
    )
    with record(tmp_path) as written:
        learn_preferences(policy, [Contested(Comparisons(tree, pairs), reference)], [], chosen, 0, written)
    assert distance(distribution(policy.select()).tolist(), OPTIMUM) <= 1e-3
