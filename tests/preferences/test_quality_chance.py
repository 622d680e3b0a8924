"""Shares, exact tests, runs and adjusted p-values, against exact fractions, enumeration and loops."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keel.preferences.judgement import Judgement
from keel.preferences.quality.binomial import beta_cdf, beta_quantile, share, two_sided
from keel.preferences.quality.discovery import adjusted
from keel.preferences.quality.runs import longest_runs, run_probability


def at_least(k: int, n: int, p: Fraction) -> Fraction:
    """P(X ≥ k), X ~ Binomial(n, p), without rounding."""
    return sum((math.comb(n, j) * p**j * (1 - p) ** (n - j) for j in range(k, n + 1)), Fraction(0))


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 19))
def test_the_beta_function_is_the_binomial_sum(a: int, b: int, twentieths: int) -> None:
    p = Fraction(twentieths, 20)
    assert beta_cdf(float(p), float(a), float(b)) == pytest.approx(
        float(at_least(a, a + b - 1, p)), rel=1e-10, abs=1e-14
    )


@given(st.floats(0.5, 400), st.floats(0.5, 400), st.floats(0.001, 0.999))
def test_the_beta_function_is_symmetric_and_its_quantile_turns_it_back(a: float, b: float, x: float) -> None:
    p = beta_cdf(x, a, b)
    assert p == pytest.approx(1 - beta_cdf(1 - x, b, a), abs=1e-12)
    if 1e-6 < p < 1 - 1e-6:
        assert beta_quantile(p, a, b) == pytest.approx(x, abs=1e-7)


def test_the_beta_function_in_closed_form_and_by_quadrature() -> None:
    assert beta_cdf(0.3, 0.5, 0.5) == pytest.approx(2 / math.pi * math.asin(math.sqrt(0.3)), abs=1e-13)  # arcsine law
    assert beta_cdf(0.7, 4.5, 1.0) == pytest.approx(0.7**4.5, abs=1e-13)
    grid = (np.arange(1_000_000) + 0.5) / 1_000_000
    density = grid**6.3 * (1 - grid) ** 2.7
    assert beta_cdf(0.8, 7.3, 3.7) == pytest.approx(density[grid < 0.8].sum() / density.sum(), abs=1e-6)
    assert (beta_cdf(0.0, 2.0, 3.0), beta_cdf(1.0, 2.0, 3.0)) == (0, 1)
    assert beta_cdf(0.5, 20_000.0, 20_000.0) == pytest.approx(0.5, abs=1e-9)
    assert beta_quantile(0.5, 30_000.0, 10_000.0) == pytest.approx(0.75, abs=1e-4)
    with pytest.raises(ValueError, match="need a, b > 0"):
        beta_cdf(0.5, 0.0, 1.0)
    with pytest.raises(ValueError, match="0 ≤ x ≤ 1"):
        beta_cdf(1.5, 1.0, 1.0)


@given(st.integers(0, 80), st.integers(0, 80))
def test_the_two_sided_test_sums_all_outcomes_as_far_out(heads: int, tails: int) -> None:
    n = heads + tails
    far = abs(2 * heads - n)
    exact = sum(math.comb(n, k) for k in range(n + 1) if abs(2 * k - n) >= far) / 2**n
    assert two_sided(heads, n) == pytest.approx(exact, rel=1e-9)
    assert two_sided(heads, n) == two_sided(tails, n)


def test_the_two_sided_test_by_hand() -> None:
    assert two_sided(5, 5) == pytest.approx(2 / 32)
    assert two_sided(0, 5) == pytest.approx(2 / 32)
    assert two_sided(4, 5) == pytest.approx(2 * 6 / 32)
    assert two_sided(0, 0) == two_sided(3, 6) == 1
    assert two_sided(1000, 1000) == pytest.approx(2.0**-999)  # a small tail keeps its digits
    with pytest.raises(ValueError, match="6 of 5"):
        two_sided(6, 5)


def test_a_share_and_its_posterior_by_hand() -> None:
    found = share(3, 4, level=0.9, prior=(1.0, 1.0))
    assert (found.value, found.posterior) == (0.75, (4.0, 2.0))
    assert found.below(0.7) == pytest.approx(5 * 0.7**4 - 4 * 0.7**5)  # the integral of 20 t³(1 − t)
    for end, probability in ((found.low, 0.05), (found.high, 0.95)):
        assert 5 * end**4 - 4 * end**5 == pytest.approx(probability)
    assert (share(0, 9).low, share(9, 9).high) == (0, 1)
    assert share(9, 9).low == pytest.approx(1 - share(0, 9).high)
    assert (share(0, 0).low, share(0, 0).high) == (0, 1)
    assert math.isnan(share(0, 0).value)
    with pytest.raises(ValueError, match="5 successes in 4"):
        share(5, 4)


def test_the_interval_covers_about_as_often_as_it_says() -> None:
    """Jeffreys' interval: exact coverage, by summing over all outcomes, averages the level over shares."""
    n = 40
    ends = [share(k, n, 0.9) for k in range(n + 1)]
    coverage = [
        sum(
            math.comb(n, k) * p**k * (1 - p) ** (n - k)
            for k, interval in enumerate(ends)
            if interval.low <= p <= interval.high
        )
        for p in np.linspace(0.02, 0.98, 97).tolist()
    ]
    assert np.mean(coverage) == pytest.approx(0.9, abs=0.01)
    assert min(coverage) > 0.82


def by_definition(p: list[float]) -> list[float]:
    """The smallest q at which Benjamini and Hochberg's step-up procedure names each: largest i with p_(i) ≤ qi/m."""
    m, ordered = len(p), sorted(p)
    candidates = sorted({min(1.0, value * m / rank) for rank, value in enumerate(ordered, start=1)} | {1.0})
    found = []
    for value in p:
        for q in candidates:
            named = [rank for rank in range(1, m + 1) if ordered[rank - 1] <= q * rank / m + 1e-15]
            if named and value <= ordered[max(named) - 1]:
                found.append(q)
                break
        else:
            found.append(1.0)
    return found


@given(st.lists(st.sampled_from([0.0, 0.001, 0.01, 0.02, 0.03, 0.04, 0.2, 0.5, 0.9, 1.0]), min_size=1, max_size=8))
def test_adjusted_values_are_the_step_up_procedure(p: list[float]) -> None:
    names = [f"a{place}" for place in range(len(p))]
    found = adjusted(dict(zip(names, p, strict=True)))
    assert list(found) == names
    assert list(found.values()) == pytest.approx(by_definition(p))
    assert all(after >= before for before, after in zip(p, found.values(), strict=True))


def test_adjusted_values_by_hand() -> None:
    assert adjusted({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.5}) == pytest.approx(
        {"a": 0.04, "b": 0.04 * 4 / 3, "c": 0.04 * 4 / 3, "d": 0.5}
    )
    assert adjusted({}) == {}
    with pytest.raises(ValueError, match="between 0 and 1"):
        adjusted({"a": math.nan})


def longest(sequence: tuple[int, ...]) -> int:
    return max(sum(1 for _ in run) for _, run in itertools.groupby(sequence))


@pytest.mark.parametrize("shares", [[0.5, 0.5], [0.6, 0.3, 0.1], [1.0], [0.9, 0.1]])
def test_runs_against_all_sequences(shares: list[float]) -> None:
    for n in range(1, 8):
        sequences = list(itertools.product(range(len(shares)), repeat=n))
        for length in range(1, n + 2):
            exact = sum(math.prod(shares[b] for b in each) for each in sequences if longest(each) >= length)
            assert run_probability(length, n, np.array(shares)) == pytest.approx(exact, abs=1e-12)


def test_runs_of_a_fair_coin_are_fibonacci_numbers() -> None:
    """Sequences of n tosses without three alike in a row: 2·F(n + 1)."""
    numbers = [1, 1]
    while len(numbers) < 42:
        numbers.append(numbers[-1] + numbers[-2])
    assert run_probability(3, 40, np.array([0.5, 0.5])) == pytest.approx(1 - 2 * numbers[40] / 2**40, abs=1e-12)


def test_long_sequences_of_runs_by_monte_carlo() -> None:
    rng = np.random.default_rng(0)
    shares, n, length = np.array([0.4, 0.3, 0.2, 0.1]), 300, 6
    presses = rng.choice(4, size=(6000, n), p=shares)
    same = np.ones((len(presses), n), dtype=bool)
    for apart in range(1, length):
        same[:, apart:] &= presses[:, apart:] == presses[:, :-apart]
    share_with_run = same[:, length - 1 :].any(axis=1).mean()
    assert run_probability(length, n, shares) == pytest.approx(share_with_run, abs=0.02)


def test_runs_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="a run of 0"):
        run_probability(0, 5, np.array([1.0]))
    with pytest.raises(ValueError, match=r"shares \[0\.5, 0\.6\]"):
        run_probability(2, 5, np.array([0.5, 0.6]))


def test_the_longest_run_is_of_buttons_on_the_screen() -> None:
    """Pressed +2 whichever answer stood there; a skip is a button, a ranking is none."""
    said = [
        Judgement("0", "ann", (0, 1), "comparison", 2),
        Judgement("1", "ann", (1, 0), "comparison", 2),
        Judgement("2", "ann", (2, 0, 1), "ranking", order=(0, 1, 2)),
        Judgement("3", "ann", (0, 1), "comparison", 2),
        Judgement("4", "ann", (0, 1), "skip"),
        Judgement("5", "ann", (0, 1), "comparison", -2),
        Judgement("6", "ann", (0, 1), "both_bad"),
        Judgement("0", "bob", (0, 1), "both_bad"),
    ]
    found = longest_runs(said)
    ann = found["ann"]
    assert (ann.button, ann.length, ann.presses) == ("+2", 3, 6)
    exact = sum(
        math.prod((1 / 2, 1 / 6, 1 / 6, 1 / 6)[b] for b in each)
        for each in itertools.product(range(4), repeat=6)
        if longest(each) >= 3
    )
    assert ann.p == pytest.approx(exact)
    assert (found["bob"].button, found["bob"].length, found["bob"].p) == ("both bad", 1, 1)
    assert ann.adjusted == pytest.approx(min(2 * exact, 1))
