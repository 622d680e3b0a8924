"""Whoever looks on: which policy is kept, when it is enough, what is written down."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from keel.config import Guards
from keel.training.guards import Alarms
from keel.training.records import Lines
from keel.training.state import Part, State
from keel.training.watch import NOBODY, Best, Onlooker, Watch, measured
from keel.types import Valued

from .small import valued
from .test_guards import HEALTHY


class Watched:
    """A watch with all that it tells others."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.saved = 0
        self.notes: list[str] = []
        self.lines = Lines(folder / "alarms.jsonl")
        self.watch = Watch(Alarms(Guards(**settings)), self.lines, self.save, self.notes.append)

    def save(self) -> None:
        self.saved += 1

    def looks(self, rewards: Sequence[float], first: int = 0) -> list[int]:
        """The updates whose policy is kept."""
        kept = []
        for version, reward in enumerate(rewards, start=first):
            before = self.saved
            self.watch.look(version, answers(reward), 0.0)
            kept += [version + 1] * (self.saved - before)
        return kept


def answers(*rewards: float) -> list[Valued]:
    return [valued(reward, (-1.0,), (-1.0,), (0.0,)) for reward in rewards]


def with_gold(one: Valued, gold: float) -> Valued:
    return replace(one, scored=replace(one.scored, parts={"learned": one.scored.reward, "gold": gold}))


def test_the_objective_by_hand() -> None:
    """Rewards 1 and 3 at KLs .5 and −.25, β = .2."""
    found = [valued(1.0, (-1.0, -2.0), (-1.5, -2.0), (0.0, 0.0)), valued(3.0, (-1.0,), (-0.75,), (0.0,))]
    assert measured(found, 0.2) == ("objective", pytest.approx((1.0 - 0.1 + 3.0 + 0.05) / 2))
    assert measured([with_gold(found[0], 2.0), with_gold(found[1], 5.0)], 0.2) == ("gold", 3.5)
    assert measured([with_gold(found[0], 2.0), found[1]], 0.2)[0] == "objective"


def test_the_best_is_written_where_the_mean_is_higher_and_not_too_often(tmp_path: Path) -> None:
    watched = Watched(tmp_path, window=2, best_every=3)
    #                      means     1    2    3    4    5    1    0   5.5
    assert watched.looks([1.0, 1.0, 3.0, 3.0, 5.0, 5.0, -3.0, 3.0, 8.0]) == [2, 5, 9]
    assert watched.watch.best == Best(9, "objective", 5.5)


def test_what_is_not_written_is_no_best_to_beat(tmp_path: Path) -> None:
    """9 came too soon after the first; 5 is better than what is kept."""
    assert Watched(tmp_path, window=1, best_every=3).looks([1.0, 9.0, 1.0, 5.0]) == [1, 4]


def test_equal_is_no_better(tmp_path: Path) -> None:
    assert Watched(tmp_path, window=1, best_every=1).looks([1.0, 1.0, 1.0]) == [1]


def test_a_value_that_is_no_number_is_passed_over(tmp_path: Path) -> None:
    assert Watched(tmp_path, window=2, best_every=1).looks([1.0, math.nan, 2.0, math.inf, 4.0]) == [3, 5]


def test_none_is_kept_where_none_is_wanted(tmp_path: Path) -> None:
    watched = Watched(tmp_path, window=1, best_every=0)
    assert watched.looks([1.0, 2.0, 3.0]) == []
    assert watched.watch.best is None


def test_a_policy_under_a_red_alarm_is_no_candidate(tmp_path: Path) -> None:
    watched = Watched(tmp_path, window=1, best_every=1)
    with watched.lines:
        for version, (kl, kept) in enumerate([(12.0, True), (31.0, True), (31.0, False), (1.0, False), (1.0, True)]):
            assert bool(watched.looks([1.0 + version], version)) == kept, version
            watched.watch.see(version + 1, {**HEALTHY, "kl": kl})


def test_alarms_are_said_written_and_counted(tmp_path: Path) -> None:
    watched = Watched(tmp_path, window=1)
    with watched.lines:
        for step, kl in enumerate((-0.5, 12.0, 12.0, 31.0, 1.0), start=1):
            watched.watch.see(step, {**HEALTHY, "kl": kl})
    rows = [json.loads(line) for line in (tmp_path / "alarms.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(row["step"], row["name"], row["level"], row["before"]) for row in rows] == [
        (1, "negative_kl", "note", "ok"),
        (2, "kl", "amber", "ok"),
        (4, "kl", "red", "amber"),
        (5, "kl", "ok", "red"),
    ]
    assert [row["value"] for row in rows] == [-0.5, 12.0, 31.0, 1.0]
    assert len(watched.notes) == 4
    assert rows[1]["sentence"] in watched.notes[1]
    assert watched.watch.raised == {"amber": 1, "red": 1}
    assert not watched.watch.enough  # go_on


def test_what_was_no_number_is_null(tmp_path: Path) -> None:
    watched = Watched(tmp_path, window=1)
    with watched.lines:
        watched.watch.see(1, {**HEALTHY, "reward": math.nan})
    assert json.loads((tmp_path / "alarms.jsonl").read_text(encoding="utf-8"))["value"] is None


def test_red_is_enough_where_the_recipe_says_stop(tmp_path: Path) -> None:
    watched = Watched(tmp_path, window=1, on_red="stop")
    with watched.lines:
        watched.watch.see(1, {**HEALTHY, "kl": 12.0})
        assert not watched.watch.enough
        watched.watch.see(2, {**HEALTHY, "kl": 31.0, "length": 90.0})
    assert watched.watch.enough
    assert watched.watch.stopped == "KL is 31.0 nats per answer (amber from 10, red from 30)."


def test_a_watch_is_a_part_of_a_checkpoint(tmp_path: Path) -> None:
    one, other = (Watched(tmp_path, window=2, best_every=2, on_red="stop") for _ in range(2))
    assert isinstance(one.watch, Part)
    assert isinstance(one.watch, Onlooker)
    assert isinstance(NOBODY, Onlooker)
    with one.lines:
        one.looks([1.0, 2.0, 3.0])
        for step in (1, 2):
            one.watch.see(step, {**HEALTHY, "kl": 40.0})
    state = one.watch.state()
    assert state.tensors == {}
    other.watch.restore(State(json.loads(json.dumps(dict(state.numbers)))))
    assert other.watch.best == one.watch.best == Best(2, "objective", 1.5)
    assert other.watch.raised == {"amber": 0, "red": 1}
    assert other.watch.enough
    assert other.watch.state() == state
