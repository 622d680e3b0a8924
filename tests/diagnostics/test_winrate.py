"""Win rates by hand, and Wilson intervals against the published ones."""

from __future__ import annotations

import random

import pytest

from keel.diagnostics.winrate import win_rate


def test_ties_are_half_wins() -> None:
    found = win_rate([3.0, 3.0, 3.0, 2.0, 2.0, 1.0], [1.0, 1.0, 1.0, 2.0, 2.0, 3.0])
    assert (found.wins, found.ties, found.losses) == (3, 2, 1)
    assert found.rate == (3 + 2 / 2) / 6


def test_an_interval_by_hand() -> None:
    # n = 10, p = .8, z = 1.959964, z² = 3.841459:
    # centre (.8 + .1920729)/1.3841459 = .716742, reach 1.959964·√(.016 + .00960365)/1.3841459 = .226575
    found = win_rate([1.0] * 8 + [0.0] * 2, [0.0] * 8 + [1.0] * 2)
    assert found.low == pytest.approx(0.716742 - 0.226575, abs=2e-5)
    assert found.high == pytest.approx(0.716742 + 0.226575, abs=2e-5)


@pytest.mark.parametrize(
    ("wins", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_published_intervals(wins: int, n: int, low: float, high: float) -> None:
    """Newcombe (1998), Statistics in Medicine 17, table I, method 3."""
    found = win_rate([1.0] * wins + [0.0] * (n - wins), [0.5] * n)
    assert (round(found.low, 4), round(found.high, 4)) == (low, high)


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("wins", [0, 3, 17, 40])
def test_the_ends_solve_the_score_equation(wins: int, confidence: float) -> None:
    """Wilson's ends q are where (p − q)² = z²·q(1 − q)/n: found here by bisection."""
    n, p = 40, wins / 40
    z = {0.5: 0.6744898, 0.9: 1.6448536, 0.95: 1.9599640, 0.99: 2.5758293}[confidence]

    def outside(q: float) -> bool:
        return (p - q) ** 2 > z * z * q * (1 - q) / n

    found = win_rate([1.0] * wins + [0.0] * (n - wins), [0.5] * n, confidence)
    assert (found.low, found.high) == pytest.approx((_edge(outside, 0.0, p), _edge(outside, 1.0, p)), abs=1e-6)


def test_swapping_the_sides_mirrors_everything() -> None:
    rng = random.Random(0)
    ours, theirs = ([float(rng.randrange(4)) for _ in range(50)] for _ in range(2))
    one, other = win_rate(ours, theirs), win_rate(theirs, ours)
    assert (one.wins, one.ties, one.losses) == (other.losses, other.ties, other.wins)
    assert (one.rate, one.low, one.high) == pytest.approx((1 - other.rate, 1 - other.high, 1 - other.low))


def test_the_interval_covers_as_often_as_it_says() -> None:
    rng = random.Random(1)
    covered = 0
    for _ in range(400):
        found = win_rate([float(rng.random() < 0.6) for _ in range(100)], [0.5] * 100)
        covered += found.low <= 0.6 <= found.high
    assert 0.91 <= covered / 400 <= 0.98


@pytest.mark.parametrize(("ours", "theirs"), [([], []), ([1.0], []), ([1.0, 2.0], [1.0])])
def test_uneven_or_no_scores_are_refused(ours: list[float], theirs: list[float]) -> None:
    with pytest.raises(ValueError, match="as many scores on both sides"):
        win_rate(ours, theirs)


def _edge(outside: object, far: float, near: float) -> float:
    """Where `outside` changes between far (outside, or the edge itself) and near (inside)."""
    assert callable(outside)
    for _ in range(60):
        middle = (far + near) / 2
        far, near = (middle, near) if outside(middle) else (far, middle)
    return near
