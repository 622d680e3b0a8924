"""What a stage writes down while it runs: `metrics.jsonl`, the same on boards, and a line for the display."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from keel.boards import Board
from keel.data.write import append
from keel.errors import UserError
from keel.training.state import State


@runtime_checkable
class Watcher(Protocol):
    """Whoever wants to see a stage go by; the display is one."""

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        """`step` steps are done; `metrics` are the newest values."""


class Lines:
    """A file of JSON objects, one a line. It is made at the first line, in place of one that was there before.

    As a part of a checkpoint it is its length: what a killed process wrote after that is cut off.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: FileIO | None = None

    def write(self, *rows: Mapping[str, Any]) -> None:
        """Append these objects; they are in the file when this returns. UserError where the disk refuses."""
        try:
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file = FileIO(self.path, "w")
            append(self._file, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())
        except OSError as error:
            raise UserError(
                f"{self.path} cannot be written ({error.strerror}); free space, then give the same command again: it "
                "goes on from the last checkpoint"
            ) from None

    def state(self) -> State:
        """How many bytes are in the file, and outlive a power cut."""
        if self._file is None:
            return State({"bytes": 0})
        os.fsync(self._file.fileno())
        return State({"bytes": os.fstat(self._file.fileno()).st_size})

    def restore(self, state: State) -> None:
        """Cut off what was written later. ValueError where the file is shorter than it was."""
        self.__exit__()
        self._file = None
        size = int(state.numbers["bytes"])
        if size == 0:
            with suppress(OSError):  # where it stays, the first line takes its place, or says why not
                self.path.unlink()
            return
        found = self.path.stat().st_size
        if found < size:
            raise ValueError(f"{self.path} has {found} bytes and had {size}")
        os.truncate(self.path, size)
        self._file = FileIO(self.path, "a")

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()


class Record:
    """Appends one JSON object per logged step to `metrics.jsonl`, and shows the same numbers on `boards`.

    Names and units are listed in docs/metrics.md. A number that is not finite is written as null (JSON has no other
    word for it) and shown as it is. Nothing is on disk before the first step.
    """

    def __init__(self, directory: Path, watcher: Watcher, boards: Sequence[Board] = ()) -> None:
        self._lines = Lines(directory / "metrics.jsonl")
        self._watcher = watcher
        self._boards = boards
        self._done = 0
        self._begun = False

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log the metrics of a step that is done; steps count from 1."""
        row: dict[str, float | int | None] = {"step": step}
        row.update({name: value if math.isfinite(value) else None for name, value in metrics.items()})
        self._lines.write(row)
        self._begin()
        for board in self._boards:
            board.numbers(step, metrics)
        self._watcher.step(step, metrics)
        self._done = step

    def texts(self, step: int, texts: Mapping[str, str]) -> None:
        """Show texts, such as answers of the model, on the boards."""
        self._begin()
        for board in self._boards:
            board.texts(step, texts)

    def ends(self) -> tuple[Mapping[str, float], Mapping[str, float]]:
        """The first and the last row of the stage (nan for null), also where earlier processes wrote some of it."""
        rows = self._lines.path.read_text(encoding="utf-8").splitlines()
        first, last = (
            {name: math.nan if value is None else float(value) for name, value in json.loads(row).items()}
            for row in (rows[0], rows[-1])
        )
        return first, last

    def state(self) -> State:
        """The length of metrics.jsonl, and the last step in it."""
        return State({**self._lines.state().numbers, "step": self._done})

    def restore(self, state: State) -> None:
        """See `Lines.restore`."""
        self._lines.restore(state)
        self._done = int(state.numbers["step"])

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            for board in self._boards:
                board.begin(self._done)

    def __enter__(self) -> Record:
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.__exit__()
        for board in self._boards:
            board.end()
