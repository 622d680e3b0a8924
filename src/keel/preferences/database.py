"""One database: how it is opened, brought to today's tables, read, and written in transactions.

SQLite in write-ahead mode by default, PostgreSQL by URL; other databases of SQLAlchemy are refused, as nothing is known
of what they guarantee. On both, writers come one after another: a transaction that will write holds the database's
write lock from its first read on, so that what it has read and counted is still true when it ends, and no two can wait
for each other. (SQLite: BEGIN IMMEDIATE. PostgreSQL: an advisory lock of the schema, under READ COMMITTED, where each
statement sees all that was committed before it.) Readers see one state, and wait for nobody.
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, DatabaseError, NoSuchModuleError
from sqlalchemy.pool import ConnectionPoolEntry

from keel.errors import UserError
from keel.preferences import schema
from keel.preferences.turns import Turns

_WAIT_MS = 30_000  # how long a writer waits for those of other processes before it gives up
_DIALECTS = ("sqlite", "postgresql")
_FIRST = {"items", "answers", "annotators", "assignments", "judgements"}  # the tables of version 0001
# the number is Keel's own; schemas of one database do not wait for each other
_ALONE = "SELECT pg_advisory_xact_lock(7336001, hashtext(current_schema()))"
_BEGIN_POSTGRES = {
    True: text(f"{_ALONE}, set_config('jit', 'off', true)"),  # to compile a statement takes longer than any of ours
    False: text(f"{_ALONE}, set_config('jit', 'off', true), set_config('synchronous_commit', 'off', true)"),
}
_BEGIN_SQLITE = {
    True: ("PRAGMA synchronous = FULL", "BEGIN IMMEDIATE"),
    False: ("PRAGMA synchronous = NORMAL", "BEGIN IMMEDIATE"),
}


class Database:
    """Connections to one database. Use as a context manager, or `close` it."""

    def __init__(self, engine: Engine) -> None:
        """Tables are made where they are missing. Callers use `open`."""
        self._engine = engine
        self._postgres = engine.dialect.name == "postgresql"
        self._turns = None if self._postgres else Turns()
        self._writers = {
            durable: engine.execution_options(keel_begin=begin) for durable, begin in _BEGIN_SQLITE.items()
        }
        self._reader = engine.execution_options(isolation_level="REPEATABLE READ") if self._postgres else engine
        with self.write() as connection:
            _bring_up_to_date(connection)

    @classmethod
    def open(cls, url_or_path: str | Path) -> "Database":
        """This SQLite file, created if missing, or the one at this SQLAlchemy URL ("postgresql+psycopg://…").

        Raises UserError where the folder does not exist, the file is not such a database or is of a later version, or
        the driver is not installed.
        """
        place = str(url_or_path)
        if "://" not in place and not Path(place).parent.is_dir():
            raise UserError(f"{place}: the folder {Path(place).parent} does not exist; create it first.")
        try:
            url = make_url(place) if "://" in place else URL.create("sqlite", database=place)
            if url.get_backend_name() not in _DIALECTS:
                raise UserError(
                    f"a database of kind '{url.get_backend_name()}' cannot be used; use SQLite or PostgreSQL."
                )
            engine = create_engine(url, **_pool(url))
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
            reason = " ".join(str(error.orig).split())
            raise UserError(f"{where}: cannot be opened as a preference database ({reason}).") from error
        except UserError:
            engine.dispose()
            raise

    @property
    def where(self) -> str:
        """The place, without a password."""
        url = self._engine.url
        return str(url.database) if url.get_backend_name() == "sqlite" else url.render_as_string(hide_password=True)

    def close(self) -> None:
        """Give the connections back. What was recorded is already on disk."""
        self._engine.dispose()

    def __enter__(self) -> "Database":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection for reading, all of whose statements see one state."""
        with self._reader.connect() as connection:
            yield connection

    @contextmanager
    def write(self, durable: bool = True) -> Iterator[Connection]:
        """A transaction that holds the write lock from its first read on; committed at the end, undone by an exception.

        It outlives the process. `durable`: a failure of the machine as well (it is on disk at the end); without, only
        what was committed before a later durable one is sure to, in exchange for some milliseconds. Not to be nested.
        """
        with self._turns or nullcontext(), self._writers[durable].begin() as connection:
            if self._postgres:
                connection.execute(_BEGIN_POSTGRES[durable])
            yield connection


def _pool(url: URL) -> dict[str, Any]:
    """More connections than the threads of a server that may want one at once, and none that has died meanwhile."""
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        raise UserError("a database in memory would be lost; name a file.")
    size: dict[str, Any] = {"pool_size": 16, "max_overflow": 48}
    if url.get_backend_name() == "sqlite":
        return size
    # whatever the server's own default: under another level a writer would not see what others wrote while it waited
    pool = {**size, "pool_pre_ping": True, "isolation_level": "READ COMMITTED"}
    if url.get_driver_name() == "psycopg":
        # a prepared statement gets a plan for nobody in particular, which may take a second instead of a millisecond
        pool["connect_args"] = {"prepare_threshold": None}
    return pool


def _bring_up_to_date(connection: Connection) -> None:
    """Runs the migrations that are missing, all of them or none. UserError where the tables are not Keel's."""
    tables = set(inspect(connection).get_table_names())
    known = None
    if "alembic_version" in tables:
        known = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    if known == schema.VERSION:
        return
    if tables and not tables >= _FIRST:
        raise UserError("the database holds tables that are not Keel's; give Keel a file, or a database, of its own.")
    _migrate(connection, "0001" if known is None and tables else None)


def _migrate(connection: Connection, unmarked: str | None) -> None:
    """`unmarked`: the version of a database that was made before versions were written down."""
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", "keel.preferences:migrations")
    config.attributes["connection"] = connection
    try:
        if unmarked is not None:
            command.stamp(config, unmarked)
        command.upgrade(config, schema.VERSION)
    except CommandError as error:
        raise UserError(
            f"the database is not one that this version of Keel knows ({error}); use a newer Keel."
        ) from error


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
    cursor = connection.connection.cursor()
    for statement in connection.get_execution_options().get("keel_begin", ("BEGIN",)):
        cursor.execute(statement)
    cursor.close()
