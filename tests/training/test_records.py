"""What a stage writes down: JSON lines, the same as TensorBoard events, and a word to whoever watches."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from keel.training.records import Record

from .small import record, rows_of


class Watching:
    def __init__(self) -> None:
        self.seen: list[tuple[int, dict[str, float]]] = []

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        self.seen.append((step, dict(metrics)))


def scalars(directory: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(directory / "events"))
    events.Reload()
    return {name: [(one.step, one.value) for one in events.Scalars(name)] for name in events.Tags()["scalars"]}


def test_lines_events_and_watcher_hold_the_same_numbers(tmp_path: Path) -> None:
    watching = Watching()
    with Record(tmp_path / "stage", watching) as written:
        written.write(1, {"loss": 0.5, "lr": 0.25})
        written.write(4, {"loss": 0.25, "lr": 0.125, "held_out/loss": 2.0})
        assert len(rows_of(tmp_path / "stage")) == 2  # there at once, for those who look on
    assert rows_of(tmp_path / "stage") == [
        {"step": 1, "loss": 0.5, "lr": 0.25},
        {"step": 4, "loss": 0.25, "lr": 0.125, "held_out/loss": 2.0},
    ]
    assert watching.seen == [(1, {"loss": 0.5, "lr": 0.25}), (4, {"loss": 0.25, "lr": 0.125, "held_out/loss": 2.0})]
    assert scalars(tmp_path / "stage") == {
        "loss": [(1, 0.5), (4, 0.25)],
        "lr": [(1, 0.25), (4, 0.125)],
        "held_out/loss": [(4, 2.0)],
    }


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_null(number: float, tmp_path: Path) -> None:
    watching = Watching()
    with Record(tmp_path, watching) as written:
        written.write(1, {"accuracy": number, "loss": 1.0})
    (line,) = (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line) == {"step": 1, "accuracy": None, "loss": 1.0}
    assert not math.isfinite(watching.seen[0][1]["accuracy"])


def test_a_second_run_leaves_nothing_of_the_first(tmp_path: Path) -> None:
    for value in (1.0, 2.0):
        with record(tmp_path) as written:
            written.write(1, {"loss": value})
    assert rows_of(tmp_path) == [{"step": 1, "loss": 2.0}]
    assert scalars(tmp_path) == {"loss": [(1, 2.0)]}


def test_the_files_are_closed_when_the_stage_fails(tmp_path: Path) -> None:
    written = record(tmp_path)

    def fail() -> None:
        with written:
            written.write(1, {"loss": 1.0})
            raise RuntimeError("diverged")

    with pytest.raises(RuntimeError, match="diverged"):
        fail()
    assert rows_of(tmp_path) == [{"step": 1, "loss": 1.0}]
    with pytest.raises(ValueError, match="closed"):
        written.write(2, {"loss": 1.0})
