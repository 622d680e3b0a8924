"""What people see while a run goes on: one line that lives, or a line now and then where output is piped."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Protocol, runtime_checkable

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.text import Text

SHOWN: Mapping[str, str] = {
    "held_out/loss": "held-out loss {:.3f}",
    "held_out/accuracy": "held-out accuracy {:.1%}",
    "loss": "loss {:.3f}",
    "accuracy": "accuracy {:.1%}",
    "reward": "reward {:+.2f}",
    "reward/gold": "gold {:.2f}",
    "kl": "KL {:.2f}",
    "tokens_per_second": "{:,.0f} tokens/s",
    "pairs_per_second": "{:,.0f} pairs/s",
}
"""The metrics worth a place on the screen, those first that a narrow one must have; all of them are in metrics.jsonl.
"""
_GAP = "  "


@runtime_checkable
class Display(Protocol):
    """Shows a run as it goes; never changes it."""

    def stage(self, name: str, total: int | None) -> AbstractContextManager[None]:
        """A stage of `total` steps (None: not known yet) begins, and ends with the context."""

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        """`step` steps of the stage are done; `metrics` are the newest values."""

    def resumed(self, step: int) -> None:
        """The stage goes on: `step` of its steps were done before."""

    def note(self, text: str) -> None:
        """A sentence for the user that stays on the screen."""


class SilentDisplay:
    """Shows nothing: for --json and for tests."""

    def stage(self, name: str, total: int | None) -> AbstractContextManager[None]:
        return _nothing()

    def step(self, step: int, metrics: Mapping[str, float]) -> None: ...

    def resumed(self, step: int) -> None: ...

    def note(self, text: str) -> None: ...


class PlainDisplay:
    """Prints the first and last step of a stage and one line every `every` seconds between."""

    def __init__(
        self, say: Callable[[str], None], every: float = 15.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._say, self._every, self._clock = say, every, clock
        self._name = ""
        self._total: int | None = None
        self._began = self._said = 0.0
        self._before = 0
        self._last: str | None = None

    @contextmanager
    def stage(self, name: str, total: int | None) -> Iterator[None]:
        self._name, self._total, self._last, self._before = name, total, None, 0
        self._began = self._clock()
        self._said = float("-inf")
        yield
        if self._last:
            self._say(self._last)
        self._say(f"{name}: done in {duration(self._clock() - self._began)}")

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        now = self._clock()
        of = f"{step}/{self._total}" if self._total else f"{step}"
        left = remaining(step - self._before, self._total and self._total - self._before, now - self._began)
        words = [f"{self._name} {of}", *shown(metrics), *([f"{duration(left)} left"] if left else [])]
        self._last = _GAP.join(words)
        if now - self._said >= self._every:
            self._say(self._last)
            self._said, self._last = now, None

    def resumed(self, step: int) -> None:
        self._before, self._began = step, self._clock()

    def note(self, text: str) -> None:
        self._say(text)


class Clock(ProgressColumn):
    """How long a stage has taken, and how long it will take at the pace so far where that is known."""

    def render(self, task: Task) -> Text:
        left = task.time_remaining
        words = duration(task.elapsed or 0.0) + (f", {duration(float(left))} left" if left is not None else "")
        return Text(f"{words:>24}", style="cyan")  # of one width, so that the bar keeps its length


class RichDisplay:
    """A bar and the newest numbers, redrawn in place; each finished stage leaves one line."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._numbers = Text()
        self._metrics: Mapping[str, float] = {}

    @contextmanager
    def stage(self, name: str, total: int | None) -> Iterator[None]:
        began = time.monotonic()
        bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            Clock(),
            console=self._console,
            expand=True,
        )
        self._progress, self._numbers, self._metrics = bar, Text(style="cyan", no_wrap=True, overflow="ellipsis"), {}
        self._task = bar.add_task(name, total=total)
        with Live(Group(bar, self._numbers), console=self._console, transient=True, refresh_per_second=2):
            yield
        self._progress = self._task = None
        took = duration(time.monotonic() - began)
        line = Text.assemble(("✓ ", "green"), (f"{name:12}", "bold"), f"{took:>12}{_GAP}")
        line.append(fitting(shown(self._metrics), self._console.width - len(line)), style="cyan")
        self._console.print(line, no_wrap=True, overflow="ellipsis")

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        if self._progress is None or self._task is None:
            raise ValueError("a step outside a stage")
        self._progress.update(self._task, completed=step)
        self._metrics = metrics
        self._numbers.plain = fitting(shown(metrics), self._console.width)

    def resumed(self, step: int) -> None:
        if self._progress is not None and self._task is not None:
            self._progress.reset(self._task, completed=step)

    def note(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False)


def for_terminal() -> Display:
    """The live display where a person looks, the plain one where output is piped or recorded."""
    return RichDisplay(Console()) if sys.stdout.isatty() else PlainDisplay(partial(print, flush=True))


def shown(metrics: Mapping[str, float]) -> list[str]:
    """The metrics that have a place on the screen, in words."""
    return [template.format(metrics[name]) for name, template in SHOWN.items() if name in metrics]


def fitting(words: Sequence[str], width: int) -> str:
    """As many of the words, from the first, as a line of this width holds whole."""
    line = ""
    for one in words:
        longer = f"{line}{_GAP}{one}" if line else one
        if len(longer) > width:
            break
        line = longer
    return line


def remaining(step: int, total: int | None, elapsed: float) -> float | None:
    """Seconds that are left at the pace so far; None where it cannot be told."""
    return elapsed / step * (total - step) if total and step else None


def duration(seconds: float) -> str:
    """Seconds as people say them: 8 s, 1 min 05 s, 2 h 03 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


@contextmanager
def _nothing() -> Iterator[None]:
    yield
