"""Labels made elsewhere: a table with two answers per row and one column of verdicts per annotator."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from keel.data.place import short
from keel.data.read import Record, Value, kind, quoted, records
from keel.errors import UserError
from keel.preferences.judgement import STRONGEST, Answer, Assignment, Item, Judgement
from keel.preferences.store import PreferenceStore
from keel.types import Message

Cell = str | int


@dataclass(frozen=True)
class Columns:
    """Which column is what.

    The texts of the `prompt` columns are joined by a blank line, empty ones left out. `first` and `second` hold the
    answers, each of `annotators` one person's verdicts. `values` says what a cell means, from −3 (first is much better)
    to +3 (second is much better); where the file states no strength use ±1. A missing, null or empty cell is no vote.
    `id` names the column that tells items apart; None: the row number does. Item ids are prefixed by the file's name.
    """

    prompt: tuple[str, ...]
    first: str
    second: str
    annotators: tuple[str, ...]
    values: Mapping[Cell, int]
    id: str | None = None

    def __post_init__(self) -> None:
        if any(abs(strength) > STRONGEST for strength in self.values.values()):
            raise UserError(
                f"values {dict(self.values)}: meanings must lie within −{STRONGEST}…+{STRONGEST}; correct them."
            )


PANDALM = Columns(
    prompt=("instruction", "input"),
    first="response1",
    second="response2",
    annotators=("annotator1", "annotator2", "annotator3"),
    values={0: 0, 1: -1, 2: 1},
    id="idx",
)
"""The PandaLM test set: 0 a tie, 1 and 2 the better response."""


@dataclass(frozen=True)
class Labels:
    """What a table holds: items, who judged, what they said, and in how many cells nobody had voted."""

    items: tuple[Item, ...]
    annotators: tuple[str, ...]
    judgements: tuple[Judgement, ...]
    empty: int


def read_labels(path: Path, columns: Columns) -> Labels:
    """The labels in a file that `keel.data.read.records` understands.

    The first answer counts as shown on the left, as such files do not say. Raises UserError with file and line where a
    column is missing or a cell has no meaning.
    """
    items: list[Item] = []
    judgements: list[Judgement] = []
    for number, record in enumerate(records(path), start=1):
        item = _item(record, columns, prefix=path.stem, number=number)
        items.append(item)
        for name in columns.annotators:
            cell = _cell(record, name)
            if cell != "":
                judgements.append(Judgement(item.id, name, (0, 1), "comparison", _meaning(cell, name, columns, record)))
    empty = len(items) * len(columns.annotators) - len(judgements)
    return Labels(tuple(items), columns.annotators, tuple(judgements), empty)


def import_labels(store: PreferenceStore, labels: Labels) -> None:
    """Put labels into the store. Annotators come in with role "imported"; the same labels again change nothing."""
    store.add_items(labels.items)
    for name in labels.annotators:
        store.add_annotator(name, "imported")
    known = {(each.item, each.annotator) for each in store.assignments()}
    store.assign(
        Assignment(said.item, said.annotator, said.shown)
        for said in labels.judgements
        if (said.item, said.annotator) not in known
    )
    store.record(*labels.judgements)


def _item(record: Record, columns: Columns, prefix: str, number: int) -> Item:
    texts = [_text(record, name) for name in columns.prompt]
    id = str(number) if columns.id is None else _cell(record, columns.id)
    answers = tuple(Answer((Message("assistant", _text(record, name)),)) for name in (columns.first, columns.second))
    return Item(f"{prefix}:{id}", (Message("user", "\n\n".join(text for text in texts if text)),), answers)


def _text(record: Record, name: str) -> str:
    """A number or a truth value counts as the text that JSON writes for it: PandaLM holds an answer `true`."""
    value = _value(record, name)
    if isinstance(value, bool | int | float) and math.isfinite(value):
        return json.dumps(value)
    if not isinstance(value, str):
        found = (
            "NaN or an infinity" if isinstance(value, float) else kind(value)
        )  # pandas writes NaN for a missing text
        raise UserError(f"{record.where}: column '{name}' holds {found} where a text is needed; correct the cell.")
    return value


def _cell(record: Record, name: str) -> str:
    """A label as text, "" where there is none: a table reader may have made "1" of 1, or 1.0 of both."""
    value = _value(record, name)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(int(value) if isinstance(value, float) and value.is_integer() else value).strip()


def _value(record: Record, name: str) -> Value:
    if name not in record.fields:
        raise UserError(f"{record.where}: there is no column '{name}'; the columns are {quoted(record.fields)}.")
    return record.fields[name]


def _meaning(cell: str, name: str, columns: Columns, record: Record) -> int:
    meanings = {str(value): strength for value, strength in columns.values.items()}
    if cell not in meanings:
        known = quoted(meanings)
        raise UserError(
            f"{record.where}: column '{name}' holds '{short(cell)}'; give it a meaning beside those of {known}."
        )
    return meanings[cell]
