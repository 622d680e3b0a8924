"""What a stage writes down: JSON lines, the same on boards, and a word to whoever watches; and how it goes on."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from keel.boards import Board
from keel.boards.tensorboard import TensorBoard
from keel.display import SilentDisplay
from keel.errors import UserError
from keel.training.records import Lines, Record
from keel.training.state import Part, State

from .small import record, rows_of


class Watching:
    def __init__(self) -> None:
        self.seen: list[tuple[int, dict[str, float]]] = []

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        self.seen.append((step, dict(metrics)))


class Slate:
    """A board that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def begin(self, done: int) -> None:
        self.told.append(("begin", done))

    def numbers(self, step: int, metrics: Mapping[str, float]) -> None:
        self.told.append(("numbers", step, dict(metrics)))

    def texts(self, step: int, texts: Mapping[str, str]) -> None:
        self.told.append(("texts", step, dict(texts)))

    def end(self) -> None:
        self.told.append(("end",))


def on_tensorboard(directory: Path, watching: Watching | None = None) -> Record:
    return Record(directory, watching or SilentDisplay(), [TensorBoard(directory / "events")])


def scalars(directory: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(directory / "events"))
    events.Reload()
    return {name: [(one.step, one.value) for one in events.Scalars(name)] for name in events.Tags()["scalars"]}


def test_lines_events_and_watcher_hold_the_same_numbers(tmp_path: Path) -> None:
    watching = Watching()
    with on_tensorboard(tmp_path / "stage", watching) as written:
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
        with on_tensorboard(tmp_path) as written:
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


def test_boards_are_told_in_order_and_from_the_first_word_on(tmp_path: Path) -> None:
    slates = [Slate(), Slate()]
    assert isinstance(slates[0], Board)
    with Record(tmp_path, SilentDisplay(), slates) as written:
        assert slates[0].told == []
        written.texts(1, {"samples/1": "word"})
        written.write(1, {"loss": math.inf})
        written.write(3, {"loss": 1.0})
    expected = [
        ("begin", 0),
        ("texts", 1, {"samples/1": "word"}),
        ("numbers", 1, {"loss": math.inf}),
        ("numbers", 3, {"loss": 1.0}),
        ("end",),
    ]
    assert slates[0].told == slates[1].told == expected


def test_a_record_goes_on_after_the_checkpoint(tmp_path: Path) -> None:
    """What was written after it is cut off; boards hear how many steps count; ends are those of the whole stage."""
    with on_tensorboard(tmp_path) as written:
        assert isinstance(written, Part)
        assert written.state() == State({"bytes": 0, "step": 0})
        for step in (1, 2, 3):
            written.write(step, {"loss": float(step), "odd": math.nan})
        state = written.state()
        written.write(4, {"loss": 4.0})
    slate = Slate()
    boards = [TensorBoard(tmp_path / "events"), slate]
    with Record(tmp_path, SilentDisplay(), boards) as written:
        written.restore(State(json.loads(json.dumps(dict(state.numbers)))))
        assert written.state() == state
        written.write(5, {"loss": 50.0})
        first, last = written.ends()
    assert [row["step"] for row in rows_of(tmp_path)] == [1, 2, 3, 5]
    assert slate.told[0] == ("begin", 3)
    assert (first["loss"], last["loss"], last["step"]) == (1.0, 50.0, 5.0)
    assert math.isnan(first["odd"])
    assert scalars(tmp_path)["loss"] == [(1, 1.0), (2, 2.0), (3, 3.0), (5, 50.0)]


def test_lines_are_cut_off_where_the_checkpoint_was(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with Lines(path) as lines:
        lines.write({"a": 1}, {"a": "é"})
        state = lines.state()
        assert state.numbers["bytes"] == path.stat().st_size == len('{"a": 1}\n{"a": "é"}\n'.encode())
        lines.write({"a": 3})
    with Lines(path) as lines:
        lines.restore(state)
        assert len(path.read_text(encoding="utf-8").splitlines()) == 2
        lines.write({"a": 4})
    assert [json.loads(line)["a"] for line in path.read_text(encoding="utf-8").splitlines()] == [1, "é", 4]


def test_lines_of_which_nothing_was_written_begin_anew(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("of another run\n", encoding="utf-8")
    with Lines(path) as lines:
        lines.restore(lines.state())
        lines.write({"a": 1})
    assert path.read_text(encoding="utf-8") == '{"a": 1}\n'


def test_lines_go_back_to_an_earlier_checkpoint_that_had_none(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    lines = Lines(path)
    none = lines.state()
    with lines:
        lines.write({"a": 1})
        some = lines.state()
    with Lines(path) as lines:
        lines.restore(some)
        lines.restore(none)
        assert not path.exists()  # a stage that writes none must not show those of a process that was killed
        lines.write({"a": 2})
    assert path.read_text(encoding="utf-8") == '{"a": 2}\n'


def test_a_file_that_is_shorter_than_it_was_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with Lines(path) as lines:
        lines.write({"a": 1})
        state = lines.state()
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match=r"has 2 bytes and had 9"):
        Lines(path).restore(state)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        Lines(path).restore(state)


def test_where_the_disk_refuses_it_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(UserError, match=r"rows\.jsonl cannot be written .* goes on from the last checkpoint"):
        Lines(tmp_path / "file" / "rows.jsonl").write({"a": 1})
