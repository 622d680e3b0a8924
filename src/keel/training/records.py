"""What a stage writes down while it runs: `metrics.jsonl` and TensorBoard events, and a line for the display."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, TextIO, runtime_checkable

from torch.utils.tensorboard import SummaryWriter


@runtime_checkable
class Watcher(Protocol):
    """Whoever wants to see a stage go by; the display is one."""

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        """`step` steps are done; `metrics` are the newest values."""


class Lines:
    """A file of JSON objects, one a line. It is made at the first line, in place of one that was there before."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: TextIO | None = None

    def write(self, *rows: Mapping[str, Any]) -> None:
        """Append these objects; they are in the file when this returns."""
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("w", encoding="utf-8")
        self._file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        self._file.flush()

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()


class Record:
    """Appends one JSON object per logged step to `metrics.jsonl`, and the same numbers to TensorBoard.

    Names and units are listed in docs/metrics.md. A number that is not finite is written as null (JSON has no other
    word for it) and shown as it is. Nothing is on disk before the first step.
    """

    def __init__(self, directory: Path, watcher: Watcher) -> None:
        self._events = directory / "events"
        self._lines = Lines(directory / "metrics.jsonl")
        self._board: SummaryWriter | None = None
        self._watcher = watcher

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log the metrics of a step that is done; steps count from 1."""
        row: dict[str, float | int | None] = {"step": step}
        row.update({name: value if math.isfinite(value) else None for name, value in metrics.items()})
        self._lines.write(row)
        if self._board is None:
            shutil.rmtree(self._events, ignore_errors=True)  # of a run before this one
            self._board = SummaryWriter(str(self._events))
        for name, value in metrics.items():
            self._board.add_scalar(name, value, step)
        self._watcher.step(step, metrics)

    def __enter__(self) -> Record:
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.__exit__()
        if self._board is not None:
            self._board.close()
