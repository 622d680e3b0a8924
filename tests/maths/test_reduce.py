"""Means over a named denominator: micro-batches add up, however the batch is split."""

import itertools
import statistics

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from keel.maths.reduce import mean_over, sequence_mean

branches_of_tokens = st.lists(st.lists(st.floats(-10, 10), min_size=1, max_size=6), min_size=1, max_size=8)


def column(numbers: list[float]) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def packed(branches: list[list[float]]) -> tuple[Tensor, Tensor]:
    """The tokens end to end, and the branch of each, numbered from 0."""
    numbers = [number for number, branch in enumerate(branches) for _ in branch]
    return column([x for branch in branches for x in branch]), torch.tensor(numbers, dtype=torch.long)


def test_by_hand() -> None:
    x, branch = torch.tensor([1.0, 2.0, 3.0, 10.0]), torch.tensor([0, 0, 0, 1])
    torch.testing.assert_close(mean_over(x, 4), torch.tensor(4.0))
    torch.testing.assert_close(mean_over(x, 8), torch.tensor(2.0))
    torch.testing.assert_close(sequence_mean(x, branch, 2), torch.tensor(6.0))  # (2 + 10)/2
    torch.testing.assert_close(sequence_mean(x, branch, 4), torch.tensor(3.0))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(branches_of_tokens, st.lists(st.integers(0, 8), max_size=3))
def test_any_split_into_micro_batches_adds_up(branches: list[list[float]], cuts: list[int]) -> None:
    tokens = sum(map(len, branches))
    bounds = [0, *sorted(min(cut, len(branches)) for cut in cuts), len(branches)]
    splits = [branches[start:stop] for start, stop in itertools.pairwise(bounds)]
    by_token = sum(float(mean_over(packed(split)[0], tokens)) for split in splits)
    by_branch = sum(float(sequence_mean(*packed(split), len(branches))) for split in splits)
    assert by_token == pytest.approx(sum(map(sum, branches)) / tokens, abs=1e-9)
    assert by_branch == pytest.approx(statistics.fmean(map(statistics.fmean, branches)), abs=1e-9)


def test_gradients_add_up_too_and_weigh_a_token_by_its_mean() -> None:
    x, branch = torch.randn(5, dtype=torch.float64, requires_grad=True), torch.tensor([0, 0, 0, 1, 1])
    mean_over(x[:2], 5).backward()
    mean_over(x[2:], 5).backward()
    torch.testing.assert_close(x.grad, torch.full((5,), 1 / 5).double())
    x.grad = None
    sequence_mean(x[:3], branch[:3], 2).backward()
    sequence_mean(x[3:], branch[3:] - 1, 2).backward()
    torch.testing.assert_close(x.grad, column([1 / 6, 1 / 6, 1 / 6, 1 / 4, 1 / 4]))


def test_branches_of_equal_length_make_the_two_means_one() -> None:
    x, branch = torch.randn(12, dtype=torch.float64), torch.arange(12) // 3
    torch.testing.assert_close(sequence_mean(x, branch, 4), mean_over(x, 12))


def test_the_order_of_tokens_does_not_matter() -> None:
    x, branch, order = torch.randn(12, dtype=torch.float64), torch.arange(12) // 5, torch.randperm(12)
    torch.testing.assert_close(sequence_mean(x[order], branch[order], 3), sequence_mean(x, branch, 3))


def test_a_branch_without_tokens_counts_in_the_denominator() -> None:
    x, branch = torch.tensor([4.0, 4.0]), torch.tensor([0, 2])
    torch.testing.assert_close(sequence_mean(x, branch, 3), torch.tensor(8 / 3))
    assert sequence_mean(x, branch, 2) == 4  # two are present, though the highest number is 2


def test_an_empty_micro_batch_adds_nothing() -> None:
    nothing = torch.zeros(0)
    assert mean_over(nothing, 5) == 0
    assert sequence_mean(nothing, nothing.long(), 5) == 0


def test_gradients_by_finite_differences() -> None:
    x, branch = torch.randn(5, dtype=torch.float64, requires_grad=True), torch.tensor([0, 1, 0, 1, 1])
    assert torch.autograd.gradcheck(lambda x: mean_over(x, 7), x)
    assert torch.autograd.gradcheck(lambda x: sequence_mean(x, branch, 3), x)


@pytest.mark.parametrize("count", [0, -1])
def test_a_mean_over_nothing(count: int) -> None:
    with pytest.raises(ValueError, match="count of at least 1"):
        mean_over(torch.ones(2), count)
    with pytest.raises(ValueError, match=f"a mean over {count} branches"):
        sequence_mean(torch.zeros(0), torch.zeros(0, dtype=torch.long), count)


def test_more_branches_than_the_denominator() -> None:
    with pytest.raises(ValueError, match="a mean over 1 branches cannot hold the 2 that are present"):
        sequence_mean(torch.ones(2), torch.tensor([0, 1]), 1)
