"""A run whose judges are people: it says where they are to go, waits for them, goes on, and loses nothing of theirs."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from keel.config import load_recipe
from keel.errors import UserError
from keel.preferences.desk import Desk
from keel.preferences.leases import Verdict
from keel.preferences.people import People
from keel.preferences.store import PreferenceStore
from keel.stages.people import check_serving

RECIPE = "recipes/smoke.yaml"
ASKING = ("--preferences.judges", "people", "--preferences.count", "6")


def start(directory: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "keel", "run", RECIPE, "--dir", str(directory), *ASKING, *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def link_of(run: subprocess.Popen[str]) -> tuple[str, list[str]]:
    """The link that the run prints, and all that it said until then."""
    said: list[str] = []
    assert run.stdout is not None
    for line in run.stdout:
        said.append(line)
        found = re.search(r"http://127\.0\.0\.1:\d+/in/\S+", line)
        if found:
            return found[0], said
    raise AssertionError("".join(said))


def judge_all(path: Path, name: str, most: int | None = None) -> int:
    """Somebody who always finds the longer answer better, as many items as there are for them."""
    with PreferenceStore.open(path) as store:
        People(store.database).invite(name, "annotator")
        desk = Desk(store.database)
        done = 0
        while most is None or done < most:
            served = desk.serve(name)
            if not served:
                break
            left, right = (len(answer[-1].content) for answer in served[0].shown.answers)
            desk.submit(name, served[0].token, Verdict(pressed=-2 if left > right else 2))
            done += 1
        return done


@pytest.fixture(scope="module")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was killed while it waited, with one judgement in."""
    directory = tmp_path_factory.mktemp("people") / "run"
    with start(directory) as run:
        try:
            link, _ = link_of(run)
            with urllib.request.urlopen(link, timeout=20) as page:
                assert b"<form" in page.read()
            assert judge_all(directory / "preferences.db", "ann", 1) == 1
        finally:
            run.send_signal(signal.SIGKILL)
    return directory


def test_it_waits_and_goes_on_where_it_was_killed(waiting: Path) -> None:
    with PreferenceStore.open(waiting / "preferences.db") as store:
        asked, kept = store.items(), store.judgements()
        missing = Desk(store.database).waiting()
    assert len(kept) == 1
    with start(waiting) as run:
        _, said = link_of(run)
        time.sleep(1)
        assert run.poll() is None
        for name in ("ann", "bob", "cy"):
            judge_all(waiting / "preferences.db", name)
        assert run.stdout is not None
        rest = run.stdout.read()
    assert run.returncode == 0, "".join(said) + rest
    with PreferenceStore.open(waiting / "preferences.db") as store:
        assert store.items() == asked
        assert set(kept) <= set(store.judgements())
        assert len(store.judgements()) == 1 + missing
    facts = json.loads((waiting / "preferences" / "report.json").read_text())
    assert (facts["judgements"], facts["missing"]) == (1 + missing, 0)
    summary = json.loads((waiting / "summary.json").read_text())
    assert summary["stages"]["reward"]["pairs"] > 0


def test_settings_that_ask_for_something_else_keep_what_people_said(waiting: Path) -> None:
    """The items would be others; what was said of the old ones must not be lost."""
    with start(waiting, "--preferences.sampling.temperature", "0.5") as run:
        assert run.stdout is not None
        said = run.stdout.read()
    assert run.returncode == 2
    assert "judgements by people, which this stage would replace" in said
    with PreferenceStore.open(waiting / "preferences.db") as store:
        assert store.judgements()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"preferences.people.host": "0.0.0.0"}, "a run serves this machine alone"),
        ({"preferences.people.guidelines": "nowhere.md"}, "nowhere.md: cannot be read"),
    ],
)
def test_what_cannot_be_served_is_said_before_anything_runs(changes: dict[str, str], sentence: str) -> None:
    recipe = load_recipe(RECIPE, {"preferences.judges": "people", **changes})
    with pytest.raises(UserError, match=sentence):
        check_serving(recipe.preferences)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"reward.data": "pairs.jsonl"}, "people are asked, and yet there are labels already"),
        ({"task": None}, "people need something to compare"),
    ],
)
def test_recipes_that_make_no_sense_are_refused(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        load_recipe(None, {"preferences.judges": "people", **changes})
