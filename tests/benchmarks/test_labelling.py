"""The benchmark of the desk measures what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.labelling import Times, measure, prepare
from keel.preferences.store import PreferenceStore


def test_percentiles_by_hand() -> None:
    times = Times()
    times.serve, times.submit, times.both = [0.001] * 101, [number / 1000 for number in range(101)], [0.2] * 101
    found = times.measured("sqlite", "paced", 3, seconds=2.0)
    assert (found.judgements, found.per_second) == (101, 50.5)
    assert found.submit == pytest.approx((50.0, 95.0, 99.0))
    assert found.both == pytest.approx((200.0,) * 3)


def test_a_small_crowd(tmp_path: Path) -> None:
    with PreferenceStore.open(tmp_path / "a.db") as store:
        prepare(store, items=1000, people=3, judged=20)
        before = {(said.item, said.annotator) for said in store.history()}
        assert before == {(f"item-{number:06d}", "p0") for number in range(20)}
        found = measure(store, "sqlite", "saturated", people=3, seconds=0.4, think=0.0)
        said = [each for each in store.history() if (each.item, each.annotator) not in before]
        assert len(store.history()) == len(said) + 20
        assert {each.annotator for each in said} == {"p0", "p1", "p2"}
    assert 0 < found.judgements <= len(said)
    assert found.per_second == pytest.approx(found.judgements / 0.4)
    for times in (found.serve, found.submit, found.both):
        assert 0 < times[0] <= times[1] <= times[2]
    assert found.both[0] >= max(found.serve[0], found.submit[0])
