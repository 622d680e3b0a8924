"""The same loss and the same gradient as TRL's trainers give, on the same tensors and the same small models, in fp32.

TRL runs in an environment of its own (`make parity` sets it up); nothing of it is imported here. Where the two are not
the same by intent, the test says in numbers what lies between them, and docs/algorithms.md in words.
"""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import stdev
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel

from benchmarks.versus_trl.environments import trl
from benchmarks.versus_trl.inputs import CACHE
from keel.config import Dpo, Online, Recipe
from keel.data.forest import Branch, Tree
from keel.models.roles import LanguageRole, language_role, separate
from keel.training.annotate import annotate
from keel.training.comparisons import Comparisons, Pair
from keel.training.credit import Group, credit
from keel.training.learner import Learner
from keel.training.monitor import Tally
from keel.training.objective import Objective
from keel.training.online import algorithm_of, learn
from keel.training.preference import Contested, Single, learn_preferences, learn_singles, read_reference
from models.small import CONFIGS, build, some, words
from training.small import BARE, head, record, rollout, rows_of, scored, steps_of

TOLERANCE = 1e-5
LONGEST = 9
EACH = 4


def model(name: str) -> PreTrainedModel:
    """`policy`, and near it `old` and `reference`."""
    made = build(CONFIGS["llama"])
    if name != "policy":
        generator = torch.Generator().manual_seed({"old": 1, "reference": 2}[name])
        with torch.no_grad():
            for parameter in made.parameters():
                parameter += 0.01 * torch.randn(parameter.shape, generator=generator)
    return made


def role(name: str) -> LanguageRole:
    return language_role(model(name), None, 0)


# What both sides learn from


def pairs(longest_prompt: int = 6, lengths: Sequence[int] = ()) -> list[dict[str, Any]]:
    """Six pairs, each of its own prompt; `lengths` of the chosen answers, else any."""
    chance = random.Random("pairs")
    return [
        {
            "prompt_ids": list(some(chance, chance.randrange(1, longest_prompt + 1))),
            "chosen_ids": list(some(chance, lengths[n] if lengths else chance.randrange(1, 8))),
            "rejected_ids": list(some(chance, chance.randrange(1, 8))),
        }
        for n in range(6)
    ]


def singles() -> list[dict[str, Any]]:
    """Seven answers, four of them good; beside each the answer of the row before it, as TRL has it."""
    chance = random.Random("singles")
    rows: list[dict[str, Any]] = [
        {
            "prompt_ids": list(some(chance, chance.randrange(1, 6))),
            "completion_ids": list(some(chance, chance.randrange(1, 8))),
            "label": n % 2 == 0,
        }
        for n in range(7)
    ]
    return [{**row, "KL_completion_ids": rows[n - 1]["completion_ids"]} for n, row in enumerate(rows)]


def answers() -> list[dict[str, Any]]:
    """Three prompts with four answers each, and their rewards; one group scores alike."""
    chance = random.Random("answers")
    rows = []
    for n in range(3):
        asked = list(some(chance, 2 + n))
        for _ in range(EACH):
            reward = 0.5 if n == 1 else round(chance.uniform(-1, 1), 3)
            said = list(some(chance, chance.randrange(1, LONGEST + 1)))
            rows.append({"prompt_ids": asked, "completion_ids": said, "reward": reward})
    return rows


@dataclass(frozen=True)
class Case:
    """A trainer of TRL's with its settings, the rows, and what is the same in Keel."""

    trainer: str
    config: Mapping[str, Any]
    rows: Sequence[dict[str, Any]]
    ours: Mapping[str, Any]


PREFERENCES: dict[str, Case] = {
    "dpo": Case("dpo", {"loss_type": ["sigmoid"], "beta": 0.3}, pairs(), {"beta": 0.3}),
    "ipo": Case("dpo", {"loss_type": ["ipo"], "beta": 0.4}, pairs(), {"loss": "ipo", "beta": 0.4, "length": "mean"}),
    "robust": Case(
        "dpo",
        {"loss_type": ["robust"], "beta": 0.3, "label_smoothing": 0.2},
        pairs(),
        {"loss": "robust", "beta": 0.3, "flips": 0.2},
    ),
    "kto": Case(
        "kto",
        {"beta": 0.3, "desirable_weight": 1.5, "undesirable_weight": 0.8},
        singles(),
        {"loss": "kto", "beta": 0.3, "desirable_weight": 1.5, "undesirable_weight": 0.8},
    ),
    # TRL's likelihood reads the prompt too, and is a mean over all tokens: the same for prompts of one token and
    # answers of one length.
    "orpo": Case("orpo", {"beta": 0.7}, pairs(1, (5,) * 6), {"loss": "orpo", "beta": 0.7}),
    "simpo": Case(
        "cpo",
        {"loss_type": "simpo", "beta": 1.5, "simpo_gamma": 0.6, "cpo_alpha": 0.0},
        pairs(),
        {"loss": "simpo", "beta": 1.5, "gamma": 0.6},
    ),
}

SHARED = {
    "num_generations": EACH,
    "max_completion_length": LONGEST,
    "temperature": 1.0,
    "sampler": "old",
    "num_iterations": 2,
}
RLOO = {key: value for key, value in SHARED.items() if key != "num_iterations"} | {"sampler": "policy"}
ONLINE: dict[str, Case] = {
    "grpo": Case(
        "grpo",
        {**SHARED, "loss_type": "grpo", "beta": 0.2, "use_bias_correction_kl": False},
        answers(),
        {"kl": {"coef": 0.2}},
    ),
    "grpo with TRL's KL": Case(
        "grpo",
        {**SHARED, "loss_type": "grpo", "beta": 0.2},
        answers(),
        {"method": "grpo", "kl": {"coef": 0.2, "weight": "ratio"}},
    ),
    "dr-grpo": Case("grpo", {**SHARED, "loss_type": "dr_grpo", "beta": 0.0, "scale_rewards": "none"}, answers(), {}),
    "dapo": Case(
        "grpo", {**SHARED, "loss_type": "dapo", "beta": 0.0, "epsilon": 0.2, "epsilon_high": 0.28}, answers(), {}
    ),
    "gspo": Case(
        "grpo",
        {
            **SHARED,
            "loss_type": "grpo",
            "importance_sampling_level": "sequence",
            "beta": 0.0,
            "epsilon": 0.05,
            "epsilon_high": 0.06,
        },
        answers(),
        {"clip": 0.05, "clip_high": 0.06},
    ),
    # TRL's bound is on the ratio itself, Keel's on what it exceeds 1 by.
    "cispo": Case(
        "grpo", {**SHARED, "loss_type": "cispo", "beta": 0.0, "epsilon_high": 1.1}, answers(), {"clip_high": 0.1}
    ),
    "rloo": Case("rloo", {**RLOO, "beta": 0.1}, answers(), {"kl": {"coef": 0.1}}),
}
RATIO = math.sqrt(EACH / (EACH - 1))


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Tensor]]:
    """What TRL makes of every case: one process of its own environment."""
    required = "trl" in os.environ.get("KEEL_REQUIRE", "").split()
    if not required and not (CACHE / "peer" / ".installed").exists():
        pytest.skip("TRL's environment has not been made: make parity")
    folder = tmp_path_factory.mktemp("trl")
    for name in ("policy", "old", "reference"):
        model(name).save_pretrained(folder / name)
        words().save_pretrained(folder / name)
    cases = [
        {"name": name, "trainer": case.trainer, "config": dict(case.config), "rows": list(case.rows)}
        for name, case in (PREFERENCES | ONLINE).items()
    ]
    (folder / "cases.json").write_text(json.dumps(cases), encoding="utf-8")
    script = Path(__file__).with_name("trl_side.py")
    done = subprocess.run(
        [str(trl(CACHE).python), str(script), str(folder)], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return {case["name"]: load_file(folder / f"{case['name']}.safetensors") for case in cases}


def check(found: tuple[float, Mapping[str, Tensor]], known: Mapping[str, Tensor]) -> None:
    """Loss and gradient, relative to the largest entry."""
    loss, moved = found
    assert loss == pytest.approx(known["loss"].item(), rel=TOLERANCE, abs=TOLERANCE)
    check_gradient(moved, known)


def check_gradient(moved: Mapping[str, Tensor], known: Mapping[str, Tensor]) -> None:
    weights = {name: tensor for name, tensor in known.items() if name not in ("loss", "advantages")}
    scale = max(float(tensor.abs().max()) for tensor in weights.values())
    assert scale > 1e-3
    assert len(weights) > 15
    for name, tensor in weights.items():
        assert float((moved[name] - tensor).abs().max()) <= TOLERANCE * scale, name


# Straight from preferences


def of_preferences(case: Case, directory: Path) -> tuple[float, dict[str, Tensor]]:
    settings = Dpo.model_validate(
        {**case.ours, "batch_size": len(case.rows), "epochs": 1, "optimizer": BARE.model_dump(), "log_every": 1}
    )
    policy, reference = role("policy"), role("reference")
    with record(directory) as written:
        if settings.loss == "kto":
            rows = _singles(case.rows, reference)
            moved = steps_of(policy.select(), lambda: learn_singles(policy, rows, (), settings, 0, written))
        else:
            prompts = _contested(case.rows, reference)
            moved = steps_of(policy.select(), lambda: learn_preferences(policy, prompts, (), settings, 0, written))
    return rows_of(directory)[0]["loss"], moved


def _tree(prompt: Sequence[int], *said: Sequence[int]) -> Tree:
    return Tree(tuple(prompt), tuple(Branch(tuple(one), (True,) * len(one)) for one in said))


def _contested(rows: Sequence[Mapping[str, Any]], reference: LanguageRole) -> list[Contested]:
    trees = [_tree(row["prompt_ids"], row["chosen_ids"], row["rejected_ids"]) for row in rows]
    sums = read_reference(reference, trees, None)
    return [
        Contested(Comparisons(tree, (Pair(0, 1, 1.0, 0.0),)), tuple(one)) for tree, one in zip(trees, sums, strict=True)
    ]


def _singles(rows: Sequence[Mapping[str, Any]], reference: LanguageRole) -> list[Single]:
    own = [_tree(row["prompt_ids"], row["completion_ids"]) for row in rows]
    other = [_tree(row["prompt_ids"], row["KL_completion_ids"]) for row in rows]
    sums = [one for (one,) in read_reference(reference, own + other, None)]
    return [
        Single(*trees, row["label"], mine, mismatched)
        for *trees, row, mine, mismatched in zip(own, other, rows, sums, sums[len(own) :], strict=False)
    ]


@pytest.mark.parametrize("name", PREFERENCES)
def test_losses_straight_from_preferences(name: str, theirs: dict[str, dict[str, Tensor]], tmp_path: Path) -> None:
    check(of_preferences(PREFERENCES[name], tmp_path), theirs[name])


# Online


def settings_of(name: str) -> Online:
    """The preset, with what the case changes; all answers in one step."""
    case = ONLINE[name]
    rl = {"batch_size": len(case.rows), "samples_per_prompt": EACH, "minibatches": 1, "optimizer": BARE.model_dump()}
    sampling = {"max_tokens": LONGEST, "temperature": 1.0}
    changes = {key: value for key, value in case.ours.items() if key != "method"}
    method = case.ours.get("method", name)
    return Recipe.model_validate({"method": method, "rl": {**rl, "sampling": sampling, **changes}}).rl


def groups_of(name: str, sampler: str) -> list[Group]:
    """Credit by the preset, from the same rewards, of answers that `sampler` gave."""
    settings, case = settings_of(name), ONLINE[name]
    said = [scored(rollout(row["prompt_ids"], row["completion_ids"]), row["reward"]) for row in case.rows]
    read = annotate(said, role(sampler), role("reference"), 1.0, None)
    exact = [replace(one, scored=replace(one.scored, rollout=_sampled(one))) for one in read]
    return credit(exact, algorithm_of(settings), settings.kl.coef, EACH)


def _sampled(one: Any) -> Any:
    """Its rollout, as if the sampler's log-probs were the trainer's: both are one program here."""
    return replace(one.scored.rollout, logprobs=one.logprobs)


def learnt(name: str, groups: Sequence[Group]) -> tuple[float, dict[str, Tensor]]:
    settings = settings_of(name)
    roles = separate(model("policy"), model("reference"), (model("old"), head(torch.float32)), None, None, seed=0)
    policy, tally = Learner(roles.policy.parameters(), BARE, 1), Tally()
    objective = Objective(algorithm_of(settings), settings.kl.coef, Dpo())
    moved = steps_of(roles.policy.select(), lambda: learn(groups, roles, policy, None, objective, settings, tally))
    return tally.metrics()["policy/loss"], moved


def advantages(groups: Sequence[Group]) -> Tensor:
    return torch.tensor([sample.advantages[0] for group in groups for sample in group])


def with_advantages(groups: Sequence[Group], given: Tensor) -> list[Group]:
    values = iter(given.flatten().tolist())
    return [tuple(replace(one, advantages=(next(values),) * len(one.logprobs)) for one in group) for group in groups]


def test_advantages_of_groups(theirs: dict[str, dict[str, Tensor]]) -> None:
    """Not divided they are the same; divided, TRL's deviation is that of a sample (n − 1) and has 1e-4 added."""
    torch.testing.assert_close(advantages(groups_of("dr-grpo", "old")), theirs["dr-grpo"]["advantages"])
    ours = advantages(groups_of("grpo", "old"))
    rewards = [row["reward"] for row in answers()]
    spread = [stdev(rewards[first : first + EACH]) for first in range(0, len(rewards), EACH)]
    between = [sigma / (sigma + 1e-4) / RATIO for sigma in spread for _ in range(EACH)]
    torch.testing.assert_close(ours * torch.tensor(between), theirs["grpo"]["advantages"], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(theirs["grpo"]["advantages"], theirs["gspo"]["advantages"])
    assert float((ours - theirs["grpo"]["advantages"]).abs().max()) > 0.1


@pytest.mark.parametrize("name", [name for name in ONLINE if name != "rloo"])
def test_losses_of_online_methods(name: str, theirs: dict[str, dict[str, Tensor]]) -> None:
    """From TRL's advantages; sampled by another policy, so that ratios differ from 1 and some are clipped."""
    groups = with_advantages(groups_of(name, "old"), theirs[name]["advantages"])
    check(learnt(name, groups), theirs[name])


def test_rloo(theirs: dict[str, dict[str, Tensor]]) -> None:
    """The same advantages, KL and all. TRL then clips the ratio of whole answers, a mean over answers; Keel, as the
    source, takes log π without a ratio, and divides by the longest length too: their first steps have one direction."""
    groups = groups_of("rloo", "policy")
    torch.testing.assert_close(advantages(groups), theirs["rloo"]["advantages"], rtol=1e-4, atol=1e-5)
    _, moved = learnt("rloo", groups)
    check_gradient({name: LONGEST * tensor for name, tensor in moved.items()}, theirs["rloo"])
