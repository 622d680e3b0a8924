"""The server that the other tests rely on: there when it is needed, loud when it is missing, gone in the end."""

import pytest
from _pytest.outcomes import Failed, Skipped

from keel.preferences.store import PreferenceStore

from . import postgres as ours
from .postgres import Server


def test_without_a_server_tests_skip_unless_it_is_required(monkeypatch: pytest.MonkeyPatch) -> None:
    for required, outcome in (("", Skipped), ("browser", Skipped), ("postgres", Failed), ("browser postgres", Failed)):
        monkeypatch.setenv("KEEL_REQUIRE", required)
        with pytest.raises(outcome, match="apt install postgresql"):
            ours.do_without()


def test_every_place_is_empty_and_ones_own(postgres: Server) -> None:
    one, other = postgres.fresh(), postgres.fresh()
    with PreferenceStore.open(one) as store:
        store.add_annotator("ann")
    with PreferenceStore.open(other) as store:
        assert store.annotators() == {}


def test_it_syncs_what_is_committed(postgres: Server) -> None:
    asked = "SELECT setting FROM pg_settings WHERE name IN ('fsync', 'synchronous_commit') ORDER BY name"
    assert [row[0] for row in postgres.run(asked)] == ["on", "on"]


def test_it_ends_with_its_test_also_after_a_failure(postgres: Server) -> None:
    started: list[Server] = []

    def fails() -> None:
        with Server(postgres.programs) as server:
            started.append(server)
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert not started[0].folder.exists()
    assert started[0].process.poll() is not None
