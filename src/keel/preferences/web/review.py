"""Everything that the reviewer's page says, computed from the database at most every few seconds."""

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select

from keel.preferences import agreement, quality, schema
from keel.preferences.database import Database
from keel.preferences.dawid_skene import dawid_skene
from keel.preferences.judgement import COUNTED, PROGRAMS, Item, Judgement, collect
from keel.preferences.people import People
from keel.preferences.quality.binomial import Share
from keel.preferences.quality.gold import Accuracy
from keel.preferences.quality.pace import Pace
from keel.preferences.quality.repeats import Consistency
from keel.preferences.quality.sides import SideBias
from keel.preferences.rows import items_of, judgement, standing
from keel.preferences.web import disputes
from keel.preferences.web import schemas_review as shapes
from keel.preferences.web.control import gold_of
from keel.preferences.web.roll import roll
from keel.preferences.web.stock import stock

_RESAMPLES = 300
_DAYS, _EVENTS = 60, 100
_SHARE_OF_TIME = 10  # after a computation of a second nothing is computed for ten


@dataclass(frozen=True)
class _Read:
    """What is read from the database, in one state of it: people's judgements alone."""

    items: Mapping[str, Item]
    history: Sequence[Judgement]
    now: Sequence[Judgement]
    queue: Mapping[str, Any]
    states: Mapping[str, str]


class Reviews:
    """The review of one database, kept until it is old and something has changed."""

    def __init__(
        self,
        database: Database,
        limits: quality.Limits,
        seconds: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database, self._limits, self._seconds, self._clock = database, limits, seconds, clock
        self._lock = threading.Lock()
        self._kept: tuple[tuple[Any, ...], float, shapes.Review] | None = None

    def now(self) -> shapes.Review:
        """The review, at most some seconds old, or the last one while another is made."""
        kept = self._kept
        if not self._lock.acquire(blocking=kept is None):
            assert kept is not None
            return kept[2]
        try:
            return self._fresh()
        finally:
            self._lock.release()

    def _fresh(self) -> shapes.Review:
        kept, began = self._kept, self._clock()
        if kept is not None and began < kept[1]:
            return kept[2]
        mark = self._mark()
        if kept is not None and mark == kept[0]:
            self._kept = (mark, began + self._seconds, kept[2].model_copy(update={"at": began}))
            return self._kept[2]
        made = make(self._database, self._limits, began)
        took = self._clock() - began
        self._kept = (mark, began + took + max(self._seconds, _SHARE_OF_TIME * took), made)
        return made

    def forget(self) -> None:
        """The reviewer has changed something, and wants to see it."""
        with self._lock:
            self._kept = None

    def _mark(self) -> tuple[Any, ...]:
        """Changes when something of the review does."""
        queue = schema.queue.c
        tables = (schema.judgements.c.number, schema.events.c.number, schema.annotators.c.number)
        newest = [select(func.max(column)) for column in (*tables, schema.guidelines.c.version)]
        sizes = [select(func.count()).select_from(schema.queue).where(each) for each in (queue.aside, queue.done)]
        sizes.append(select(func.count()).select_from(schema.queue))
        with self._database.read() as connection:
            return tuple(connection.execute(query).scalar_one() for query in (*newest, *sizes))


def make(database: Database, limits: quality.Limits, at: float) -> shapes.Review:
    """The review, at `at` (seconds since the epoch)."""
    written = schema.guidelines.c
    with database.read() as connection:
        read = _read(connection)
        published = connection.execute(
            select(written.version, written.at, written.author).order_by(written.version.desc())
        ).all()
    events = People(database).events()
    return shapes.Review(
        at=at,
        counts=_counts(database, read),
        days=_days(read.now),
        agreement=_agreement(read),
        annotators=_annotators(database, read, limits),
        disputed=disputes.disputed(read.items, read.queue, _counting(read)),
        flags=disputes.flags(read.items, read.queue, read.now),
        set_aside=disputes.set_aside(read.items, read.queue),
        events=[shapes.Event(**vars(event)) for event in reversed(events[-_EVENTS:])],
        guidelines=[shapes.Published(version=row.version, at=row.at, author=row.author) for row in published],
    )


def _read(connection: Connection) -> _Read:
    who = schema.annotators
    rows = connection.execute(select(who.c.name, who.c.state).where(who.c.role.not_in(PROGRAMS)))
    states = {row.name: row.state for row in rows}
    said = schema.judgements
    mine = said.c.annotator.in_(select(who.c.name).where(who.c.role.not_in(PROGRAMS)))
    history = [judgement(row) for row in connection.execute(select(said).where(mine).order_by(said.c.number))]
    now = [judgement(row) for row in connection.execute(standing().where(mine))]
    queue = {row.item: row for row in connection.execute(select(schema.queue))}
    wanted = {each.item for each in history} | {item for item, row in queue.items() if row.aside}
    items = {item.id: item for item in items_of(connection, sorted(wanted))}
    return _Read(items, history, now, queue, states)


def _counting(read: _Read) -> list[Judgement]:
    """What agreement and reliability are made of: no gold items, no repeats, nobody who is excluded."""
    return [
        said
        for said in read.now
        if read.states[said.annotator] != "excluded" and _purpose(read, said.item) == "ordinary"
    ]


def _purpose(read: _Read, item: str) -> str:
    row = read.queue.get(item)
    return "ordinary" if row is None else str(row.purpose)


def _counts(database: Database, read: _Read) -> shapes.Counts:
    kinds = Counter(said.kind for said in read.now)
    purposes = Counter(row.purpose for row in read.queue.values())
    have = stock(database)
    return shapes.Counts(
        items=have.items,
        done=have.done,
        aside=sum(bool(row.aside) for row in read.queue.values()),
        missing=have.missing,
        judgements=sum(kinds[kind] for kind in COUNTED),
        skips=kinds["skip"],
        flags=kinds["flag"],
        gold=purposes["gold"],
        repeats=purposes["repeat"],
    )


def _days(judgements: Sequence[Judgement]) -> list[shapes.Day]:
    times = [said.submitted for said in judgements if said.kind in COUNTED and said.submitted is not None]
    days = Counter(datetime.fromtimestamp(at).strftime("%Y-%m-%d") for at in times)
    return [shapes.Day(day=day, judgements=count) for day, count in sorted(days.items(), reverse=True)[:_DAYS]]


def _agreement(read: _Read) -> shapes.Agreement | None:
    votes = collect(_counting(read))
    if not len(votes.pair):
        return None
    found = agreement.measure(votes, resamples=_RESAMPLES)
    names = [name for name in shapes.Agreement.model_fields if name not in ("items", "votes")]
    estimates = {name: _estimate(getattr(found, name)) for name in names}
    return shapes.Agreement(items=found.items, votes=found.votes, **estimates)


def _annotators(database: Database, read: _Read, limits: quality.Limits) -> list[shapes.Annotator]:
    gold = [gold_of(row.item, row.expected) for row in read.queue.values() if row.purpose == "gold"]
    repeats = {row.item: row.repeats for row in read.queue.values() if row.purpose == "repeat"}
    timings = quality.timings(read.history, {id: _characters(item, read.queue) for id, item in read.items.items()})
    counted = [said for said in read.now if _purpose(read, said.item) == "ordinary"]
    spam = quality.spam_scores(counted)
    profiles = quality.profiles(read.now, gold, repeats, timings, spam, limits)
    reliability = _reliability(_counting(read))
    return [
        _annotator(one.to_json(), reliability.get(one.name), profiles.get(one.name))
        for one in roll(database)
        if one.name in read.states
    ]


def _annotator(
    facts: Mapping[str, Any], reliability: float | None, profile: quality.Profile | None
) -> shapes.Annotator:
    one = profile or quality.Profile(facts["name"], 0, None, None, None, None, None, None, None, ())
    return shapes.Annotator(
        **facts,
        reliability=reliability,
        agreement=None if one.others is None else _share(one.others.share),
        gold=None if one.gold is None else _gold(one.gold),
        repeats=None if one.repeats is None else _repeats(one.repeats),
        pace=None if one.pace is None else _pace(one.pace),
        sides=None if one.sides is None else _sides(one.sides),
        run=None if one.runs is None else shapes.Run(**vars(one.runs)),
        spam=None if one.spam is None else _number(one.spam.score),
        verdict=one.verdict,
        findings=[shapes.Finding(**vars(finding)) for finding in one.findings],
    )


def _gold(found: Accuracy) -> shapes.Gold:
    return shapes.Gold(share=_share(found.share), doubt=found.doubt, declined=found.declined)


def _repeats(found: Consistency) -> shapes.Repeats:
    return shapes.Repeats(consistent=_share(found.consistent), sided=_share(found.sided))


def _pace(found: Pace) -> shapes.Pace:
    return shapes.Pace(median=found.median, per_hour=found.per_hour, too_fast=_share(found.too_fast))


def _sides(found: SideBias) -> shapes.Sides:
    return shapes.Sides(left=_share(found.left), z=found.z, p=found.p, adjusted=found.adjusted)


def _reliability(judgements: Sequence[Judgement]) -> dict[str, float | None]:
    votes = collect(judgements)
    if not len(votes.pair):
        return {}
    values = dawid_skene(votes, tolerance=1e-6).reliability.tolist()
    return {name: _number(value) for name, value in zip(votes.annotators, values, strict=True)}


def _characters(item: Item, queue: Mapping[str, Any]) -> int:
    """What there is to read at least: the prompt and the answers; of many the two shortest, unless they are ranked."""
    lengths = sorted(sum(len(one.content) for one in answer.messages) for answer in item.answers)
    row = queue.get(item.id)
    read = lengths if row is not None and row.ranked else lengths[:2]
    return sum(len(one.content) for one in item.prompt) + sum(read)


def _estimate(found: agreement.Estimate) -> shapes.Estimate:
    return shapes.Estimate(value=_number(found.value), low=_number(found.low), high=_number(found.high))


def _share(found: Share) -> shapes.Share:
    return shapes.Share(
        successes=found.successes, trials=found.trials, value=_number(found.value), low=found.low, high=found.high
    )


def _number(value: float) -> float | None:
    """JSON has no word for what is not finite."""
    return float(value) if math.isfinite(value) else None
