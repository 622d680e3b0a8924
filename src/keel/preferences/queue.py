"""Which item is next: who comes first among those that wait, and with which probability it was to be that one.

Everything here is a part of one of the desk's transactions, on its connection.
"""

import math
from collections.abc import Mapping
from random import Random
from typing import Any

from sqlalchemy import BindParameter, Connection, and_, bindparam, exists, func, insert, select, update

from keel.preferences import schema
from keel.preferences.assign import seeded
from keel.preferences.counts import HAS_ROOM
from keel.preferences.judgement import Item
from keel.preferences.leases import Rules
from keel.preferences.rows import STANDING, item_rows, items_of, turns

_AT_ONCE = 32  # items: seldom are more of them full for the moment, by the leases of others
_queue, _assigned, _said = schema.queue.c, schema.assignments.c, schema.judgements.c


def queued(
    seed: int, item: Item, wanted: int, ranked: bool = False, priority: Mapping[str, float] | None = None
) -> dict[str, Any]:
    """The row of an ordinary item; its lot is drawn from (seed, item). ValueError where nobody is wanted."""
    first = (priority or {}).get(item.id, 0.0)
    if wanted < 1 or not math.isfinite(first):
        raise ValueError(f"item {item.id}: {wanted} people wanted, priority {first}; need ≥ 1, and a finite number")
    return {
        "item": item.id,
        "wanted": wanted,
        "ranked": ranked and len(item.answers) > 2,
        "purpose": "ordinary",
        "priority": first,
        "lot": float(seeded(seed, "lot", item.id).random()),
        "done": False,
        "aside": False,
    }


_mine = schema.assignments.alias().c
_NOT_HAD = ~exists().where(_mine.item == _queue.item, _mine.annotator == bindparam("annotator"))
_OPEN = and_(_queue.purpose == "ordinary", _queue.done.is_(False), _queue.aside.is_(False))
_GOLD = (
    select(_queue.item)
    .where(_queue.purpose == "gold", _queue.aside.is_(False), _NOT_HAD)
    .order_by(_queue.lot, _queue.item)
    .limit(1)
)
_IN_ORDER = (_queue.entered, _queue.lot, _queue.item)
_BEGUN = (
    select(_queue.item)
    .where(_OPEN, _queue.entered.is_not(None), _NOT_HAD)
    .order_by(*_IN_ORDER)
    .limit(_AT_ONCE)
    .offset(bindparam("skipped"))
)
_SOME: BindParameter[Any] = bindparam("some", expanding=True)
_WITH_ROOM = select(_queue.item).where(_queue.item.in_(_SOME), HAS_ROOM).order_by(*_IN_ORDER).limit(1)


def gold(connection: Connection, annotator: str) -> str | None:
    """The next item with a known answer that this annotator has not had; None where there is none."""
    return connection.execute(_GOLD, {"annotator": annotator}).scalar_one_or_none()


def begun(connection: Connection, annotator: str, now: float) -> str | None:
    """The item that entered first among those that wait for one more person, and that this annotator has not had.

    In two steps, since a planner that takes them as one may count the people at thousands of items that were had.
    """
    skipped = 0
    while True:
        some = connection.execute(_BEGUN, {"annotator": annotator, "skipped": skipped}).scalars().all()
        if not some:
            return None
        asked = {"annotator": annotator, "now": now, "some": some}
        item = connection.execute(_WITH_ROOM, asked).scalar_one_or_none()
        if item is not None or len(some) < _AT_ONCE:
            return item
        skipped += _AT_ONCE


_FRESH = and_(_OPEN, _queue.entered.is_(None))
_SIZE = select(func.count()).select_from(schema.queue).where(_FRESH)
# `entered` is NULL in all of them; named first, PostgreSQL sees that an index has them in this order
_TOP = select(_queue.priority).where(_FRESH).order_by(_queue.entered.desc(), _queue.priority.desc()).limit(1)
_TIED = and_(_FRESH, _queue.priority == bindparam("top"))
_TIES = select(func.count()).select_from(schema.queue).where(_TIED)
_NTH = select(_queue.item).where(_FRESH).order_by(*_IN_ORDER).limit(1).offset(bindparam("nth"))
_NTH_TIED = (
    select(_queue.item)
    .where(_TIED)
    .order_by(_queue.entered, _queue.priority, _queue.lot, _queue.item)
    .limit(1)
    .offset(bindparam("nth"))
)
_PRIORITY = select(_queue.priority).where(_queue.item == bindparam("item"))
_ENTER = (
    update(schema.queue)
    .where(_queue.item == bindparam("of_item"))
    .values(entered=bindparam("now"), selection=bindparam("by"), propensity=bindparam("chance"))
)


def enter(connection: Connection, now: float, rules: Rules, chance: Random) -> str | None:
    """The next of the N items that nobody has begun, chosen as the rules say; None where there is none.

        P(item) = ε/N + (1 − ε)/T where its priority is the highest, which T of them share; ε/N for the others

    with ε = `rules.random_share`, and 1 where the selection is "random". It is written beside the item.
    """
    size = int(connection.execute(_SIZE).scalar_one())
    if not size:
        return None
    if rules.selection == "random":
        item, propensity = connection.execute(_NTH, {"nth": chance.randrange(size)}).scalar_one(), 1 / size
    else:
        item, propensity = _selected(connection, size, rules.random_share, chance)
    entry = {"of_item": item, "now": now, "by": rules.selection, "chance": min(propensity, 1.0)}
    connection.execute(_ENTER, entry)
    return str(item)


def _selected(connection: Connection, size: int, share: float, chance: Random) -> tuple[str, float]:
    """One of the highest priority, or with probability `share` any; and how probable it was."""
    top = connection.execute(_TOP).scalar_one()
    tied = int(connection.execute(_TIES, {"top": top}).scalar_one())
    if chance.random() >= share:
        item = connection.execute(_NTH_TIED, {"top": top, "nth": chance.randrange(tied)}).scalar_one()
        return item, share / size + (1 - share) / tied
    item = connection.execute(_NTH, {"nth": chance.randrange(size)}).scalar_one()
    highest = connection.execute(_PRIORITY, {"item": item}).scalar_one() == top
    return item, share / size + ((1 - share) / tied if highest else 0.0)


_copies = schema.queue.alias().c
_COMPARED = (
    select(_said.item, _said.number, _said.kind)
    .join(schema.queue, and_(_queue.item == _said.item, _queue.purpose == "ordinary"))
    .where(_said.annotator == bindparam("annotator"), STANDING)
    .order_by(_said.number.desc())
    .offset(bindparam("after"))
    .subquery()
)
_LONGEST_AGO = (
    select(_COMPARED.c.item)
    .where(
        _COMPARED.c.kind == "comparison",
        ~exists().where(_copies.repeats == _COMPARED.c.item, _copies.reserved == bindparam("annotator")),
    )
    .order_by(_COMPARED.c.number)
    .limit(1)
)


def repeat(connection: Connection, annotator: str, rules: Rules, seed: int) -> str | None:
    """A new item with the content of one that this annotator has compared some while ago; None where none is left.

    It has an id of its own, and its places are those of the original, swapped, when it is leased.
    """
    asked = {"annotator": annotator, "after": rules.repeat_after}
    old = connection.execute(_LONGEST_AGO, asked).scalar_one_or_none()
    if old is None:
        return None
    (item,) = items_of(connection, [old])
    copy = Item(f"{old}~{annotator}", item.prompt, item.answers)
    connection.execute(insert(schema.items), {"id": copy.id, "prompt": turns(copy.prompt)})
    connection.execute(insert(schema.answers), item_rows(copy))
    row = queued(seed, copy, 1)
    connection.execute(insert(schema.queue), {**row, "purpose": "repeat", "repeats": old, "reserved": annotator})
    return copy.id
