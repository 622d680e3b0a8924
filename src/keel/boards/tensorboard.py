"""TensorBoard.

The events are written here, at once and in this thread: TensorBoard's own writer does it in a thread of its own, which
dies of a full disk and leaves the run waiting for it.
"""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import time
from collections.abc import Mapping
from io import BytesIO, FileIO
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard.summary import scalar, text

from keel.boards.board import as_code
from keel.data.write import append
from keel.errors import UserError

_NUMBERS = itertools.count()


class TensorBoard:
    """Event files in a folder, as `tensorboard --logdir` reads them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._file: FileIO | None = None
        self._done = 0

    def begin(self, done: int) -> None:
        """Events of a run before this one are removed, those of this one kept; nothing is on disk before the first."""
        self._done = done
        if done == 0:
            shutil.rmtree(self._folder, ignore_errors=True)

    def numbers(self, step: int, metrics: Mapping[str, float]) -> None:
        """UserError where the disk refuses."""
        for name, value in metrics.items():
            self._write(step, summary=scalar(name, value))

    def texts(self, step: int, texts: Mapping[str, str]) -> None:
        """As code, for the text plugin reads Markdown."""
        for name, words in texts.items():
            self._write(step, summary=text(name, as_code(words)))

    def end(self) -> None:
        if self._file is not None:
            self._file.close()

    def _write(self, step: int, **content: Any) -> None:
        try:
            if self._file is None:
                self._file = self._opened()
            _append(self._file, Event(wall_time=time.time(), step=step, **content))
        except OSError as error:
            raise UserError(f"{self._folder} cannot be written ({error.strerror}); free space, then go on") from None

    def _opened(self) -> FileIO:
        """A new file; where the stage goes on, readers are told that what follows replaces later steps."""
        self._folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}.{os.getpid()}.{next(_NUMBERS)}"
        file = FileIO(self._folder / name, "w")
        _append(file, Event(wall_time=time.time(), file_version="brain.Event:2"))
        if self._done:
            start = SessionLog(status=SessionLog.START)
            _append(file, Event(wall_time=time.time(), step=self._done + 1, session_log=start))
        return file


def _append(file: FileIO, event: Event) -> None:
    record = BytesIO()
    RecordWriter(record).write(event.SerializeToString())
    append(file, record.getvalue())
