"""The benchmark of the labelling server, with a crowd of three."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("httpx", reason="httpx is not installed (pip install 'keel[browser]')")

from benchmarks.labelling_http import measure
from keel.preferences.store import PreferenceStore


def test_a_small_crowd_is_measured(tmp_path: Path) -> None:
    place = str(tmp_path / "labels.db")
    found = measure("sqlite", place, "paced", annotators=3, seconds=1.0, think=0.01)
    assert 0 < found.p50 <= found.p95 <= found.p99 <= found.slowest
    assert found.seconds >= 1
    with PreferenceStore.open(place) as store:
        assert len(store.judgements()) == found.judgements > 3
