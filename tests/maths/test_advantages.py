"""Whitening and group baselines: hand arithmetic, loops written apart, and degenerate groups."""

import math
import statistics
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from keel.maths.advantages import group_centred, group_zscore, leave_one_out, whiten

Baseline = Callable[[Tensor, Tensor], Tensor]
BASELINES = [group_zscore, leave_one_out, group_centred]

grouped = st.lists(st.tuples(st.floats(-5, 5), st.integers(-2, 3)), min_size=1, max_size=20)


def tensors(pairs: list[tuple[float, int]]) -> tuple[Tensor, Tensor]:
    rewards, group = zip(*pairs, strict=True)
    return torch.tensor(rewards, dtype=torch.float64), torch.tensor(group)


# Whitening


def test_whiten_by_hand() -> None:
    # μ = 2.5, σ² = (2.25 + .25 + .25 + 2.25)/4 = 1.25.
    expected = torch.tensor([-1.5, -0.5, 0.5, 1.5]) / math.sqrt(1.25)
    torch.testing.assert_close(whiten(torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.ones(4).bool()), expected)


def test_whiten_sees_only_what_is_valid() -> None:
    x = torch.tensor([[1.0, 99.0, 2.0], [3.0, 4.0, -99.0]])
    mask = torch.tensor([[True, False, True], [True, True, False]])
    expected = torch.tensor([[-1.5, 0.0, -0.5], [0.5, 1.5, 0.0]]) / math.sqrt(1.25)
    torch.testing.assert_close(whiten(x, mask), expected)


def test_whiten_floor_by_hand() -> None:
    # Deviations of ±1e-4: σ² is as large as the floor, so the result is ±1/√2 and not ±1.
    x = torch.tensor([-1e-4, 1e-4], dtype=torch.float64)
    expected = torch.tensor([-1.0, 1.0], dtype=torch.float64) / math.sqrt(2)
    torch.testing.assert_close(whiten(x, torch.ones(2).bool()), expected)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.integers(0, 2**31), st.floats(0.1, 10), st.floats(-10, 10))
def test_whiten_has_mean_0_variance_1_and_ignores_scale_and_shift(seed: int, scale: float, shift: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(4, 6, dtype=torch.float64, generator=generator)
    mask = torch.rand(4, 6, generator=generator) < 0.7
    mask[0, :2] = True
    found = whiten(x, mask)
    valid = found[mask].tolist()
    assert statistics.fmean(valid) == pytest.approx(0, abs=1e-9)
    assert statistics.pstdev(valid) == pytest.approx(1, abs=1e-6)
    torch.testing.assert_close(whiten(scale * x + shift, mask), found, atol=1e-5, rtol=0)


@pytest.mark.parametrize("garbage", [1e30, float("inf"), float("nan")])
def test_whiten_never_reads_garbage(garbage: float) -> None:
    x = torch.randn(3, 5, dtype=torch.float64)
    mask = torch.tensor([1, 0, 1]).bool()[:, None].expand(3, 5)
    dirty = x.masked_fill(~mask, garbage).requires_grad_()
    found = whiten(dirty, mask)
    assert torch.equal(found, whiten(x, mask))
    found.square()[0].sum().backward()
    assert dirty.grad is not None
    assert dirty.grad.isfinite().all()
    assert (dirty.grad[~mask] == 0).all()
    assert (dirty.grad[mask] != 0).any()


def test_whiten_of_equal_entries_is_zero() -> None:
    assert (whiten(torch.full((3,), 2.0), torch.ones(3).bool()) == 0).all()
    assert (whiten(torch.tensor([7.0, 1.0]), torch.tensor([False, True])) == 0).all()


def test_whiten_of_nothing() -> None:
    with pytest.raises(ValueError, match="nothing to whiten"):
        whiten(torch.ones(3), torch.zeros(3).bool())


def test_whiten_gradient_by_finite_differences() -> None:
    x = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[1, 1, 0, 1], [0, 1, 1, 1]]).bool()
    assert torch.autograd.gradcheck(lambda x: whiten(x, mask), x)


# Groups


def in_loops(rewards: Tensor, group: Tensor) -> tuple[list[float], list[float], list[float]]:
    """z-score, leave-one-out and centred, one rollout at a time."""
    zscores, left_out, centred = [], [], []
    for i, (reward, member) in enumerate(zip(rewards.tolist(), group.tolist(), strict=True)):
        mine = [r for r, g in zip(rewards.tolist(), group.tolist(), strict=True) if g == member]
        others = [r for j, r in enumerate(rewards.tolist()) if group[j] == member and j != i]
        centred.append(reward - statistics.fmean(mine))
        left_out.append(reward - statistics.fmean(others) if others else 0.0)
        zscores.append(centred[-1] / math.sqrt(statistics.pvariance(mine) + 1e-8))
    return zscores, left_out, centred


def test_golden() -> None:
    rewards, group = torch.tensor([1.0, 0, 0, 1, 1, 0, 0, 0]), torch.zeros(8, dtype=torch.long)
    won = rewards.bool()
    expected = torch.where(won, 1.29099, -0.77460)
    torch.testing.assert_close(group_zscore(rewards, group), expected, atol=6e-6, rtol=0)
    torch.testing.assert_close(leave_one_out(rewards, group), torch.where(won, 0.714286, -0.428571), atol=6e-7, rtol=0)
    torch.testing.assert_close(group_centred(rewards, group), torch.where(won, 0.625, -0.375))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(grouped)
def test_groups_against_loops(pairs: list[tuple[float, int]]) -> None:
    rewards, group = tensors(pairs)
    for baseline, expected in zip(BASELINES, in_loops(rewards, group), strict=True):
        found = baseline(rewards, group)
        torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), atol=1e-9, rtol=1e-9)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(grouped, st.randoms(use_true_random=False))
def test_order_and_names_of_groups_do_not_matter(pairs: list[tuple[float, int]], random: object) -> None:
    rewards, group = tensors(pairs)
    order = list(range(len(pairs)))
    random.shuffle(order)  # type: ignore[attr-defined]
    for baseline in BASELINES:
        found = baseline(rewards[order], 10**12 - 7 * group[order])
        torch.testing.assert_close(found, baseline(rewards, group)[order], atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("baseline", BASELINES)
def test_lone_members_and_equal_rewards_are_exactly_zero(baseline: Baseline) -> None:
    # .1 has no exact binary form: its mean over seven differs from it by rounding.
    rewards = torch.tensor([3.7] + [0.1] * 7 + [1e4 / 3] * 3)
    group = torch.tensor([5] + [1] * 7 + [0] * 3)
    assert torch.equal(baseline(rewards, group), torch.zeros(11))


def test_leave_one_out_is_the_centred_reward_times_g_over_g_minus_1() -> None:
    rewards, group = torch.randn(12, dtype=torch.float64), torch.arange(12) // 4
    torch.testing.assert_close(leave_one_out(rewards, group), 4 / 3 * group_centred(rewards, group))


def test_no_reward_is_in_its_own_baseline() -> None:
    rewards, group = torch.randn(6, dtype=torch.float64), torch.tensor([0, 1, 0, 1, 1, 0])
    slope = torch.autograd.functional.jacobian(lambda r: leave_one_out(r, group), rewards)
    torch.testing.assert_close(slope.diagonal(), torch.ones(6, dtype=torch.float64))


def test_zscore_floor_by_hand() -> None:
    rewards = torch.tensor([5 - 1e-4, 5 + 1e-4], dtype=torch.float64)
    expected = torch.tensor([-1.0, 1.0], dtype=torch.float64) / math.sqrt(2)
    torch.testing.assert_close(group_zscore(rewards, torch.tensor([0, 0])), expected)


@pytest.mark.parametrize("baseline", BASELINES)
def test_no_rollouts(baseline: Baseline) -> None:
    assert baseline(torch.zeros(0), torch.zeros(0, dtype=torch.long)).shape == (0,)


@pytest.mark.parametrize("baseline", BASELINES)
def test_group_gradients_by_finite_differences(baseline: Baseline) -> None:
    group = torch.tensor([0, 1, 0, 1, 1, 2])
    rewards = torch.randn(6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda r: baseline(r, group), rewards)
