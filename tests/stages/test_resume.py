"""A run that is killed goes on as if nothing had happened: the same bytes of weights and of numbers in the end.

Stages run in children of `runner`, which can be killed at any moment.
"""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from keel.config import dump_recipe
from keel.training.checkpoint import steps_in

from .small import language_model, lines, only, own_data, recipe, reward_model, weights_of

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither fork nor these signals")
STAGES = ("sft", "reward", "ppo")
TIMES = ("seconds", "tokens_per_second", "pairs_per_second")
"""What of a row depends on the clock."""
KILLS = 20
DRAWS = (
    "import random\n\n\ndef brevity(rollouts):\n"
    "    return [random.random() - len(one.tokens) / 10 for one in rollouts]\n"
)
"""A reward function that draws from the process's own random numbers."""


@dataclass
class Runner:
    """The other side of `runner.py`."""

    process: subprocess.Popen[str]

    def run(
        self,
        stage: str,
        place: Path,
        directory: Path,
        after: float | None = None,
        by: signal.Signals = signal.SIGKILL,
        fault: tuple[str, int] | None = None,
        once: Path | None = None,
    ) -> dict[str, Any]:
        """Run a stage of the recipe that lies in `place`, and kill it so many seconds after `once` is there."""
        request = {
            "stage": stage,
            "recipe": str(place / f"{stage}.yaml"),
            "dir": str(directory),
            "log": str(place / "log"),
            "seconds": after,
            "once": None if once is None else str(once),
            "signal": int(by),
            "fault": fault,
        }
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    command = [sys.executable, "-m", "tests.stages.runner"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield Runner(process)
        process.stdin.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recipes of the three stages: a dozen steps each, a checkpoint after every one."""
    place = tmp_path_factory.mktemp("resume")
    data = own_data(place / "data", count=16)
    (place / "rewards.py").write_text(DRAWS, encoding="utf-8")
    judge = str(reward_model(place / "judge"))
    steps: dict[str, Any] = {"batch_size": 4, "epochs": 4}
    changes: dict[str, Any] = {
        "checkpoints": {"minutes": 0, "keep": 2},
        "sft": steps,
        "reward": steps,
        "rl": {
            "updates": 6,
            "kl": {"controller": "adaptive", "target": 0.01, "horizon": 100},
            "guards": {"window": 2, "best_every": 2, "kl": [1e-4, 30.0], "length": [0.9, 5.0], "truncated": [0.1, 2.0]},
            "reward": [
                {"kind": "model", "path": judge},
                {"kind": "function", "path": f"{place / 'rewards.py'}:brevity"},
            ],
        },
    }
    settings = recipe(language_model(place / "base"), data, **changes)
    for stage in STAGES:
        (place / f"{stage}.yaml").write_text(dump_recipe(only(stage, settings)), encoding="utf-8")
    return place


@pytest.mark.parametrize("model", [{}, {"tuning": "lora", "lora": {"rank": 2}}], ids=["full", "adapters"])
@pytest.mark.parametrize("combine", ["scores", "weights"])
def test_several_reward_models_go_on_in_the_turn_of_the_second(
    combine: str, model: dict[str, Any], runner: Runner, tmp_path: Path
) -> None:
    """Killed at the last checkpoint of the first member's turn, at the first and in the midst of the second's, and in
    the third's: every member's folder comes out the same."""
    steps = {"members": 3, "combine": combine, "batch_size": 4, "epochs": 2}
    settings = recipe(
        language_model(tmp_path / "base"),
        own_data(tmp_path / "data", count=16),
        model=model,
        reward=steps,
        checkpoints={"minutes": 0, "keep": 2},
    )
    (tmp_path / "reward.yaml").write_text(dump_recipe(only("reward", settings)), encoding="utf-8")
    reference = tmp_path / "whole"
    assert runner.run("reward", tmp_path, reference)["status"] == 0, (tmp_path / "log").read_text(encoding="utf-8")
    own = lines(reference / "reward" / "metrics.jsonl")[-1]["step"] // 3
    assert own == 6
    for at in (own, own + 1, own + 2, own + 4, 2 * own + 3):  # half way through its file of tensors
        directory = tmp_path / str(at)
        assert runner.run("reward", tmp_path, directory, fault=("save_file", at))["status"] == -signal.SIGKILL
        assert steps_in(directory / "reward" / "checkpoints")[-1].name == f"{at - 1:08d}"
        assert runner.run("reward", tmp_path, directory)["status"] == 0, (tmp_path / "log").read_text(encoding="utf-8")
        same(directory, reference, "reward")
        resumed = json.loads((directory / "reward" / "lineage.json").read_text(encoding="utf-8"))["resumed"]
        assert [one["step"] for one in resumed] == [at - 1]
        for path in sorted((reference / "reward" / "model").rglob("*")):
            if path.is_file():
                twin = directory / path.relative_to(reference)
                assert twin.read_bytes() == path.read_bytes(), path


@pytest.fixture(scope="module")
def whole(runner: Runner, place: Path) -> dict[str, tuple[Path, float]]:
    """Each stage without interruption, and how long it took."""
    found = {}
    for stage in STAGES:
        ended = runner.run(stage, place, place / f"whole {stage}")
        assert ended["status"] == 0, (place / "log").read_text(encoding="utf-8")
        found[stage] = place / f"whole {stage}", float(ended["took"])
    return found


def numbers(directory: Path, stage: str) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl, without what the clock says."""
    return [
        {name: value for name, value in row.items() if name.partition("/")[0] not in TIMES}
        for row in lines(directory / stage / "metrics.jsonl")
    ]


def same(one: Path, other: Path, stage: str) -> None:
    """Weights, metrics, rollouts, alarms and the best policy are the same to the last bit; no draft or checkpoint is
    left."""
    assert weights_of(one / stage / "model") == weights_of(other / stage / "model")
    assert numbers(one, stage) == numbers(other, stage)
    assert [row["step"] for row in numbers(one, stage)] == sorted({row["step"] for row in numbers(one, stage)})
    if stage == "ppo":
        for name in ("rollouts.jsonl", "alarms.jsonl"):
            assert (one / stage / name).read_bytes() == (other / stage / name).read_bytes()
        assert {row["name"] for row in lines(one / stage / "alarms.jsonl")} >= {"kl", "length"}
        assert weights_of(one / stage / "best") == weights_of(other / stage / "best")
    facts, others = (json.loads((each / stage / "report.json").read_text()) for each in (one, other))
    for clock in ("seconds", "peak_mb"):
        del facts[clock], others[clock]
    assert facts == others
    names = [path.name for path in one.rglob("*")]
    assert not [name for name in names if name.startswith(".") or name == "checkpoints"]


@pytest.mark.parametrize("stage", STAGES)
def test_killed_at_twenty_random_moments(
    stage: str, runner: Runner, place: Path, whole: dict[str, tuple[Path, float]], tmp_path: Path
) -> None:
    """Each time the same command goes on; whenever a run comes to its end, another one begins."""
    reference, took = whole[stage]
    chance = random.Random(f"kills of {stage}")
    kills, runs, went_on = 0, 0, 0
    directory = tmp_path / "0"
    while kills < KILLS or directory.exists():
        before = len(steps_in(directory / stage / "checkpoints"))
        wait = chance.uniform(0, 0.9 * took) if kills < KILLS else None
        # Half of them within the loop, however long the machine takes to come there.
        within = directory / stage / "metrics.jsonl" if wait is not None and chance.random() < 0.5 else None
        if within is not None and wait is not None:
            wait = wait / 10
        ended = runner.run(stage, place, directory, after=wait, once=within)
        assert ended["status"] in (0, -signal.SIGKILL), (place / "log").read_text(encoding="utf-8")
        kills += ended["status"] != 0
        went_on += before > 0
        if ended["status"] == 0:
            same(directory, reference, stage)
            runs += 1
            directory = tmp_path / str(runs)
    assert kills == KILLS
    assert runs >= 1
    assert went_on >= 3, "nearly every run was killed before its first checkpoint, which shows little"


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("fault", ["fsync", "replace", "save_file"])
def test_killed_while_a_file_is_written(
    stage: str, fault: str, runner: Runner, place: Path, whole: dict[str, tuple[Path, float]], tmp_path: Path
) -> None:
    """At each of several calls inside checkpoints, and inside the writing of the model and of the report."""
    reference, _ = whole[stage]
    counted = runner.run(stage, place, tmp_path / "counted", fault=(fault, 0))
    assert counted["status"] == 0
    calls = int(counted["calls"])
    assert calls >= 3, "too few calls to be killed at"
    for at in sorted({1, 2, 3, calls // 2, calls - 1, calls}):
        directory = tmp_path / str(at)
        assert runner.run(stage, place, directory, fault=(fault, at))["status"] == -signal.SIGKILL
        assert runner.run(stage, place, directory)["status"] == 0, (place / "log").read_text(encoding="utf-8")
        same(directory, reference, stage)


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_after_the_step_with_a_checkpoint(
    by: signal.Signals, runner: Runner, place: Path, whole: dict[str, tuple[Path, float]], tmp_path: Path
) -> None:
    """With checkpoints an hour apart: the one that is there was written for the signal."""
    reference, took = whole["sft"]
    text = (place / "sft.yaml").read_text(encoding="utf-8")
    rare = tmp_path / "rare"
    rare.mkdir()
    assert "minutes: 0.0" in text
    (rare / "sft.yaml").write_text(text.replace("minutes: 0.0", "minutes: 60.0"), encoding="utf-8")
    chance = random.Random(int(by))
    stopped = False
    for attempt in range(40):
        directory = tmp_path / str(attempt)
        begun = directory / "sft" / "metrics.jsonl"
        ended = runner.run("sft", rare, directory, after=chance.uniform(0, 0.1) * took, by=by, once=begun)
        kept = steps_in(directory / "sft" / "checkpoints")
        if kept:
            stopped = True
            break
    assert stopped, "the signal never came within the loop"
    assert ended["status"] == 128 + by
    said = (rare / "log").read_text(encoding="utf-8")
    assert f"keel: stopped after step {int(kept[-1].name)}, which is kept. To go on:\n\n  keel again" in said
    assert len(kept) == 1
    assert runner.run("sft", rare, directory)["status"] == 0
    assert f"going on after step {int(kept[-1].name)}" in (rare / "log").read_text(encoding="utf-8")
    same(directory, reference, "sft")


def halfway(runner: Runner, place: Path, directory: Path, stage: str = "sft") -> list[Path]:
    """A run that was killed with two checkpoints written."""
    calls = 0
    while len(steps_in(directory / stage / "checkpoints")) < 2:
        calls += 2
        shutil.rmtree(directory, ignore_errors=True)
        assert runner.run(stage, place, directory, fault=("fsync", 20 + calls))["status"] == -signal.SIGKILL
    return steps_in(directory / stage / "checkpoints")


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["tensors-00000.safetensors", "state.json"])
@pytest.mark.parametrize("damage", [shorten, flip, Path.unlink])
def test_a_damaged_checkpoint_is_passed_over_for_the_one_before(
    name: str, damage: Any, runner: Runner, place: Path, whole: dict[str, tuple[Path, float]], tmp_path: Path
) -> None:
    older, newer = halfway(runner, place, tmp_path / "run")
    damage(newer / name)
    (place / "log").unlink()
    assert runner.run("sft", place, tmp_path / "run")["status"] == 0
    said = (place / "log").read_text(encoding="utf-8")
    assert f"the checkpoint {newer} is damaged (" in said
    assert f"going on after step {int(older.name)}\n" in said
    same(tmp_path / "run", whole["sft"][0], "sft")


def test_where_all_checkpoints_are_damaged_the_stage_starts_anew(
    runner: Runner, place: Path, whole: dict[str, tuple[Path, float]], tmp_path: Path
) -> None:
    for folder in halfway(runner, place, tmp_path / "run"):
        flip(folder / "tensors-00000.safetensors")
    (place / "log").unlink()
    assert runner.run("sft", place, tmp_path / "run")["status"] == 0
    said = (place / "log").read_text(encoding="utf-8")
    assert said.count("is damaged (tensors-00000.safetensors is not as it was written)") == 2
    assert "going on" not in said
    same(tmp_path / "run", whole["sft"][0], "sft")


@pytest.mark.parametrize("stage", ["sft", "ppo"])
def test_metrics_that_were_cut_short_make_the_checkpoint_unusable(
    stage: str, runner: Runner, place: Path, whole: dict[str, tuple[Path, float]], tmp_path: Path
) -> None:
    """Of PPO nothing else is taken from it either: rollouts, alarms, random numbers."""
    halfway(runner, place, tmp_path / "run", stage)
    (tmp_path / "run" / stage / "metrics.jsonl").write_text("{", encoding="utf-8")
    (place / "log").unlink()
    assert runner.run(stage, place, tmp_path / "run")["status"] == 0
    assert "metrics.jsonl has " in (place / "log").read_text(encoding="utf-8")
    same(tmp_path / "run", whole[stage][0], stage)


def test_each_resumption_is_written_down(
    runner: Runner, place: Path, whole: dict[str, tuple[Path, float]], tmp_path: Path
) -> None:
    """When, and from which step, in lineage.json; a run that was never stopped has none."""
    directory, said = tmp_path / "run", []
    halfway(runner, place, directory)
    for fault in (("fsync", 12), None):
        said.append(int(steps_in(directory / "sft" / "checkpoints")[-1].name))
        ended = runner.run("sft", place, directory, fault=fault)
        assert ended["status"] == (0 if fault is None else -signal.SIGKILL)
    found = json.loads((directory / "sft" / "lineage.json").read_text(encoding="utf-8"))
    assert [one["step"] for one in found["resumed"]] == said
    assert all(datetime.fromisoformat(one["at"]).tzinfo is not None for one in found["resumed"])
    never = json.loads((whole["sft"][0] / "sft" / "lineage.json").read_text(encoding="utf-8"))
    assert never.pop("resumed") == []
    assert {name: one for name, one in found.items() if name != "resumed"} == never
    same(directory, whole["sft"][0], "sft")


def test_checkpoints_of_other_settings_are_put_aside(runner: Runner, place: Path, tmp_path: Path) -> None:
    halfway(runner, place, tmp_path / "run")
    text = (place / "sft.yaml").read_text(encoding="utf-8")
    other = tmp_path / "other"
    other.mkdir()
    (other / "sft.yaml").write_text(text.replace("lr: 0.001", "lr: 0.002"), encoding="utf-8")
    assert runner.run("sft", other, tmp_path / "run")["status"] == 0
    assert (
        "SFT: made anew, because sft.optimizer.lr was 0.001 and is 0.002; what was there is kept in replaced/sft-1"
        in (other / "log").read_text(encoding="utf-8")
    )
    assert len(steps_in(tmp_path / "run" / "replaced" / "sft-1" / "checkpoints")) == 2
    assert runner.run("sft", other, tmp_path / "fresh")["status"] == 0
    same_model = weights_of(tmp_path / "fresh" / "sft" / "model")
    assert weights_of(tmp_path / "run" / "sft" / "model") == same_model


def test_only_the_newest_checkpoints_are_kept(runner: Runner, place: Path, tmp_path: Path) -> None:
    kept = [int(folder.name) for folder in halfway(runner, place, tmp_path / "run")]
    assert kept == [kept[0], kept[0] + 1]
    assert kept[1] > 2


@pytest.mark.parametrize("stage", STAGES)
def test_where_checkpoints_are_written_changes_nothing(
    stage: str, runner: Runner, place: Path, whole: dict[str, tuple[Path, float]], tmp_path: Path
) -> None:
    text = (place / f"{stage}.yaml").read_text(encoding="utf-8")
    (tmp_path / f"{stage}.yaml").write_text(text.replace("minutes: 0.0", "minutes: 60.0"), encoding="utf-8")
    assert runner.run(stage, tmp_path, tmp_path / "run")["status"] == 0
    same(tmp_path / "run", whole[stage][0], stage)
