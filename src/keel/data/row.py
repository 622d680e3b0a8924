"""One row under the names that Keel uses, and a memory of which columns were looked at."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

from keel.data.nearest import did_you_mean
from keel.data.read import Record, Value, kind, quoted, strict_json
from keel.errors import UserError


class Row:
    """A record whose columns may have been given Keel's names by the caller.

    `columns` maps Keel's name to the column of the data. `used` and `notes` fill as the row is read,
    so that what was ignored or left out can be reported.
    """

    def __init__(self, record: Record, columns: Mapping[str, str]) -> None:
        self._record = record
        self._columns = columns
        self.where = record.where
        self.used: set[str] = set()
        self.notes: list[str] = []
        for ours, theirs in columns.items():
            if theirs not in record.fields:
                raise UserError(
                    f"{record.where}: has no column '{theirs}'{did_you_mean(theirs, record.fields)}, which was named as"
                    f" '{ours}'; it has {quoted(record.fields)}."
                )

    def column(self, name: str) -> str:
        """What the data calls `name`."""
        return self._columns.get(name, name)

    def has(self, name: str) -> bool:
        """Whether the row has this column with something in it (null is nothing)."""
        return self._record.fields.get(self.column(name)) is not None

    def filled(self, name: str) -> bool:
        """Whether an optional column is there; CSV writes nothing as an empty text."""
        return self.has(name) and self._record.fields[self.column(name)] != ""

    def take(self, name: str) -> Value:
        """The value of a column that the row has; the column counts as used."""
        self.used.add(self.column(name))
        return self._record.fields[self.column(name)]

    def rest(self) -> dict[str, Value]:
        """The columns that were not used, by the names they have in the data."""
        return {name: value for name, value in self._record.fields.items() if name not in self.used}

    def error(self, problem: str) -> UserError:
        """The error that names this row's file and line; `problem` says what is wrong and what to do."""
        return UserError(f"{self.where}: {problem}")

    def unlike(self, what: str, shapes: Sequence[str]) -> UserError:
        """The error for a row whose columns make none of the shapes that are known."""
        wanted = {name for shape in shapes for name in shape.split("'")[1::2]}
        empty = [name for name, value in self._record.fields.items() if value is None]
        hint = next((text for name in self._record.fields if (text := did_you_mean(name, wanted - {name}))), "")
        nulls = f" (null: {quoted(empty)})" if empty else ""
        return self.error(
            f"{what} needs {'; or '.join(shapes)}; this row has {quoted(self._record.fields)}{nulls}{hint}, so rename"
            " its columns or map them, as in columns={'prompt': 'your_name'}."
        )

    def spelt(self, value: Value) -> Value:
        """A number or truth value as the text that JSON writes for it, which is noted; other values as they are.

        Answers such as "True" and "42" lose their quotes on the way through some tools (PandaLM's test set has both).
        """
        if not isinstance(value, (bool, int, float)) or not math.isfinite(value):
            return value
        self.notes.append("number or truth value taken as text")
        return json.dumps(value)

    def text(self, name: str) -> str:
        """A column that must hold a text (see `spelt`)."""
        value = self.spelt(self.take(name))
        if not isinstance(value, str):
            raise self.error(f"'{self.column(name)}' should be a text, not {kind(value)}; correct the row.")
        return value

    def label(self, name: str) -> str:
        """A column that must hold a text or a number, as text."""
        value = self.take(name)
        if not isinstance(value, (str, int, float)):
            raise self.error(f"'{self.column(name)}' should be a text or a number, not {kind(value)}; correct the row.")
        return str(value)

    def number(self, name: str, low: float = -math.inf, high: float = math.inf) -> float:
        """A column that must hold a finite number within [low, high]; a text such as "0.7" (CSV) will do."""
        return self._number(self.take(name), self.column(name), low, high)

    def numbers(self, name: str) -> tuple[float, ...]:
        """A column that must hold a list of finite numbers."""
        return tuple(self._number(value, self.column(name), -math.inf, math.inf) for value in self.values(name))

    def values(self, name: str) -> list[Value]:
        """A column that must hold a list, maybe as JSON text."""
        value = self.take(name)
        found = unpacked(value)
        if not isinstance(found, list):
            raise self.error(f"'{self.column(name)}' should be a list, not {kind(value)}; correct the row.")
        return found

    def _number(self, value: Value, column: str, low: float, high: float) -> float:
        try:
            number = math.nan if isinstance(value, bool) or not isinstance(value, (int, float, str)) else float(value)
        except (ValueError, OverflowError):
            number = math.nan
        if not (math.isfinite(number) and low <= number <= high):
            bounds = f" from {low:g} to {high:g}" if math.isfinite(low + high) else ""
            raise self.error(f"'{column}' should be a number{bounds}, not {_shown(value)}; correct the row.")
        return number


def _shown(value: Value) -> str:
    """A single value as Python writes it, cut off where it is long; what kind of thing anything else is."""
    return kind(value) if isinstance(value, (list, dict, tuple)) else f"{value!r:.40}"


def unpacked(value: Value) -> Value:
    """A text that is a JSON list (CSV knows no lists) becomes that list; anything else stays what it is."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            return strict_json(value)
        except (ValueError, RecursionError):
            return value
    return value
