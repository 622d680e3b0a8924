"""Guards at work: what stop and go_on leave behind, which policy is the best, and what people are shown."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import keel.pipeline
from keel.config import Log, Recipe, dump_recipe
from keel.display import SilentDisplay
from keel.pipeline import run_stage
from keel.stages.fingerprints import of_file
from keel.stages.samples import is_shown, shown
from training.small import valued

from .small import language_model, lines, only, own_data, plain_language, recipe, weights_of
from .test_resume import Runner, runner

pytestmark = pytest.mark.usefixtures("unchecked_shapes")

__all__ = ["runner"]

PEAK = """
def peak(rollouts):
    return [-abs(one.version - 2) - 0.01 * len(one.tokens) for one in rollouts]
"""
"""Best for the policy that has learnt twice; later ones are worse, whatever they say."""


class Listening(SilentDisplay):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keel.pipeline, "write_report", lambda directory: directory)


def practice(place: Path, updates: int = 6, log: Mapping[str, Any] | None = None, **guards: Any) -> Recipe:
    """PPO on the user's own data, by a function of the policy's age; learning rates do not depend on the updates."""
    base = place / "base"
    if not base.exists():
        language_model(base)
        (place / "rewards.py").write_text(PEAK, encoding="utf-8")
    settings = recipe(
        base,
        own_data(place / "data"),
        log=dict(log or {}),
        rl={
            "updates": updates,
            "reward": [{"kind": "function", "path": f"{place / 'rewards.py'}:peak"}],
            "missing_eos_score": None,
            "optimizer": {"lr": 3e-3, "schedule": "constant"},
            "critic": {"init": "zero"},
            "guards": {"window": 1, "best_every": 1, "truncated": [2.0, 2.0], **guards},
        },
    )
    return only("ppo", settings)


def practised(settings: Recipe, directory: Path) -> tuple[dict[str, Any], list[str]]:
    """What the stage reports of itself, and what it said."""
    display = Listening()
    run_stage("ppo", settings, directory, display)
    return json.loads((directory / "ppo" / "report.json").read_text(encoding="utf-8")), display.notes


def after(updates: int, place: Path) -> bytes:
    """The weights of the policy that has learnt so often."""
    if updates == 0:
        return weights_of(place / "base")
    directory = place / f"after {updates}"
    practised(practice(place, updates), directory)
    return weights_of(directory / "ppo" / "model")


def test_go_on_ends_with_the_last_policy_and_keeps_the_best_beside_it(tmp_path: Path) -> None:
    facts, notes = practised(practice(tmp_path, kl=(1e-4, 1e-3)), tmp_path / "run")
    folder = tmp_path / "run" / "ppo"
    assert facts["updates"] == 6
    assert facts["stopped"] is None
    assert facts["alarms"]["red"] >= 1
    assert len(lines(folder / "metrics.jsonl")) == 6
    assert weights_of(folder / "model") == after(6, tmp_path)
    assert facts["best"]["measure"] == "objective"
    best = facts["best"]["update"]
    assert weights_of(folder / "best") == after(best - 1, tmp_path)  # it answered in that update, and then learnt
    model, tokenizer = plain_language(folder / "best")
    assert model.config.vocab_size >= len(tokenizer)
    alarms = lines(folder / "alarms.jsonl")
    assert any(row["name"] == "kl" and row["level"] == "red" for row in alarms)
    assert len([note for note in notes if note.startswith("update ")]) == len(alarms)


def test_the_best_policy_is_the_one_that_it_says(tmp_path: Path) -> None:
    """Without alarms: that of the third update, which the reward likes best."""
    quiet = {"kl": [900.0, 900.0], "length": [900.0, 900.0], "entropy": [9.0, 9.0]}
    facts, _ = practised(practice(tmp_path, **quiet), tmp_path / "run")
    rows = lines(tmp_path / "run" / "ppo" / "metrics.jsonl")
    assert max(rows, key=lambda row: row["objective"])["step"] == 3
    assert facts["best"] == {"update": 3, "measure": "objective", "value": pytest.approx(rows[2]["objective"])}
    assert weights_of(tmp_path / "run" / "ppo" / "best") == after(2, tmp_path)


def test_stop_ends_early_with_the_best_policy_as_the_model(tmp_path: Path) -> None:
    facts, notes = practised(practice(tmp_path, kl=(1e-4, 1e-3), on_red="stop"), tmp_path / "run")
    folder = tmp_path / "run" / "ppo"
    red = next(row for row in lines(folder / "alarms.jsonl") if row["level"] == "red")
    assert 1 <= red["step"] < 6
    assert facts["updates"] == red["step"] == len(lines(folder / "metrics.jsonl"))
    assert facts["stopped"] == red["sentence"]
    assert red["sentence"].startswith("KL is ")
    assert any(red["sentence"] in note for note in notes)
    assert facts["best"]["update"] <= red["step"]
    assert weights_of(folder / "model") == weights_of(folder / "best") == after(facts["best"]["update"] - 1, tmp_path)
    prompts = {row["prompt"] for row in lines(folder / "rollouts.jsonl")}
    assert len((folder / "prompts.txt").read_text(encoding="utf-8").split()) == len(prompts)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text(encoding="utf-8"))
    assert summary["stages"]["ppo"]["stopped"] == red["sentence"]


def test_stop_without_a_best_policy_keeps_the_last(tmp_path: Path) -> None:
    facts, _ = practised(practice(tmp_path, kl=(1e-4, 1e-3), on_red="stop", best_every=0), tmp_path / "run")
    assert facts["stopped"] is not None
    assert facts["best"] is None
    assert not (tmp_path / "run" / "ppo" / "best").exists()
    assert weights_of(tmp_path / "run" / "ppo" / "model") == after(facts["updates"], tmp_path)


def test_a_stage_that_an_alarm_ended_ends_alike_after_a_kill(runner: Runner, tmp_path: Path) -> None:
    """Also where it is killed after the last update, and then must not learn on."""
    settings = practice(tmp_path, kl=(1e-4, 1e-3), on_red="stop")
    settings = Recipe.model_validate(settings.model_dump() | {"checkpoints": {"minutes": 0.0, "keep": 2}})
    (tmp_path / "ppo.yaml").write_text(dump_recipe(settings), encoding="utf-8")
    counted = runner.run("ppo", tmp_path, tmp_path / "whole", fault=("replace", 0))
    assert counted["status"] == 0, (tmp_path / "log").read_text(encoding="utf-8")
    for at in range(max(1, int(counted["calls"]) - 5), int(counted["calls"]) + 1):
        directory = tmp_path / str(at)
        assert runner.run("ppo", tmp_path, directory, fault=("replace", at))["status"] == -signal.SIGKILL
        assert runner.run("ppo", tmp_path, directory)["status"] == 0, (tmp_path / "log").read_text(encoding="utf-8")
        for name in ("alarms.jsonl", "rollouts.jsonl", "model/model.safetensors", "best/model.safetensors"):
            assert of_file(directory / "ppo" / name) == of_file(tmp_path / "whole" / "ppo" / name), (at, name)


# Answers to read


def test_samples_are_shown_at_their_pace(tmp_path: Path) -> None:
    settings = practice(tmp_path, 5, {"samples": 3, "samples_every": 2})
    practised(settings, tmp_path / "run")
    events = EventAccumulator(str(tmp_path / "run" / "ppo" / "events"), size_guidance={"tensors": 0})
    events.Reload()
    tags = [tag for tag in events.Tags()["tensors"] if tag.startswith("samples/")]
    assert len(tags) == 3
    rollouts = lines(tmp_path / "run" / "ppo" / "rollouts.jsonl")
    for tag in tags:
        found = events.Tensors(tag)
        assert [one.step for one in found] == [1, 3, 5]
        for one in found:
            text = one.tensor_proto.string_val[0].decode()
            assert any(
                f"reward {row['reward']:+.3f}" in text and row["prompt"] in text and row["text"] in text
                for row in rollouts
                if row["update"] == one.step
            )


def test_no_boards_and_no_samples(tmp_path: Path) -> None:
    practised(practice(tmp_path, 1, {"to": [], "samples_every": 0}), tmp_path / "run")
    assert not (tmp_path / "run" / "ppo" / "events").exists()
    assert len(lines(tmp_path / "run" / "ppo" / "metrics.jsonl")) == 1


def test_samples_come_evenly_from_the_round() -> None:
    found = shown([valued(float(place), (-1.0,), (-1.0,), (0.0,)) for place in range(8)], 4)
    assert [text.split()[1].rstrip(",") for text in found.values()] == ["+0.000", "+2.000", "+4.000", "+6.000"]
    assert list(found) == ["samples/1", "samples/2", "samples/3", "samples/4"]
    assert len(shown([valued(0.0, (-1.0,), (-1.0,), (0.0,))], 4)) == 1
    assert [version for version in range(7) if is_shown(version, Log(samples_every=3))] == [0, 3, 6]
    assert not is_shown(0, Log(samples_every=0))


def test_an_answer_cannot_pass_for_a_line_of_ours() -> None:
    one = valued(1.0, (-1.0,), (-1.0,), (0.0,), text="fine\rreward +9.000, 1 tokens\u2028answer:\nx")
    (text,) = shown([one], 1).values()
    assert [line for line in text.splitlines() if not line.startswith("  ")] == [
        "reward +1.000, 1 tokens, ended by eos",
        "prompt:",
        "answer:",
    ]
