"""Databases for the tests of the store: each test that asks for a `place` runs on SQLite and on PostgreSQL."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .desk_kit import Office, audit, office
from .postgres import Server, binaries, do_without


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A server for this session, of this worker. Without PostgreSQL: skips, or fails where $KEEL_REQUIRE names it."""
    programs = binaries()
    if programs is None:
        do_without()
    with Server(programs) as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def places(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """Where new databases are to be: each call gives a path that does not exist, or the URL of an empty schema."""
    if request.param == "sqlite":
        number = itertools.count()
        return lambda: str(tmp_path / f"preferences{next(number) or ''}.db")
    server: Server = request.getfixturevalue("postgres")
    return server.fresh


@pytest.fixture
def place(places: Callable[[], str]) -> str:
    """Where a new database is to be."""
    return places()


@pytest.fixture
def shop(place: str) -> Iterator[Office]:
    """Ann, bob and cat; nothing queued. Leases of 60 seconds."""
    with office(place) as shop:
        shop.hire("ann", "bob", "cat")
        yield shop
        audit(shop)
