"""The preflight inside a run: what is red stops the stage before its first step, unless the recipe says otherwise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import keel.pipeline
from keel.cli import run as command
from keel.config import Recipe, dump_recipe
from keel.errors import UserError
from keel.pipeline import run
from tests.stages.small import language_model, own_data, recipe, weights_of
from tests.stages.test_reuse import Listening


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keel.pipeline, "write_report", lambda directory: directory)


@pytest.fixture
def flat(tmp_path: Path) -> str:
    """A reward that is the same for every answer."""
    path = tmp_path / "rewards.py"
    path.write_text("def flat(rollouts):\n    return [1.0 for _ in rollouts]\n", encoding="utf-8")
    return f"{path}:flat"


def settings(place: Path, reward: str, **changes: Any) -> Recipe:
    data = own_data(place / "data")
    ppo = {"reward": [{"kind": "function", "path": reward}], "critic": {"init": "zero"}}
    return recipe(language_model(place / "base"), data, **{"rl": ppo, **changes})


def verdicts(directory: Path, stage: str) -> dict[str, str]:
    found = json.loads((directory / stage / "preflight.json").read_text(encoding="utf-8"))
    return {one["check"]: one["verdict"] for one in found["findings"]}


def test_what_is_red_stops_the_stage_before_its_first_step(flat: str, tmp_path: Path) -> None:
    listening, directory = Listening(), tmp_path / "run"
    with pytest.raises(UserError, match=r"PPO was not started, for .*“Reward spread”.*--preflight say"):
        run(settings(tmp_path, flat, preflight="stop"), directory, listening)
    assert listening.ran == ["sft", "preferences", "reward"]  # what came before is done, and is kept
    assert not (directory / "ppo" / "metrics.jsonl").exists()
    assert verdicts(directory, "ppo")["Reward spread"] == "red"
    assert verdicts(directory, "sft")["Masks"] == "ok"
    (table,) = [one for one in listening.said if one.startswith("PPO: ")]
    assert "sampled answers score 1, so there is nothing to learn" in " ".join(table.split())
    assert "  ok " not in table


def test_say_goes_on_and_a_second_run_keeps_what_the_first_has_made(flat: str, tmp_path: Path) -> None:
    given, directory = settings(tmp_path, flat, preflight="stop"), tmp_path / "run"
    with pytest.raises(UserError, match="Reward spread"):
        run(given, directory, Listening())
    listening = Listening()
    run(given.model_copy(update={"preflight": "say"}), directory, listening)
    assert listening.ran == ["ppo"]
    assert (directory / "ppo" / "model").is_dir()


def test_off_looks_for_nothing_and_looking_changes_nothing(flat: str, tmp_path: Path) -> None:
    given = settings(tmp_path, flat)
    for name in ("off", "say"):
        run(given.model_copy(update={"preflight": name}), tmp_path / name, Listening())
    assert not list((tmp_path / "off").rglob("preflight.json"))
    assert {path.parent.name for path in (tmp_path / "say").rglob("preflight.json")} == {
        "sft", "preferences", "reward", "ppo",
    }  # fmt: skip
    for stage in ("sft", "reward", "ppo"):
        assert weights_of(tmp_path / "off" / stage / "model") == weights_of(tmp_path / "say" / stage / "model")


def test_the_command_ends_with_2_and_says_how_to_go_on(
    flat: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(dump_recipe(settings(tmp_path, flat, preflight="stop")), encoding="utf-8")
    assert command(["run", str(path), "--dir", str(tmp_path / "run")]) == 2
    said = capsys.readouterr()
    assert "Reward spread" in said.out
    *_, last = said.err.splitlines()  # before it, the library may show how far it is with writing a model
    assert last.startswith("keel: error: PPO was not started")
