"""What a board is, and what all boards do with texts that nobody vouches for."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from keel.data.write import write_text

_OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")
"""What a terminal, a page or an encoder may act on; tabs and line ends are none of it."""
_LONGEST = 20_000
"""Characters of one text; a board that draws a whole book stops answering."""


@runtime_checkable
class Board(Protocol):
    """Shows the numbers and some texts of one stage. It never changes the run."""

    def begin(self, done: int) -> None:
        """The stage begins, or goes on after `done` steps: what was shown of later ones no longer counts."""

    def numbers(self, step: int, metrics: Mapping[str, float]) -> None:
        """The metrics of a step that is done; some may be no finite numbers."""

    def texts(self, step: int, texts: Mapping[str, str]) -> None:
        """Texts by name, such as answers of the model; they are untrusted."""

    def end(self) -> None:
        """The stage ends, however it does; also where it never began, and a second time."""


@dataclass(frozen=True)
class Title:
    """How a stage is called where many are shown together.

    `settings` holds the fields of the recipe by their dotted names.
    """

    project: str
    run: str
    settings: Mapping[str, Any]


def tame(text: str) -> str:
    """The text with � for every character that does something instead of being seen, and with an end."""
    seen = _OBEYED.sub("�", text.replace("\r\n", "\n"))
    return seen if len(seen) <= _LONGEST else f"{seen[:_LONGEST]}… ({len(seen) - _LONGEST:,} more characters)"


def as_code(text: str) -> str:
    """The text as a block of code in Markdown, so that nothing in it is read as a link, a picture or HTML."""
    return "\n".join(f"    {line}" for line in tame(text).split("\n"))


class Known:
    """The name under which a tracker knows a stage's run, kept in a file, so that a later process goes on with it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def name(self, done: int) -> str | None:
        """The name where the stage goes on and an earlier process had one; None where a run is to begin."""
        if done == 0 or not self._path.is_file():
            return None
        return self._path.read_text(encoding="utf-8").strip() or None

    def keep(self, name: str) -> str:
        """UserError where the disk refuses."""
        write_text(self._path, f"{name}\n")
        return name


def fresh() -> str:
    """A name that no other run has; the run's own random numbers are left alone."""
    return secrets.token_hex(4)
