"""The preference database: what is asked of whom, and an append-only record of what was said.

The walk is `add_items` → `assign` → `ask` → `record` → `judgements`. SQLite in write-ahead mode by default, another
database by URL. Each call is one transaction, on disk when the call returns: a killed process loses nothing that was
recorded, and several processes may write at once.
"""

import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, and_, create_engine, event, exists, func, insert, literal, select
from sqlalchemy.exc import ArgumentError, DatabaseError, IntegrityError, NoSuchModuleError
from sqlalchemy.pool import ConnectionPoolEntry

from keel.errors import UserError
from keel.preferences import schema
from keel.preferences.judgement import Answer, Assignment, Item, Judgement, Role, Shown
from keel.types import Conversation, Message

_WAIT_MS = 30_000  # how long a writer waits for another before it gives up
_KEYS = 500  # keys in one IN (…): under every database's limit


class StaleJudgementError(Exception):
    """Another revision with this number is already recorded: read the history, then judge anew."""


class PreferenceStore:
    """Items, annotators, assignments and judgements in one database. Use as a context manager, or `close` it."""

    def __init__(self, engine: Engine) -> None:
        """Tables are created where they are missing. Callers use `open`."""
        self._engine = engine
        self._writer = engine.execution_options(keel_begin="BEGIN IMMEDIATE")
        with self._write() as connection:
            schema.metadata.create_all(connection)

    @classmethod
    def open(cls, url_or_path: str | Path) -> "PreferenceStore":
        """The store in this SQLite file, created if missing, or at this SQLAlchemy URL ("postgresql+psycopg://…").

        Raises UserError where the folder does not exist, the file is not a database, or the driver is not installed.
        """
        place = str(url_or_path)
        if "://" not in place and not Path(place).parent.is_dir():
            raise UserError(f"{place}: the folder {Path(place).parent} does not exist; create it first.")
        try:
            engine = create_engine(place if "://" in place else f"sqlite:///{place}")
        except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
            raise UserError(f"the database URL cannot be used ({error}); correct it, or install its driver.") from error
        if engine.dialect.name == "sqlite":
            event.listen(engine, "connect", _configure)
            event.listen(engine, "begin", _begin)
        try:
            return cls(engine)
        except DatabaseError as error:
            engine.dispose()
            where = engine.url.render_as_string(hide_password=True)
            raise UserError(f"{where}: cannot be opened as a preference database ({error.orig}).") from error

    def close(self) -> None:
        """Give the connections back. What was recorded is already on disk."""
        self._engine.dispose()

    def __enter__(self) -> "PreferenceStore":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        """A transaction that holds the write lock from its first read on (SQLite), committed at the end."""
        with self._writer.begin() as connection:
            yield connection

    def add_items(self, items: Iterable[Item]) -> int:
        """Add those that are new; returns how many. The same item again changes nothing.

        Raises UserError where an id is known with another content: judgements about it would change their meaning.
        """
        wanted: dict[str, Item] = {}
        for item in items:
            if wanted.setdefault(item.id, item) != item:
                raise UserError(f"item {item.id}: given twice with different content; use another id.")
        with self._write() as connection:
            known = {item.id: item for item in _items(connection, list(wanted))}
            for id, item in known.items():
                if wanted[id] != item:
                    raise UserError(f"item {id}: already in the store with other content; use another id.")
            new = [item for item in wanted.values() if item.id not in known]
            if new:
                connection.execute(
                    insert(schema.items), [{"id": item.id, "prompt": _turns(item.prompt)} for item in new]
                )
                connection.execute(
                    insert(schema.answers),
                    [
                        {
                            "item": item.id,
                            "position": position,
                            "messages": _turns(answer.messages),
                            "model": answer.model,
                            "version": answer.version,
                        }
                        for item in new
                        for position, answer in enumerate(item.answers)
                    ],
                )
        return len(new)

    def items(self) -> list[Item]:
        """Every item, in the order of arrival."""
        with self._engine.connect() as connection:
            return _items(connection, None)

    def add_annotator(self, name: str, role: Role = "annotator") -> None:
        """Make a name known. Again with the same role changes nothing; with another it raises UserError."""
        if not name:
            raise UserError("an annotator without a name was given; name everyone.")
        with self._write() as connection:
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
        with self._engine.connect() as connection:
            return {row.name: row.role for row in connection.execute(select(table).order_by(table.c.number))}

    def assign(self, assignments: Iterable[Assignment]) -> None:
        """Say who is to judge what (see `keel.preferences.assign.plan`); all of them or none.

        Raises ValueError where an annotator already has the item, or where item, answer or annotator is unknown.
        """
        rows = [
            {"item": each.item, "annotator": each.annotator, "left": each.shown[0], "right": each.shown[1]}
            for each in assignments
        ]
        if rows:
            try:
                with self._write() as connection:
                    connection.execute(insert(schema.assignments), rows)
            except IntegrityError as error:
                raise ValueError(f"an assignment was refused, nothing was assigned: {error.orig}") from error

    def assignments(self) -> list[Assignment]:
        """Who is to judge what, on which sides, in the order in which it was assigned."""
        table = schema.assignments
        with self._engine.connect() as connection:
            rows = connection.execute(select(table).order_by(table.c.number))
            return [Assignment(row.item, row.annotator, (row.left, row.right)) for row in rows]

    def ask(self, annotator: str, limit: int | None = None) -> list[Shown]:
        """The items that wait for this annotator (the next `limit` of them), in the order in which they were assigned.

        Blinded: a `Shown` holds no model and no one else's judgement. Asking changes nothing; an item waits until a
        judgement about it is recorded, and again once that is withdrawn. Raises UserError on an unknown name.
        """
        assigned, said = schema.assignments.c, schema.judgements.c
        answered = exists().where(
            said.item == assigned.item,
            said.annotator == assigned.annotator,
            said.kind != "withdrawn",
            said.revision == _latest_revision(assigned.item, assigned.annotator),
        )
        revision = func.coalesce(_latest_revision(assigned.item, assigned.annotator), 0)
        waiting = (
            select(assigned.item, assigned.left, assigned.right, revision.label("revision"))
            .where(assigned.annotator == annotator, ~answered)
            .order_by(assigned.number)
            .limit(limit)
        )
        with self._engine.connect() as connection:
            rows = connection.execute(waiting).all()
            items = {item.id: item for item in _items(connection, [row.item for row in rows])}
        if not rows and annotator not in self.annotators():
            raise UserError(f"no annotator is called {annotator!r}; add the name first.")
        return [
            Shown(
                Assignment(row.item, annotator, (row.left, row.right)),
                items[row.item].prompt,
                items[row.item].answers[row.left].messages,
                items[row.item].answers[row.right].messages,
                row.revision + 1,
            )
            for row in rows
        ]

    def record(self, *judgements: Judgement) -> None:
        """Append judgements; all of them or none, on disk when this returns.

        What is already recorded, word for word, is taken as a repeated submission and changes nothing. Raises
        StaleJudgementError where that revision holds something else, and ValueError where the item was not assigned to
        the annotator with these sides, or a revision is missing in between.
        """
        if not judgements:
            return
        with self._write() as connection:
            try:
                with connection.begin_nested():
                    connection.execute(insert(schema.judgements), [_row(judgement) for judgement in judgements])
            except IntegrityError:
                self._record_each(connection, judgements)

    def _record_each(self, connection: Connection, judgements: Sequence[Judgement]) -> None:
        """The slow way, taken when something in the batch was refused: skips repeats, names the offender."""
        stored = {
            (said.item, said.annotator, said.revision): said
            for said in _judgements(connection, {each.item for each in judgements})
        }
        for judgement in judgements:
            key = (judgement.item, judgement.annotator, judgement.revision)
            if key in stored:
                if stored[key] != judgement:
                    raise StaleJudgementError(
                        f"item {key[0]}, annotator {key[1]}: revision {key[2]} is already recorded"
                    )
                continue
            try:
                connection.execute(insert(schema.judgements), _row(judgement))
            except IntegrityError as error:
                raise ValueError(
                    f"item {key[0]}, annotator {key[1]}, revision {key[2]}: not assigned with sides {judgement.shown}, "
                    f"or the revision before it is missing"
                ) from error
            stored[key] = judgement

    def judgements(self) -> list[Judgement]:
        """What every annotator now says: the latest revisions, without the withdrawn, in the order of submission.

        Each holds what was pressed and the sides; `.strength` is the verdict in canonical orientation.
        """
        said = schema.judgements.c
        newest = select(said.item, said.annotator, func.max(said.revision).label("revision")).group_by(
            said.item, said.annotator
        )
        latest = newest.subquery()
        on = and_(said.item == latest.c.item, said.annotator == latest.c.annotator, said.revision == latest.c.revision)
        query = select(schema.judgements).join(latest, on).where(said.kind != "withdrawn").order_by(said.number)
        with self._engine.connect() as connection:
            return [_judgement(row) for row in connection.execute(query)]

    def history(self) -> list[Judgement]:
        """Every revision ever recorded, withdrawn ones too, in the order of submission."""
        with self._engine.connect() as connection:
            return _judgements(connection, None)


def _configure(connection: sqlite3.Connection, _: ConnectionPoolEntry) -> None:
    """SQLite as we need it. sqlite3 must not begin transactions by itself: it would begin them too late."""
    connection.isolation_level = None
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {_WAIT_MS}")
    _write_ahead(cursor)
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _write_ahead(cursor: sqlite3.Cursor) -> None:
    """Turn a new file's journal into a write-ahead log. SQLite itself does not wait for a rival who does the same."""
    deadline = time.monotonic() + _WAIT_MS / 1000
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("keel_begin", "BEGIN"))


def _latest_revision(item: Any, annotator: Any) -> Any:
    said = schema.judgements.alias().c
    return select(func.max(said.revision)).where(said.item == item, said.annotator == annotator).scalar_subquery()


def _turns(messages: Conversation) -> list[list[str]]:
    return [[message.role, message.content] for message in messages]


def _conversation(turns: list[list[str]]) -> Conversation:
    return tuple(Message(role, content) for role, content in turns)


def _items(connection: Connection, ids: Sequence[str] | None) -> list[Item]:
    """All items, or those of `ids` that are known, in the order of arrival."""
    items, answers = schema.items, schema.answers
    prompts: list[Any] = []
    completions: dict[str, list[Answer]] = {}
    for some in _chunks(ids):
        prompts += connection.execute(select(items).where(literal(True) if some is None else items.c.id.in_(some)))
        rows = connection.execute(
            select(answers)
            .where(literal(True) if some is None else answers.c.item.in_(some))
            .order_by(answers.c.position)
        )
        for row in rows:
            answer = Answer(_conversation(row.messages), row.model, row.version)
            completions.setdefault(row.item, []).append(answer)
    prompts.sort(key=lambda row: row.number)
    return [Item(row.id, _conversation(row.prompt), tuple(completions[row.id])) for row in prompts]


def _judgements(connection: Connection, items: Iterable[str] | None) -> list[Judgement]:
    """Every revision, of all items or of some, in the order of submission."""
    said = schema.judgements
    rows: list[Any] = []
    for some in _chunks(items):
        rows += connection.execute(select(said).where(literal(True) if some is None else said.c.item.in_(some)))
    return [_judgement(row) for row in sorted(rows, key=lambda row: row.number)]


def _chunks(keys: Iterable[str] | None) -> Iterator[list[str] | None]:
    if keys is None:
        yield None
        return
    unique = sorted(set(keys))
    for start in range(0, len(unique), _KEYS):
        yield unique[start : start + _KEYS]


def _row(judgement: Judgement) -> dict[str, Any]:
    return {
        "item": judgement.item,
        "annotator": judgement.annotator,
        "left": judgement.shown[0],
        "right": judgement.shown[1],
        "revision": judgement.revision,
        "supersedes": judgement.revision - 1 or None,
        "kind": judgement.kind,
        "pressed": judgement.pressed,
        "note": judgement.note,
        "guideline": judgement.guideline,
        "served": judgement.served,
        "submitted": judgement.submitted,
    }


def _judgement(row: Any) -> Judgement:
    return Judgement(
        row.item,
        row.annotator,
        (row.left, row.right),
        row.kind,
        row.pressed,
        row.note,
        row.guideline,
        row.served,
        row.submitted,
        row.revision,
    )
