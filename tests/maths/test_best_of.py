"""The best of n: unbiased over all subsets, ties, and the KL bound."""

import math
from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from keel.maths.best_of import best_of, best_of_kl, best_of_weights

BOUNDS = {1: 0.0, 2: 0.19315, 4: 0.63629, 16: 1.83509, 64: 3.17451}


@pytest.mark.parametrize("n", BOUNDS)
def test_the_kl_bound(n: int) -> None:
    assert best_of_kl(n) == pytest.approx(BOUNDS[n], abs=6e-6)


def test_the_bound_is_the_kl_of_many_answers_without_ties() -> None:
    """Of N equally likely answers the best of n (drawn with replacement) has P_i = (i/N)^n − ((i−1)/N)^n."""
    count, n = 20_000, 4
    ranks = torch.arange(count + 1, dtype=torch.float64) / count
    chance = (ranks**n).diff()
    assert float((chance * (chance * count).log()).sum()) == pytest.approx(best_of_kl(n), abs=1e-3)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(-3, 3), st.floats(-2, 2)), min_size=1, max_size=8), st.data())
def test_it_is_the_mean_over_all_subsets(rows: list[tuple[int, float]], data: st.DataObject) -> None:
    """Written out: every subset of n, its best by the proxy; of several that are alike, their mean."""
    n = data.draw(st.integers(1, len(rows)))
    proxy = torch.tensor([float(p) for p, _ in rows], dtype=torch.float64)
    score = torch.tensor([s for _, s in rows], dtype=torch.float64)
    weights = best_of_weights(proxy, n)
    assert float(weights.sum()) == pytest.approx(1)
    level = {p: sum(s for q, s in rows if q == p) / sum(q == p for q, _ in rows) for p, _ in rows}
    subsets = list(combinations(rows, n))
    expected = sum(level[max(p for p, _ in subset)] for subset in subsets) / len(subsets)
    assert float(best_of(proxy, score, n)) == pytest.approx(expected, abs=1e-9)


def test_the_ends() -> None:
    proxy, score = torch.tensor([1.0, 3.0, 2.0]), torch.tensor([10.0, 20.0, 60.0])
    assert float(best_of(proxy, score, 1)) == pytest.approx(30.0)
    assert float(best_of(proxy, score, 3)) == pytest.approx(20.0)
    assert math.isfinite(float(best_of(torch.arange(3000.0), torch.arange(3000.0), 1500)))


def test_of_right_and_wrong_answers_it_is_pass_at_k() -> None:
    """1 − C(n−c, k)/C(n, k): 10 answers, 3 of them right, 5 chosen."""
    right = torch.tensor([1.0] * 3 + [0.0] * 7, dtype=torch.float64)
    assert float(best_of(right, right, 5)) == pytest.approx(0.916667, abs=6e-7)
    assert float(best_of(right, right, 5)) == pytest.approx(1 - math.comb(7, 5) / math.comb(10, 5), abs=1e-12)


@pytest.mark.parametrize("n", [0, 4])
def test_more_than_there_are_is_refused(n: int) -> None:
    with pytest.raises(ValueError, match=f"best of {n} cannot be told from 3"):
        best_of_weights(torch.zeros(3), n)
    with pytest.raises(ValueError, match="not defined"):
        best_of_kl(0)
