"""`read_votes`: whatever holds votes → judgements and the items that they are about."""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from keel.data.place import DATABASE, place
from keel.data.read import Record, records
from keel.errors import UserError
from keel.preferences.judgement import Item, Judgement
from keel.preferences.votes_file import raw
from keel.preferences.votes_file.columns import Layout, Named, layout
from keel.preferences.votes_file.tables import Table, items_of, judgements_of, table_of

Form = Literal["wide", "long", "nested", "judgements", "database"]
_SQLITE = b"SQLite format 3\x00"


@dataclass(frozen=True, eq=False)
class VotesFile:
    """What everybody now says, at most once per item and annotator, and the items.

    `texts`: whether the items' texts are known; else every answer is made to be like no other. `sides`: whether it is
    known which answer stood on the left of each; else the first answer counts as that. `seconds` is how long each
    judgement took, None where unknown.
    """

    source: str
    form: Form
    judgements: tuple[Judgement, ...]
    items: tuple[Item, ...]
    texts: bool
    sides: bool
    seconds: tuple[float | None, ...]


def read_votes(source: str | Path, named: Named | None = None) -> VotesFile:
    """The votes in a file, a folder of files, a data set, a run's folder or a preference database (module docstring).

    Of what Keel recorded, only what counts for training (`PreferenceStore.counted`): nothing by excluded annotators,
    and nothing about gold items and repeats. Raises UserError, in one sentence with the place, where something is no
    vote or has no known meaning.
    """
    named = named or Named()
    where = database_at(source)
    if where is not None:
        if named != Named():
            raise UserError(f"{source}: is a preference database, which needs no names of columns; leave them out.")
        return _from_database(source, where)
    rows = list(records(source))
    columns = layout(rows, named)
    found = _from_raw(source, rows) if columns.form == "judgements" else _from_table(source, rows, columns, named)
    if not found.judgements:
        raise UserError(f"{source}: holds no vote in {len(rows)} rows; give a file in which somebody has judged.")
    return found


def votes_in(table: Table, columns: Layout, named: Named) -> list[Judgement]:
    """The votes of a table as judgements."""
    numbered = (columns.first or "").endswith("1") and (columns.second or "").endswith("2")
    return judgements_of(table.cells, named.values, numbered)


def _from_table(source: str | Path, rows: Sequence[Record], columns: Layout, named: Named) -> VotesFile:
    table = table_of(rows, columns)
    judged = {cell.item for cell in table.cells}
    texts = {id: said for id, said in table.texts.items() if id in judged}
    assert columns.form != "judgements"
    return VotesFile(
        str(source),
        columns.form,
        tuple(votes_in(table, columns, named)),
        tuple(items_of(texts)),
        texts=all(said is not None for said in texts.values()),
        sides=all(cell.left is not None for cell in table.cells),
        seconds=tuple(cell.seconds for cell in table.cells),
    )


def _from_raw(source: str | Path, rows: Sequence[Record]) -> VotesFile:
    judgements = raw.latest(rows)
    items, texts = raw.items_of(rows, judgements)
    return _recorded(source, "judgements", judgements, items, texts)


def _from_database(source: str | Path, where: str) -> VotesFile:
    from keel.preferences.store import PreferenceStore

    with PreferenceStore.open(where) as store:
        judgements, items, said = store.counted(), store.items(), store.judgements()
        name = store.database.where if "://" in where else str(source)  # without a password
    if not said:
        raise UserError(f"{name}: nobody has judged anything yet; come back when somebody has.")
    if not judgements:
        raise UserError(
            f"{name}: the {len(said)} judgements so far are by excluded people, or of gold items and repeats, and so "
            "count for nothing; come back when somebody else has judged."
        )
    return _recorded(name, "database", judgements, items, texts=True)


def _recorded(
    source: str | Path, form: Form, judgements: Sequence[Judgement], items: Sequence[Item], texts: bool
) -> VotesFile:
    seconds = tuple(_took(said) for said in judgements)
    return VotesFile(str(source), form, tuple(judgements), tuple(items), texts, sides=True, seconds=seconds)


def _took(said: Judgement) -> float | None:
    """From when the item was seen, or else served; None where unknown or where clocks disagree."""
    start = said.served if said.seen is None else said.seen
    if start is None or said.submitted is None or said.submitted < start:
        return None
    return said.submitted - start


def database_at(source: str | Path) -> str | None:
    """Where the preference database is, if the source is one; UserError for a database of something else."""
    if isinstance(source, str) and "://" in source:
        return source
    if isinstance(source, str) and source.startswith("datasets:"):
        return None
    path = place(source)
    if path.is_dir() and (path / DATABASE).is_file():
        path = path / DATABASE
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file:
            if file.read(len(_SQLITE)) != _SQLITE:
                return None
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except (OSError, sqlite3.DatabaseError) as error:
        raise UserError(f"{path}: cannot be read ({error}); check the file and its rights.") from None
    if "judgements" not in tables:
        raise UserError(f"{path}: is a database without judgements; give one that Keel has made.")
    return str(path)
