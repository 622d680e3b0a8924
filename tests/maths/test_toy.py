"""Eight arms with an analytic optimum: where the pieces, put together, must arrive.

Reward r, reference π_ref and β are given, so π* ∝ π_ref·exp(r/β) is known in closed form, and every
method can be held to it by total variation.
"""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from keel.maths.advantages import group_centred, group_zscore, leave_one_out
from keel.maths.kl import k1, k2, k3
from keel.maths.losses import bradley_terry, ppo_clip
from keel.maths.reduce import mean_over

BETA = 0.5
ARMS, BATCH, STEPS = 8, 512, 1500
REWARD = torch.tensor([0, 0.2, 1, -0.5, 0.6, 0.3, 1.2, -1], dtype=torch.float64)
REFERENCE = torch.linspace(0, -2, ARMS, dtype=torch.float64).log_softmax(0)
GOLDEN = [0.10051, 0.11268, 0.41942, 0.01569, 0.10642, 0.04389, 0.19954, 0.00184]
ONE_GROUP = torch.zeros(BATCH, dtype=torch.long)

Loss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""(log-probs, old log-probs, reference log-probs, rewards) of the drawn arms → [M]."""


def tilted(reward: np.ndarray) -> np.ndarray:
    """π_ref·exp(r/β), normalised, in numpy."""
    weights = np.exp(np.linspace(0, -2, ARMS) + reward / BETA)
    return weights / weights.sum()


OPTIMUM = tilted(REWARD.numpy())


def total_variation(policy: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(policy - other).sum() / 2)


def optimise(loss: Loss, epochs: int, seed: int = 0) -> np.ndarray:
    """The policy after Adam from π_ref, lr .03 → 0, each batch of arms used for `epochs` steps."""
    generator = torch.Generator().manual_seed(seed)
    theta = REFERENCE.clone().requires_grad_()
    optimizer = torch.optim.Adam([theta], lr=0.03)
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = 0.03 * (1 - step / STEPS)
        policy = theta.log_softmax(0)
        if step % epochs == 0:
            arms = torch.multinomial(policy.detach().exp(), BATCH, replacement=True, generator=generator)
            old, reference, reward = policy.detach()[arms], REFERENCE[arms], REWARD[arms]
        optimizer.zero_grad()
        mean_over(loss(policy[arms], old, reference, reward), BATCH).backward()
        optimizer.step()
    return theta.detach().softmax(0).numpy()


def ppo(logprobs: Tensor, old: Tensor, reference: Tensor, reward: Tensor) -> Tensor:
    return ppo_clip(logprobs, old, leave_one_out(reward - BETA * k1(old, reference), ONE_GROUP), 0.2, 0.2)


def dr_grpo_k2(logprobs: Tensor, old: Tensor, reference: Tensor, reward: Tensor) -> Tensor:
    return ppo_clip(logprobs, old, group_centred(reward, ONE_GROUP), 0.2, 0.2) + BETA * k2(logprobs, reference)


def dr_grpo_k3(logprobs: Tensor, old: Tensor, reference: Tensor, reward: Tensor) -> Tensor:
    return ppo_clip(logprobs, old, group_centred(reward, ONE_GROUP), 0.2, 0.2) + BETA * k3(logprobs, reference)


def grpo_k3(logprobs: Tensor, old: Tensor, reference: Tensor, reward: Tensor) -> Tensor:
    return ppo_clip(logprobs, old, group_zscore(reward, ONE_GROUP), 0.2, 0.2) + BETA * k3(logprobs, reference)


def test_the_optimum_is_the_published_one() -> None:
    np.testing.assert_allclose(OPTIMUM, GOLDEN, atol=6e-6)
    best = torch.tensor(OPTIMUM)
    log_z = float((REFERENCE.exp() * (REWARD / BETA).exp()).sum().log())
    divergence = float((best * k1(best.log(), REFERENCE)).sum())
    expected_reward = float((best * REWARD).sum())
    assert log_z == pytest.approx(1.0124946, abs=6e-8)
    assert divergence == pytest.approx(0.484974, abs=6e-7)
    assert float((best * k3(best.log(), REFERENCE)).sum()) == pytest.approx(0.484974, abs=6e-7)
    assert expected_reward == pytest.approx(0.748734, abs=6e-7)
    assert expected_reward - BETA * divergence == pytest.approx(BETA * log_z, abs=1e-12)


def test_at_the_optimum_every_arm_earns_the_same_and_there_is_nothing_to_learn() -> None:
    shaped = REWARD - BETA * k1(torch.tensor(OPTIMUM).log(), REFERENCE)
    np.testing.assert_allclose(shaped, 0.506247, atol=6e-7)
    for baseline in (leave_one_out, group_centred):
        advantages = baseline(shaped, torch.zeros(ARMS, dtype=torch.long))
        torch.testing.assert_close(advantages, torch.zeros(ARMS).double(), atol=1e-12, rtol=0)


@pytest.mark.parametrize("seed", [0, 1])
def test_ppo_with_the_kl_in_the_reward_converges(seed: int) -> None:
    assert total_variation(optimise(ppo, epochs=4, seed=seed), OPTIMUM) <= 0.01


def test_k2_in_the_loss_converges() -> None:
    assert total_variation(optimise(dr_grpo_k2, epochs=1), OPTIMUM) <= 0.01


def test_k3_in_the_loss_converges_to_its_own_optimum_instead() -> None:
    normaliser = 1.26889
    own = BETA * REFERENCE.exp().numpy() / (normaliser - REWARD.numpy())
    assert own.sum() == pytest.approx(1, abs=1e-4)
    found = optimise(dr_grpo_k3, epochs=1)
    assert total_variation(found, own) <= 0.01
    assert total_variation(found, OPTIMUM) == pytest.approx(0.195, abs=0.01)


def test_dividing_by_the_std_lands_elsewhere_again() -> None:
    assert total_variation(optimise(grpo_k3, epochs=1), OPTIMUM) > 0.4


def fitted_rewards(pairs: int, seed: int) -> np.ndarray:
    """Maximum likelihood from `pairs` noisy judgements of uniformly drawn arms; Newton steps, mean 0."""
    draw = np.random.default_rng(seed)
    first = draw.integers(ARMS, size=pairs)
    second = (first + draw.integers(1, ARMS, size=pairs)) % ARMS
    truth = REWARD.numpy()
    won = draw.random(pairs) < 1 / (1 + np.exp(truth[second] - truth[first]))
    wins = np.zeros((ARMS, ARMS))
    np.add.at(wins, (np.where(won, first, second), np.where(won, second, first)), 1)
    chosen, rejected = (torch.tensor(arms) for arms in wins.nonzero())
    times = torch.tensor(wins)[chosen, rejected]
    sure, level = torch.ones_like(times), torch.zeros_like(times)

    def loss(scores: Tensor) -> Tensor:
        # Only differences count, so the sum is free: a square on it makes the Hessian invertible.
        fit = mean_over(times * bradley_terry(scores[chosen], scores[rejected], sure, level), pairs)
        return fit + scores.sum().square() / 2

    scores = torch.zeros(ARMS, dtype=torch.float64)
    for _ in range(6):
        slope = torch.autograd.functional.jacobian(loss, scores)
        curvature = torch.autograd.functional.hessian(loss, scores)
        scores = scores - torch.linalg.solve(curvature, slope)
    return scores.numpy()


@pytest.mark.parametrize(("pairs", "bound"), [(1_000, 0.35), (10_000, 0.06), (100_000, 0.02)])
def test_rewards_fitted_to_comparisons_and_tilted(pairs: int, bound: float) -> None:
    found = fitted_rewards(pairs, seed=0)
    assert found.sum() == pytest.approx(0, abs=1e-9)
    assert total_variation(tilted(found), OPTIMUM) <= bound


def test_two_items_fit_to_the_logit_of_their_wins() -> None:
    wins, n = 13, 20
    gap = torch.tensor([math.log(wins / (n - wins))], dtype=torch.float64, requires_grad=True)
    zero, sure = torch.zeros(1).double(), torch.ones(1).double()
    loss = wins * bradley_terry(gap, zero, sure, zero) + (n - wins) * bradley_terry(zero, gap, sure, zero)
    assert float(torch.autograd.grad(loss.sum(), gap)[0]) == pytest.approx(0, abs=1e-12)
