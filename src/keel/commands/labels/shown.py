"""Numbers and tables of `keel labels`, for people and for programs."""

from __future__ import annotations

import math
import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from keel.data.place import short
from keel.errors import one_line

if TYPE_CHECKING:
    from keel.preferences.agreement import Estimate
    from keel.preferences.judgement import Votes

_WIDEST = 100  # columns of text that are still easy to read


def number(value: float) -> float | None:
    """For JSON, which has no NaN: null where a value is undefined."""
    return float(value) if math.isfinite(value) else None


def estimate(found: Estimate) -> dict[str, float | None]:
    """A statistic and its interval for JSON."""
    return {"value": number(found.value), "low": number(found.low), "high": number(found.high)}


def cell(value: float, form: str = ".3f") -> str:
    """A number in a table, – where it is undefined."""
    return format(value, form) if math.isfinite(value) else "–"


def interval(found: Estimate) -> str:
    """low … high, – where undefined."""
    return f"{cell(found.low)} … {cell(found.high)}" if math.isfinite(found.low) else "–"


def counted(count: int, noun: str) -> str:
    """1 vote, 2,997 votes."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def votes_counted(votes: Votes) -> str:
    """How much there is: votes, annotators and pairs of answers."""
    people, pairs = counted(len(votes.annotators), "annotator"), counted(len(votes.pairs), "pair")
    return f"{counted(len(votes.pair), 'vote')} by {people} on {pairs}"


def name(text: str) -> str:
    """What a file calls somebody or something: it may hold anything, and be long."""
    return short(one_line(text), 32)


def paragraph(text: str) -> None:
    """Sentences, broken where the terminal ends; in one line where output is piped."""
    wide = min(_WIDEST, shutil.get_terminal_size().columns)
    print(textwrap.fill(text, wide, break_long_words=False) if sys.stdout.isatty() else text)


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """The first column on the left, the others on the right. Without colours or codes where output is piped."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = Table(title=Text(title, style="bold"), title_justify="left", box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for place, column in enumerate(header):
        shown.add_column(Text(column, style="dim"), justify="left" if place == 0 else "right", no_wrap=True)
    for row in rows:
        shown.add_row(*(Text(one) for one in row))
    interactive = sys.stdout.isatty()
    console = Console(highlight=False) if interactive else Console(highlight=False, width=_WIDEST, color_system=None)
    print()
    console.print(shown)
