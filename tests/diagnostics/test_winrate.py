"""Win rates by hand, Wilson intervals against the published ones, and coverage where a prompt has several answers."""

from __future__ import annotations

import random

import pytest

from keel.diagnostics.winrate import Gain, gain, interval, likeness, win_rate


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


def test_one_answer_per_prompt_is_the_plain_interval() -> None:
    rng = random.Random(2)
    ours, theirs = ([float(rng.randrange(3)) for _ in range(37)] for _ in range(2))
    assert win_rate(ours, theirs, 0.9, [f"p{place}" for place in range(37)]) == win_rate(ours, theirs, 0.9)


def test_likeness_by_hand() -> None:
    # Prompts 110 and 000: p = 1/3, B = (3·(1/3)² + 3·(1/3)²)/1 = 2/3, W = (2/3 + 0)/4 = 1/6, m₀ = (6 − 18/6)/1 = 3:
    # (2/3 − 1/6)/(2/3 + 2·1/6) = (1/2)/1
    assert likeness([1.0, 1.0, 0.0, 0.0, 0.0, 0.0], list("aaabbb")) == pytest.approx(0.5)
    # Prompts 1, 10 and 0: p = 1/2, B = (1/4 + 0 + 1/4)/2 = 1/4, W = (1/2)/1, m₀ = (4 − 6/4)/2 = 5/4:
    # (1/4 − 1/2) < 0
    assert likeness([1.0, 1.0, 0.0, 0.0], list("abbc")) == 0.0
    # Prompts 11, 1 and 0: p = 3/4, B = (2·1/16 + 1/16 + 9/16)/2 = 3/8, W = 0: all variance is between prompts
    assert likeness([1.0, 1.0, 1.0, 0.0], list("aabc")) == 1.0
    for alike in ([1.0] * 4, [0.5] * 4):
        assert likeness(alike, list("aabb")) == 1.0
    assert likeness([1.0, 0.0], list("aa")) == likeness([1.0, 0.0], list("ab")) == 1.0


def test_unequal_prompts_by_hand() -> None:
    # Prompts 110, 0 and 11: p = 2/3, Σm²/N = (9 + 1 + 4)/6 = 7/3, B = (0 + 4/9 + 2/9)/2 = 1/3, W = (2/3)/3 = 2/9,
    # m₀ = (6 − 7/3)/2 = 11/6: ρ = (1/9)/(1/3 + 5/6·2/9) = (1/9)/(14/27) = 3/14; n = 6/(1 + 4/3·3/14) = 6/(9/7) = 14/3
    outcomes, prompts = [1.0, 1.0, 0.0, 0.0, 1.0, 1.0], list("aaabcc")
    assert likeness(outcomes, prompts) == pytest.approx(3 / 14)
    z, n, p = 1.959964, 14 / 3, 2 / 3
    centre, reach = p + z * z / (2 * n), z * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5
    expected = ((centre - reach) / (1 + z * z / n), (centre + reach) / (1 + z * z / n))
    assert interval(outcomes, prompts) == pytest.approx(expected, abs=1e-6)


def test_copies_of_an_answer_add_nothing() -> None:
    """Greedy answers: three samples of a prompt are one, said three times."""
    rng = random.Random(3)
    once = [rng.choice([0.0, 0.5, 1.0]) for _ in range(25)]
    thrice = [one for one in once for _ in range(3)]
    assert interval(thrice, [place // 3 for place in range(75)]) == pytest.approx(interval(once, range(25)))


def test_a_win_rate_has_the_interval_of_its_outcomes() -> None:
    ours, theirs, prompts = [3.0, 2.0, 2.0, 0.0, 0.0, 5.0], [1.0, 1.0, 2.0, 1.0, 1.0, 1.0], list("aabbcc")
    found = win_rate(ours, theirs, 0.9, prompts)
    assert (found.low, found.high) == interval([1.0, 1.0, 0.5, 0.0, 0.0, 1.0], prompts, 0.9)
    assert found.low > win_rate(ours, theirs, 0.95, prompts).low


def test_order_and_names_of_prompts_do_not_matter() -> None:
    rng = random.Random(4)
    rows = [(rng.choice([0.0, 1.0]), rng.randrange(9)) for _ in range(40)]
    mixed = rng.sample(rows, 40)
    expected = interval([one for one, _ in rows], [prompt for _, prompt in rows])
    assert interval([one for one, _ in mixed], [f"p{prompt}" for _, prompt in mixed]) == pytest.approx(expected)


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.7])
def test_several_answers_per_prompt_are_covered_as_often_as_it_says(rho: float) -> None:
    """A prompt's own win rate is Beta(.6·s, .4·s) with s = 1/ρ − 1, so two of its answers correlate at ρ."""
    rng = random.Random(5)
    clustered = independent = 0
    for _ in range(400):
        outcomes = []
        for _ in range(60):
            strength = 1 / rho - 1 if rho else 0.0
            own = rng.betavariate(0.6 * strength, 0.4 * strength) if rho else 0.6
            outcomes += [float(rng.random() < own) for _ in range(5)]
        low, high = interval(outcomes, [place // 5 for place in range(300)])
        clustered += low <= 0.6 <= high
        low, high = interval(outcomes, range(300))
        independent += low <= 0.6 <= high
    assert 0.92 <= clustered / 400 <= 0.98
    assert independent / 400 < (0.7 if rho == 0.7 else 0.88 if rho else 0.98)


@pytest.mark.parametrize(("outcomes", "prompts"), [([], []), ([1.0], []), ([1.0], ["a", "b"])])
def test_outcomes_without_prompts_are_refused(outcomes: list[float], prompts: list[str]) -> None:
    with pytest.raises(ValueError, match="a prompt for each outcome"):
        interval(outcomes, prompts)


def _edge(outside: object, far: float, near: float) -> float:
    """Where `outside` changes between far (outside, or the edge itself) and near (inside)."""
    assert callable(outside)
    for _ in range(60):
        middle = (far + near) / 2
        far, near = (middle, near) if outside(middle) else (far, middle)
    return near


def test_a_gain_by_hand() -> None:
    """Two answers to each of three prompts: they gain 1, 2 and 6 on average, mean 3, deviation √7."""
    theirs = [5.0, 1.0, 0.0, 3.0, 2.0, 2.0]
    ours = [x + d for x, d in zip(theirs, (0.0, 2.0, 2.0, 2.0, 9.0, 3.0), strict=True)]
    asked = ["a", "a", "b", "b", "c", "c"]
    found = gain(ours, theirs, asked)
    assert found.mean == pytest.approx(3)
    assert found.low == pytest.approx(3 - 1.959964 * 7**0.5 / 3**0.5, abs=1e-6)
    assert found.high == pytest.approx(3 + 1.959964 * 7**0.5 / 3**0.5)
    wide = gain(ours, theirs, asked, 0.99)
    assert wide.high == pytest.approx(3 + 2.575829 * (7 / 3) ** 0.5)
    assert gain([2.0, 4.0], [1.0, 1.0], ["a", "a"]) == Gain(2.0, None, None)


def test_a_gain_is_surer_than_the_scores() -> None:
    """Prompts differ by far more than the two models do on any of them."""
    theirs = [10.0 * place for place in range(20)]
    found = gain([one + 1 for one in theirs], theirs, range(20))
    assert (found.mean, found.low, found.high) == pytest.approx((1, 1, 1))


@pytest.mark.parametrize(("ours", "theirs", "asked"), [([], [], []), ([1.0], [1.0, 2.0], [0]), ([1.0], [1.0], [0, 1])])
def test_a_gain_needs_a_score_on_each_side(ours: list[float], theirs: list[float], asked: list[int]) -> None:
    with pytest.raises(ValueError, match="a gain needs"):
        gain(ours, theirs, asked)
