"""Every guard with a course of metrics that must raise it, and one that must not."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from keel.config import Guards
from keel.training.guards import REMEDY, Alarm, Alarms, Evaluations, Trend, level

HEALTHY: Mapping[str, float] = {
    "reward": 0.5,
    "kl": 1.0,
    "length": 20.0,
    "truncated": 0.0,
    "sampler_kl": 1e-7,
    "groups/flat": 0.1,
    "policy/entropy": 1.0,
    "policy/clip_fraction": 0.1,
    "policy/loss": -0.01,
    "policy/skipped": 0.0,
    "value/loss": 0.1,
    "value/explained_variance": 0.5,
}
NAMES = {
    "length": "length",
    "policy/entropy": "entropy",
    "truncated": "truncated",
    "policy/clip_fraction": "clip_fraction",
    "value/explained_variance": "explained_variance",
    "groups/flat": "flat_groups",
    "reward/learned/disagreement": "disagreement",
}


def said(courses: Mapping[str, Sequence[float]], settings: Guards | None = None, warmup: int = 0) -> list[Alarm]:
    """All that is said over a course, whose other metrics are healthy."""
    alarms = Alarms(Guards() if settings is None else settings, warmup)
    steps = len(next(iter(courses.values())))
    found = []
    for place in range(steps):
        metrics = {**HEALTHY, **{name: values[place] for name, values in courses.items()}}
        found += alarms.judge(place + 1, metrics)
    return found


def changes(name: str, values: Sequence[float], **more: Any) -> list[tuple[int, str]]:
    """(step, level) of each alarm that a course of one metric raises; there is none of another name."""
    found = said({name: values}, **more)
    assert {one.name for one in found} <= {NAMES.get(name, name)}
    return [(one.step, one.level) for one in found]


def late(value: float, first: float) -> list[float]:
    return [first] * 10 + [value] * 10


@pytest.mark.parametrize(
    ("metric", "values", "expected"),
    [
        ("kl", late(9.99, 0.0), []),
        ("kl", late(10.01, 0.0), [(13, "amber")]),  # three of five: the median
        ("kl", late(29.9, 0.0), [(13, "amber")]),
        ("kl", late(30.1, 0.0), [(13, "red")]),
        ("kl", [*late(12.0, 0.0), *[31.0] * 10], [(13, "amber"), (23, "red")]),
        ("kl", [40.0] * 4, []),  # too few to say
        ("kl", [40.0] * 5, [(5, "red")]),
        ("length", late(25.9, 20.0), []),
        ("length", late(26.1, 20.0), [(13, "amber")]),
        ("length", late(36.1, 20.0), [(13, "red")]),
        ("length", late(2.0, 20.0), []),
        ("policy/entropy", late(0.61, 1.0), []),
        ("policy/entropy", late(0.59, 1.0), [(13, "amber")]),
        ("policy/entropy", late(0.29, 1.0), [(13, "red")]),
        ("policy/entropy", late(3.0, 1.0), []),
        ("truncated", late(0.049, 0.0), []),
        ("truncated", late(0.051, 0.0), [(13, "amber")]),
        ("truncated", late(0.201, 0.0), [(13, "red")]),
        ("reward/learned/disagreement", late(0.299, 0.2), []),
        ("reward/learned/disagreement", late(0.301, 0.2), [(13, "amber")]),
        ("reward/learned/disagreement", late(0.501, 0.2), [(13, "red")]),
        ("reward/learned/disagreement", late(0.0, 0.2), []),
        ("policy/clip_fraction", late(0.299, 0.1), []),
        ("policy/clip_fraction", late(0.9, 0.1), [(13, "amber")]),
        ("value/explained_variance", [*[-1.0] * 5, *[0.1] * 15], []),  # a critic begins by knowing nothing
        ("value/explained_variance", [-1.0] * 10, [(10, "amber")]),
        ("value/explained_variance", late(0.01, 0.5), []),
        ("value/explained_variance", late(-0.01, 0.5), [(13, "amber")]),
        ("sampler_kl", late(9.9e-4, 1e-7), []),
        ("sampler_kl", late(1.1e-3, 1e-7), [(13, "amber")]),
        ("groups/flat", late(0.49, 0.0), []),
        ("groups/flat", late(0.51, 0.0), [(13, "amber")]),
    ],
)
def test_limits_of_the_known_answers(metric: str, values: list[float], expected: list[tuple[int, str]]) -> None:
    assert changes(metric, values) == expected


@pytest.mark.parametrize(
    ("metric", "wild"),
    [
        ("kl", 500.0),
        ("length", 500.0),
        ("policy/entropy", 0.0),
        ("truncated", 1.0),
        ("policy/clip_fraction", 1.0),
        ("value/explained_variance", -50.0),
        ("sampler_kl", 0.5),
        ("groups/flat", 1.0),
    ],
)
def test_two_wild_batches_raise_nothing(metric: str, wild: float) -> None:
    values = [HEALTHY[metric]] * 30
    values[15] = values[16] = values[25] = wild
    assert changes(metric, values) == []


def test_of_several_terms_the_one_whose_reward_models_are_furthest_apart_is_judged() -> None:
    apart = {"reward/learned/disagreement": late(0.1, 0.1), "reward/learned_3/disagreement": late(0.9, 0.2)}
    assert [(one.name, one.step, one.level) for one in said(apart)] == [("disagreement", 13, "red")]


def test_a_reward_function_called_disagreement_is_no_disagreement_of_reward_models() -> None:
    assert said({"reward/disagreement": late(9.0, 0.2)}) == []


def test_an_alarm_is_said_when_it_begins_and_when_it_is_over_and_not_between() -> None:
    """Back below from update 23 on, by the median, and so for five judgements at 27."""
    assert changes("kl", [*[1.0] * 10, *[12.0] * 10, *[1.0] * 20]) == [(13, "amber"), (27, "ok")]
    assert changes("kl", [*[1.0] * 10, *[31.0] * 10, *[12.0] * 20]) == [(13, "red"), (27, "amber")]


def test_an_alarm_on_the_edge_is_said_once() -> None:
    assert changes("kl", [*[1.0] * 5, *([12.0] * 5 + [7.0] * 4) * 10]) == [(8, "amber")]


def test_words_say_how_much_from_where_on_and_what_to_do() -> None:
    rise, fall = said({"kl": [*[1.0] * 10, *[12.0] * 10, *[1.0] * 20]})
    assert rise.words == (
        "update 13, amber: KL is 12.0 nats per answer, the median of 5 updates (amber from 10, red from 30). "
        f"{REMEDY['kl']}"
    )
    assert rise.value == 12.0
    assert fall.words == (
        "update 27, no longer amber: KL is 1.0 nats per answer, the median of 5 updates (amber from 10, red from 30)."
    )
    (length,) = said({"length": late(30.0, 20.0)})
    assert "Answers have 30 tokens, the median of 5 updates: 1.50 times the 20 of the first updates" in length.words
    (entropy,) = said({"policy/entropy": late(0.5, 1.0)})
    assert "0.50 nats per token, the median of 5 updates: 50% below the 1.00 of the first updates" in entropy.words


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["reward", "policy/loss", "value/loss"])
def test_what_is_no_number_is_red_at_once(name: str, number: float) -> None:
    values = [HEALTHY[name]] * 20
    values[6] = number
    found = said({name: values})
    assert [(one.step, one.name, one.level) for one in found] == [(7, "finite", "red"), (12, "finite", "ok")]
    assert found[0].value is None
    assert f"{name} came out as no finite number" in found[0].sentence


def test_a_number_that_is_none_spoils_no_other_guard() -> None:
    found = said({"kl": [*[1.0] * 10, math.nan, *[12.0] * 10]})
    assert [(one.step, one.name, one.level) for one in found] == [
        (11, "finite", "red"),
        (14, "kl", "amber"),
        (16, "finite", "ok"),
    ]


def test_a_skipped_step_is_amber() -> None:
    values = [0.0] * 20
    values[6] = 2.0
    found = said({"policy/skipped": values})
    assert [(one.step, one.name, one.level) for one in found] == [(7, "finite", "amber"), (12, "finite", "ok")]
    assert "2 optimizer steps were skipped" in found[0].sentence


def test_a_negative_kl_is_explained_once() -> None:
    assert said({"kl": [-0.004] * 20}) == []  # shown as -0.00, which is 0
    (note,) = said({"kl": [0.1, -0.02, -0.03, *[-0.02] * 10]})
    assert (note.step, note.name, note.level) == (2, "negative_kl", "note")
    assert note.words.startswith("update 2: KL came out at -0.02 nats per answer, below 0 by chance: it is estimated")
    assert "sampler_kl" in note.words


def test_the_critic_is_judged_after_its_warm_up() -> None:
    course = [*[-1.0] * 12, *[0.2] * 20]
    assert changes("value/explained_variance", course)[0] == (10, "amber")
    assert changes("value/explained_variance", course, warmup=7) == []


def test_metrics_that_are_not_there_are_not_judged() -> None:
    """Without a policy that learns, as while the critic warms up, and without a gold score."""
    alarms = Alarms(Guards(window=1))
    assert alarms.judge(1, {"reward": 0.0, "value/explained_variance": 0.1}) == []


def test_a_limit_of_the_recipe_counts() -> None:
    settings = Guards(window=1, kl=(2.0, 3.0), clip_fraction=0.05, sampler_kl=1.0)
    found = said({"kl": [1.0, 2.5, 3.5], "sampler_kl": [0.5] * 3}, settings)
    assert [(one.step, one.name, one.level) for one in found] == [
        (1, "clip_fraction", "amber"),
        (2, "kl", "amber"),
        (3, "kl", "red"),
    ]


# Gold


def noisy(seed: int, gold: Sequence[float], proxy: Sequence[float], noise: float = 1.0) -> list[tuple[int, str]]:
    chance, alarms, found = random.Random(seed), Alarms(Guards()), []
    for step, (score, reward) in enumerate(zip(gold, proxy, strict=True), start=1):
        metrics = {"reward/gold": score + chance.gauss(0, noise), "reward": reward + chance.gauss(0, noise)}
        found += [(one.step, str(one.level)) for one in alarms.judge(step, metrics)]
    return found


RISING = [0.05 * place for place in range(200)]
HILL = [0.05 * min(place, 160 - place) for place in range(200)]
"""Up by 4 and down again by 6, where one update has a noise of 1."""


def test_gold_that_falls_while_the_reward_rises() -> None:
    """Every time, and not before the top at update 80."""
    for seed in range(30):
        found = noisy(seed, HILL, RISING)
        reds = [step for step, how in found if how == "red"]
        assert reds, seed
        assert 95 <= reds[0] <= 150, seed
        assert all(step > 60 for step, _ in found), seed


def test_gold_that_rises_or_stays_seldom_cries_wolf() -> None:
    """Flat gold of 200 updates: red in some 3 of 100 runs, amber in some 15 if the reward rises meanwhile."""
    flat = [0.0] * 200
    runs = [noisy(seed, flat, RISING) for seed in range(200)]
    assert sum(any(how == "red" for _, how in found) for found in runs) <= 12
    assert sum(bool(found) for found in runs) <= 50
    assert all(noisy(seed, RISING, RISING) == [] for seed in range(30))


def test_gold_by_hand() -> None:
    """Evaluations of two updates; no noise within, so any fall counts."""
    settings = Guards(window=2)
    gold = [0.0, 0.0, 1.0, 1.0, 2.0, 2.0, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 3.0, 3.0]
    proxy = [0.1 * place for place in range(14)]
    found = [one for one in said({"reward/gold": gold, "reward": proxy}, settings) if one.name == "gold"]
    # best three in a row: 0, 1, 2 → 1.0. s² = (1 + 1 + 1.21)/(2·N); the error of an evaluation is s·√(1/2 + 1/6)
    assert found == []  # .9 is within the error of 1.0
    settings = Guards(window=2, gold=0.0)
    found = [one for one in said({"reward/gold": gold, "reward": proxy}, settings) if one.name == "gold"]
    assert [(one.step, one.level) for one in found] == [(10, "amber"), (12, "red"), (14, "ok")]
    assert "0.90, and 1.00 at its best" in found[0].sentence
    level_proxy = [0.5] * 14
    found = [one for one in said({"reward/gold": gold, "reward": level_proxy}, settings) if one.name == "gold"]
    assert [(one.step, one.level) for one in found] == [(12, "red"), (14, "ok")]  # amber needs a reward that rises


def test_the_error_of_a_fall_by_hand() -> None:
    """Evaluations 0, 0, 0 and −2 of two updates each: Σ(gold_{t+1} − gold_t)² = 5·4 + 0 + 4 = 24 over 7 steps."""
    found = Evaluations()
    for gold in (1, -1, 1, -1, 1, -1, -1, -3):
        found.add(float(gold), 0.0, 2)
    assert found.gold == [0.0, 0.0, 0.0, -2.0]
    error = math.sqrt(24 / 14 * (1 / 2 + 1 / 6))  # 1.069
    assert found.fallen(1, 1.99 / error, 2)
    assert not found.fallen(1, 2.01 / error, 2)
    assert not found.fallen(2, 0.0, 2)  # only two are left to be the best


# State


@pytest.mark.parametrize("cut", range(0, 60, 7))
def test_alarms_survive_a_checkpoint(cut: int) -> None:
    chance = random.Random(0)
    rows = []
    for place in range(60):
        wild = chance.random() < 0.1
        rows.append(
            {
                **HEALTHY,
                "kl": 0.6 * place + chance.gauss(0, 2) - 1,
                "length": 20 + 0.4 * place,
                "value/explained_variance": chance.gauss(0.1, 0.3),
                "policy/loss": math.nan if wild else 0.0,
                "reward/gold": 2 - abs(place - 25) * 0.2 + chance.gauss(0, 0.3),
                "reward": 0.1 * place,
            }
        )
    whole = Alarms(Guards(window=3), 2)
    expected = [whole.judge(step, row) for step, row in enumerate(rows, start=1)]
    before, after = Alarms(Guards(window=3), 2), Alarms(Guards(window=3), 2)
    for step, row in enumerate(rows[:cut], start=1):
        before.judge(step, row)
    after.restore(json.loads(json.dumps(before.state())))
    found = [after.judge(step, row) for step, row in enumerate(rows[cut:], start=cut + 1)]
    assert found == expected[cut:]
    assert after.is_red == whole.is_red
    assert {one.name for each in expected for one in each} >= {"kl", "length", "finite", "gold"}


def test_with_another_window_the_past_is_left_behind() -> None:
    before, after = Alarms(Guards(window=3)), Alarms(Guards(window=2))
    for step in (1, 2, 3):
        before.judge(step, {**HEALTHY, "kl": 50.0})
    after.restore(before.state())
    assert before.is_red
    assert not after.is_red
    assert after.judge(4, {**HEALTHY, "kl": 50.0}) == []


def test_a_trend() -> None:
    trend = Trend()
    for value in (1.0, math.nan, 2.0, math.inf, 3.0, 4.0):
        trend.add(value, 2)
    assert trend == Trend([1.0, 2.0], [3.0, 4.0], 4)
    assert (trend.start, trend.now) == (1.5, 3.5)


def test_level() -> None:
    assert [level(value, 1.0, 2.0) for value in (0.9, 1.0, 1.9, 2.0)] == ["ok", "amber", "amber", "red"]
    assert level(9.0, 1.0) == "amber"
