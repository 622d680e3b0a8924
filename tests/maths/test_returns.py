"""GAE: the golden numbers, its three identities, and tokens that the policy did not sample."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from keel.maths.returns import gae, soft_overlong

REWARDS = torch.tensor([[-0.1, -0.2, 0.05, 1.0]])
VALUES = torch.tensor([[0.5, 0.4, 0.3, 0.2]])
ALL = torch.ones(1, 4, dtype=torch.bool)


def explicit(rewards: np.ndarray, values: np.ndarray, gamma: float, lam: float) -> np.ndarray:
    """A_t = Σ_l (γλ)^l δ_{t+l} of one sequence without gaps, as a double loop."""
    length = len(rewards)
    following = np.append(values[1:], 0.0)
    delta = [rewards[t] + gamma * following[t] - values[t] for t in range(length)]
    return np.array([sum((gamma * lam) ** (s - t) * delta[s] for s in range(t, length)) for t in range(length)])


@pytest.mark.parametrize(
    ("lam", "expected"),
    [
        (0.95, [0.155775, 0.3745, 0.71, 0.8]),
        (1.0, [0.25, 0.45, 0.75, 0.8]),
        (0.0, [-0.2, -0.3, -0.05, 0.8]),
    ],
)
def test_golden(lam: float, expected: list[float]) -> None:
    torch.testing.assert_close(gae(REWARDS, VALUES, ALL, 1.0, lam), torch.tensor([expected]), atol=1e-6, rtol=0)


def test_discount_by_hand() -> None:
    # γ = ½, λ = ½: A_1 = 4 − 2 = 2; δ_0 = 1 + ½·2 − 3 = −1, A_0 = −1 + ¼·2.
    found = gae(torch.tensor([[1.0, 4.0]]), torch.tensor([[3.0, 2.0]]), ALL[:, :2], 0.5, 0.5)
    torch.testing.assert_close(found, torch.tensor([[-0.5, 2.0]]))


def random_problem(seed: int, rows: int = 3, length: int = 9) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    rewards, values = torch.randn(2, rows, length, dtype=torch.float64, generator=generator)
    return rewards, values, torch.rand(rows, length, generator=generator) < 0.6


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.integers(0, 2**31), st.floats(0, 1))
def test_lambda_one_is_the_monte_carlo_return(seed: int, gamma: float) -> None:
    rewards, values, _ = random_problem(seed)
    returns = gae(rewards, values, torch.ones_like(rewards, dtype=torch.bool), gamma, 1.0) + values
    to_come = np.zeros(3)
    for t in reversed(range(9)):
        to_come = rewards[:, t].numpy() + gamma * to_come
        np.testing.assert_allclose(returns[:, t], to_come, atol=1e-12)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.integers(0, 2**31), st.floats(0, 1), st.floats(0, 1))
def test_tokens_not_sampled_are_as_if_cut_out(seed: int, gamma: float, lam: float) -> None:
    rewards, values, mask = random_problem(seed)
    found = gae(rewards, values, mask, gamma, lam)
    assert (found[~mask] == 0).all()
    for row in range(3):
        kept = mask[row]
        expected = explicit(rewards[row, kept].numpy(), values[row, kept].numpy(), gamma, lam)
        np.testing.assert_allclose(found[row, kept], expected, atol=1e-12)


def test_left_padding_right_padding_and_gaps_agree() -> None:
    layouts = {"right": [0, 1, 2, 3], "left": [3, 4, 5, 6], "gaps": [0, 2, 3, 6]}
    for places in layouts.values():
        rewards, values, mask = torch.randn(1, 7), torch.randn(1, 7), torch.zeros(1, 7, dtype=torch.bool)
        rewards[:, places], values[:, places], mask[:, places] = REWARDS, VALUES, True
        found = gae(rewards, values, mask, 1.0, 0.95)[:, places]
        torch.testing.assert_close(found, torch.tensor([[0.155775, 0.3745, 0.71, 0.8]]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("garbage", [1e30, float("inf"), float("nan")])
def test_garbage_where_the_mask_is_false_is_never_read(garbage: float) -> None:
    rewards, values, mask = random_problem(1)
    clean = gae(rewards, values, mask, 0.9, 0.95)
    dirty_rewards = rewards.masked_fill(~mask, garbage).requires_grad_()
    dirty_values = values.masked_fill(~mask, garbage).requires_grad_()
    found = gae(dirty_rewards, dirty_values, mask, 0.9, 0.95)
    assert torch.equal(found, clean)
    found.sum().backward()
    for leaf in (dirty_rewards, dirty_values):
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all()
        assert (leaf.grad[~mask] == 0).all()
        assert (leaf.grad[mask] != 0).any()


def test_rows_do_not_touch_each_other() -> None:
    rewards, values, mask = random_problem(2)
    together = gae(rewards, values, mask, 0.9, 0.95)
    for row in range(3):
        part = slice(row, row + 1)
        assert torch.equal(gae(rewards[part], values[part], mask[part], 0.9, 0.95), together[part])


def test_gradients_by_finite_differences() -> None:
    rewards, values, mask = random_problem(3)
    inputs = (rewards.requires_grad_(), values.requires_grad_())
    assert torch.autograd.gradcheck(lambda r, v: gae(r, v, mask, 0.9, 0.95), inputs)


def test_nothing_sampled_and_nothing_at_all() -> None:
    assert (gae(REWARDS, VALUES, ~ALL, 1.0, 0.95) == 0).all()
    empty = torch.zeros(2, 0)
    assert gae(empty, empty, empty.bool(), 1.0, 0.95).shape == (2, 0)


@pytest.mark.parametrize(("gamma", "lam"), [(-0.1, 0.9), (1.1, 0.9), (0.9, -0.1), (0.9, 1.1), (float("nan"), 0.9)])
def test_discounts_outside_the_unit_interval(gamma: float, lam: float) -> None:
    with pytest.raises(ValueError, match=r"gamma and lam must lie in \[0, 1\]"):
        gae(REWARDS, VALUES, ALL, gamma, lam)


def test_the_overlong_penalty_by_hand() -> None:
    """A limit of 20 with a buffer of 4: nothing up to 16, −1/4 a token from there, −1 at the limit and beyond it."""
    lengths = torch.tensor([1.0, 16.0, 17.0, 19.0, 20.0, 25.0])
    found = soft_overlong(lengths, 20, 4).tolist()
    assert found == pytest.approx([0.0, 0.0, -0.25, -0.75, -1.0, -1.0])
    assert soft_overlong(lengths, 20, 0).tolist() == [0.0] * 6
    for buffer in (-1, 21):
        with pytest.raises(ValueError, match="must lie in between"):
            soft_overlong(lengths, 20, buffer)
