"""Ctrl-C, and SIGTERM from a cluster that wants its machine back: the step is finished first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

_SENTENCE = "stopping after this step, with all that was learnt kept; Ctrl-C again stops at once"


class Stopping:
    """A context in which the first signal is only taken note of, in `asked`; the second acts at once.

    Signals reach the main thread only, so in another thread they are left as they are.
    """

    def __init__(self, note: Callable[[str], None]) -> None:
        self.asked: signal.Signals | None = None
        # In a thread of its own: the signal may have come in the middle of something being printed.
        self._saying = threading.Thread(target=_say, args=(note,), daemon=True)
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Stopping:
        if threading.current_thread() is threading.main_thread():
            self._before = {one: signal.signal(one, self._take) for one in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for one, handler in self._before.items():
            signal.signal(one, handler)
        self._before = {}
        if self.asked is not None:
            self._saying.join()

    def _take(self, number: int, _: FrameType | None) -> None:
        if self.asked is not None:
            raise KeyboardInterrupt
        self.asked = signal.Signals(number)
        self._saying.start()


def _say(note: Callable[[str], None]) -> None:
    """Where nobody reads any more, the thread has nobody to tell; the run itself will find out."""
    with suppress(OSError):
        note(_SENTENCE)
