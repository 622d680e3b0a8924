"""What annotators are told of their own work, without a query for each judgement.

Counted anew every half minute, and kept up to date in between. How many items are left is not counted anew where that
would tell gold items and repeats from others: each judgement takes one away.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from statistics import median

from sqlalchemy import Connection, and_, exists, func, select

from keel.preferences import schema
from keel.preferences.database import Database
from keel.preferences.judgement import COUNTED, Judgement
from keel.preferences.quality import Limits
from keel.preferences.quality.pace import Timing
from keel.preferences.rows import judgement
from keel.preferences.web.schemas import Progress

_FRESH = 30.0
_RECENT = 50
_SLACK = 20
_queue, _assigned, _said = schema.queue.c, schema.assignments.c, schema.judgements.c


@dataclass
class _Page:
    """One annotator: counts, the seconds that recent judgements took, when it was read, and when its day began."""

    done: int
    today: int
    left: int
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))
    at: float = 0.0
    day: float = 0.0


class ProgressBook:
    """The progress of everybody who has asked."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock
        self._lock = threading.Lock()
        self._pages: dict[str, _Page] = {}

    def of(self, annotator: str) -> Progress:
        """What to tell this annotator."""
        page = self._page(annotator)
        with self._lock:
            seconds = list(page.seconds)
            active = sum(min(one, Limits.idle) for one in seconds)
            return Progress(
                done=page.done,
                today=page.today,
                left=max(page.left, 0),
                per_hour=round(3600 * len(seconds) / active, 1) if active > 0 else None,
                median_seconds=round(median(seconds), 2) if seconds else None,
            )

    def judged(self, said: Judgement) -> None:
        """A judgement has been recorded."""
        with self._lock:
            page = self._pages.get(said.annotator)
            if page is None:
                return
            page.left -= 1
            if said.kind in COUNTED:
                page.done += 1
                page.today += 1
            if (seconds := _seconds(said)) is not None:
                page.seconds.append(seconds)

    def undone(self, annotator: str) -> None:
        """A judgement has been withdrawn: count anew, and the item is to be judged again."""
        with self._lock:
            page = self._pages.get(annotator)
            if page is not None:
                page.at = 0.0
                page.left += 1

    def _page(self, annotator: str) -> _Page:
        """The annotator's page, read anew where it is old."""
        now = self._clock()
        day = _midnight(now)
        with self._lock:
            page = self._pages.get(annotator)
            if page is not None and now - page.at < _FRESH and page.day == day:
                return page
        with self._database.read() as connection:
            fresh = _count(connection, annotator, day)
        fresh.at, fresh.day = now, day
        with self._lock:
            if page is not None:
                fresh.left = _steady(page.left, fresh.left)
            self._pages[annotator] = fresh
        return fresh


def _steady(shown: int, counted: int) -> int:
    """What to show: the old number, unless others have left less, or much has come in."""
    return counted if counted < shown or counted - shown > _SLACK or shown <= 0 else shown


def _midnight(now: float) -> float:
    return datetime.fromtimestamp(now).replace(hour=0, minute=0, second=0, microsecond=0).timestamp()


def _count(connection: Connection, annotator: str, midnight: float) -> _Page:
    counted = _assigned.said.in_(COUNTED)
    mine = _assigned.annotator == annotator
    done = select(func.count()).select_from(schema.assignments).where(mine, counted)
    on = and_(_said.item == _assigned.item, _said.annotator == _assigned.annotator)
    today = (
        select(func.count(func.distinct(_said.item)))
        .select_from(schema.assignments.join(schema.judgements, on))
        .where(mine, counted, _said.submitted >= midnight, _said.kind != "withdrawn")
    )
    had = exists().where(_assigned.item == _queue.item, mine, _assigned.said.is_not(None))
    waiting = and_(_queue.purpose == "ordinary", _queue.done.is_(False), _queue.aside.is_(False), ~had)
    left = select(func.count()).select_from(schema.queue).where(waiting)
    recent = (
        select(schema.judgements)
        .where(_said.annotator == annotator, _said.kind != "withdrawn")
        .order_by(_said.number.desc())
        .limit(_RECENT)
    )
    counts = [int(connection.execute(query).scalar_one()) for query in (done, today, left)]
    page = _Page(counts[0], counts[1], counts[2])
    for row in reversed(connection.execute(recent).all()):
        if (seconds := _seconds(judgement(row))) is not None:
            page.seconds.append(seconds)
    return page


def _seconds(said: Judgement) -> float | None:
    """How long a judgement took, None where unknown."""
    return Timing(said.annotator, None, said.served, said.submitted, said.seen).seconds
