"""KL controllers: the published numbers, both clips, and what they refuse."""

import dataclasses
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keel.maths.controllers import AdaptiveKL, FixedKL

PUBLISHED = AdaptiveKL(coef=0.15, target=6.0, horizon=10_000)


@pytest.mark.parametrize(("kl", "factor"), [(12.0, 1.01024), (3.0, 0.98976)])
def test_golden(kl: float, factor: float) -> None:
    assert PUBLISHED.update(kl, 512).coef == pytest.approx(0.15 * factor, rel=1e-12)


def test_by_hand_inside_the_clip() -> None:
    # 10 % above the target, 1000 of 10 000 episodes: β grows by 1 %; 10 % below: it shrinks by 1 %.
    assert PUBLISHED.update(6.6, 1000).coef == pytest.approx(0.15 * 1.01, rel=1e-12)
    assert PUBLISHED.update(5.4, 1000).coef == pytest.approx(0.15 * 0.99, rel=1e-12)
    # Another target and horizon: 10 % above 3 nats, for half of 100 episodes.
    assert AdaptiveKL(coef=0.2, target=3.0, horizon=100).update(3.3, 50).coef == pytest.approx(0.21, rel=1e-12)


def test_only_the_coefficient_moves() -> None:
    after = PUBLISHED.update(12.0, 512)
    assert after == dataclasses.replace(PUBLISHED, coef=after.coef)
    assert PUBLISHED.coef == 0.15
    assert PUBLISHED.update(6.0, 512) == PUBLISHED
    assert PUBLISHED.update(12.0, 0) == PUBLISHED


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.floats(-5, 50), st.integers(1, 10_000))
def test_moves_towards_the_target_by_at_most_a_fifth(kl: float, episodes: int) -> None:
    ratio = PUBLISHED.update(kl, episodes).coef / PUBLISHED.coef
    assert abs(ratio - 1) <= 0.2 * episodes / 10_000 + 1e-12
    assert (ratio - 1) * (kl - 6) >= 0


def test_fixed_never_moves() -> None:
    controller = FixedKL(0.05)
    assert controller.update(1e6, 512) is controller
    assert controller.coef == 0.05


@pytest.mark.parametrize("coef", [-0.1, math.nan])
def test_coefficient_must_not_be_negative(coef: float) -> None:
    with pytest.raises(ValueError, match="KL coefficient must be 0 or more"):
        FixedKL(coef)
    with pytest.raises(ValueError, match="KL coefficient must be 0 or more"):
        AdaptiveKL(coef, 6.0, 10_000)


def test_zero_coefficient_is_allowed() -> None:
    assert FixedKL(0.0).coef == AdaptiveKL(0.0, 6.0, 1).update(7.0, 1).coef == 0


@pytest.mark.parametrize("target", [0.0, -6.0, math.nan])
def test_target_must_be_positive(target: float) -> None:
    with pytest.raises(ValueError, match="target KL must be above 0"):
        AdaptiveKL(0.1, target, 10_000)


def test_horizon_must_hold_an_episode() -> None:
    with pytest.raises(ValueError, match="horizon must be at least 1"):
        AdaptiveKL(0.1, 6.0, 0)


@pytest.mark.parametrize("kl", [math.nan, math.inf])
def test_a_kl_that_is_no_number_does_not_spoil_the_coefficient(kl: float) -> None:
    with pytest.raises(ValueError, match="KL must be a finite number"):
        PUBLISHED.update(kl, 512)


@pytest.mark.parametrize("episodes", [50_000, -1])
def test_episodes_that_could_turn_the_coefficient_negative(episodes: int) -> None:
    with pytest.raises(ValueError, match="do not fit a horizon of 10000"):
        PUBLISHED.update(0.0, episodes)
    assert PUBLISHED.update(0.0, 49_999).coef > 0
