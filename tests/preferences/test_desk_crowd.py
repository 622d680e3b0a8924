"""Many people at once, in threads and in processes: no judgement is lost or doubled, and each item gets exactly k."""

import json
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from keel.preferences.desk import Desk
from keel.preferences.store import PreferenceStore

from .crowd import Crowd, Said, deadlocks

SECONDS = 100.0
ROOT = Path(__file__).parents[2]


def people(count: int) -> list[str]:
    return [f"p{number:02d}" for number in range(count)]


@pytest.mark.parametrize("wanted", [1, 3])
def test_a_crowd_in_threads(place: str, wanted: int) -> None:
    crowd = Crowd(place, people(6), items=60, wanted=wanted)
    crowd.prepare()
    assert crowd.check(crowd.threads(seed=wanted, until=time.monotonic() + SECONDS)) > 60 * wanted
    if "://" in place:
        with PreferenceStore.open(place) as store:
            assert deadlocks(store) == 0


def start(crowd: Crowd, names: list[str], logs: Path, seed: int) -> "subprocess.Popen[bytes]":
    numbers = ["--people", str(len(crowd.people)), "--wanted", str(crowd.wanted), "--seed", str(seed)]
    command = [sys.executable, "-m", "tests.preferences.crowd", crowd.place, *numbers, "--logs", str(logs)]
    return subprocess.Popen([*command, "--seconds", str(SECONDS), "--names", *names], cwd=ROOT)


def test_a_crowd_in_processes_one_of_which_is_killed(place: str, tmp_path: Path) -> None:
    """Whatever the killed one was told is there; those who are left fill every item exactly."""
    crowd, logs = Crowd(place, people(8), items=60, wanted=3), tmp_path / "logs"
    crowd.prepare()
    logs.mkdir()
    first, doomed = (start(crowd, names, logs, seed) for seed, names in enumerate((people(8)[:5], people(8)[5:])))
    deadline = time.monotonic() + SECONDS
    while sum(len(heard(logs / name)) for name in people(8)[5:]) < 20 and time.monotonic() < deadline:
        time.sleep(0.02)
    doomed.send_signal(signal.SIGKILL)
    assert doomed.wait(timeout=60) == -signal.SIGKILL
    assert first.wait(timeout=SECONDS) == 0
    told = [said for name in crowd.people for said in heard(logs / name)]
    # the last thing that each of the three had said may be there though its log does not tell
    last = Crowd(place, crowd.people, crowd.items, crowd.wanted).threads(9, time.monotonic() + SECONDS)
    assert crowd.check([*told, *last], unheard=3) > 180
    assert sum(said[1] in people(8)[5:] for said in told) >= 20


def heard(log: Path) -> list[Said]:
    """Whole lines only: the last may be torn."""
    if not log.exists():
        return []
    lines = log.read_text().split("\n")[:-1]
    return [tuple(json.loads(line)) for line in lines]


def test_one_place_and_twenty_who_want_it(place: str) -> None:
    """All at the same moment: one gets it."""
    crowd = Crowd(place, people(20), items=1, wanted=1)
    crowd.prepare()
    with PreferenceStore.open(place) as store, ThreadPoolExecutor(20) as pool:
        served = list(pool.map(Desk(store.database).serve, crowd.people))
    assert sorted(map(len, served)) == [0] * 19 + [1]
