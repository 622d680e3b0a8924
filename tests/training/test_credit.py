"""Shaped rewards and credit by hand arithmetic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from keel.training.algorithm import GAE, PPO, Algorithm, Estimator, InReward
from keel.training.credit import credit, shaped_rewards

from .small import valued

VALUES = (0.5, 0.4, 0.3, 0.2)


def row(lam: float = 0.95, whiten: bool = False, gamma: float = 1.0, estimator: Estimator = "k1") -> Algorithm:
    return replace(PPO, credit=GAE(gamma, lam, "advantages" if whiten else "none"), kl=InReward(estimator))


def shaped(
    scores: Sequence[float],
    logprobs: Sequence[Sequence[float]],
    reference: Sequence[Sequence[float]],
    mask: Sequence[Sequence[bool]],
    coef: float,
    estimator: Estimator = "k1",
) -> list[list[float]]:
    columns = [torch.tensor(rows) for rows in (logprobs, reference)]
    return shaped_rewards(torch.tensor(scores), *columns, torch.tensor(mask), coef, estimator).tolist()


def test_the_score_stands_at_the_last_token_and_the_kl_at_each() -> None:
    """β = .5: −.5·(log π − log π_ref) at each token, plus 2 at the last; the second row is shorter."""
    found = shaped(
        [2.0, -1.0],
        [[-1.0, -2.0, -3.0], [-0.5, -0.25, 99.0]],
        [[-1.4, -2.0, -2.0], [-1.5, -0.75, -99.0]],
        [[True, True, True], [True, True, False]],
        0.5,
    )
    assert found[0] == pytest.approx([-0.2, 0.0, 2.5])
    assert found[1] == pytest.approx([-0.5, -1.25, 0.0])


def test_estimators() -> None:
    """log π − log π_ref = .5: k1 = .5, k2 = .125, k3 = e^−.5 − 1 + .5 = .10653."""
    for estimator, cost in (("k1", 0.5), ("k2", 0.125), ("k3", math.exp(-0.5) - 0.5)):
        found = shaped([0.0], [[-1.0, -1.0]], [[-1.5, -1.0]], [[True, True]], 2.0, estimator)
        assert found == [[pytest.approx(-2 * cost), 0.0]]


def test_no_coefficient_leaves_the_score_alone() -> None:
    assert shaped([3.0], [[-1.0, -5.0]], [[-9.0, 0.0]], [[True, True]], 0.0) == [[0.0, 3.0]]


def test_a_masked_token_gets_nothing_even_where_nan_stands() -> None:
    """The last sampled token carries the score, wherever it stands."""
    found = shaped(
        [1.0],
        [[-1.0, math.nan, -1.0, math.nan]],
        [[-2.0, math.nan, -3.0, -math.inf]],
        [[True, False, True, False]],
        0.1,
    )
    assert found == [pytest.approx([-0.1, 0.0, 0.8, 0.0])]


def test_a_rollout_without_a_sampled_token_is_refused() -> None:
    with pytest.raises(ValueError, match="without a sampled token"):
        shaped([1.0, 1.0], [[-1.0], [-1.0]], [[-1.0], [-1.0]], [[True], [False]], 0.1)


GOLDEN = {0.95: (0.155775, 0.3745, 0.71, 0.8), 1.0: (0.25, 0.45, 0.75, 0.8), 0.0: (-0.2, -0.3, -0.05, 0.8)}


@pytest.mark.parametrize("lam", GOLDEN)
def test_golden_numbers_through_the_whole_credit(lam: float) -> None:
    """r = [−.1, −.2, .05, 1] from a score of .9 and β = .5 over log-ratios [.2, .4, −.1, −.2]."""
    one = valued(0.9, (-1.0, -1.0, -1.0, -1.0), (-1.2, -1.4, -0.9, -0.8), VALUES)
    (sample,) = credit([one], row(lam), 0.5)
    assert sample.advantages == pytest.approx(GOLDEN[lam], abs=1e-6)
    assert sample.returns == pytest.approx([a + v for a, v in zip(GOLDEN[lam], VALUES, strict=True)], abs=1e-6)
    assert (sample.values, sample.logprobs) == (VALUES, (-1.0,) * 4)
    assert sample.rollout is one.scored.rollout


def test_what_the_environment_says_is_stepped_over() -> None:
    """Two tokens of a search result between the sampled ones: the same numbers as without them."""
    mask = (True, True, False, False, True, True)
    one = valued(0.9, (-1.0,) * 4, (-1.2, -1.4, -0.9, -0.8), VALUES, mask)
    (sample,) = credit([one], row(), 0.5)
    assert sample.advantages == pytest.approx(GOLDEN[0.95], abs=1e-6)
    assert len(sample.rollout.tokens) == 6


def test_discount() -> None:
    """γ = .5, λ = 1: A = Σ γ^k r − V, without any KL."""
    one = valued(1.0, (-1.0,) * 3, (-7.0,) * 3, (0.0, 0.5, 0.25))
    (sample,) = credit([one], row(lam=1.0, gamma=0.5), 0.0)
    assert sample.advantages == pytest.approx([0.25, 0.0, 0.75])
    assert sample.returns == pytest.approx([0.25, 0.5, 1.0])


def whitened_by_hand(raw: Sequence[float]) -> list[float]:
    mean = math.fsum(raw) / len(raw)
    variance = math.fsum((x - mean) ** 2 for x in raw) / len(raw)
    return [(x - mean) / math.sqrt(variance + 1e-8) for x in raw]


def test_whitening_is_over_the_update_and_leaves_the_returns_alone() -> None:
    """Answers of 3 tokens and of 1: whitened over all four tokens, not answer by answer, padding left out."""
    long = valued(1.0, (-1.0,) * 3, (-1.1, -1.0, -0.9), (0.2, 0.1, 0.3))
    short = valued(-2.0, (-0.5,), (-0.4,), (0.4,))
    raw = credit([long, short], row(), 0.1)
    white = credit([long, short], row(whiten=True), 0.1)
    flat = [x for sample in raw for x in sample.advantages]
    assert [x for sample in white for x in sample.advantages] == pytest.approx(whitened_by_hand(flat), abs=1e-5)
    assert [sample.returns for sample in white] == [sample.returns for sample in raw]
    assert [len(sample.advantages) for sample in white] == [3, 1]
    # an answer's advantages without whitening do not depend on its neighbours, nor on their order
    (alone,) = credit([short], row(), 0.1)
    assert alone == raw[1]
    assert credit([short, long], row(), 0.1) == [raw[1], raw[0]]


def test_monte_carlo() -> None:
    """λ = γ = 1: the return of each token is the sum of the rewards to come, whatever the critic says."""
    one = valued(0.7, (-1.0, -2.0, -0.5), (-1.3, -1.9, -0.1), (9.0, -9.0, 5.0))
    (sample,) = credit([one], row(lam=1.0), 0.2)
    rewards = [-0.2 * 0.3, 0.2 * 0.1, 0.2 * 0.4 + 0.7]
    assert sample.returns == pytest.approx([sum(rewards), sum(rewards[1:]), rewards[2]], abs=1e-5)


def test_the_sampler_has_no_say() -> None:
    """π_old is the trainer's: what the sampler recorded (−1 a token here) is not what the ratio will be over."""
    (sample,) = credit([valued(0.9, (-1.5, -2.0), (-1.2, -1.4), (0.1, 0.2))], row(), 0.5)
    assert sample.rollout.logprobs == (-1.0, -1.0)
    assert sample.logprobs == (-1.5, -2.0)
