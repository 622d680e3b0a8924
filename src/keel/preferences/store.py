"""The preference database: what is asked of whom, and an append-only record of what was said.

The walk is `add_items` → `assign` → `ask` → `record` → `judgements`, for annotators that are programs, or whose part is
planned; people walk up to the `keel.preferences.desk`. Each call is one transaction, on disk when the call returns: a
killed process loses nothing that was recorded, and several processes may write at once.
"""

import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from sqlalchemy import Connection, exists, func, insert, select
from sqlalchemy.exc import IntegrityError

from keel.errors import UserError
from keel.preferences import schema
from keel.preferences.counts import begin, remember
from keel.preferences.database import Database
from keel.preferences.judgement import Assignment, Item, Judgement, Role, Shown
from keel.preferences.rows import (
    item_rows,
    items_of,
    judgement,
    judgements_of,
    places,
    positions,
    row,
    standing,
    turns,
)


class StaleJudgementError(Exception):
    """Another revision with this number is already recorded: read the history, then judge anew."""


class PreferenceStore:
    """Items, annotators, assignments and judgements in one database. Use as a context manager, or `close` it."""

    def __init__(self, database: Database) -> None:
        self.database = database

    @classmethod
    def open(cls, url_or_path: str | Path) -> "PreferenceStore":
        """The store in this SQLite file, created if missing, or at this URL; UserError as `Database.open`."""
        return cls(Database.open(url_or_path))

    def close(self) -> None:
        """Give the connections back. What was recorded is already on disk."""
        self.database.close()

    def __enter__(self) -> "PreferenceStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add_items(self, items: Iterable[Item]) -> int:
        """Add those that are new; returns how many. The same item again changes nothing.

        Raises UserError where an id is known with another content: judgements about it would change their meaning.
        """
        wanted: dict[str, Item] = {}
        for item in items:
            if wanted.setdefault(item.id, item) != item:
                raise UserError(f"item {item.id}: given twice with different content; use another id.")
        with self.database.write() as connection:
            known = {item.id: item for item in items_of(connection, list(wanted))}
            for id, item in known.items():
                if wanted[id] != item:
                    raise UserError(f"item {id}: already in the store with other content; use another id.")
            new = [item for item in wanted.values() if item.id not in known]
            if new:
                connection.execute(
                    insert(schema.items), [{"id": item.id, "prompt": turns(item.prompt)} for item in new]
                )
                connection.execute(insert(schema.answers), [each for item in new for each in item_rows(item)])
        return len(new)

    def items(self) -> list[Item]:
        """Every item, in the order of arrival."""
        with self.database.read() as connection:
            return items_of(connection, None)

    def add_annotator(self, name: str, role: Role = "annotator") -> None:
        """Make a name known. Again with the same role changes nothing; with another it raises UserError."""
        if not name:
            raise UserError("an annotator without a name was given; name everyone.")
        with self.database.write() as connection:
            known = connection.execute(
                select(schema.annotators.c.role).where(schema.annotators.c.name == name)
            ).scalar_one_or_none()
            if known is None:
                connection.execute(insert(schema.annotators), {"name": name, "role": role})
            elif known != role:
                raise UserError(f"annotator {name!r} is already known as {known}; choose another name for the {role}.")

    def annotators(self) -> dict[str, Role]:
        """Names and roles, in the order of arrival."""
        table = schema.annotators
        with self.database.read() as connection:
            return {row.name: row.role for row in connection.execute(select(table).order_by(table.c.number))}

    def assign(self, assignments: Iterable[Assignment]) -> None:
        """Say who is to judge what (see `keel.preferences.assign.plan`); all of them or none.

        Raises ValueError where an annotator already has the item, or where item, answer or annotator is unknown.
        """
        wanted = list(assignments)
        rows = [{"item": each.item, "annotator": each.annotator, "shown": places(each.shown)} for each in wanted]
        if rows:
            try:
                with self.database.write() as connection:
                    _have_these_answers(connection, wanted)
                    connection.execute(insert(schema.assignments), rows)
                    begin(connection, {each.item for each in wanted}, time.time())
            except IntegrityError as error:
                raise ValueError(f"an assignment was refused, nothing was assigned: {error.orig}") from error

    def assignments(self) -> list[Assignment]:
        """Who is to judge what, in which places, in the order in which it was assigned."""
        table = schema.assignments
        with self.database.read() as connection:
            rows = connection.execute(select(table).order_by(table.c.number))
            return [Assignment(row.item, row.annotator, positions(row.shown)) for row in rows]

    def ask(self, annotator: str, limit: int | None = None) -> list[Shown]:
        """The items that wait for this annotator (the next `limit` of them), in the order in which they were assigned.

        Blinded: a `Shown` holds no model and no one else's judgement. Asking changes nothing; an item waits until a
        judgement about it is recorded, and again once that is withdrawn. Raises UserError on an unknown name.
        """
        assigned, said = schema.assignments.c, schema.judgements.c
        revision = (
            select(func.coalesce(func.max(said.revision), 0))
            .where(said.item == assigned.item, said.annotator == assigned.annotator)
            .scalar_subquery()
        )
        waiting = (
            select(assigned.item, assigned.shown, revision.label("revision"))
            .where(assigned.annotator == annotator, assigned.said.is_(None))
            .order_by(assigned.number)
            .limit(limit)
        )
        with self.database.read() as connection:
            rows = connection.execute(waiting).all()
            items = {item.id: item for item in items_of(connection, [each.item for each in rows])}
        if not rows and annotator not in self.annotators():
            raise UserError(f"no annotator is called {annotator!r}; add the name first.")
        return [
            shown(items[each.item], Assignment(each.item, annotator, positions(each.shown)), each.revision + 1)
            for each in rows
        ]

    def record(self, *judgements: Judgement) -> None:
        """Append judgements; all of them or none, on disk when this returns.

        What is already recorded, word for word, is taken as a repeated submission and changes nothing. Raises
        StaleJudgementError where that revision holds something else, and ValueError where the item was not assigned to
        the annotator with these sides, or a revision is missing in between.
        """
        if not judgements:
            return
        with self.database.write() as connection:
            try:
                with connection.begin_nested():
                    connection.execute(insert(schema.judgements), [row(each) for each in judgements])
            except IntegrityError:
                self._record_each(connection, judgements)
            remember(connection, {each.item for each in judgements})

    def _record_each(self, connection: Connection, judgements: Sequence[Judgement]) -> None:
        """The slow way, taken when something in the batch was refused: skips repeats, names the offender."""
        stored = {
            (said.item, said.annotator, said.revision): said
            for said in judgements_of(connection, {each.item for each in judgements})
        }
        for each in judgements:
            key = (each.item, each.annotator, each.revision)
            if key in stored:
                if stored[key] != each:
                    raise StaleJudgementError(
                        f"item {key[0]}, annotator {key[1]}: revision {key[2]} is already recorded"
                    )
                continue
            try:
                connection.execute(insert(schema.judgements), row(each))
            except IntegrityError as error:
                raise ValueError(
                    f"item {key[0]}, annotator {key[1]}, revision {key[2]}: not assigned with sides {each.shown}, "
                    f"or the revision before it is missing"
                ) from error
            stored[key] = each

    def judgements(self) -> list[Judgement]:
        """What every annotator now says: the latest revisions, without the withdrawn, in the order of submission.

        Each holds what was pressed and the places; `.strength` is the verdict in canonical orientation. Those of
        excluded annotators are in it, and those about gold items and repeats: see `counted`.
        """
        with self.database.read() as connection:
            rows = connection.execute(standing())
            return [judgement(each) for each in rows]

    def counted(self) -> list[Judgement]:
        """Those that count for training: what people and programs now say about ordinary items, in the same order.

        Without the withdrawn, those of excluded annotators, gold items, and repeats: the original of a repeat counts.
        """
        said, who, queue = schema.judgements.c, schema.annotators.c, schema.queue.c
        checks = exists().where(queue.item == said.item, queue.purpose != "ordinary")
        excluded = exists().where(who.name == said.annotator, who.state == "excluded")
        with self.database.read() as connection:
            rows = connection.execute(standing().where(~checks, ~excluded))
            return [judgement(each) for each in rows]

    def history(self) -> list[Judgement]:
        """Every revision ever recorded, withdrawn ones too, in the order of submission."""
        with self.database.read() as connection:
            return judgements_of(connection, None)


def shown(item: Item, assignment: Assignment, revision: int) -> Shown:
    """The item as its annotator sees it."""
    answers = tuple(item.answers[position].messages for position in assignment.shown)
    return Shown(assignment, item.prompt, answers, revision)


def _have_these_answers(connection: Connection, assignments: Sequence[Assignment]) -> None:
    """ValueError where an answer is named that its item does not have."""
    answers = {item.id: len(item.answers) for item in items_of(connection, [each.item for each in assignments])}
    for each in assignments:
        if max(each.shown) >= answers.get(each.item, len(each.shown)):
            raise ValueError(
                f"an assignment was refused, nothing was assigned: item {each.item} has {answers[each.item]} answers, "
                f"not those of {each.shown}"
            )
