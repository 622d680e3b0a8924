"""Rows of a wide, long or nested table → items, and votes as they stand there; then judgements."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from keel.data.place import short
from keel.data.read import Record, Value, kind, quoted
from keel.data.row import unpacked
from keel.errors import UserError
from keel.preferences.judgement import Answer, Item, Judgement
from keel.preferences.votes_file.columns import Layout, list_of_votes
from keel.preferences.votes_file.words import Meaning, cell_text, meanings, verdict_text
from keel.types import Message

OnLeft = Literal[0, 1]
"""The answer that stood on the left: 0 the first, 1 the second."""


@dataclass(frozen=True)
class Texts:
    """The prompt and the two answers of an item; None: the table does not hold them."""

    prompt: str
    first: str
    second: str


@dataclass(frozen=True)
class Cell:
    """A vote as it stands in the table; `left` and `seconds` are None where the table does not say."""

    item: str
    annotator: str
    verdict: str
    left: OnLeft | None
    seconds: float | None
    where: str


@dataclass(frozen=True)
class Table:
    """Items in the order of the rows, each with its texts if there are any, and all votes."""

    texts: Mapping[str, Texts | None]
    cells: Sequence[Cell]


def table_of(rows: Sequence[Record], columns: Layout) -> Table:
    """The items and votes of the rows. UserError with the line where a cell cannot be taken, or an item comes twice."""
    texts: dict[str, Texts | None] = {}
    cells: list[Cell] = []
    at: dict[str, str] = {}
    for number, row in enumerate(rows, start=1):
        said = _texts(row, columns)
        item = _item_id(row, columns, said, number)
        known = item in at
        if known and columns.form != "long":
            raise UserError(
                f"{row.where}: item '{short(item)}' stands in {at[item]} already; name the column that tells the "
                "rows apart with --id, or count them with --id -."
            )
        if known and texts[item] != said:
            raise UserError(
                f"{row.where}: item '{short(item)}' has other texts than in {at[item]}; name another column "
                "of ids with --id."
            )
        at.setdefault(item, row.where)
        texts.setdefault(item, said)
        cells += _cells(row, columns, item)
    _once_each(cells)
    return Table(texts, cells)


def judgements_of(
    cells: Sequence[Cell], values: Mapping[str, Meaning] | None, numbered: bool = False
) -> list[Judgement]:
    """What the votes mean. Without a word about sides the first answer counts as shown on the left."""
    first_seen: dict[str, str] = {}
    for cell in cells:
        first_seen.setdefault(cell.verdict, cell.where)
    meant = meanings(first_seen, values, numbered)
    return [_judgement(cell, meant[cell.verdict]) for cell in cells]


def items_of(texts: Mapping[str, Texts | None]) -> list[Item]:
    """An item for each; one without texts gets answers that are like no other's, so that nothing links it to others."""
    found = []
    for id, said in texts.items():
        prompt, *answers = (said.prompt, said.first, said.second) if said else (id, f"{id}, first", f"{id}, second")
        both = tuple(Answer((Message("assistant", text),)) for text in answers)
        found.append(Item(id, (Message("user", prompt),), both))
    return found


def _judgement(cell: Cell, meaning: Meaning) -> Judgement:
    shown = (1, 0) if cell.left == 1 else (0, 1)
    if meaning == "left" or meaning == "right":
        pressed = -1 if meaning == "left" else 1
    elif isinstance(meaning, int):
        pressed = -meaning if cell.left == 1 else meaning
    else:
        return Judgement(item=cell.item, annotator=cell.annotator, shown=shown, kind=meaning)
    return Judgement(item=cell.item, annotator=cell.annotator, shown=shown, kind="comparison", pressed=pressed)


def _cells(row: Record, columns: Layout, item: str) -> Iterator[Cell]:
    """The votes in a row; an empty cell is none."""
    if columns.form == "wide":
        for name in columns.annotators:
            if name not in row.fields:
                raise UserError(f"{row.where}: there is no column '{name}'; the columns are {quoted(row.fields)}.")
            if verdict := verdict_text(_plain(row.fields[name], name, row.where)):
                yield Cell(item, name, verdict, None, None, f"{row.where}, {name}")
    elif columns.form == "long":
        yield from _vote(row.fields, columns, item, row.where)
    else:
        votes = row.fields.get(str(columns.votes))
        if votes not in (None, "", []) and unpacked(votes) != [] and not list_of_votes(votes):
            raise UserError(
                f"{row.where}: '{columns.votes}' should be a list of votes, not {kind(votes)}; correct the row."
            )
        for place, one in enumerate(list_of_votes(votes)):
            yield from _vote(one, columns, item, f"{row.where}, {columns.votes}[{place}]")


def _vote(fields: Mapping[str, Value], columns: Layout, item: str, where: str) -> Iterator[Cell]:
    for name in (columns.annotator, columns.label):
        if name not in fields:
            raise UserError(f"{where}: there is no '{name}'; there are {quoted(fields)}.")
    annotator = _plain(fields[columns.annotator], columns.annotator, where)
    verdict = verdict_text(_plain(fields[columns.label], columns.label, where))
    if not verdict:
        return
    if not annotator:
        raise UserError(f"{where}: '{columns.annotator}' is empty beside a verdict; say who gave it.")
    left = _on_left(fields.get(columns.left), columns.left, where) if columns.left else None
    seconds = _seconds(fields.get(columns.seconds), columns.seconds, where) if columns.seconds else None
    yield Cell(item, annotator, verdict, left, seconds, where)


def _on_left(value: Value, name: str, where: str) -> OnLeft | None:
    """A column `side` says where the first answer stood, any other which answer stood on the left."""
    cell = _plain(value, name, where)
    if not cell:
        return None
    if name == "side":
        sides: dict[str, OnLeft] = {"left": 0, "1": 0, "+1": 0, "right": 1, "-1": 1}
        if cell.lower() in sides:
            return sides[cell.lower()]
        raise UserError(f"{where}: 'side' holds '{short(cell)}'; write where the first answer stood, left or right.")
    meaning = meanings({cell: where}, {"1": -1, "2": 1} if cell in ("1", "2") else None)[cell]
    if meaning not in (-1, 1):
        raise UserError(
            f"{where}: '{name}' holds '{short(cell)}'; write which answer stood on the left, first or second."
        )
    return 0 if meaning == -1 else 1


def _seconds(value: Value, name: str, where: str) -> float | None:
    cell = _plain(value, name, where)
    if not cell:
        return None
    try:
        seconds = float(cell)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds >= 0):
        raise UserError(
            f"{where}: '{name}' holds '{short(cell)}' where a number of seconds is needed; correct the cell."
        )
    return seconds


def _plain(value: Value, name: str, where: str) -> str:
    """A text or number as text, "" for an empty cell; UserError for a list or an object."""
    if value is not None and not isinstance(value, str | int | float):
        raise UserError(f"{where}: '{name}' holds {kind(value)} where a text or number is needed; correct the cell.")
    return cell_text(value)


def _texts(row: Record, columns: Layout) -> Texts | None:
    if columns.first is None or columns.second is None:
        return None
    prompt = [_text(row, name) for name in columns.prompt]
    return Texts("\n\n".join(text for text in prompt if text), _text(row, columns.first), _text(row, columns.second))


def _text(row: Record, name: str) -> str:
    """A number or truth value counts as the text that JSON writes for it: PandaLM holds an answer `true`."""
    value = row.fields.get(name)
    if isinstance(value, bool | int | float) and math.isfinite(value):
        return json.dumps(value)
    if not isinstance(value, str):
        # pandas writes NaN for a missing text
        found = "NaN or an infinity" if isinstance(value, float) else kind(value)
        raise UserError(f"{row.where}: column '{name}' holds {found} where a text is needed; correct the cell.")
    return value


def _item_id(row: Record, columns: Layout, texts: Texts | None, number: int) -> str:
    """What the table calls the item; else its texts (a row per vote) or the row's number tell it apart."""
    if columns.id is not None:
        if id := _plain(row.fields.get(columns.id), columns.id, row.where):
            return id
        raise UserError(f"{row.where}: '{columns.id}' is empty; say which item the row is about.")
    if columns.form == "long" and texts is not None:
        return json.dumps([texts.prompt, texts.first, texts.second], ensure_ascii=False)
    return str(number)


def _once_each(cells: Iterable[Cell]) -> None:
    known: dict[tuple[str, str], Cell] = {}
    for cell in cells:
        before = known.setdefault((cell.item, cell.annotator), cell)
        if before is not cell:
            raise UserError(
                f"{cell.where}: '{short(cell.annotator)}' has judged item '{short(cell.item)}' already "
                f"({before.where}); keep one of the two votes."
            )
