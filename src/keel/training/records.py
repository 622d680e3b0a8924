"""What a stage writes down while it runs: `metrics.jsonl` and TensorBoard events, and a line for the display."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Protocol, runtime_checkable

from torch.utils.tensorboard import SummaryWriter


@runtime_checkable
class Watcher(Protocol):
    """Whoever wants to see a stage go by; the display is one."""

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        """`step` steps are done; `metrics` are the newest values."""


class Record:
    """Appends one JSON object per logged step to `metrics.jsonl`, and the same numbers to TensorBoard.

    Names and units are listed in docs/metrics.md. A number that is not finite is written as null (JSON has no other
    word for it) and shown as it is.
    """

    def __init__(self, directory: Path, watcher: Watcher) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._lines = (directory / "metrics.jsonl").open("w", encoding="utf-8")
        shutil.rmtree(directory / "events", ignore_errors=True)  # of a run before this one
        self._board = SummaryWriter(str(directory / "events"))
        self._watcher = watcher

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log the metrics of a step that is done; steps count from 1."""
        row: dict[str, float | int | None] = {"step": step}
        row.update({name: value if math.isfinite(value) else None for name, value in metrics.items()})
        self._lines.write(json.dumps(row) + "\n")
        self._lines.flush()
        for name, value in metrics.items():
            self._board.add_scalar(name, value, step)
        self._watcher.step(step, metrics)

    def __enter__(self) -> Record:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lines.close()
        self._board.close()
