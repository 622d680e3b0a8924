"""kill -9 under load: every judgement that was answered with success is there after the restart."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from keel.preferences.desk import Desk
from keel.preferences.people import People
from keel.preferences.store import PreferenceStore
from tests.preferences.postgres import Server, binaries, do_without
from tests.web.kit import pairs
from tests.web.processes import Serving

_CROWD = 6
_KILLS = 3


class Annotator(threading.Thread):
    """Judges until the server goes, and remembers what it said and that the server had it."""

    def __init__(self, address: str, token: str) -> None:
        super().__init__(daemon=True)
        self._client = httpx.Client(
            base_url=address, headers={"Authorization": f"Bearer {token}"}, timeout=httpx.Timeout(10)
        )
        self.answered: list[str] = []
        self.refused: list[str] = []

    def run(self) -> None:
        try:
            held = self._client.post("/api/next", json={}).json()["items"]
            while held:
                note = f"{self.name} {time.perf_counter_ns()}"
                body = {"token": held[0]["token"], "guideline": 1, "pressed": 1, "note": note}
                reply = self._client.post("/api/judgements", json=body)
                if reply.status_code == 429:
                    time.sleep(0.2)
                    continue
                if reply.status_code != 200:
                    self.refused.append(reply.text)
                    return
                self.answered.append(note)
                held = reply.json()["next"]
        except httpx.TransportError:
            return
        finally:
            self._client.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A new database."""
    programs = binaries()
    if request.param == "sqlite":
        yield str(tmp_path / "labels.db")
    elif programs is None:
        do_without()
    else:
        with Server(programs) as server:
            yield server.fresh()


@pytest.mark.timeout(600)
def test_no_judgement_is_lost(where: str, tmp_path: Path) -> None:
    names = [f"annotator {number}" for number in range(_CROWD)]
    items = pairs(1500)
    with PreferenceStore.open(where) as store:
        store.add_items(items)
        Desk(store.database).enqueue(items, 2)
        people = People(store.database)
        for name in names:
            people.invite(name, "annotator")
        tokens = [people.issue(name, "label") for name in names]
    answered: set[str] = set()
    for _ in range(_KILLS):
        with Serving(where, "--port", "0", folder=tmp_path) as server:
            crowd = [Annotator(server.address, token) for token in tokens]
            for each in crowd:
                each.start()
            time.sleep(1.5)
            assert server.process.poll() is None
            server.stop(signal.SIGKILL)
            for each in crowd:
                each.join(30)
                assert each.refused == []
                answered |= set(each.answered)
        with PreferenceStore.open(where) as store:
            said = store.history()
        kept = [one.note for one in said]
        assert answered <= set(kept)
        assert len(kept) == len(set(kept))
        assert len({(one.item, one.annotator) for one in said}) == len(said)
        assert max(sum(other.item == one.item for other in said) for one in said[:50]) <= 2
    assert len(answered) > 30
