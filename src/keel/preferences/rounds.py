"""What a run has asked people for: a mark among the events, so that a run which goes on asks for nothing twice."""

import time

from sqlalchemy import insert, select

from keel.preferences import schema
from keel.preferences.database import Database

_ASKED, _RUN = "asked", "run"


def note_asked(database: Database, key: str) -> None:
    """All items that follow from `key` (what they are made from, as one number) are in the store."""
    event = {"at": time.time(), "by": _RUN, "what": _ASKED, "whom": key, "why": ""}
    with database.write() as connection:
        connection.execute(insert(schema.events), event)


def asked_for(database: Database) -> frozenset[str]:
    """The keys that were noted."""
    events = schema.events.c
    with database.read() as connection:
        rows = connection.execute(select(events.whom).where(events.by == _RUN, events.what == _ASKED))
        return frozenset(rows.scalars())
