"""Databases of version 0001, as the code of that time made them, with what people had said in them."""

from pathlib import Path
from typing import Any

from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Connection, Engine, create_engine, event, text

from keel.preferences.judgement import Judgement

TABLES = """
CREATE TABLE items (number {serial}, id TEXT NOT NULL, prompt JSON NOT NULL, UNIQUE (id));
CREATE TABLE annotators (number {serial}, name TEXT NOT NULL, role TEXT NOT NULL,
    CONSTRAINT role_known CHECK (role IN ('admin', 'reviewer', 'annotator', 'simulated', 'imported')), UNIQUE (name));
CREATE TABLE answers (item TEXT NOT NULL, position INTEGER NOT NULL, messages JSON NOT NULL, model TEXT NOT NULL,
    version INTEGER, PRIMARY KEY (item, position), FOREIGN KEY(item) REFERENCES items (id));
CREATE TABLE assignments (number {serial}, item TEXT NOT NULL, annotator TEXT NOT NULL, "left" INTEGER NOT NULL,
    "right" INTEGER NOT NULL, CONSTRAINT never_twice UNIQUE (item, annotator),
    CONSTRAINT sides UNIQUE (item, annotator, "left", "right"),
    FOREIGN KEY(item, "left") REFERENCES answers (item, position),
    FOREIGN KEY(item, "right") REFERENCES answers (item, position), CONSTRAINT two_answers CHECK ("left" <> "right"),
    FOREIGN KEY(item) REFERENCES items (id), FOREIGN KEY(annotator) REFERENCES annotators (name));
CREATE INDEX ix_assignments_annotator ON assignments (annotator);
CREATE TABLE judgements (number {serial}, item TEXT NOT NULL, annotator TEXT NOT NULL, "left" INTEGER NOT NULL,
    "right" INTEGER NOT NULL, revision INTEGER NOT NULL, supersedes INTEGER, kind TEXT NOT NULL, pressed INTEGER,
    note TEXT NOT NULL, guideline TEXT NOT NULL, served {real}, submitted {real},
    CONSTRAINT one_history UNIQUE (item, annotator, revision),
    CONSTRAINT as_assigned FOREIGN KEY(item, annotator, "left", "right")
        REFERENCES assignments (item, annotator, "left", "right"),
    CONSTRAINT no_gap FOREIGN KEY(item, annotator, supersedes) REFERENCES judgements (item, annotator, revision),
    CONSTRAINT next_revision CHECK (CASE WHEN revision = 1 THEN supersedes IS NULL
        ELSE supersedes IS NOT NULL AND supersedes = revision - 1 END),
    CONSTRAINT kind_known CHECK (kind IN ('comparison', 'both_bad', 'skip', 'flag', 'withdrawn')),
    CONSTRAINT pressed_if_compared CHECK ((kind = 'comparison') = (pressed IS NOT NULL)),
    CONSTRAINT seven_buttons CHECK (pressed BETWEEN -3 AND 3))
"""
TRIGGER = (
    "CREATE TRIGGER judgements_no_{0} BEFORE {0} ON judgements "
    "BEGIN SELECT RAISE(ABORT, 'judgements are append-only'); END"
)
SIDES = {("x", "ann"): (0, 1), ("y", "ann"): (1, 0), ("z", "ann"): (2, 1), ("x", "bob"): (1, 0), ("z", "bob"): (0, 2)}
SAID: list[tuple[str, str, int, str, int | None, str, float | None]] = [
    ("x", "ann", 1, "comparison", -2, "Zürich\n", 1.5),
    ("x", "bob", 1, "comparison", -3, "", None),
    ("x", "ann", 2, "withdrawn", None, "", 2.5),
    ("y", "ann", 1, "comparison", 1, "", None),
    ("z", "ann", 1, "comparison", 2, "", None),
    ("x", "ann", 3, "comparison", 3, "once more", 1e9 + 0.1),
    ("z", "ann", 2, "comparison", -1, "", None),
    ("y", "ann", 2, "withdrawn", None, "", None),
    ("z", "bob", 1, "both_bad", None, "", None),
]
STRENGTH = {("x", "ann"): 3, ("x", "bob"): 3, ("z", "ann"): 1}
"""What the latest revisions say, by hand: bob's left answer on x was the second one, and so is ann's right one on z."""


def expected() -> list[Judgement]:
    """The history, in today's words."""
    return [
        Judgement(item, who, SIDES[item, who], kind, pressed, note, "v1", 0.5, at, revision)  # type: ignore[arg-type]
        for item, who, revision, kind, pressed, note, at in SAID
    ]


def engine_of(place: str) -> Engine:
    """A plain engine; on SQLite with foreign keys, as the old code had them."""
    engine = create_engine(place if "://" in place else f"sqlite:///{place}")
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA foreign_keys = ON"))
    return engine


def by_migration(connection: Connection) -> None:
    """The tables by script 0001, and its mark."""
    from importlib import import_module

    script = import_module("keel.preferences.migrations.versions.0001_preferences")
    context = MigrationContext.configure(connection)
    with Operations.context(context):
        script.upgrade()
    connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"))
    connection.execute(text("INSERT INTO alembic_version VALUES ('0001')"))


def by_hand(connection: Connection) -> None:
    """The tables as SQLAlchemy wrote them before there were migrations, without a mark."""
    postgres = connection.dialect.name == "postgresql"
    words = {
        "serial": "SERIAL NOT NULL PRIMARY KEY" if postgres else "INTEGER NOT NULL PRIMARY KEY",
        "real": "DOUBLE PRECISION" if postgres else "FLOAT",
    }
    for statement in TABLES.format(**words).split(";"):
        connection.exec_driver_sql(statement)
    if not postgres:
        for verb in ("update", "delete"):
            connection.exec_driver_sql(TRIGGER.format(verb))


def fill(connection: Connection, more: int = 0) -> None:
    """x and y with two answers, z with three; `more` items that ann has judged."""

    def put(table: str, **row: Any) -> None:
        columns = ", ".join(f'"{name}"' for name in row)
        values = ", ".join(f":{name}" for name in row)
        connection.execute(text(f"INSERT INTO {table} ({columns}) VALUES ({values})"), row)

    def add(item: str, answers: int) -> None:
        put("items", id=item, prompt='[["user", "?"]]')
        for position in range(answers):
            put("answers", item=item, position=position, messages=f'[["assistant", "{position}"]]', model="m")

    for id, answers in (("x", 2), ("y", 2), ("z", 3)):
        add(id, answers)
    put("annotators", name="ann", role="annotator")
    put("annotators", name="bob", role="imported")
    for (id, who), (left, right) in SIDES.items():
        put("assignments", item=id, annotator=who, left=left, right=right)
    for id, who, revision, kind, pressed, note, at in SAID:
        left, right = SIDES[id, who]
        row = {"item": id, "annotator": who, "left": left, "right": right, "revision": revision, "kind": kind}
        more_of_it = {"pressed": pressed, "note": note, "guideline": "v1", "served": 0.5, "submitted": at}
        put("judgements", **row, **more_of_it, supersedes=revision - 1 or None)
    for number in range(more):
        id = f"more {number}"
        add(id, 2)
        put("assignments", item=id, annotator="ann", left=0, right=1)
        row = {"item": id, "annotator": "ann", "left": 0, "right": 1, "revision": 1, "kind": "skip"}
        put("judgements", **row, note="", guideline="")


def make(place: str, how: str, more: int = 0) -> None:
    """`how`: "migration" or "hand"."""
    if "://" not in place:
        Path(place).parent.mkdir(exist_ok=True)
    engine = engine_of(place)
    with engine.begin() as connection:
        (by_migration if how == "migration" else by_hand)(connection)
        fill(connection, more)
    engine.dispose()


def tables(place: str) -> dict[str, int]:
    """The tables and how many rows they hold, without opening the database as Keel does."""
    from sqlalchemy import inspect

    engine = engine_of(place)
    with engine.connect() as connection:
        names = sorted(inspect(connection).get_table_names())
        counts = {name: connection.execute(text(f"SELECT count(*) FROM {name}")).scalar_one() for name in names}
    engine.dispose()
    return counts
