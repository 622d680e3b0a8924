"""How many people judge an item, and what follows from it: the caches beside the judgements, and who finds room.

Everything here is a part of one of the writing transactions, on its connection: what is counted stays true to its end.
"""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, Connection, and_, bindparam, case, func, or_, select, update

from keel.preferences import schema
from keel.preferences.judgement import COUNTED, PROGRAMS
from keel.preferences.rows import chunks

_queue, _assigned, _said, _who = (
    schema.queue.c,
    schema.assignments.c,
    schema.judgements.c,
    schema.annotators.c,
)
_PERSON = _who.role.not_in(PROGRAMS)


def people_who_judged(item: Any) -> Any:
    """How many people say something about the answers of an item, the excluded left out (a scalar subquery)."""
    assigned, who = schema.assignments.alias(), schema.annotators.alias()
    return (
        select(func.count())
        .select_from(assigned.join(who, who.c.name == assigned.c.annotator))
        .where(
            assigned.c.item == item,
            assigned.c.said.in_(COUNTED),
            who.c.state != "excluded",
            who.c.role.not_in(PROGRAMS),
        )
        .scalar_subquery()
    )


def _others_hold(item: Any) -> Any:
    """How many people beside :annotator hold a place at an item at :now that they have not judged (a scalar subquery).

    A place that was planned has no lease, and so no end. Those who may not go on hold nothing.
    """
    held, who = schema.assignments.alias(), schema.annotators.alias()
    return (
        select(func.count())
        .select_from(held.join(who, who.c.name == held.c.annotator))
        .where(
            held.c.item == item,
            held.c.said.is_(None),
            held.c.annotator != bindparam("annotator"),
            or_(held.c.expires.is_(None), held.c.expires > bindparam("now")),
            who.c.state == "active",
            who.c.role.not_in(PROGRAMS),
        )
        .scalar_subquery()
    )


HAS_ROOM: ColumnElement[bool] = or_(
    _queue.purpose == "gold", people_who_judged(_queue.item) + _others_hold(_queue.item) < _queue.wanted
)
"""Whether :annotator may judge a row of the queue at :now, as far as others are concerned."""

_FULL = select(_queue.item).where(_queue.item == bindparam("item"), ~HAS_ROOM)


def full(connection: Connection, item: str, annotator: str, now: float) -> bool:
    """Whether others have all the places of a queued item. Seconds since the epoch."""
    return connection.execute(_FULL, {"item": item, "annotator": annotator, "now": now}).first() is not None


_LATEST_KIND = (
    select(case((_said.kind == "withdrawn", None), else_=_said.kind))
    .where(_said.item == _assigned.item, _said.annotator == _assigned.annotator)
    .order_by(_said.revision.desc())
    .limit(1)
    .scalar_subquery()
)
_SOME: BindParameter[Any] = bindparam("some", expanding=True)
_REMEMBER = update(schema.assignments).where(_assigned.item.in_(_SOME)).values(said=_LATEST_KIND)
_REMEMBER_ONE = (
    update(schema.assignments)
    .where(_assigned.item == bindparam("of_item"), _assigned.annotator == bindparam("of_annotator"))
    .values(said=_LATEST_KIND)
)
_DONE = people_who_judged(_queue.item) >= _queue.wanted
_RECOUNT = update(schema.queue).where(_queue.purpose != "gold").values(done=_DONE)
_RECOUNT_SOME = _RECOUNT.where(_queue.item.in_(_SOME))
_RECOUNT_ONE = _RECOUNT.where(_queue.item == bindparam("of_item"))
_RECOUNT_JUDGED_BY = _RECOUNT.where(
    _queue.item.in_(select(_assigned.item).where(_assigned.annotator == bindparam("of_annotator")))
)


def remember(connection: Connection, items: Iterable[str]) -> None:
    """Writes what follows from the judgements about these items where the next question looks for it.

    `assignments.said` is the kind of the latest revision, None where the item waits; `queue.done` whether as many
    people have judged an item as it is to have. Both are counted anew, so that no step can be missed.
    """
    for some in chunks(items):
        connection.execute(_REMEMBER, {"some": some})
        connection.execute(_RECOUNT_SOME, {"some": some})


def remember_one(connection: Connection, item: str, annotator: str) -> None:
    """The same after a judgement by one annotator about one item."""
    connection.execute(_REMEMBER_ONE, {"of_item": item, "of_annotator": annotator})
    connection.execute(_RECOUNT_ONE, {"of_item": item})


def recount_of(connection: Connection, annotator: str) -> None:
    """Counts anew what is done among the items of an annotator whose judgements begin or cease to count."""
    connection.execute(_RECOUNT_JUDGED_BY, {"of_annotator": annotator})


_OPEN = and_(_queue.purpose == "ordinary", _queue.done.is_(False), _queue.aside.is_(False))
_WANTED = select(func.coalesce(func.sum(_queue.wanted), 0)).where(_OPEN)
_GIVEN = (
    select(func.count())
    .select_from(schema.assignments)
    .join(schema.queue, _queue.item == _assigned.item)
    .join(schema.annotators, _who.name == _assigned.annotator)
    .where(_OPEN, _assigned.said.in_(COUNTED), _who.state != "excluded", _PERSON)
)


def to_come(connection: Connection) -> int:
    """How many judgements are still to come: Σ over open items of the people who are wanted and have not judged."""
    return int(connection.execute(_WANTED).scalar_one() - connection.execute(_GIVEN).scalar_one())


def begin(connection: Connection, items: Iterable[str], now: float) -> None:
    """Items of which a person has a place already enter the queue by nobody's choice: without a propensity.

    So no person has a place at an item that has not entered, and each of those can be the next for everybody.
    """
    theirs = select(_assigned.item).join(schema.annotators, and_(_who.name == _assigned.annotator, _PERSON))
    for some in chunks(items):
        connection.execute(
            update(schema.queue)
            .where(_queue.entered.is_(None), _queue.item.in_(_SOME), _queue.item.in_(theirs))
            .values(entered=now),
            {"some": some},
        )
