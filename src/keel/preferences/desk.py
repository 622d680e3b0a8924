"""The desk at which people ask for the next item, and hand in what they think of it.

`enqueue` says which items people are asked about and how many of them; then, for each annotator,

    serve → (heartbeat …) → submit → serve → …        release, where they leave;  undo, where they think again

An item is *served* under a lease: a token, and a time until which nobody else gets that place. Exactly `wanted` people
judge an item, never twice the same: at every moment

    judgements that count + live leases ≤ wanted

where skips and flags do not count (somebody else is asked instead), nor does what excluded annotators say. Each call is
one transaction. Writers come one after another (`Database.write`), and the clock is read when it is one's turn, so that
what is checked is still true when the call ends. What was answered is on disk when the call returns; a lease outlives
the process, and may be lost with the machine.

Order: an item that somebody has begun goes before one that nobody has; among the latter, the one that the selection
names (`Rules.selection`), or with probability `Rules.random_share` any. The probability with which an item was to be
the one that enters is kept beside it.
"""

import math
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from random import Random, SystemRandom
from typing import Any

from sqlalchemy import Connection, and_, bindparam, insert, select, update
from sqlalchemy.exc import IntegrityError

from keel.errors import UserError
from keel.preferences import schema
from keel.preferences.assign import seeded, sides
from keel.preferences.counts import HAS_ROOM, begin, full, remember, remember_one, to_come
from keel.preferences.database import Database
from keel.preferences.judgement import PROGRAMS, Assignment, Item, Judgement, Shown
from keel.preferences.leases import LeaseLostError, NotWelcomeError, Receipt, Rules, Served, Verdict
from keel.preferences.queue import begun, enter, gold, queued, repeat
from keel.preferences.rows import STANDING, item_of, judgement, places, positions, row, storable
from keel.preferences.store import shown

_queue, _assigned, _said, _who = (
    schema.queue.c,
    schema.assignments.c,
    schema.judgements.c,
    schema.annotators.c,
)
_MINE = and_(_assigned.item == bindparam("of_item"), _assigned.annotator == bindparam("of_annotator"))
_LIVE = and_(
    _assigned.annotator == bindparam("of_annotator"),
    _assigned.token == bindparam("held"),
    _assigned.expires > bindparam("until"),
)
_WAITING = (
    select(schema.assignments)
    .join(schema.queue, and_(_queue.item == _assigned.item, _queue.aside.is_(False)))
    .where(_assigned.annotator == bindparam("annotator"), _assigned.said.is_(None), HAS_ROOM)
    .order_by(_assigned.number)
    .limit(bindparam("count"))
)
_STATE = select(_who.state, _who.role).where(_who.name == bindparam("annotator"))
_ASKED = select(schema.assignments).where(
    _assigned.annotator == bindparam("annotator"), _assigned.token == bindparam("held")
)
_LAST_SAID = (
    select(schema.judgements)
    .where(_said.item == bindparam("item"), _said.annotator == bindparam("annotator"))
    .order_by(_said.revision.desc())
    .limit(1)
)
_LAST_OF_ALL = (
    select(schema.judgements)
    .where(_said.annotator == bindparam("annotator"), STANDING)
    .order_by(_said.number.desc())
    .limit(1)
)
_LEASE = (
    update(schema.assignments)
    .where(_MINE)
    .values(token=bindparam("new"), served=bindparam("at"), expires=bindparam("until"))
)
_PROLONG = update(schema.assignments).where(_MINE).values(expires=bindparam("until"))
_END = update(schema.assignments).where(_LIVE).values(expires=bindparam("until"))
_ASSIGNMENT = select(schema.assignments).where(_MINE)
_KIND = select(_queue.ranked, _queue.repeats).where(_queue.item == bindparam("item"))


class Desk:
    """Serves the queue of one database to any number of people at once."""

    def __init__(
        self,
        database: Database,
        rules: Rules | None = None,
        seed: int = 0,
        clock: Callable[[], float] = time.time,
        chance: Random | None = None,
    ) -> None:
        self._database = database
        self.rules = rules or Rules()
        self._seed = seed
        self._clock = clock
        self._chance = chance or SystemRandom()

    def enqueue(
        self,
        items: Iterable[Item],
        wanted: int | Mapping[str, int],
        ranked: bool = False,
        priority: Mapping[str, float] | None = None,
    ) -> int:
        """Ask people about these items of the store, `wanted` people each; returns how many were not queued before.

        `ranked`: items of more than two answers are ranked as a whole; else two of their answers are compared. New
        items have the given priority, or 0. Items that are queued already stay as they are, but for a priority that is
        given. Raises ValueError where an item is not in the store, nobody is wanted, or a priority is not finite.
        """
        given = {item.id: item for item in items}
        with self._database.write() as connection:
            known = set(connection.execute(select(_queue.item)).scalars())
            rows = [
                queued(self._seed, item, wanted if isinstance(wanted, int) else wanted[id], ranked, priority)
                for id, item in given.items()
                if id not in known
            ]
            if rows:
                _insert(connection, rows)
                new = [each["item"] for each in rows]
                begin(connection, new, self._clock())
                remember(connection, new)
            self._prioritise(connection, {id: value for id, value in (priority or {}).items() if id in known})
        return len(rows)

    def _prioritise(self, connection: Connection, priority: Mapping[str, float]) -> None:
        for id, value in priority.items():
            if not math.isfinite(value):
                raise ValueError(f"item {id}: its priority {value} is not a finite number")
        if priority:
            change = update(schema.queue).where(_queue.item == bindparam("of_item")).values(priority=bindparam("new"))
            connection.execute(change, [{"of_item": id, "new": value} for id, value in priority.items()])

    def enqueue_gold(self, item: Item, expected: int) -> None:
        """Make a queued or new item of the store one with a known answer: −1 the first is better, 0 a tie, +1 the
        second. Everyone may get it, and it never trains anything. Raises UserError where it cannot be one."""
        if len(item.answers) != 2:
            raise UserError(f"item {item.id}: a gold item has two answers, this one has {len(item.answers)}.")
        if expected not in (-1, 0, 1):
            raise UserError(f"item {item.id}: the known answer {expected} is not −1, 0 or +1.")
        with self._database.write() as connection:
            purpose = connection.execute(select(_queue.purpose).where(_queue.item == item.id)).scalar_one_or_none()
            if purpose == "repeat":
                raise UserError(f"item {item.id}: repeats another item, so it cannot be a gold item.")
            connection.execute(schema.queue.delete().where(_queue.item == item.id))
            _insert(connection, [{**queued(self._seed, item, 1), "purpose": "gold", "expected": expected}])

    def serve(self, annotator: str, count: int = 1) -> list[Served]:
        """The items that this annotator is to judge now, at most `count`, those first that were served before.

        Fewer where nothing (more) can be given at the moment. Leases of what is served begin anew. Raises
        NotWelcomeError.
        """
        with self._database.write(durable=False) as connection:
            now = self._clock()
            self._welcome(connection, annotator)
            mine = {"annotator": annotator, "now": now, "count": max(count, 0)}
            served = [self._renew(connection, waiting, now) for waiting in connection.execute(_WAITING, mine).all()]
            while len(served) < count:
                item = self._choose(connection, annotator, now)
                if item is None:
                    break
                served.append(self._lease(connection, annotator, item, now))
            return served

    def heartbeat(self, annotator: str, token: str) -> float:
        """The annotator is still there: the lease begins anew; returns when it expires. Raises LeaseLostError."""
        with self._database.write(durable=False) as connection:
            now = self._clock()
            asked = _asked(connection, annotator, token)
            live = asked.said is None and asked.expires > now
            if not live or full(connection, asked.item, annotator, now):
                raise LeaseLostError("this item is no longer held for you; ask for the next one.")
            expires = now + self.rules.lease_seconds
            connection.execute(_PROLONG, {"of_item": asked.item, "of_annotator": annotator, "until": expires})
        return expires

    def release(self, annotator: str, token: str) -> None:
        """The annotator leaves the item to others. Nothing happens where the lease is over anyhow."""
        with self._database.write(durable=False) as connection:
            now = self._clock()
            connection.execute(_END, {"of_annotator": annotator, "held": _plain(token), "until": now})

    def submit(self, annotator: str, token: str, verdict: Verdict, guideline: str = "") -> Receipt:
        """Record a verdict on what was served with this token, on disk when this returns.

        The same submission again changes nothing. After the lease a verdict still counts as long as nobody else has
        taken the place. Raises LeaseLostError where it does not, or where the token is unknown or was answered
        otherwise; ValueError where the verdict does not fit the item; NotWelcomeError.
        """
        with self._database.write() as connection:
            now = self._clock()
            asked = _asked(connection, annotator, token)
            said = _last_said(connection, asked.item, annotator)
            revision = 1 if said is None else said.revision + 1
            judged = _judge(asked, annotator, verdict, guideline, now, revision)
            if asked.said is not None:
                if said is not None and _same(said, judged):
                    return Receipt(said, repeated=True)
                raise LeaseLostError("you have judged this item otherwise already; undo that first.")
            self._welcome(connection, annotator)
            # also under a lease that seems alive: the clocks of two servers may differ
            if full(connection, asked.item, annotator, now):
                raise LeaseLostError("it took longer than the item could be held, and somebody else has it now.")
            connection.execute(insert(schema.judgements), row(judged))
            remember_one(connection, asked.item, annotator)
        return Receipt(judged, repeated=False)

    def undo(self, annotator: str, token: str | None = None) -> Served | None:
        """Withdraw the annotator's latest judgement and serve its item again; None where there is none.

        Raises LeaseLostError where others have taken all the places of an item that was skipped or flagged: it stays
        so; and where the latest judgement is not the one that was made with `token` (None: whichever it is), so that an
        undo which is sent twice undoes once. Raises NotWelcomeError.
        """
        with self._database.write() as connection:
            now = self._clock()
            self._welcome(connection, annotator)
            last = connection.execute(_LAST_OF_ALL, {"annotator": annotator}).one_or_none()
            theirs = None if last is None else _of(connection, last.item, annotator)
            if token is not None and (theirs is None or theirs.token != token):
                raise LeaseLostError("that is not what you said last; it stays, or was taken back before.")
            if last is None or theirs is None:
                return None
            connection.execute(insert(schema.judgements), row(judgement(last).withdraw(now)))
            remember_one(connection, last.item, annotator)
            if full(connection, last.item, annotator, now):  # counted without this judgement, which is withdrawn by now
                raise LeaseLostError("somebody else has that item by now, so what you said about it stays.")
            return self._again(connection, annotator, last.item, theirs.shown, now)

    def set_aside(self, item: str, aside: bool) -> None:
        """Stop asking about an item, or go on with it. Raises UserError where the item is not queued."""
        with self._database.write() as connection:
            changed = connection.execute(update(schema.queue).where(_queue.item == item).values(aside=aside))
            if not changed.rowcount:
                raise UserError(f"no item {item!r} is in the queue.")

    def waiting(self) -> int:
        """How many judgements are still to come: Σ over open items of the people who are wanted and have not judged."""
        with self._database.read() as connection:
            return to_come(connection)

    def _welcome(self, connection: Connection, annotator: str) -> None:
        found = connection.execute(_STATE, {"annotator": annotator}).one_or_none()
        if found is None or found.role in PROGRAMS:
            raise NotWelcomeError(f"no person is called {annotator!r}.")
        if found.state != "active":
            raise NotWelcomeError(f"you are {found.state} for the moment; ask the reviewer.")

    def _choose(self, connection: Connection, annotator: str, now: float) -> str | None:
        """The next item for this annotator, which they have not had; None where there is none."""
        item = None
        if self._chance.random() < self.rules.gold_share:
            item = gold(connection, annotator)
        if item is None and self._chance.random() < self.rules.repeat_share:
            item = repeat(connection, annotator, self.rules, self._seed)
        return item or begun(connection, annotator, now) or enter(connection, now, self.rules, self._chance)

    def _renew(self, connection: Connection, waiting: Any, now: float) -> Served:
        """What is in front of the annotator stays there, under the token that it has; a planned item gets one."""
        annotator, item = waiting.annotator, waiting.item
        if waiting.token is None:
            return self._again(connection, annotator, item, waiting.shown, now)
        expires = now + self.rules.lease_seconds
        connection.execute(_PROLONG, {"of_item": item, "of_annotator": annotator, "until": expires})
        stands = Assignment(item, annotator, positions(waiting.shown))
        return self._served(connection, stands, waiting.token, waiting.served, expires)

    def _again(self, connection: Connection, annotator: str, item: str, stood: str, now: float) -> Served:
        """Gives an item to the annotator whose it was, in the places where it stood, under a new token."""
        token, expires = _token(), now + self.rules.lease_seconds
        mine = {"of_item": item, "of_annotator": annotator}
        connection.execute(_LEASE, {**mine, "new": token, "at": now, "until": expires})
        return self._served(connection, Assignment(item, annotator, positions(stood)), token, now, expires)

    def _served(self, connection: Connection, stands: Assignment, token: str, served: float, expires: float) -> Served:
        said = _last_said(connection, stands.item, stands.annotator)
        revision = 1 if said is None else said.revision + 1
        return Served(token, shown(item_of(connection, stands.item), stands, revision), served, expires)

    def _lease(self, connection: Connection, annotator: str, item: str, now: float) -> Served:
        """Gives an item to an annotator who has not had it, in places that are drawn now."""
        content, token, expires = item_of(connection, item), _token(), now + self.rules.lease_seconds
        stands = Assignment(item, annotator, self._places(connection, content, annotator))
        lease = {"token": token, "served": now, "expires": expires}
        new = {"item": item, "annotator": annotator, "shown": places(stands.shown), **lease}
        connection.execute(insert(schema.assignments), new)
        return Served(token, shown(content, stands, 1), now, expires)

    def _places(self, connection: Connection, item: Item, annotator: str) -> tuple[int, ...]:
        """Where the answers stand: drawn from (seed, item, annotator); in a repeat as in its original, swapped."""
        queued = connection.execute(_KIND, {"item": item.id}).one()
        if queued.repeats is not None:
            return positions(_of(connection, queued.repeats, annotator).shown)[::-1]
        if queued.ranked:
            drawn = seeded(self._seed, "sides", item.id, annotator).permutation(len(item.answers))
            return tuple(int(position) for position in drawn)
        return sides(item, annotator, self._seed)


def _insert(connection: Connection, rows: list[dict[str, Any]]) -> None:
    """New rows of the queue. Raises ValueError where the store does not hold an item."""
    try:
        connection.execute(insert(schema.queue), rows)
    except IntegrityError as error:
        raise ValueError(f"nothing was queued, as an item is not in the store: {error.orig}") from error


def _token() -> str:
    return secrets.token_urlsafe(18)


def _plain(token: str) -> str:
    """The token; "" for what can be none, and what no database could compare."""
    return token if token.isascii() and token.isprintable() else ""


def _of(connection: Connection, item: str, annotator: str) -> Any:
    """The annotator's assignment to an item, which is there."""
    return connection.execute(_ASSIGNMENT, {"of_item": item, "of_annotator": annotator}).one()


def _asked(connection: Connection, annotator: str, token: str) -> Any:
    """The assignment of this token; LeaseLostError where there is none."""
    found = connection.execute(_ASKED, {"annotator": annotator, "held": _plain(token)}).one_or_none()
    if found is None:
        raise LeaseLostError("this page is out of date; ask for the next item.")
    return found


def _last_said(connection: Connection, item: str, annotator: str) -> Judgement | None:
    """The latest revision, a withdrawn one too."""
    last = connection.execute(_LAST_SAID, {"item": item, "annotator": annotator}).one_or_none()
    return None if last is None else judgement(last)


def _judge(asked: Any, annotator: str, verdict: Verdict, guideline: str, now: float, revision: int) -> Judgement:
    """The verdict as a judgement; ValueError where it does not fit what was asked."""
    if not storable(guideline):
        raise ValueError("the version of the guidelines holds characters that are no text")
    shown_as = positions(asked.shown)
    assignment = Assignment(asked.item, annotator, shown_as)
    screen = Shown(assignment, (), tuple(() for _ in shown_as), revision)
    if verdict.pressed is not None:
        said = screen.press(verdict.pressed, verdict.note, guideline, asked.served, now)
    elif verdict.places is not None:
        if not assignment.ranked:
            raise ValueError(f"item {asked.item}: two answers are compared, not ranked")
        said = screen.rank(verdict.places, verdict.note, guideline, asked.served, now)
    else:
        assert verdict.decline is not None
        said = screen.decline(verdict.decline, verdict.note, guideline, asked.served, now, verdict.reason)
    return said.seen_at(verdict.seen)


def _same(one: Judgement, other: Judgement) -> bool:
    """Whether two judgements say the same: a submission that was sent twice."""

    def words(said: Judgement) -> tuple[Any, ...]:
        return said.kind, said.pressed, said.order, said.note, said.reason

    return words(one) == words(other)
