"""Every online method as a stage: what it leaves, what it logs, and that it goes on where it was stopped."""

from __future__ import annotations

import json
import os
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
from transformers import AutoModelForCausalLM

from keel.config import ONLINE, Method, Recipe, dump_recipe
from keel.config.load import load_recipe
from keel.display import SilentDisplay
from keel.pipeline import run_stage, stages_of
from keel.summary import Summary

from .small import language_model, lines, only, own_data, recipe, weights_of
from .test_resume import Runner, runner

pytestmark = pytest.mark.usefixtures("unchecked_shapes")

__all__ = ["runner"]

FREE: tuple[Method, ...] = tuple(name for name in ONLINE if name != "ppo")
REWARD = '''
def evenness(rollouts):
    """Whole numbers, so that groups may score alike."""
    return [float(sum(len(word) for word in one.text.split()) % 3) for one in rollouts]
'''


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("methods")
    language_model(folder / "base")
    own_data(folder / "data", count=16)
    (folder / "rewards.py").write_text(REWARD, encoding="utf-8")
    return folder


def settings(place: Path, method: Method, checkpoints: dict[str, Any] | None = None, **rl: Any) -> Recipe:
    """The method's own choices, but for sizes and rate; a function scores."""
    data = own_data(place / "data", count=16)
    given = recipe(place / "base", data, checkpoints=checkpoints or {}).model_dump(exclude={"rl"})
    given["rl"] = {
        "prompts": data["prompts"],
        "sampling": {"max_tokens": 6},
        "reward": [{"kind": "function", "path": f"{place / 'rewards.py'}:evenness"}],
        "batch_size": 16,
        "samples_per_prompt": 4,
        "minibatches": 2,
        "updates": 3,
        "optimizer": {"lr": 3e-3},
        **rl,
    }
    return only("ppo", Recipe.model_validate({**given, "method": method}))


@pytest.mark.parametrize("method", FREE)
def test_a_method_leaves_a_policy_in_a_folder_of_its_name(method: Method, place: Path, tmp_path: Path) -> None:
    chosen = settings(place, method)
    assert stages_of(chosen) == [method]
    summary = run_stage(method, chosen, tmp_path, SilentDisplay())
    folder = tmp_path / method
    assert AutoModelForCausalLM.from_pretrained(folder / "model").num_parameters() > 0
    assert weights_of(folder / "model") != weights_of(place / "base")
    rows = lines(folder / "metrics.jsonl")
    assert len(rows) == 3
    assert not [name for row in rows for name in row if name.startswith("value/") or name == "return"]
    assert all({"policy/loss", "kl", "groups/flat", "importance"} <= set(row) for row in rows)
    assert not (tmp_path / "ppo").exists()
    assert summary.method == method
    assert Summary.read(tmp_path / "summary.json").method == method
    assert json.loads((tmp_path / "summary.json").read_text())[f"gold_{method}"] is None
    again = run_stage(method, chosen, tmp_path, SilentDisplay())
    assert again.stages[method]["seconds"] == summary.stages[method]["seconds"]  # it was kept


def test_dynamic_sampling_draws_anew_and_learns_from_groups_that_differ(place: Path, tmp_path: Path) -> None:
    run_stage("dapo", settings(place, "dapo"), tmp_path, SilentDisplay())
    rows = lines(tmp_path / "dapo" / "metrics.jsonl")
    assert all(row["groups/drawn"] >= 4 for row in rows)
    assert any(row["groups/drawn"] > 4 for row in rows)
    for row in rows:
        answers = [one for one in lines(tmp_path / "dapo" / "rollouts.jsonl") if one["update"] == row["step"]]
        groups = [answers[first : first + 4] for first in range(0, len(answers), 4)]
        differ = [len({one["reward"] for one in group}) > 1 for group in groups]
        assert len(groups) >= 4
        assert all(differ[4:])  # behind the first draw stands what was let in
        assert sum(differ) <= 4
        assert row["reward"] == pytest.approx(fmean(one["reward"] for group in groups[:4] for one in group))
    report = json.loads((tmp_path / "dapo" / "report.json").read_text())
    assert report["updates"] == 3


def test_the_overlong_penalty_is_a_part_of_the_reward(place: Path, tmp_path: Path) -> None:
    chosen = settings(place, "dapo", overlong_buffer=4, redraws=0)
    run_stage("dapo", chosen, tmp_path, SilentDisplay())
    found = {one["length"]: one["parts"]["overlong"] for one in lines(tmp_path / "dapo" / "rollouts.jsonl")}
    assert found[6] == -1
    assert all(lost == pytest.approx(max(-1.0, min(0.0, (6 - 4 - length) / 4))) for length, lost in found.items())


RESUMED: tuple[Method, ...] = FREE if os.environ.get("KEEL_ALL_METHODS") else ("dapo", "online-dpo", "rft")
"""All of them take four minutes: KEEL_ALL_METHODS=1."""


@pytest.mark.parametrize("method", RESUMED)
def test_killed_and_gone_on_it_ends_as_if_it_had_not_been(
    method: Method, place: Path, tmp_path: Path, runner: Runner
) -> None:
    chosen = settings(place, method, checkpoints={"minutes": 0, "keep": 2})
    (tmp_path / f"{method}.yaml").write_text(dump_recipe(chosen), encoding="utf-8")
    assert load_recipe(tmp_path / f"{method}.yaml") == chosen
    whole = runner.run(method, tmp_path, tmp_path / "whole", fault=("replace", 0))
    assert whole["status"] == 0, (tmp_path / "log").read_text(encoding="utf-8")
    for at in (whole["calls"] // 3, 2 * whole["calls"] // 3):
        directory = tmp_path / str(at)
        assert runner.run(method, tmp_path, directory, fault=("replace", at))["status"] != 0
        assert runner.run(method, tmp_path, directory)["status"] == 0, (tmp_path / "log").read_text(encoding="utf-8")
        assert weights_of(directory / method / "model") == weights_of(tmp_path / "whole" / method / "model")
        rollouts = [(each / method / "rollouts.jsonl").read_bytes() for each in (directory, tmp_path / "whole")]
        assert rollouts[0] == rollouts[1]
