"""Labels made elsewhere come into a database: all of a file or nothing, and nothing twice.

One transaction. What is there already, word for word, is left as it is, so that the same file again changes nothing,
and a file that has grown adds what is new.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Connection, insert, select, update

from keel.data.place import short
from keel.errors import UserError
from keel.preferences import schema
from keel.preferences.counts import remember
from keel.preferences.database import Database
from keel.preferences.judgement import Item, Judgement
from keel.preferences.queue import queued
from keel.preferences.rows import chunks, item_rows, items_of, judgements_of, places, row, turns
from keel.preferences.votes_file.history import Check, History

_queue, _assigned, _who = schema.queue.c, schema.assignments.c, schema.annotators.c


@dataclass(frozen=True)
class Merged:
    """How much of a file was new to the database, and how many of the new items now wait for people."""

    items: int
    judgements: int
    annotators: int
    waiting: int


def merge(database: Database, history: History, wanted: int | None = None) -> Merged:
    """Bring a file's labels in; its annotators come with the role "imported".

    `wanted` people are to judge each new item as well. None: one, where people are at work in this database; else
    nobody is asked yet, and `keel label` asks about all items. Gold items and repeats stay that, and who is excluded in
    the file is excluded here. Raises UserError, with nothing changed, where the database says otherwise about an item
    or a judgement, or knows an annotator's name as somebody of its own.
    """
    with database.write() as connection:
        items = _new_items(connection, history)
        said = _new_judgements(connection, history)
        annotators = _add_annotators(connection, history, said)
        _assign(connection, said)
        if said:
            connection.execute(insert(schema.judgements), [row(each) for each in said])
        _add_checks(connection, history, items)
        waiting = _enqueue(connection, history, items, wanted)
        remember(connection, {each.item for each in said} | {item.id for item in waiting})
    return Merged(len(items), len(said), annotators, len(waiting))


def _new_items(connection: Connection, history: History) -> list[Item]:
    known = {item.id: item for item in items_of(connection, [item.id for item in history.items])}
    new = [item for item in history.items if item.id not in known]
    for item in history.items:
        if known.get(item.id, item) != item:
            raise UserError(
                f"{history.source}: item '{short(item.id)}' is in the database already with other texts; give the "
                "file's items a name of their own with --as NAME."
            )
    if new:
        connection.execute(insert(schema.items), [{"id": item.id, "prompt": turns(item.prompt)} for item in new])
        connection.execute(insert(schema.answers), [each for item in new for each in item_rows(item)])
    return new


def _new_judgements(connection: Connection, history: History) -> list[Judgement]:
    stored = {
        (said.item, said.annotator, said.revision): said
        for said in judgements_of(connection, {said.item for said in history.judgements})
    }
    new = []
    for said in history.judgements:
        before = stored.get((said.item, said.annotator, said.revision))
        if before is None:
            new.append(said)
        elif before != said:
            raise UserError(
                f"{history.source}: what '{short(said.annotator)}' said about item '{short(said.item)}' is in the "
                "database already, otherwise; nothing there is ever changed, so give the file's items a name of their "
                "own with --as NAME."
            )
    return new


def _add_annotators(connection: Connection, history: History, said: Sequence[Judgement]) -> int:
    """Makes the names of new judgements known, and marks those whom the file calls excluded; returns how many are new.

    Nobody's word is put into the mouth of a person who labels here.
    """
    known = {each.name: each for each in connection.execute(select(schema.annotators))}
    names = list(dict.fromkeys(each.annotator for each in said))
    for name in names:
        if name in known and known[name].role != "imported":
            raise UserError(
                f"{history.source}: '{short(name)}' is {known[name].role} in this database, so labels cannot come in "
                "under that name; rename the annotator in the file, or import into another database."
            )
    new = [name for name in names if name not in known]
    if new:
        rows = [{"name": name, "role": "imported", "state": history.states.get(name, "active")} for name in new]
        connection.execute(insert(schema.annotators), rows)
    for name, state in history.states.items():
        if name in known and known[name].role == "imported" and known[name].state != state:
            connection.execute(update(schema.annotators).where(_who.name == name).values(state=state))
    return len(new)


def _assign(connection: Connection, said: Iterable[Judgement]) -> None:
    """A place for each new judgement; UserError where the answers stood in other places for the same annotator."""
    wanted = {(each.item, each.annotator): places(each.shown) for each in said}
    stood: dict[tuple[str, str], str] = {}
    for some in chunks({item for item, _ in wanted}):
        found = connection.execute(select(schema.assignments).where(_assigned.item.in_(some or [])))
        stood |= {(each.item, each.annotator): each.shown for each in found}
    for (item, annotator), shown in wanted.items():
        if stood.get((item, annotator), shown) != shown:
            raise UserError(
                f"the answers of item '{short(item)}' stood in other places for '{short(annotator)}' in this database; "
                "give the file's items a name of their own with --as NAME."
            )
    rows: list[dict[str, Any]] = [
        {"item": item, "annotator": annotator, "shown": shown}
        for (item, annotator), shown in wanted.items()
        if (item, annotator) not in stood
    ]
    if rows:
        connection.execute(insert(schema.assignments), rows)


def _add_checks(connection: Connection, history: History, items: Sequence[Item]) -> None:
    """Gold items and repeats that are new stay what they are, so that they train nothing here either."""
    rows = []
    for item in items:
        check = history.checks.get(item.id)
        if check is not None:
            _require(connection, history, item, check)
            rows.append({**queued(0, item, 1), **asdict(check)})
    if rows:
        connection.execute(insert(schema.queue), rows)


def _require(connection: Connection, history: History, item: Item, check: Check) -> None:
    if check.purpose == "gold" and len(item.answers) != 2:
        raise UserError(f"{history.source}: the gold item '{short(item.id)}' has not two answers; correct the rows.")
    original = select(schema.items.c.id).where(schema.items.c.id == check.repeats)
    if check.purpose == "repeat" and connection.execute(original).first() is None:
        raise UserError(
            f"{history.source}: item '{short(item.id)}' repeats '{short(str(check.repeats))}', which is not there; "
            "give the whole export."
        )


def _enqueue(connection: Connection, history: History, items: Sequence[Item], wanted: int | None) -> list[Item]:
    """The new ordinary items that people are asked about from now on; what was ranked is to be ranked again."""
    if wanted is None:
        if connection.execute(select(_queue.item).limit(1)).first() is None:
            return []
        wanted = 1
    ranked = {said.item for said in history.judgements if said.kind == "ranking"}
    new = [item for item in items if item.id not in history.checks]
    if new:
        rows = [queued(0, item, wanted, ranked=item.id in ranked) for item in new]
        connection.execute(insert(schema.queue), rows)
    return new
