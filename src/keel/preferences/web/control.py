"""Who misses too many gold items is paused by the server, after the judgement is on disk and answered."""

import logging

from sqlalchemy import select

from keel.preferences import schema
from keel.preferences.database import Database
from keel.preferences.judgement import Judgement
from keel.preferences.people import People
from keel.preferences.quality import Gold, Limits, profiles, to_pause
from keel.preferences.quality.verdict import Verdict
from keel.preferences.rows import judgement, standing

BY = "quality control"
_ACCEPTED: dict[int, Verdict] = {-1: "first", 0: "tie", 1: "second"}
_log = logging.getLogger(__name__)


def gold_of(item: str, expected: int) -> Gold:
    """A row of the queue as quality control takes it."""
    return Gold(item, frozenset({_ACCEPTED[expected]}))


def after(database: Database, people: People, limits: Limits, said: Judgement) -> None:
    """Pauses the annotator of this judgement where it is on a gold item and tips the scale."""
    queue = schema.queue.c
    with database.read() as connection:
        purpose = connection.execute(select(queue.purpose).where(queue.item == said.item)).scalar_one_or_none()
        if purpose != "gold":
            return
        gold = [
            gold_of(row.item, row.expected)
            for row in connection.execute(select(queue.item, queue.expected).where(queue.purpose == "gold"))
        ]
        mine = standing().where(
            schema.judgements.c.annotator == said.annotator,
            schema.judgements.c.item.in_([each.item for each in gold]),
        )
        judged = [judgement(row) for row in connection.execute(mine)]
    reasons = to_pause(profiles(judged, gold, limits=limits), limits)
    if said.annotator in reasons and people.states().get(said.annotator) == "active":
        people.set_state(said.annotator, "paused", BY, reasons[said.annotator])
        _log.info("%s is paused: %s", said.annotator, reasons[said.annotator])
