"""Several reward models as one: by hand, against each other, and an ensemble of one is its member."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from keel.maths.ensembles import disagreement, mean_score, mean_weights, uncertainty_weighted, worst_case

THREE = torch.tensor([[1.0, 0.0, 2.0], [3.0, 0.0, -1.0], [2.0, 0.0, -1.0]], dtype=torch.float64)
"""Three members, three answers: variances 2/3, 0 and 2."""


def test_by_hand() -> None:
    assert mean_score(THREE).tolist() == [2.0, 0.0, 0.0]
    assert worst_case(THREE).tolist() == [1.0, 0.0, -1.0]
    assert uncertainty_weighted(THREE, 0.3).tolist() == pytest.approx([2 - 0.3 * 2 / 3, 0.0, -0.6])
    assert disagreement(THREE).tolist() == pytest.approx([(2 / 3) ** 0.5, 0.0, 2**0.5])


def test_an_ensemble_of_one_is_its_member() -> None:
    alone = torch.randn(1, 7)
    assert torch.equal(mean_score(alone), alone[0])
    assert torch.equal(worst_case(alone), alone[0])
    assert torch.equal(uncertainty_weighted(alone, 0.5), alone[0])
    assert torch.equal(disagreement(alone), torch.zeros(7))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(1, 6), st.floats(0, 2), st.floats(-3, 3))
def test_what_moves_all_members_moves_the_score_and_not_their_disagreement(
    members: int, penalty: float, by: float
) -> None:
    scores = torch.randn(members, 5, dtype=torch.float64)
    for together in (mean_score, worst_case, lambda given: uncertainty_weighted(given, penalty)):
        torch.testing.assert_close(together(scores + by), together(scores) + by)
        torch.testing.assert_close(together(scores[torch.randperm(members)]), together(scores))
    torch.testing.assert_close(disagreement(scores + by), disagreement(scores))
    torch.testing.assert_close(disagreement(scores * by), disagreement(scores) * abs(by))


def test_caution_orders_them() -> None:
    scores = torch.randn(4, 100, dtype=torch.float64)
    assert (worst_case(scores) <= mean_score(scores)).all()
    assert (uncertainty_weighted(scores, 0.1) <= mean_score(scores)).all()
    assert (uncertainty_weighted(scores, 0.5) <= uncertainty_weighted(scores, 0.1)).all()
    assert torch.equal(uncertainty_weighted(scores, 0.0), mean_score(scores))
    two = scores[:2]  # of two members the lowest is one standard deviation below the mean
    torch.testing.assert_close(worst_case(two), mean_score(two) - disagreement(two))
    torch.testing.assert_close(uncertainty_weighted(two, 0.5), mean_score(two) - 0.5 * disagreement(two).square())


@pytest.mark.parametrize("penalty", [-0.1, float("nan")])
def test_a_penalty_below_0_is_refused(penalty: float) -> None:
    with pytest.raises(ValueError, match="0 or more"):
        uncertainty_weighted(THREE, penalty)


def test_the_mean_of_weights() -> None:
    def member(size: float) -> dict[str, Tensor]:
        return {"a": torch.full((2, 3), size), "b": torch.tensor([size, 0.0])}

    mean = mean_weights([member(1.0), member(2.0), member(6.0)])
    assert mean.keys() == {"a", "b"}
    assert torch.equal(mean["a"], torch.full((2, 3), 3.0))
    assert torch.equal(mean["b"], torch.tensor([3.0, 0.0]))
    x = torch.randn(4, 3)
    told = [x @ one["a"].T for one in (member(1.0), member(2.0), member(6.0))]
    torch.testing.assert_close(x @ mean["a"].T, torch.stack(told).mean(0))  # of a linear model also the mean score
    alone = mean_weights([member(5.0)])
    assert torch.equal(alone["a"], member(5.0)["a"])
    with pytest.raises(ValueError, match="no members"):
        mean_weights([])
    with pytest.raises(KeyError, match="the same weights"):
        mean_weights([member(1.0), {"a": torch.zeros(2, 3)}])
