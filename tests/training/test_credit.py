"""Shaped rewards and credit by hand arithmetic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from keel.training.algorithm import (
    GAE,
    PPO,
    Algorithm,
    Best,
    Clipped,
    Contest,
    Credit,
    Estimator,
    Grouped,
    InLoss,
    InReward,
    Plain,
    ToGo,
)
from keel.training.credit import Group, settle, shaped_rewards
from keel.training.credit import credit as credit_groups
from keel.types import Annotated, CriticSample, Sample, UnreadAnnotated, UnreadSample

from .small import rollout, scored, valued

VALUES = (0.5, 0.4, 0.3, 0.2)


def row(lam: float = 0.95, whiten: bool = False, gamma: float = 1.0, estimator: Estimator = "k1") -> Algorithm:
    return replace(PPO, credit=GAE(gamma, lam, "advantages" if whiten else "none"), kl=InReward(estimator))


def credit(annotated: Sequence[Annotated], algorithm: Algorithm, coef: float) -> list[Any]:
    """One answer to each prompt: its samples, one after the other."""
    return [sample for group in credit_groups(annotated, algorithm, coef) for sample in group]


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


# Groups, and credit without a critic


GROUP = (1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0)


def annotated(
    reward: float,
    logprobs: Sequence[float] = (-1.0,),
    reference: Sequence[float] | None = None,
    sampler: Sequence[float] | None = None,
) -> Annotated:
    changes = {} if sampler is None else {"logprobs": tuple(sampler)}
    one = rollout((5,), range(3, 3 + len(logprobs)), **changes)
    return Annotated(scored(one, reward), tuple(logprobs), tuple(logprobs if reference is None else reference))


def choice(way: Credit, cap: float | None = None) -> Algorithm:
    return Algorithm(way, Clipped(0.2, 0.2), InReward("k1"), importance_cap=cap)


def advantages(groups: Sequence[Group]) -> list[list[float]]:
    return [list(sample.advantages) for group in groups for sample in group]


@pytest.mark.parametrize(
    ("by", "high", "low"),
    [("std", 1.29099, -0.77460), ("mean", 0.625, -0.375), ("others", 0.714286, -0.428571)],
)
def test_the_golden_group(by: str, high: float, low: float) -> None:
    found = credit_groups([annotated(r) for r in GROUP], choice(Grouped(by)), 0.0, 8)
    assert len(found) == 1
    assert [a for (a,) in advantages(found)] == pytest.approx([high if r else low for r in GROUP], abs=1e-5)


def test_groups_are_neighbours_and_do_not_see_each_other() -> None:
    rewards = (1.0, 3.0, 10.0, 20.0)
    found = credit_groups([annotated(r) for r in rewards], choice(Grouped("mean")), 0.0, 2)
    assert [len(group) for group in found] == [2, 2]
    assert [a for (a,) in advantages(found)] == pytest.approx([-1, 1, -5, 5])
    with pytest.raises(ValueError, match="3 rollouts cannot be 2 to a prompt"):
        credit_groups([annotated(r) for r in rewards[:3]], choice(Grouped("mean")), 0.0, 2)


def test_all_tokens_of_an_answer_are_thanked_alike() -> None:
    found = credit_groups([annotated(4.0, (-1.0,) * 3), annotated(2.0, (-1.0,) * 2)], choice(Grouped("others")), 0.0, 2)
    assert advantages(found) == [pytest.approx([2.0] * 3), pytest.approx([-2.0] * 2)]


def test_the_kl_in_the_reward_is_taken_off_the_whole_answer_first() -> None:
    """β = .5; log-ratios sum to .6 and −.2, so 1 − .3 = .7 against 0 + .1 = .1: ±.6 by leave-one-out."""
    one = annotated(1.0, (-1.0, -1.0), (-1.4, -1.2))
    other = annotated(0.0, (-1.0,), (-0.8,))
    found = credit_groups([one, other], choice(Grouped("others")), 0.5, 2)
    assert [a[0] for a in advantages(found)] == pytest.approx([0.6, -0.6])
    in_loss = Algorithm(Grouped("others"), Plain(), InLoss("k2"))
    assert [a[0] for a in advantages(credit_groups([one, other], in_loss, 0.5, 2))] == pytest.approx([1.0, -1.0])


@pytest.mark.parametrize("by", ["std", "mean", "others"])
@pytest.mark.parametrize("rewards", [(3.0,), (0.1, 0.1, 0.1), (1e-9, 0.0)])
def test_groups_of_one_and_groups_that_score_alike_teach_nothing(by: str, rewards: tuple[float, ...]) -> None:
    found = credit_groups([annotated(r) for r in rewards], choice(Grouped(by)), 0.0, len(rewards))
    assert all(math.isfinite(a) and abs(a) < 1e-4 for (a,) in advantages(found))


def test_whitening_is_over_all_tokens_of_the_update() -> None:
    """Advantages ±1 on 3 and 1 tokens: mean .5, variance .75."""
    found = credit_groups(
        [annotated(2.0, (-1.0,) * 3), annotated(0.0)], choice(Grouped("mean", whiten="advantages")), 0.0, 2
    )
    assert advantages(found)[0] == pytest.approx([0.5 / math.sqrt(0.75)] * 3, abs=1e-5)
    assert advantages(found)[1] == pytest.approx([-1.5 / math.sqrt(0.75)], abs=1e-5)


def test_rewards_to_come() -> None:
    """r = (−.1, −.2, 1 + .1) with β = .5: sums from each token on; with γ = .5 each step counts half."""
    one = annotated(1.0, (-1.0,) * 3, (-1.2, -1.4, -0.8))
    assert advantages(credit_groups([one], choice(ToGo(whiten="none")), 0.5)) == [pytest.approx([0.8, 0.9, 1.1])]
    half = credit_groups([one], choice(ToGo(0.5, "none")), 0.5)
    assert advantages(half) == [pytest.approx([-0.1 - 0.1 + 0.275, -0.2 + 0.55, 1.1])]
    two = credit_groups([one, annotated(-1.0)], choice(ToGo()), 0.5)
    flat = [a for each in advantages(two) for a in each]
    assert sum(flat) == pytest.approx(0, abs=1e-5)
    assert sum(a * a for a in flat) / 4 == pytest.approx(1, abs=1e-5)


def test_it_is_gae_without_a_critic() -> None:
    one = valued(0.7, (-1.0, -2.0), (-1.3, -1.9), (0.0, 0.0))
    ((with_critic,),) = credit_groups([one], choice(GAE(1.0, 1.0, "none")), 0.2)
    ((without,),) = credit_groups([one], choice(ToGo(whiten="none")), 0.2)
    assert with_critic.advantages == pytest.approx(without.advantages)
    assert isinstance(with_critic, CriticSample)
    assert not isinstance(without, CriticSample)
    assert not hasattr(without, "values")


def test_gae_needs_values() -> None:
    with pytest.raises(ValueError, match="need the critic's values"):
        credit_groups([annotated(1.0)], choice(GAE()), 0.1)


def test_only_the_best_answer_is_learnt_from() -> None:
    """The first of those that are alike."""
    rewards = (1.0, 5.0, 5.0, 2.0, 2.0, 0.0)
    rows = [annotated(r) for r in rewards]
    found = credit_groups(rows, choice(Best()), 0.0, 3)
    assert [[sample.rollout is rows[place].scored.rollout for sample in group] for group, place in zip(
        found, (1, 3), strict=True)] == [[True], [True]]  # fmt: skip
    assert advantages(found) == [[1.0], [1.0]]


def test_the_best_is_set_against_the_worst() -> None:
    rewards = (1.0, 5.0, -2.0, 4.0, 4.0, 4.0)
    rows = [annotated(r) for r in rewards]
    (pair,) = credit_groups(rows, choice(Contest()), 0.0, 3)  # the second prompt has no winner
    best, worst = pair
    assert best.rollout is rows[1].scored.rollout
    assert worst.rollout is rows[2].scored.rollout
    assert advantages([pair]) == [[1.0], [-1.0]]


def test_importance_is_capped_and_is_1_where_sampler_and_trainer_agree() -> None:
    """π_old/π_sampler = e^.5 and e^2, cut off at 2; without a cap each counts 1."""
    one = annotated(1.0, (-1.0, -1.0), sampler=(-1.5, -3.0))
    ((sample,),) = credit_groups([one], choice(ToGo(), 2.0), 0.0)
    assert sample.weights == pytest.approx((math.exp(0.5), 2.0))
    ((plain,),) = credit_groups([one], choice(ToGo()), 0.0)
    assert plain.weights == (1.0, 1.0)
    ((same,),) = credit_groups([annotated(1.0, (-1.0,), sampler=(-1.0,))], choice(ToGo(), 2.0), 0.0)
    assert same.weights == (1.0,)


def test_what_was_read_goes_along() -> None:
    one = annotated(1.0, (-1.0, -2.0), (-1.5, -2.5))
    ((sample,),) = credit_groups([one], choice(ToGo()), 0.0)
    assert (sample.logprobs, sample.reference_logprobs) == ((-1.0, -2.0), (-1.5, -2.5))


def test_what_the_policy_reads_later_is_what_it_would_have_read_before() -> None:
    """The same samples as where it had read them at once, the importance weights too: min(exp(own − sampler), cap)."""
    own = ((-0.5, -1.25), (-2.0,))
    recorded = [scored(rollout((3,), (4, 5)), 1.0), scored(rollout((3,), (6,)), 3.0)]
    algorithm = choice(Grouped("mean"), cap=1.5)
    before = [Annotated(one, mine, (-1.0,) * len(mine)) for one, mine in zip(recorded, own, strict=True)]
    unread = [UnreadAnnotated(one.scored, one.scored.rollout.logprobs, one.reference_logprobs) for one in before]
    (expected,) = credit_groups(before, algorithm, 0.0, 2)
    (group,) = credit_groups(unread, algorithm, 0.0, 2)
    assert group != expected
    assert all(isinstance(one, UnreadSample) for one in group)
    later = settle(group, torch.tensor([*own[0], *own[1]]), 1.5)
    for one, other in zip(later, expected, strict=True):
        assert type(one) is type(other) is Sample
        assert one.advantages == other.advantages
        assert one.logprobs == pytest.approx(other.logprobs)
        assert one.weights == pytest.approx(other.weights)
    assert later[0].weights == pytest.approx((1.5, math.exp(-0.25)))
    assert settle(group[1:], torch.tensor(own[1]), None)[0].weights == (1.0,)
