"""A desk with a clock that is set by hand, and what the tests ask of its database."""

from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

from sqlalchemy import select

from keel.preferences import schema
from keel.preferences.desk import Desk
from keel.preferences.judgement import COUNTED, PROGRAMS, Role
from keel.preferences.leases import Rules, Served, Verdict
from keel.preferences.people import People
from keel.preferences.store import PreferenceStore

from .tables import item

START = 1_000.0


class Clock:
    """Seconds since the epoch, when somebody turns it."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now


class Office:
    """A store, its desk, its people, and the clock of both."""

    def __init__(self, store: PreferenceStore, rules: Rules, seed: int) -> None:
        self.store, self.database, self.clock = store, store.database, Clock()
        self.desk = Desk(store.database, rules, seed, self.clock, Random(seed))
        self.people = People(store.database, clock=self.clock)

    def hire(self, *names: str, role: Role = "annotator") -> None:
        for name in names:
            self.store.add_annotator(name, role)

    def stock(self, *ids: str, wanted: int = 1, answers: int = 2, **more: Any) -> int:
        """Items of these names, added and queued."""
        items = [item(id, *(f"{id} {number}" for number in range(answers))) for id in ids]
        self.store.add_items(items)
        return self.desk.enqueue(items, wanted, **more)

    def rows(self, table: str) -> list[Any]:
        with self.database.read() as connection:
            return list(connection.execute(select(schema.metadata.tables[table])))

    def queue(self) -> dict[str, Any]:
        return {row.item: row for row in self.rows("queue")}


@contextmanager
def office(place: str, rules: Rules | None = None, seed: int = 0) -> Iterator[Office]:
    with PreferenceStore.open(place) as store:
        yield Office(store, rules or Rules(lease_seconds=60.0), seed)


def audit(office: Office, allowed: dict[str, int] | None = None) -> None:
    """Whatever happened, these hold. `allowed`: places beyond those wanted, of people who were let in again."""
    roles = {row.name: row.role for row in office.rows("annotators")}
    states = {row.name: row.state for row in office.rows("annotators")}
    latest: dict[tuple[str, str], Any] = {}
    for said in sorted(office.rows("judgements"), key=lambda row: row.number):
        before = latest.get((said.item, said.annotator))
        assert said.revision == (1 if before is None else before.revision + 1)
        latest[said.item, said.annotator] = said
    assigned = office.rows("assignments")
    assert len({(row.item, row.annotator) for row in assigned}) == len(assigned)
    assert set(latest) <= {(row.item, row.annotator) for row in assigned}
    for row in assigned:
        said = latest.get((row.item, row.annotator))
        assert row.said == (None if said is None or said.kind == "withdrawn" else said.kind)
    for id, queued in office.queue().items():
        people = [row for row in assigned if row.item == id and roles[row.annotator] not in PROGRAMS]
        counted = {row.annotator for row in people if row.said in COUNTED and states[row.annotator] != "excluded"}
        live = {
            row.annotator
            for row in people
            if row.said is None and row.expires is not None and row.expires > office.clock.now
        }
        assert not counted & live
        if queued.purpose == "gold":
            assert not queued.done
            continue
        assert len(counted) + len(live) <= queued.wanted + (allowed or {}).get(id, 0), id
        assert queued.done == (len(counted) >= queued.wanted), id
        if queued.purpose == "ordinary" and queued.entered is None:
            assert not people, id


LEFT, RIGHT, TIE = Verdict(pressed=-1), Verdict(pressed=2), Verdict(pressed=0)


def one(shop: Office, who: str) -> Served:
    (served,) = shop.desk.serve(who)
    return served


def names(served: list[Served]) -> list[str]:
    return [each.shown.assignment.item for each in served]


def say(shop: Office, who: str, verdict: Verdict = LEFT) -> str:
    """Serve and submit; the item."""
    served = one(shop, who)
    shop.desk.submit(who, served.token, verdict)
    return served.shown.assignment.item


def rules(shop: Office, **changes: object) -> None:
    shop.desk.rules = Rules(**{"lease_seconds": 60.0, **changes})  # type: ignore[arg-type]
