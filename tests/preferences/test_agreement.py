"""Every statistic against hand arithmetic, a published example, and loops that follow another definition."""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keel.preferences.agreement import (
    bootstrap,
    ceiling,
    cohen_kappa,
    fleiss_kappa,
    gwet_ac1,
    measure,
    nominal_alpha,
    observed,
    ordinal_alpha,
    unanimous,
)

from .tables import pairs_on_items, votes

Table = Sequence[Sequence[int | None]]

# Krippendorff (2011), "Computing Krippendorff's alpha-reliability": 4 observers, 12 units, missing data
KRIPPENDORFF = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
    [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
]

# Fleiss (1971) as tabled in the literature: 14 raters, 10 subjects, 5 categories
FLEISS = np.array(
    [
        [0, 0, 0, 0, 14],
        [0, 2, 6, 4, 2],
        [0, 0, 3, 5, 6],
        [0, 3, 9, 2, 0],
        [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0],
        [3, 2, 6, 3, 0],
        [2, 5, 3, 2, 2],
        [6, 5, 2, 1, 0],
        [0, 2, 2, 3, 7],
    ],
    dtype=float,
)

cells = st.sampled_from([-3, -2, -1, 0, 1, 2, 3, None])
tables = st.integers(2, 5).flatmap(
    lambda annotators: st.lists(st.lists(cells, min_size=annotators, max_size=annotators), min_size=2, max_size=9)
)


def once(counts: np.ndarray) -> np.ndarray:
    return np.ones((1, len(counts)))


def same(value: float, expected: float) -> bool:
    return (math.isnan(value) and math.isnan(expected)) or math.isclose(value, expected, abs_tol=1e-12)


def sign(cell: int) -> int:
    return (cell > 0) - (cell < 0)


def test_krippendorffs_own_example() -> None:
    units = list(zip(*KRIPPENDORFF, strict=True))
    counts = np.array([[unit.count(value) for value in range(1, 6)] for unit in units], dtype=float)
    assert nominal_alpha(counts, once(counts))[0] == pytest.approx(0.743, abs=5e-4)
    assert ordinal_alpha(counts, once(counts))[0] == pytest.approx(0.815, abs=5e-4)


def test_fleiss_own_table() -> None:
    assert observed(FLEISS, once(FLEISS))[0] == pytest.approx(0.378, abs=5e-4)
    assert fleiss_kappa(FLEISS, once(FLEISS))[0] == pytest.approx(0.210, abs=5e-4)


def test_cohen_by_hand() -> None:
    # (20 + 15)/50 = .7 agree; chance .5·.6 + .5·.4 = .5; κ = .4. The others: .6 with .54 and with .46 by chance
    tables = np.array([[[20, 5], [10, 15]], [[45, 15], [25, 15]], [[25, 35], [5, 35]]], dtype=float)
    assert cohen_kappa(tables).tolist() == pytest.approx([0.4, 0.06 / 0.46, 0.14 / 0.54])


def test_gwets_paradox() -> None:
    """Gwet (2008): 118 both yes, 5 and 2 split, 0 both no. Raters agree on 94 %; κ is below 0, AC1 is .941."""
    counts = np.array([[2, 0]] * 118 + [[1, 1]] * 7, dtype=float)
    assert gwet_ac1(counts, once(counts))[0] == pytest.approx(0.9408, abs=5e-5)
    assert cohen_kappa(np.array([[[118.0, 5], [2, 0]]]))[0] == pytest.approx(-0.0234, abs=5e-5)


def test_everything_by_hand_on_three_items() -> None:
    """Rows: first first tie | second second | first second. Items agree on 1/3, 1 and 0 of their pairs."""
    found = measure(votes([[-1, -2, 0], [1, 3, None], [-1, None, 1], [2, None, None]]), resamples=50, shared=1)
    assert (found.items, found.votes) == (3, 7)
    assert found.observed.value == pytest.approx(4 / 9)
    assert found.observed_without_ties.value == pytest.approx(2 / 3)  # 1, 1, 0
    assert found.unanimous.value == pytest.approx(1 / 3)
    first, tie, second = (2 / 3 + 1 / 2) / 4, 1 / 3 / 4, (1 + 1 / 2 + 1) / 4
    chance = first**2 + tie**2 + second**2
    assert found.fleiss.value == pytest.approx((4 / 9 - chance) / (1 - chance))
    chance = (first * (1 - first) + tie * (1 - tie) + second * (1 - second)) / 2
    assert found.ac1.value == pytest.approx((4 / 9 - chance) / (1 - chance))
    # coincidences: item 0 gives ff 2/2, ft 2/2, tf 2/2; item 1 ss 2; item 2 fs 1, sf 1; so n = 3, 1, 3 of 7
    assert found.alpha.value == pytest.approx(1 - (7 - 1) * (1 + 1 + 1 + 1) / (49 - 9 - 1 - 9))
    # a0 and a1 share items 0, 1 and agree: chance ½; a0 and a2 share items 0, 2 and differ: chance 0; a1, a2 item 0
    kappas = {pair: (each.kappa.value, each.items) for pair, each in found.cohen_pairs.items()}
    assert kappas == {("a0", "a1"): (1.0, 2), ("a0", "a2"): (0.0, 2), ("a1", "a2"): (0.0, 1)}
    assert found.cohen.value == pytest.approx((1 * 2 + 0 * 2 + 0 * 1) / 5)


@settings(max_examples=60, deadline=None)
@given(tables)
def test_parity_with_loops(table: Table) -> None:
    found = measure(votes(table), resamples=2, shared=1)
    signs = [[None if cell is None else sign(cell) for cell in line] for line in table]
    paired = [pairs for pairs in pairs_on_items(signs) if pairs]
    agree = [sum(a == b for a, b in pairs) / len(pairs) for pairs in paired]
    p_a = sum(agree) / len(agree) if agree else math.nan
    assert same(found.observed.value, p_a)
    decided = [[(a, b) for a, b in pairs if a and b] for pairs in paired]
    per_item = [sum(a == b for a, b in pairs) / len(pairs) for pairs in decided if pairs]
    assert same(found.observed_without_ties.value, sum(per_item) / len(per_item) if per_item else math.nan)
    assert same(found.unanimous.value, sum(share == 1 for share in agree) / len(agree) if agree else math.nan)

    rated = [[cell for cell in line if cell is not None] for line in signs]
    rated = [line for line in rated if line]
    share = {label: sum(line.count(label) / len(line) for line in rated) / max(len(rated), 1) for label in (-1, 0, 1)}
    by_chance = sum(part**2 for part in share.values())
    assert same(found.fleiss.value, (p_a - by_chance) / (1 - by_chance) if by_chance < 1 - 1e-9 and rated else math.nan)
    q = sum(part > 0 for part in share.values())
    by_chance = sum(part * (1 - part) for part in share.values()) / (q - 1) if q > 1 else 1
    assert same(found.ac1.value, (p_a - by_chance) / (1 - by_chance) if q > 1 else math.nan)
    assert same(found.alpha.value, alpha_by_pairs(signs, ordinal=False))
    assert same(found.alpha_ordinal.value, alpha_by_pairs(table, ordinal=True))
    for (one, other), each in found.cohen_pairs.items():
        columns = [(line[int(one[1:])], line[int(other[1:])]) for line in signs]
        both = [(a, b) for a, b in columns if a is not None and b is not None]
        assert each.items == len(both)
        assert same(each.kappa.value, cohen_by_loops(both))


def alpha_by_pairs(table: Table, ordinal: bool) -> float:
    """1 − D_o/D_e, straight from all pairs of values: within units, and among everything that is pairable."""
    units = [[cell for cell in line if cell is not None] for line in table]
    units = [unit for unit in units if len(unit) >= 2]
    values = [value for unit in units for value in unit]
    size = Counter(values)

    def distance(a: int, b: int) -> float:
        if not ordinal:
            return float(a != b)
        low, high = min(a, b), max(a, b)
        between = sum(size[value] for value in range(low, high + 1))
        return (between - (size[low] + size[high]) / 2) ** 2

    n = len(values)
    if n < 2:
        return math.nan
    seen = sum(sum(distance(a, b) for a, b in product(unit, unit)) / (len(unit) - 1) for unit in units) / n
    expected = sum(distance(a, b) for a, b in product(values, values)) / (n * (n - 1))
    return 1 - seen / expected if expected else math.nan


def cohen_by_loops(both: list[tuple[int, int]]) -> float:
    n = len(both)
    p_a = sum(a == b for a, b in both) / n
    p_e = sum(sum(a == c for a, _ in both) * sum(b == c for _, b in both) for c in (-1, 0, 1)) / n**2
    return (p_a - p_e) / (1 - p_e) if p_e < 1 else math.nan


def test_agreement_by_chance_alone_is_zero() -> None:
    rng = np.random.default_rng(0)
    found = measure(votes(rng.integers(-1, 2, (3000, 4)).tolist()), resamples=20)
    for kappa in (found.fleiss, found.alpha, found.alpha_ordinal, found.ac1, found.cohen):
        assert kappa.value == pytest.approx(0, abs=0.02)
    assert found.observed.value == pytest.approx(1 / 3, abs=0.02)


def test_perfect_agreement_is_one_and_a_single_label_is_undefined() -> None:
    found = measure(votes([[-3, -3, -3], [0, 0, 0], [2, 2, 2]] * 4), resamples=20, shared=1)
    for each in (
        found.observed,
        found.unanimous,
        found.fleiss,
        found.alpha,
        found.alpha_ordinal,
        found.ac1,
        found.cohen,
    ):
        assert each.value == each.high == 1
    same_label = measure(votes([[1, 1], [2, 3]]), resamples=20, shared=1)
    assert same_label.observed.value == 1
    for each in (same_label.fleiss, same_label.alpha, same_label.ac1, same_label.cohen):
        assert math.isnan(each.value)


def test_ordinal_alpha_forgives_a_step_more_than_a_reversal() -> None:
    near = measure(votes([[-3, -2], [3, 2], [-2, -3], [2, 3]] * 5), resamples=2)
    far = measure(votes([[-3, 2], [3, -2], [-2, 3], [2, -3]] * 5), resamples=2)
    assert near.alpha_ordinal.value > 0.6 > -0.5 > far.alpha_ordinal.value


def test_no_overlap_says_nothing() -> None:
    found = measure(votes([[1, None], [None, -1]]), resamples=5)
    assert (found.items, found.votes, found.cohen_pairs) == (0, 0, {})
    for each in (found.observed, found.fleiss, found.alpha, found.ac1, found.cohen, found.unanimous):
        assert math.isnan(each.value)
        assert math.isnan(each.low)
    assert math.isnan(measure(votes([]), resamples=5).observed.value)


def test_the_bootstrap_is_seeded_and_resamples_items() -> None:
    """Against resampling the rows of the table by hand, with another generator."""
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 2, 120)
    table = np.where(rng.random((120, 3)) < 0.8, truth[:, None], 1 - truth[:, None])
    counts = np.stack([(table == 0).sum(1), (table == 1).sum(1)], axis=1).astype(float)
    found = bootstrap(fleiss_kappa, counts, 4000, 0.9, seed=0)
    assert found == bootstrap(fleiss_kappa, counts, 4000, 0.9, seed=0)
    assert found != bootstrap(fleiss_kappa, counts, 4000, 0.9, seed=1)
    drawn = [counts[rng.integers(0, 120, 120)] for _ in range(4000)]
    by_hand = np.quantile([fleiss_kappa(rows, once(rows))[0] for rows in drawn], [0.05, 0.95])
    assert [found.low, found.high] == pytest.approx(by_hand.tolist(), abs=0.01)
    # for a plain share the interval is the binomial's: ±1.645·√(p(1 − p)/n)
    share = bootstrap(unanimous, counts, 4000, 0.9, seed=0)
    half = 1.645 * math.sqrt(share.value * (1 - share.value) / 120)
    assert [share.low, share.high] == pytest.approx([share.value - half, share.value + half], abs=0.012)


def test_blocks_do_not_change_the_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = bootstrap(fleiss_kappa, FLEISS, 101, 0.95, seed=0)
    monkeypatch.setattr("keel.preferences.agreement._BLOCK", 70)  # seven draws at a time
    found = bootstrap(fleiss_kappa, FLEISS, 101, 0.95, seed=0)
    assert (found.low, found.high) == pytest.approx((whole.low, whole.high), abs=1e-12)


@pytest.mark.parametrize(
    ("agreement", "spread", "accuracy"), [(0.63, 1.36, 0.719), (0.726, 2.34, 0.801), (0.773, 3.05, 0.838)]
)
def test_the_published_ceilings(agreement: float, spread: float, accuracy: float) -> None:
    found = ceiling(agreement)
    assert found.spread == pytest.approx(spread, abs=0.006)
    assert found.accuracy == pytest.approx(accuracy, abs=6e-4)


def test_the_ceiling_against_simulated_labellers() -> None:
    rng = np.random.default_rng(0)
    gap = rng.normal(0, 2.0, 400_000)
    one, other = rng.random((2, len(gap))) < 1 / (1 + np.exp(-gap))
    found = ceiling(float((one == other).mean()))
    assert found.spread == pytest.approx(2.0, abs=0.03)
    assert found.accuracy == pytest.approx(((gap > 0) == one).mean(), abs=3e-3)


def test_the_ends_of_the_ceiling() -> None:
    assert ceiling(0.5) == ceiling(0.4)
    assert (ceiling(0.5).spread, ceiling(0.5).accuracy) == (0.0, 0.5)
    assert (ceiling(1.0).spread, ceiling(1.0).accuracy) == (math.inf, 1.0)
    with pytest.raises(ValueError, match="between 0 and 1"):
        ceiling(72.6)
