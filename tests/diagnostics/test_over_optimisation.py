"""What is said of planted courses of proxy and gold."""

from __future__ import annotations

import numpy as np
import pytest

from keel.diagnostics.over_optimisation import judge

T = np.linspace(0, 1, 80)


def noisy(course: np.ndarray, sd: float, seed: int = 0) -> np.ndarray:
    return course + sd * np.random.default_rng(seed).normal(size=len(course))


@pytest.mark.parametrize(
    ("proxy", "gold", "kind"),
    [
        (3 * T, 3 * T, "rising"),
        (3 * T, 1 + 4 * T - 5 * T**2, "over-optimised"),
        (3 * T, 3 * np.minimum(T, 0.5) - 0.9 * (T > 0.7), "over-optimised"),
        (-3 * T, 3 - 3 * T, "falling"),
        (3 * T, 0 * T + 1, "hollow"),
        (0 * T, 0 * T + 1, "level"),
    ],
)
def test_planted_courses(proxy: np.ndarray, gold: np.ndarray, kind: str) -> None:
    assert judge(noisy(proxy, 0.05, 1), noisy(gold, 0.1, 2)).kind == kind


def test_the_drop_and_its_error_by_hand() -> None:
    # quarters of two: 2, 5, 3, 1
    gold = np.array([1.0, 3, 5, 5, 3, 3, 1, 1])
    verdict = judge(np.arange(8.0), gold)
    # differences 2, 2, 0, −2, 0, −2, 0: squares sum to 16; s² = 16/7/2; error = s·√(2/2)
    assert verdict.drop == 5 - 1
    assert verdict.error == pytest.approx((16 / 14) ** 0.5)
    assert verdict.best == 4  # updates 3 and 4 have the highest mean: their middle, rounded up
    assert verdict.kind == "over-optimised"
    assert "around update 4, had 5.00, the last has 1.00" in verdict.sentence


@pytest.mark.parametrize(("best", "drop"), [(0, 8.0), (1, 8.0), (2, 8.0), (3, -8.0)])
def test_any_quarter_but_the_last_may_be_the_best(best: int, drop: float) -> None:
    gold = np.repeat(np.where(np.arange(4) == best, 9.0, 1.0), 5)
    assert judge(np.arange(20.0), gold).drop == drop


def test_a_drop_within_two_standard_errors_is_no_fall() -> None:
    # quarters 1, 2, 2 and last; differences ±1 within quarters: error = √(squares/7/2)·√(2/2)
    for last, kind in ((1.0, "hollow"), (0.8, "over-optimised")):  # 1.87 and 2.23 errors
        gold = np.array([0.5, 1.5, 1.5, 2.5, 2.5, 1.5, last + 0.5, last - 0.5])
        squares = 1 + 0 + 1 + 0 + 1 + (last - 1) ** 2 + 1
        verdict = judge(np.arange(8.0), gold)
        assert verdict.drop == pytest.approx(2 - last)
        assert verdict.error == pytest.approx((squares / 14) ** 0.5)
        assert (verdict.kind, verdict.drop > 2 * verdict.error) == (kind, kind == "over-optimised")


def test_a_constant_changes_nothing_and_neither_does_a_factor() -> None:
    proxy, gold = noisy(3 * T, 0.1, 3), noisy(1 + 4 * T - 5 * T**2, 0.1, 4)
    plain, moved = judge(proxy, gold), judge(5 * proxy - 7, 10 * gold + 100)
    assert (moved.kind, moved.best) == (plain.kind, plain.best)
    assert moved.drop == pytest.approx(10 * plain.drop)
    assert moved.error == pytest.approx(10 * plain.error)


def test_noise_alone_rarely_raises_the_alarm() -> None:
    alarms = sum(judge(3 * T, noisy(0 * T, 0.3, seed)).kind == "over-optimised" for seed in range(200))
    assert alarms <= 20  # some 6 in 100: the best of three quarters is compared


def test_a_short_run_is_not_judged() -> None:
    assert judge(np.arange(7.0), np.arange(7.0)).kind == "unknown"
    assert judge(np.arange(8.0), np.arange(8.0)).kind == "rising"
