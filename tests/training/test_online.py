"""PPO: what the first step must be, who moves and who never does, and what is written down."""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import Tensor

from keel.config import Dpo, Online, Recipe, Reward, Sft
from keel.config.load import load_recipe
from keel.errors import UserError
from keel.maths.controllers import AdaptiveKL, FixedKL
from keel.models.adapters import Lora
from keel.models.heads import ScalarHead
from keel.models.load import load_reward_model
from keel.models.roles import PolicyCritic, Roles, ScalarRole, scalar_role, separate, shared
from keel.rollout.local import LocalGenerator
from keel.rollout.score import FunctionReward, LearnedReward, MissingEos, WeightedSum
from keel.stages.cast import RoleGenerator
from keel.training.algorithm import GAE, Algorithm, Clipped, InReward
from keel.training.annotate import annotate, value
from keel.training.comparisons import Comparisons, Pair
from keel.training.credit import credit
from keel.training.learner import Learner
from keel.training.monitor import Tally
from keel.training.objective import Objective
from keel.training.online import (
    Harvest,
    Supply,
    Update,
    algorithm_of,
    collect,
    controller_of,
    learn,
    minibatches,
    practise,
    reads_once,
)
from keel.training.preference import Contested, Single, learn_preferences, learn_singles
from keel.training.reward import fit_members
from keel.training.sft import fine_tune
from keel.types import CriticSample, Prompt, Rollout, Scored, Valued
from models.small import CONFIGS, build, words

from .small import (
    BARE,
    WIDTH,
    cast,
    chat,
    check_equal,
    demonstration_trees,
    gradients_of,
    head,
    language,
    length_reward,
    numbers,
    pair_tree,
    plain,
    ppo,
    prompts,
    read,
    record,
    rollout,
    rows_of,
    run_ppo,
    scalar,
    scored,
    steps_of,
    unequal,
    weights,
)

METRICS = Path(__file__).parents[2] / "docs" / "metrics.md"
BARE_PPO = {"optimizer": BARE.model_dump(), "critic": {"lr": 1e-9}}


# The first minibatch of a fresh update


def credited(update: Update, settings: Online) -> list[list[float]]:
    """Advantages written out: r = −β·(log π − log π_ref), plus the score at the end; GAE; whitened over the update."""
    raw = []
    for one in update.annotated:
        advantage = following = 0.0
        found = []
        last = len(one.values) - 1
        for t in range(last, -1, -1):
            reward = -settings.kl.coef * (one.logprobs[t] - one.reference_logprobs[t])
            reward += one.scored.reward if t == last else 0.0
            advantage = reward + following - one.values[t] + settings.lam * advantage
            following = one.values[t]
            found.append(advantage)
        raw.append(found[::-1])
    if settings.whiten == "none":
        return raw
    flat = [x for row in raw for x in row]
    mean = sum(flat) / len(flat)
    deviation = math.sqrt(sum((x - mean) ** 2 for x in flat) / len(flat) + 1e-8)
    return [[(x - mean) / deviation for x in row] for row in raw]


@pytest.mark.parametrize(
    ("budget", "temperature", "whiten"), [(1, 1.0, "advantages"), (40, 0.7, "none"), (100_000, 1.5, "advantages")]
)
def test_the_first_step_is_the_plain_policy_gradient(
    budget: int, temperature: float, whiten: str, tmp_path: Path
) -> None:
    """Ratio 1, no KL to the old policy, nothing clipped; ∇PPO = −1/N·Σ A_t ∇log π_t, by plain transformers."""
    settings = ppo(
        micro_tokens=budget, sampling={"temperature": temperature}, whiten=whiten, kl={"coef": 0.3}, **BARE_PPO
    )
    roles = cast()
    kept: list[Update] = []
    moved = steps_of(roles.policy.select(), lambda: kept.extend(run_ppo(roles, settings, tmp_path)))
    (update,), (row,) = kept, rows_of(tmp_path)
    assert abs(row["policy/kl_old"]) < 1e-10
    assert row["policy/clip_fraction"] == 0
    assert row["sampler_kl"] < 1e-6

    model = plain()
    advantages = credited(update, settings)
    loss = torch.zeros((), dtype=torch.float64)
    total = 0
    for one, given_ in zip(update.annotated, advantages, strict=True):
        rollout_ = one.scored.rollout
        first = len(rollout_.prompt_tokens) - 1
        logprobs = read(model, rollout_.prompt_tokens + rollout_.tokens, temperature)[first:]
        assert one.logprobs == pytest.approx(logprobs.tolist(), abs=1e-6)  # so the ratio is 1
        loss = loss - (torch.tensor(given_, dtype=torch.float64) * logprobs).sum()
        total += len(given_)
    assert total == sum(len(one.logprobs) for one in update.annotated)
    check_equal(moved, gradients_of(model, loss / total), 2e-6)
    flat = [x for one in advantages for x in one]
    assert row["policy/loss"] == pytest.approx(-sum(flat) / total, abs=1e-6)


def test_the_critics_first_step_is_the_gradient_of_the_squared_error(tmp_path: Path) -> None:
    """V = V_old, so c_v/N·Σ ½(V − G)²; G = A + V before whitening."""
    settings = ppo(value_coef=0.3, optimizer={**BARE.model_dump(), "lr": 1e-9}, critic={"lr": BARE.lr})
    roles = cast()
    before = roles.critic.head.weight.detach().clone()
    kept: list[Update] = []
    moved = steps_of(roles.critic._weights.model, lambda: kept.extend(run_ppo(roles, settings, tmp_path)))
    (update,), (row,) = kept, rows_of(tmp_path)
    model, weight = plain(seed=1), head().weight.detach().clone().requires_grad_(True)
    raw = credited(update, settings.model_copy(update={"whiten": "none"}))
    loss = torch.zeros((), dtype=torch.float64)
    for one, advantages in zip(update.annotated, raw, strict=True):
        rollout_ = one.scored.rollout
        first = len(rollout_.prompt_tokens) - 1
        values = numbers(model, weight, rollout_.prompt_tokens + rollout_.tokens)[first:-1]
        assert one.values == pytest.approx(values.tolist(), abs=1e-6)
        returns = torch.tensor([a + v for a, v in zip(advantages, one.values, strict=True)], dtype=torch.float64)
        loss = loss + (values - returns).square().sum() / 2
    loss = 0.3 * loss / sum(len(one) for one in raw)
    gradient = gradients_of(model, loss)
    assert row["value/loss"] == pytest.approx(loss.item(), rel=1e-5)
    body = {name: tensor for name, tensor in gradient.items() if not name.startswith("lm_head")}
    check_equal(moved, body, 1e-5)
    assert weight.grad is not None
    check_equal({"head": before - roles.critic.head.weight.detach()}, {"head": weight.grad}, 1e-5)


# Later steps of an update


def batch(roles: Roles, temperature: float = 1.0) -> list[CriticSample]:
    """Samples whose old log-probs, advantages and values are made up, so that both clips bite."""
    chance = random.Random(8)
    rollouts = [rollout(prompt, [chance.randrange(3, 60) for _ in range(length)])
                for prompt, length in (((5, 6), 3), ((5, 6), 5), ((7,), 2), ((9, 8, 4), 4))]  # fmt: skip
    read_ = value(
        annotate([scored(one) for one in rollouts], roles.policy, roles.reference, temperature, 40), roles.critic, 40
    )
    return [
        CriticSample(
            one.scored.rollout,
            tuple(x + chance.choice((-0.5, -0.1, 0.0, 0.1, 0.5)) for x in one.logprobs),
            one.reference_logprobs,
            tuple(chance.uniform(-1, 1) for _ in one.logprobs),
            (1.0,) * len(one.logprobs),
            tuple(x + chance.choice((-0.5, 0.0, 0.5)) for x in one.values),
            tuple(x + chance.uniform(-1, 1) for x in one.values),
        )
        for one in read_
    ]


ROW = Objective(Algorithm(GAE(value_clip=0.25, value_coef=0.7), Clipped(0.2, 0.3), InReward()), 0.1, Dpo())


def on_policy(roles: Roles) -> Roles:
    """The same, but the critic is `head` on the policy."""
    critic = PolicyCritic(roles.policy, WIDTH)
    critic.head = head()
    return replace(roles, critic=critic)


@pytest.mark.parametrize("own", [True, False], ids=["a critic of its own", "a head on the policy"])
@pytest.mark.parametrize("budget", [1, 10, 100_000])
def test_a_later_step_is_the_clipped_loss_by_its_definition(budget: int, own: bool) -> None:
    """max(−ρA, −clip(ρ)A) and ½·max of the two squares, token by token, over plain transformers."""
    roles, temperature = cast() if own else on_policy(cast()), 0.8
    samples = batch(roles, temperature)
    tally = Tally()
    settings = ppo(micro_tokens=budget, sampling={"temperature": temperature})
    places = [(samples[0], samples[1]), (samples[2],), (samples[3],)]
    policy, critic = Learner(roles.policy.parameters(), BARE, 1), Learner(roles.critic.parameters(), BARE, 1)
    others = roles.critic._weights.model if isinstance(roles.critic, ScalarRole) else roles.critic.head
    before = weights(others.named_parameters())
    start = roles.critic.head.weight.detach().clone()
    moved = steps_of(roles.policy.select(), lambda: learn(places, roles, policy, critic, ROW, settings, tally))
    valued_ = {name: before[name] - tensor.detach() for name, tensor in others.named_parameters()}
    found = tally.metrics()

    model, weight = plain(), head().weight.detach().clone().requires_grad_(True)
    body = plain(seed=1) if own else model
    loss, error = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    clipped, count, kl = 0, 0, 0.0
    for one in samples:
        tokens = one.rollout.prompt_tokens + one.rollout.tokens
        first = len(one.rollout.prompt_tokens) - 1
        logprobs, values = read(model, tokens, temperature)[first:], numbers(body, weight, tokens)[first:-1]
        for t in range(len(one.logprobs)):
            u = logprobs[t] - one.logprobs[t]
            a, ratio = one.advantages[t], math.exp(u.item())
            if a * ratio > a * min(max(ratio, 0.8), 1.3):  # it has gained enough
                loss = loss - a * min(max(ratio, 0.8), 1.3)
                clipped += 1
            else:
                loss = loss - a * u.exp()
            near = values[t].clamp(one.values[t] - 0.25, one.values[t] + 0.25)
            squares = [(number - one.returns[t]) ** 2 for number in (values[t], near)]
            error = error + 0.5 * max(squares, key=torch.Tensor.item)
            kl += ratio - 1 - u.item()
            count += 1
    assert 0 < clipped < count
    assert found["policy/clip_fraction"] == pytest.approx(clipped / count)
    assert found["policy/kl_old"] == pytest.approx(kl / count, rel=1e-5)
    assert found["policy/loss"] == pytest.approx(loss.item() / count, rel=1e-5)
    assert found["value/loss"] == pytest.approx(0.7 * error.item() / count, rel=1e-5)
    if own:
        check_equal(moved, gradients_of(model, loss / count), 2e-6)
        gradient = gradients_of(body, 0.7 * error / count)
        check_equal(valued_, {n: g for n, g in gradient.items() if not n.startswith("lm_head")}, 1e-5)
    else:
        check_equal(moved, gradients_of(model, (loss + 0.7 * error) / count), 2e-6)
    assert weight.grad is not None
    check_equal({"head": start - roles.critic.head.weight.detach()}, {"head": weight.grad}, 1e-5)


def test_a_head_on_the_policy_learns_alone_while_the_policy_waits() -> None:
    roles = on_policy(cast())
    samples = batch(roles)
    tally = Tally()
    critic = Learner(roles.critic.parameters(), BARE, 1)
    start = roles.critic.head.weight.detach().clone()
    moved = steps_of(
        roles.policy.select(),
        lambda: learn([(samples[2],), (samples[3],)], roles, None, critic, ROW, ppo(), tally),
    )
    assert not any(step.any() for step in moved.values())
    assert all(one.grad is None for one in roles.policy.parameters())
    assert (roles.critic.head.weight != start).any()
    assert not [name for name in tally.metrics() if name.startswith("policy/")]


def test_two_groups_of_one_prompt_that_meet_in_a_minibatch_stay_what_they_were() -> None:
    """The same prompt drawn twice; shuffled next to each other the groups must not merge into one tree."""
    roles = cast()
    samples = batch(roles)
    again = [replace(one, rollout=replace(one.rollout, prompt_tokens=(5, 6))) for one in samples[2:]]
    apart = [(samples[0], samples[1]), tuple(again)]
    (one, other) = (Tally(), Tally())
    for tally, given_, budget in ((one, apart, 1), (other, apart, 100_000)):
        fresh = cast()
        learners = (Learner(role.parameters(), BARE, 1) for role in (fresh.policy, fresh.critic))
        learn(given_, fresh, *learners, ROW, ppo(micro_tokens=budget), tally)
    assert one.metrics() == pytest.approx(other.metrics(), rel=1e-9)


# Who moves


LORA = Lora(rank=3, alpha=6.0)


def everything(roles: Roles) -> dict[str, dict[str, Tensor]]:
    """A copy of each role's weights (all of its model's, and the head's)."""
    found = {}
    for name in ("policy", "reference", "critic", "reward"):
        role = getattr(roles, name)
        state = dict(role._weights.model.state_dict())
        if name in ("critic", "reward"):
            state["head"] = role.head.weight
        found[name] = weights(state.items())
    return found


def full_cast(layout: str, folder: Path) -> Roles:
    lora = None if layout == "separate" else LORA
    drawn = torch.Generator().manual_seed(3)
    trained = scalar_role(build(CONFIGS["llama"]), ScalarHead.normal(24, drawn), lora, 3)
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=drawn) * 0.05)
    trained.save(folder, words())
    if layout == "shared":
        return shared(build(CONFIGS["llama"]), LORA, "reward", folder, 1)
    models = [load_reward_model(folder, torch.float32, torch.device("cpu")) for _ in range(2)]
    critic, reward = ((model, ScalarHead.of(model)) for model in models)
    return separate(build(CONFIGS["llama"]), build(CONFIGS["llama"]), critic, reward, None, 1)


@pytest.mark.parametrize("layout", ["separate", "shared"])
def test_policy_and_critic_move_reference_and_reward_never(layout: str, tmp_path: Path) -> None:
    """First the critic alone (warm-up), then both; and the frozen roles give the same numbers at the end."""
    roles = full_cast(layout, tmp_path / "reward")
    assert roles.reward is not None
    start = everything(roles)
    given_ = [scored(rollout((5, 6), (7, 8, 9))), scored(rollout((5,), (9, 8)))]
    frozen = (
        annotate(given_, roles.reference, roles.reference, 1.0, 40),
        LearnedReward(roles.reward).score([one.rollout for one in given_]),
    )
    seen: list[dict[str, dict[str, Tensor]]] = []
    settings = ppo(updates=2, epochs=2, minibatches=2, critic={"lr": 1e-3, "warmup_updates": 1})
    tongue = chat()
    generator = RoleGenerator(roles.policy, LocalGenerator(roles.policy.select(), tongue.tokenizer))
    with record(tmp_path) as written:
        practise(
            roles, generator, LearnedReward(roles.reward), tongue, prompts(5), settings, 0, written,
            lambda update: seen.append(everything(roles)),
        )  # fmt: skip

    def moved(before: dict[str, dict[str, Tensor]], after: dict[str, dict[str, Tensor]], role: str) -> set[str]:
        return unequal(before[role], after[role])

    own = {"policy": lambda name: ".policy." in name, "critic": lambda name: ".critic." in name or name == "head"}
    if layout == "separate":
        assert moved(start, seen[0], "policy") == set()
        assert moved(start, seen[0], "critic") >= {"head", "model.layers.0.self_attn.q_proj.weight"}
        assert len(moved(seen[0], seen[1], "policy")) == len(start["policy"]) - (
            "lm_head.weight" not in start["policy"]
        )
        for role in ("reference", "reward"):
            assert moved(start, seen[1], role) == set()
    else:
        warm, both = moved(start, seen[0], "critic"), moved(seen[0], seen[1], "critic")
        assert {name for name in warm if own["critic"](name)} == warm != set()
        assert {name for name in both if own["critic"](name) or own["policy"](name)} == both
        assert any(own["policy"](name) for name in both)
        assert any(own["critic"](name) for name in both)
        assert not moved(start, seen[1], "reward") & {
            name for name in start["reward"] if ".reward." in name or name == "head"
        }
    assert annotate(given_, roles.reference, roles.reference, 1.0, 40) == frozen[0]
    assert LearnedReward(roles.reward).score([one.rollout for one in given_]) == frozen[1]
    first, second = rows_of(tmp_path)
    assert not [name for name in first if name.startswith("policy/")]
    assert [name for name in second if name.startswith("policy/")]


def test_the_policys_schedule_counts_the_steps_that_it_takes(tmp_path: Path) -> None:
    """Four updates, two of them warm-up, two steps each: the policy goes from its peak down to a quarter of it."""
    settings = ppo(updates=4, epochs=2, critic={"lr": 4e-3, "warmup_updates": 2}, optimizer={"lr": 1e-3})
    run_ppo(cast(dtype=torch.float32), settings, tmp_path)
    rows = rows_of(tmp_path)
    assert [row["policy/lr"] for row in rows[2:]] == pytest.approx([1e-3 * 3 / 4, 1e-3 / 4])
    assert [row["value/lr"] for row in rows] == pytest.approx([4e-3 * left / 8 for left in (7, 5, 3, 1)])


# What is visited


class Counted:
    """Prompts, answered `samples` times each."""

    def __init__(self, samples: int) -> None:
        self.samples = samples

    def settings(self, count: int, minibatches_: int = 1, epochs: int = 1) -> Online:
        return ppo(
            batch_size=count * self.samples, samples_per_prompt=self.samples, minibatches=minibatches_, epochs=epochs
        )


@hypothesis_settings(max_examples=60, deadline=None)
@given(trees=st.integers(1, 12), parts=st.integers(1, 12), epochs=st.integers(1, 3), seed=st.integers(0, 5))
def test_minibatches_partition_the_trees_in_each_epoch(trees: int, parts: int, epochs: int, seed: int) -> None:
    parts = min(parts, trees)
    settings = Counted(2).settings(trees, parts, epochs)
    found = list(minibatches(trees, settings, seed, 3))
    assert len(found) == epochs * parts
    for epoch in range(epochs):
        part = found[epoch * parts : (epoch + 1) * parts]
        assert sorted(place for places in part for place in places) == list(range(trees))
        sizes = [len(places) for places in part]
        assert min(sizes) >= 1
        assert max(sizes) - min(sizes) <= 1
    assert found == list(minibatches(trees, settings, seed, 3))


def test_epochs_and_updates_shuffle_anew() -> None:
    settings = Counted(1).settings(20, 1, 3)
    orders = {tuple(part) for version in range(3) for part in minibatches(20, settings, 0, version)}
    assert len(orders) == 9


@hypothesis_settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 9), count=st.integers(1, 9), samples=st.integers(1, 3), seed=st.integers(0, 3))
def test_draw_takes_every_prompt_once_per_epoch(size: int, count: int, samples: int, seed: int) -> None:
    asked = [Prompt(f"p{place}", ()) for place in range(size)]
    settings = Counted(samples).settings(count)
    supply = Supply(asked, seed)
    rounds = [supply.draw(settings.batch_size // samples) for _ in range(2 * size)]
    assert [len(one) for one in rounds] == [count] * (2 * size)
    last = Supply(asked, seed, supply.taken - count)  # as a run that goes on after a stop finds it
    assert last.draw(count) == rounds[-1]
    assert last.state() == supply.state()
    restored, taken = Supply(asked, seed), supply.taken
    restored.restore(supply.state())
    assert restored.taken == taken
    stream = [prompt.id for one in rounds for prompt in one]
    for start in range(0, len(stream) - size + 1, size):
        assert Counter(stream[start : start + size]) == Counter(prompt.id for prompt in asked)


def test_draw_has_an_order_of_its_own_in_each_epoch() -> None:
    asked = [Prompt(f"p{place}", ()) for place in range(12)]
    supplies = [Supply(asked, seed) for seed in range(2)]
    orders = [tuple(p.id for p in supply.draw(12)) for supply in supplies for _ in range(3)]
    assert len(set(orders)) == 6
    assert tuple(p.id for p in asked) not in orders


def test_few_prompts_still_make_every_minibatch(tmp_path: Path) -> None:
    """One prompt, four draws of it, four minibatches: four steps that learn something."""
    settings = ppo(batch_size=8, samples_per_prompt=2, minibatches=4, optimizer={"lr": 1e-3, "schedule": "constant"})
    run_ppo(cast(dtype=torch.float32), settings, tmp_path, prompts(1))
    (row,) = rows_of(tmp_path)
    run_ppo(cast(dtype=torch.float32), settings.model_copy(update={"minibatches": 1}), tmp_path, prompts(1))
    (other,) = rows_of(tmp_path)
    assert row["policy/grad_norm"] > 0.5 * other["policy/grad_norm"]  # no empty step drags the mean down


# β


def test_the_algorithm_and_the_controller_are_the_recipes() -> None:
    settings = ppo(gamma=0.9, lam=0.8, whiten="none", clip=0.1, value_clip=0.3, value_coef=0.4, kl={"estimator": "k2"})
    assert algorithm_of(settings) == Algorithm(
        GAE(0.9, 0.8, "none", 0.3, 0.4), Clipped(0.1, 0.1), InReward("k2"), "token", 2.0
    )
    assert controller_of(settings) == FixedKL(0.1)
    adaptive = ppo(kl={"coef": 0.2, "controller": "adaptive", "target": 3.0, "horizon": 50})
    assert controller_of(adaptive) == AdaptiveKL(0.2, 3.0, 50)


@pytest.mark.parametrize(("target", "direction"), [(1e-6, 1), (1e6, -1)])
def test_the_adaptive_controller_follows_the_measured_kl(target: float, direction: int, tmp_path: Path) -> None:
    """8 answers against a horizon of 100: by 1.6 % a step while the error is above its clip."""
    settings = ppo(
        updates=4, optimizer={"lr": 3e-3}, kl={"coef": 0.2, "controller": "adaptive", "target": target, "horizon": 100}
    )
    run_ppo(cast(dtype=torch.float32), settings, tmp_path)
    rows = rows_of(tmp_path)
    coefs = [row["kl_coef"] for row in rows]
    assert coefs[0] == 0.2
    # of the first update the KL is 0, and so below any target
    assert abs(rows[0]["kl"]) < 1e-5
    assert coefs[1] == pytest.approx(0.2 * (1 - 0.2 * 8 / 100))
    for before, after, row in zip(coefs[1:], coefs[2:], rows[1:], strict=False):
        measured = 1 if row["kl"] > target else -1
        assert after == pytest.approx(before * (1 + measured * 0.2 * 8 / 100))
        assert measured == direction or abs(row["kl"]) < 0.05


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("sampling: {temperature: 0}", "rl.sampling.temperature must be above 0"),
        ("clip: 1.5", "rl.clip must be at most 1"),
        ("kl: {controller: adaptive, horizon: 100}", "rl.kl.horizon must be more than batch_size / 5"),
    ],
)
def test_settings_that_cannot_be_learnt_with_are_refused_before_anything_runs(
    text: str, sentence: str, tmp_path: Path
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(f"rl:\n  {text}\n", encoding="utf-8")
    with pytest.raises(UserError, match=re.escape(sentence)):
        load_recipe(path)


# What is written down


def documented() -> dict[str, set[str]]:
    """Stage → metric names, from the tables of docs/metrics.md."""
    found: dict[str, set[str]] = {}
    stage = ""
    for line in METRICS.read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            stage = re.findall(r"`(\w+)/`", line)[0]
            found[stage] = set()
        elif line.startswith("| `"):
            found[stage] |= set(re.findall(r"`([^`]+)`", line.split("|")[1]))
    return found


def logged(go: Callable[[Path], object], directory: Path) -> set[str]:
    go(directory)
    return {name for row in rows_of(directory) for name in row} - {"step"}


def test_every_logged_metric_is_documented_and_every_documented_one_logged(tmp_path: Path) -> None:
    pairs = [Comparisons(pair_tree((5,), (6, 7), (8,)), (Pair(0, 1, 1.0, 0.0),))]

    def sft(directory: Path) -> None:
        trees = demonstration_trees(random.Random(1), 3)
        with record(directory) as written:
            fine_tune(language(dtype=torch.float32), trees, trees, Sft(), 0, written)

    def reward(directory: Path) -> None:
        with record(directory) as written:
            members = [scalar(dtype=torch.float32) for _ in range(2)]
            fit_members(members, pairs, pairs, Reward(), (0, 1), written)

    def online(directory: Path) -> None:
        terms = (
            (1.0, "learned", FunctionReward("length", length_reward)),
            (0.0, "gold", FunctionReward("g", length_reward)),
        )
        run_ppo(cast(dtype=torch.float32), ppo(), directory, scorer=MissingEos(WeightedSum(terms)))

    def direct(directory: Path) -> None:
        compared = [Contested(pairs[0], (-9.0, -7.0))]
        with record(directory) as written:
            learn_preferences(language(dtype=torch.float32), compared, compared, Dpo(), 0, written)

    def rated(directory: Path) -> None:
        trees = demonstration_trees(random.Random(1), 2)
        answers = [Single(trees[0], trees[1], good, -9.0, -7.0) for good in (True, False)]
        with record(directory) as written:
            learn_singles(language(dtype=torch.float32), answers, answers, Dpo(loss="kto"), 0, written)

    tables = documented()
    assert logged(direct, tmp_path / "pairs") | logged(rated, tmp_path / "answers") == tables["dpo"]
    assert tables.keys() == {"sft", "reward", "ppo", "dpo"}
    assert logged(sft, tmp_path / "sft") == tables["sft"]
    assert logged(reward, tmp_path / "reward") == tables["reward"]
    names = logged(online, tmp_path / "ppo")
    term = "reward/<term>"
    assert term in tables["ppo"]
    assert names - {"reward/learned", "reward/gold", "reward/missing_eos"} == tables["ppo"] - {term}
    assert names >= {"reward/learned", "reward/gold", "reward/missing_eos"}


@pytest.mark.parametrize("layout", ["separate", "shared"])
def test_sampler_and_trainer_agree_and_a_run_is_a_function_of_its_seed(layout: str, tmp_path: Path) -> None:
    settings = ppo(updates=3, epochs=2, minibatches=2, sampling={"temperature": 0.8})

    def after(seed: int, name: str) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
        roles = full_cast(layout, tmp_path / "reward")
        run_ppo(roles, settings, tmp_path / name, seed=seed)
        rows = rows_of(tmp_path / name)
        for row in rows:
            for measured in ("seconds/sampling", "seconds/learning", "tokens_per_second"):
                del row[measured]
        return weights(roles.policy._weights.model.state_dict().items()), rows

    (one, first), (two, second), (other, third) = after(0, "a"), after(0, "b"), after(1, "c")
    assert not unequal(one, two)
    assert first == second
    assert unequal(one, other)
    assert first != third
    for row in first:
        assert 0 <= row["sampler_kl"] < 1e-6
    assert first[0]["kl"] == pytest.approx(0, abs=1e-5)
    assert first[0]["kl_k3"] == pytest.approx(0, abs=1e-6)


def test_an_update_keeps_its_rollouts_and_numbers(tmp_path: Path) -> None:
    scorer = MissingEos(FunctionReward("length", length_reward), -3.0)
    updates = run_ppo(cast(dtype=torch.float32), ppo(updates=2), tmp_path, prompts(8), scorer)
    rows = rows_of(tmp_path)
    assert [update.version for update in updates] == [0, 1]
    assert [row["step"] for row in rows] == [1, 2]
    for update, row in zip(updates, rows, strict=True):
        rollouts: Sequence[Rollout] = [one.scored.rollout for one in update.annotated]
        assert len(rollouts) == 8
        assert {one.version for one in rollouts} == {update.version}
        assert len({one.prompt.id for one in rollouts}) == 4
        assert all(one.scored.reward == -3.0 for one in update.annotated if one.scored.rollout.stop != "eos")
        assert row["reward"] == pytest.approx(sum(one.scored.reward for one in update.annotated) / 8)
        assert row["length"] == pytest.approx(sum(len(one.tokens) for one in rollouts) / 8)
        assert row["truncated"] == pytest.approx(sum(one.stop == "length" for one in rollouts) / 8)
        assert {name: update.metrics[name] for name in row if name != "step"} == {
            name: number for name, number in row.items() if name != "step"
        }
    assert len({one.scored.rollout.seed for update in updates for one in update.annotated}) == 16


def test_credit_takes_the_price_of_the_update(tmp_path: Path) -> None:
    """`return` of a row is that of `credit` over the kept rollouts, at the β that the controller had come to."""
    kl = {"coef": 0.3, "controller": "adaptive", "target": 1e6, "horizon": 9}  # 8 answers: by 18 % a step
    settings = ppo(updates=3, kl=kl, optimizer={"lr": 3e-3})
    updates = run_ppo(cast(dtype=torch.float32), settings, tmp_path)
    rows = rows_of(tmp_path)
    assert rows[2]["kl_coef"] < 0.22
    for update, row in zip(updates, rows, strict=True):
        groups = credit(update.annotated, algorithm_of(settings), row["kl_coef"], 2)
        samples = [sample for group in groups for sample in group]
        returns = [x for one in samples for x in one.returns]
        assert row["return"] == pytest.approx(sum(returns) / len(returns), rel=1e-5)
    assert abs(rows[2]["kl"]) > 0.01  # so that β matters


def test_the_reference_is_the_model_that_the_run_began_with(tmp_path: Path) -> None:
    settings = ppo(updates=3, sampling={"temperature": 0.8}, optimizer={"lr": 3e-3})
    last = run_ppo(cast(dtype=torch.float32), settings, tmp_path)[-1]
    model = plain(dtype=torch.float32)
    for one in last.annotated:
        asked = one.scored.rollout
        with torch.no_grad():
            before = read(model, asked.prompt_tokens + asked.tokens, 0.8)[len(asked.prompt_tokens) - 1 :]
        assert one.reference_logprobs == pytest.approx(before.tolist(), abs=1e-5)
        assert max(abs(a - b) for a, b in zip(one.logprobs, one.reference_logprobs, strict=True)) > 1e-3


class Weighing:
    """Looks at every policy, and has enough after some."""

    def __init__(self, model: torch.nn.Module, most: int) -> None:
        self.model, self.most = model, most
        self.seen: list[tuple[int, int, float]] = []
        self.weights: list[dict[str, Tensor]] = []

    @property
    def enough(self) -> bool:
        return len(self.seen) == self.most

    def look(self, version: int, valued: Sequence[Valued], coef: float) -> None:
        self.seen.append((version, len(valued), coef))
        self.weights.append(weights(self.model.state_dict().items()))


def test_whoever_looks_on_sees_each_policy_before_it_learns_and_ends_the_stage(tmp_path: Path) -> None:
    roles, tongue = cast(dtype=torch.float32), chat()
    model = roles.policy._weights.model
    before = weights(model.state_dict().items())
    watch, kept = Weighing(model, 2), list[int]()
    generator = RoleGenerator(roles.policy, LocalGenerator(roles.policy.select(), tongue.tokenizer))
    scorer, settings = FunctionReward("length", length_reward), ppo(updates=5, kl={"coef": 0.25})

    def keep(update: Update) -> None:
        kept.append(update.version)

    with record(tmp_path) as written:
        practise(roles, generator, scorer, tongue, prompts(5), settings, 0, written, keep, watch=watch)
    assert watch.seen == [(0, 8, 0.25), (1, 8, 0.25)]
    assert kept == [0, 1]
    assert len(rows_of(tmp_path)) == 2
    first, second = watch.weights
    assert not unequal(before, first)
    assert unequal(first, second)
    assert unequal(second, weights(model.state_dict().items()))


# Drawing anew


def script(*rewards: Sequence[float], lost: float = 0.0) -> tuple[list[int], Callable[[int], list[Scored]]]:
    """An `attempt` that takes the next groups of rewards; how many it was asked for, call by call."""
    asked: list[int] = []
    waiting = iter(rewards)

    def attempt(count: int) -> list[Scored]:
        asked.append(count)
        groups = [next(waiting) for _ in range(count)]
        return [
            Scored(rollout((5,), (9,)), reward + less, {"overlong": less})
            for group in groups
            for reward, less in zip(group, (0.0, lost), strict=True)
        ]

    return asked, attempt


ALIKE, APART = (0.5, 0.5), (0.0, 1.0)


def harvest(redraws: int, *rewards: Sequence[float], lost: float = 0.0) -> tuple[list[int], Harvest]:
    """Three prompts, two answers to each."""
    asked, attempt = script(*rewards, lost=lost)
    return asked, collect(attempt, ppo(credit="group-mean", batch_size=6, redraws=redraws))


def test_without_redraws_all_groups_are_learnt_from() -> None:
    asked, found = harvest(0, APART, ALIKE, ALIKE)
    assert asked == [3]
    assert (found.fair, found.learnt) == (6, tuple(range(6)))
    assert found.metrics == {"groups/drawn": 3.0, "groups/flat": pytest.approx(2 / 3)}


def test_groups_that_are_alike_are_drawn_anew_and_still_counted_in_what_is_measured() -> None:
    asked, found = harvest(8, APART, ALIKE, ALIKE, ALIKE, APART, APART)
    assert asked == [3, 2, 1]
    assert found.fair == 6  # the first draw, whatever it scored
    assert [one.reward for one in found.scored[:6]] == [0.0, 1.0, 0.5, 0.5, 0.5, 0.5]
    assert len(found.scored) == 10
    assert found.learnt == (0, 1, 6, 7, 8, 9)
    assert found.metrics == {"groups/drawn": 6.0, "groups/flat": 0.5}


def test_redraws_have_a_bound_and_what_is_missing_stays_missing() -> None:
    asked, found = harvest(2, APART, *[ALIKE] * 20)
    assert asked == [3, 2, 2]
    assert found.learnt == (0, 1)
    assert found.metrics == {"groups/drawn": 7.0, "groups/flat": pytest.approx(6 / 7)}


def test_where_all_are_alike_the_first_draw_is_learnt_from() -> None:
    asked, found = harvest(1, *[ALIKE] * 6)
    assert asked == [3, 3]
    assert (found.fair, found.learnt, len(found.scored)) == (6, tuple(range(6)), 6)


def test_what_is_lost_for_length_makes_no_group_differ() -> None:
    asked, found = harvest(1, *[(1.0, 1.0)] * 6, lost=-0.3)
    assert asked == [3, 3]
    assert len({one.reward for one in found.scored}) == 2
    asked, _ = harvest(1, *[APART] * 3, lost=-0.3)
    assert asked == [3]


def test_a_prompt_that_is_drawn_anew_gets_other_answers(tmp_path: Path) -> None:
    """One prompt, whose answers always score alike: each redraw meets it again, with seeds of its own."""
    seeds: list[int] = []

    def alike(rollouts: Sequence[Rollout]) -> list[float]:
        seeds.extend(one.seed for one in rollouts)
        return [0.0] * len(rollouts)

    settings = ppo(updates=2, credit="group-mean", batch_size=4, samples_per_prompt=4, redraws=3)
    updates = run_ppo(replace(cast(), critic=None), settings, tmp_path, prompts(1), FunctionReward("alike", alike))
    assert len(seeds) == 2 * 4 * 4
    assert len(set(seeds)) == len(seeds)
    assert [len(update.annotated) for update in updates] == [4, 4]


def test_metrics_are_those_of_the_first_draw(tmp_path: Path) -> None:
    """Groups that were let in for differing are written down and learnt from, and bend no mean."""
    given: list[float] = []

    def judged(rollouts: Sequence[Rollout]) -> list[float]:
        first = len(given) == 0
        found = [1.0] * len(rollouts) if first else [float(place % 2) for place in range(len(rollouts))]
        given.extend(found)
        return found

    settings = ppo(credit="group-mean", batch_size=4, samples_per_prompt=2, redraws=3)
    (update,) = run_ppo(replace(cast(), critic=None), settings, tmp_path, prompts(5), FunctionReward("judged", judged))
    (row,) = rows_of(tmp_path)
    assert given == [1.0] * 4 + [0.0, 1.0, 0.0, 1.0]
    assert row["reward"] == 1.0
    assert row["groups/drawn"] == 4
    assert row["groups/flat"] == 0.5
    assert len(update.annotated) == 8
    assert row["policy/grad_norm"] > 0


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("rloo", {}),  # the KL stands in the reward
        ("grpo", {"epochs": 2}),
        ("grpo", {"minibatches": 2}),
        ("dr-grpo", {"redraws": 1}),  # what is measured is not all learnt from
        ("rft", {}),
        ("online-dpo", {}),
    ],
    ids=str,
)
def test_otherwise_the_policy_is_read_before(method: str, changes: dict[str, Any]) -> None:
    chosen = Recipe.model_validate({"method": method, "rl": changes}).rl
    assert not reads_once(algorithm_of(chosen), chosen)
