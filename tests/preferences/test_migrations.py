"""Databases of every age become those of today, and lose nothing on the way."""

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import CheckConstraint, inspect, text
from sqlalchemy.exc import DatabaseError

from keel.errors import UserError
from keel.preferences import schema
from keel.preferences.database import Database
from keel.preferences.desk import Desk
from keel.preferences.judgement import Assignment
from keel.preferences.store import PreferenceStore

from . import old_database as old
from .tables import item

AGES = ("new", "migration", "hand")
"""No database at all; one of version 0001; one that was made before versions were written down."""


@pytest.fixture(params=AGES)
def age(request: pytest.FixtureRequest, place: str) -> str:
    """A database of this age lies at `place`."""
    if request.param != "new":
        old.make(place, request.param)
    return str(request.param)


def test_an_upgrade_keeps_every_row_and_what_it_means(place: str, age: str) -> None:
    with PreferenceStore.open(place) as store:
        if age == "new":
            assert store.history() == store.items() == store.assignments() == []
            return
        assert store.history() == old.expected()
        assert {(said.item, said.annotator): said.strength for said in store.judgements() if said.pressed} == (
            old.STRENGTH
        )
        assert {(each.item, each.annotator): each.shown for each in store.assignments()} == old.SIDES
        assert [(each.item, each.annotator) for each in store.assignments()] == list(old.SIDES)
        assert [(each.id, len(each.answers)) for each in store.items()] == [("x", 2), ("y", 2), ("z", 3)]
        assert store.annotators() == {"ann": "annotator", "bob": "imported"}
        assert [each.assignment.item for each in store.ask("ann")] == ["y"]  # withdrawn: it waits again
        assert store.ask("ann")[0].revision == 3
        assert store.ask("bob") == []


@pytest.mark.parametrize("age", AGES[1:], indirect=True)
def test_an_upgraded_database_goes_on(place: str, age: str) -> None:
    """Numbers follow those that are there, and people are served."""
    with PreferenceStore.open(place) as store:
        store.record(store.ask("ann")[0].press(3))
        assert store.history()[-1].pressed == 3
        desk = Desk(store.database)
        store.add_annotator("cat")
        desk.enqueue(store.items(), 2)
        assert desk.waiting() == 3  # ann's word counts on each, bob's is from a file
        assert len(desk.serve("cat", 5)) == 3
        assert desk.serve("ann", 5) == []


def test_nothing_said_can_be_changed_after_an_upgrade(place: str, age: str) -> None:
    with PreferenceStore.open(place) as store:
        with store.database.write() as connection:
            connection.execute(text("INSERT INTO guidelines (text, at) VALUES ('t', 0)"))
            connection.execute(text("INSERT INTO events (at, \"by\", what, whom, why) VALUES (0, '', '', '', '')"))
        if age == "new":
            store.add_items([item("x")])
            store.add_annotator("ann")
            store.assign([Assignment("x", "ann", (0, 1))])
            store.record(store.ask("ann")[0].press(1))
        said = store.history()
        for table in schema.APPEND_ONLY:
            key = "version" if table == "guidelines" else "number"
            for change in (f"UPDATE {table} SET {key} = {key} + 100", f"DELETE FROM {table}"):
                with (
                    pytest.raises(DatabaseError, match=f"{table} are append-only"),
                    store.database.write() as connection,
                ):
                    connection.execute(text(change))
        assert store.history() == said != []


def test_the_tables_are_those_of_the_schema(place: str, age: str) -> None:
    with Database.open(place) as database, database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, schema.metadata) == []
        found = inspect(connection)
        for name, table in schema.metadata.tables.items():
            checks = {str(each["name"]): each["sqltext"] for each in found.get_check_constraints(name)}
            wanted = {str(each.name) for each in table.constraints if isinstance(each, CheckConstraint)}
            assert set(checks) == wanted, name


def shape(place: str) -> dict[str, Any]:
    """Everything that the database says of its tables: checks, keys, indexes, triggers."""
    with Database.open(place) as database, database.read() as connection:
        found = inspect(connection)
        every: dict[str, Any] = {}
        for name in sorted(found.get_table_names()):
            every[name] = (
                [(each["name"], str(each["type"]), each["nullable"]) for each in found.get_columns(name)],
                sorted((str(each["name"]), each["sqltext"]) for each in found.get_check_constraints(name)),
                sorted(str(sorted(each.items(), key=str)) for each in found.get_foreign_keys(name)),
                sorted((str(each["name"]), each["column_names"]) for each in found.get_unique_constraints(name)),
                sorted((str(each["name"]), each["column_names"]) for each in found.get_indexes(name)),
            )
        if connection.dialect.name == "sqlite":
            triggers = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"))
            every["triggers"] = sorted(tuple(row) for row in triggers)
    return every


def test_a_database_of_any_age_ends_in_the_same_shape(places: Callable[[], str]) -> None:
    each_age = [places() for _ in AGES]
    for place, age in zip(each_age[1:], AGES[1:], strict=True):
        old.make(place, age)
    new, *aged = map(shape, each_age)
    for each in aged:
        # the hand-made one has alembic's own table from alembic, the other from this test
        assert {**each, "alembic_version": None} == {**new, "alembic_version": None}


def test_opening_again_changes_nothing(place: str, age: str) -> None:
    PreferenceStore.open(place).close()
    before = old.tables(place)
    with PreferenceStore.open(place) as store:
        history = store.history()
    PreferenceStore.open(place).close()
    assert old.tables(place) == before
    with PreferenceStore.open(place) as store:
        assert store.history() == history


OPEN = "import sys; from keel.preferences.store import PreferenceStore as S; S.open(sys.argv[1]).add_annotator('cat')"


@pytest.mark.parametrize("age", ["new", "hand"], indirect=True)
def test_several_processes_open_it_at_once(place: str, age: str) -> None:
    running = [subprocess.Popen([sys.executable, "-c", OPEN, place]) for _ in range(2)]
    assert [process.wait(timeout=120) for process in running] == [0, 0]
    with PreferenceStore.open(place) as store:
        assert store.history() == ([] if age == "new" else old.expected())
        assert "cat" in store.annotators()


KILLED = """
import os, signal, sys
from sqlalchemy import Engine, event
from keel.preferences.database import Database
left = int(sys.argv[2])
def count(connection, cursor, statement, *_):
    global left
    if statement.lstrip().split()[0].upper() in ("CREATE", "DROP", "INSERT", "ALTER", "UPDATE"):
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
event.listen(Engine, "before_cursor_execute", count)
Database.open(sys.argv[1])
print("done", sys.argv[2])
"""


@pytest.mark.parametrize(("how", "steps"), [("new", 12), ("hand", 2), ("hand", 10), ("hand", 25)])
def test_a_kill_in_the_middle_loses_nothing(place: str, how: str, steps: int) -> None:
    if how == "hand":
        old.make(place, how, more=20)
    before = {} if how == "new" else old.tables(place)
    killed = subprocess.run([sys.executable, "-c", KILLED, place, str(steps)], capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stdout + killed.stderr
    assert old.tables(place) == before
    with PreferenceStore.open(place) as store:
        assert [said for said in store.history() if not said.item.startswith("more")] == (
            [] if how == "new" else old.expected()
        )
        assert len(store.items()) == (0 if how == "new" else 23)


def sentence(place: str | Path) -> str:
    """The complaint on opening; one line."""
    with pytest.raises(UserError) as caught:
        Database.open(place)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_later_version_says_so(place: str) -> None:
    with Database.open(place) as database, database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0099'"))
    before = old.tables(place)
    assert "use a newer Keel" in sentence(place)
    assert old.tables(place) == before


def test_tables_of_something_else_are_left_alone(place: str) -> None:
    engine = old.engine_of(place)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE songs (id INTEGER PRIMARY KEY)"))
        connection.execute(text("CREATE TABLE judgements (id INTEGER PRIMARY KEY)"))
    engine.dispose()
    assert "not Keel's" in sentence(place)
    assert old.tables(place) == {"songs": 0, "judgements": 0}


def test_files_that_are_no_database(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("this is not a database, it is a text " * 99)
    assert "file is not a database" in sentence(tmp_path / "notes.txt")
    (tmp_path / "folder").mkdir()
    assert "unable to open" in sentence(tmp_path / "folder")
    assert (tmp_path / "notes.txt").read_text().startswith("this is not")
    (tmp_path / "empty.db").touch()
    Database.open(tmp_path / "empty.db").close()  # an empty file is an empty database
    torn = tmp_path / "torn.db"
    old.make(str(torn), "hand")
    raw = torn.read_bytes()
    torn.write_bytes(raw[:2048])
    assert "cannot be opened" in sentence(torn)


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    message = sentence(f"postgresql+psycopg://me:geheim@/keel?host={tmp_path}")
    assert "cannot be opened" in message
    assert "geheim" not in message


def test_a_wal_that_was_left_is_read(tmp_path: Path) -> None:
    """A copy of the files of a database that is in use holds what was committed."""
    with PreferenceStore.open(tmp_path / "a.db") as store:
        store.add_annotator("ann")
        for name in ("a.db", "a.db-wal"):
            (tmp_path / name.replace("a.", "b.")).write_bytes((tmp_path / name).read_bytes())
    raw = sqlite3.connect(tmp_path / "b.db")
    assert raw.execute("SELECT name FROM annotators").fetchall() == [("ann",)]
    raw.close()
