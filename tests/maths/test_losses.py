"""Losses: golden numbers, hand arithmetic, loops written apart, and finite differences for every gradient."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from keel.maths.losses import (
    bradley_terry,
    centring,
    cispo,
    crowd_bradley_terry,
    kwise,
    nll,
    over_branches,
    plackett_luce,
    policy_gradient,
    ppo_clip,
    ppo_clipped,
    truncated_weight,
    value_clip,
)

rewards = st.floats(-6, 6)
rankings = st.lists(st.lists(rewards, min_size=2, max_size=5), min_size=1, max_size=4)


def column(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def surprise(x: float) -> float:
    """−log σ(x)."""
    return -math.log(sigmoid(x))


def slope(loss: Tensor, at: Tensor) -> Tensor:
    return torch.autograd.grad(loss.sum(), at)[0]


# Likelihood


def test_nll_by_hand() -> None:
    torch.testing.assert_close(nll(column(0.5, 0.25).log()), column(math.log(2), math.log(4)))
    assert torch.autograd.gradcheck(nll, column(-0.5, -2.0).requires_grad_())


# Bradley–Terry


def test_bradley_terry_by_hand() -> None:
    found = bradley_terry(column(2, 0, 1, 1), column(1, 0, 3, 1), column(1, 1, 0.25, 0.5), column(0, 0, 0, 0.5))
    flipped = 0.25 * surprise(-2) + 0.75 * surprise(2)
    torch.testing.assert_close(found, column(surprise(1), math.log(2), flipped, surprise(-0.5)))


def test_bradley_terry_margin_is_demanded_for_the_winner_of_each_judgement() -> None:
    found = bradley_terry(column(2), column(0.5), column(0.7), column(1))
    torch.testing.assert_close(found, column(0.7 * surprise(1.5 - 1) + 0.3 * surprise(-1.5 - 1)))
    # Llama 2's loss is the case p = 1, whatever side the winner is on.
    torch.testing.assert_close(bradley_terry(column(2), column(0.5), column(1), column(1)), column(surprise(0.5)))
    torch.testing.assert_close(bradley_terry(column(0.5), column(2), column(0), column(1)), column(surprise(0.5)))


@settings(max_examples=50, deadline=None, derandomize=True)
@given(rewards, rewards, st.floats(0, 1), st.floats(0, 3), st.floats(-50, 50))
def test_bradley_terry_ignores_a_shift_and_the_naming_of_the_pair(
    a: float, b: float, p: float, m: float, shift: float
) -> None:
    loss = bradley_terry(column(a), column(b), column(p), column(m))
    shifted = bradley_terry(column(a + shift), column(b + shift), column(p), column(m))
    swapped = bradley_terry(column(b), column(a), column(1 - p), column(m))
    torch.testing.assert_close(shifted, loss, atol=1e-9, rtol=0)
    torch.testing.assert_close(swapped, loss, atol=1e-9, rtol=0)


def test_bradley_terry_is_least_at_the_logit_of_the_probability_and_a_tie_at_zero() -> None:
    p = column(0.5, 0.6, 0.9)
    delta = p.logit().requires_grad_()
    at_optimum = slope(bradley_terry(delta, torch.zeros(3).double(), p, torch.zeros(3).double()), delta)
    torch.testing.assert_close(at_optimum, column(0, 0, 0), atol=1e-12, rtol=0)
    level = column(0).requires_grad_()  # a tie wants Δ = 0 whatever the margin
    assert slope(bradley_terry(level, column(0), column(0.5), column(2)), level) == 0


def test_bradley_terry_gradient_by_hand() -> None:
    chosen, rejected = column(1.5).requires_grad_(), column(0.5).requires_grad_()
    loss = bradley_terry(chosen, rejected, column(1), column(0))
    torch.testing.assert_close(slope(loss, chosen), column(-sigmoid(-1)))
    loss = bradley_terry(chosen, rejected, column(1), column(0))
    torch.testing.assert_close(slope(loss, rejected), column(sigmoid(-1)))


def test_bradley_terry_gradient_by_finite_differences() -> None:
    chosen, rejected = (torch.randn(4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    p, margin = column(1, 0, 0.3, 0.5).requires_grad_(), column(0.5, 1, 2, 3).requires_grad_()
    inside = column(0.9, 0.1, 0.3, 0.5).requires_grad_()  # steps of the check must stay in [0, 1]
    assert torch.autograd.gradcheck(lambda c, r: bradley_terry(c, r, p.detach(), margin.detach()), (chosen, rejected))
    assert torch.autograd.gradcheck(bradley_terry, (chosen, rejected, inside, margin))


def test_bradley_terry_stays_finite_far_out() -> None:
    chosen = torch.tensor([-500.0, 500.0]).requires_grad_()
    loss = bradley_terry(chosen, torch.zeros(2), torch.ones(2), torch.zeros(2))
    torch.testing.assert_close(loss, torch.tensor([500.0, 0.0]))
    torch.testing.assert_close(slope(loss, chosen), torch.tensor([-1.0, 0.0]))


@pytest.mark.parametrize("probability", [-0.1, 1.1, math.nan])
def test_bradley_terry_probability_out_of_range(probability: float) -> None:
    with pytest.raises(ValueError, match=r"probability lies outside \[0, 1\]"):
        bradley_terry(column(1, 1), column(0, 0), column(0.5, probability), column(0, 0))


def test_bradley_terry_margin_below_zero() -> None:
    with pytest.raises(ValueError, match="margin is below 0"):
        bradley_terry(column(1, 1), column(0, 0), column(1, 1), column(0, -1))


def test_centring_by_hand() -> None:
    torch.testing.assert_close(centring(column(2, 1), column(1, -1)), column(9, 0))
    pair = (column(2, 1).requires_grad_(), column(1, -1.5).requires_grad_())
    assert torch.autograd.gradcheck(centring, pair)


# Bradley–Terry of a crowd


def test_crowd_by_hand() -> None:
    """η = .9, b = .5: the one stood on the left (z = 1.5), on the right (z = .5), and a tie (z = 1)."""
    honesty, lean = column(*[math.log(9)] * 3), column(0.5, 0.5, 0.5)
    found = crowd_bradley_terry(column(1, 1, 1), column(1, 0, 0.5), column(1, -1, 0), honesty, lean)
    first = 0.9 * sigmoid(1.5) + 0.1 * sigmoid(-1.5)
    second = 0.9 * sigmoid(-0.5) + 0.1 * sigmoid(0.5)
    tie = 0.9 * sigmoid(1) + 0.1 * sigmoid(-1)
    torch.testing.assert_close(
        found, column(-math.log(first), -math.log(second), -(math.log(tie) + math.log(1 - tie)) / 2)
    )


@given(delta=rewards, vote=st.floats(0, 1), side=st.sampled_from([-1.0, 0.0, 1.0]), lean=st.floats(-2, 2))
def test_who_always_reads_and_leans_to_no_side_is_bradley_terry(
    delta: float, vote: float, side: float, lean: float
) -> None:
    plain = bradley_terry(column(delta), column(0), column(vote), column(0))
    crowd = crowd_bradley_terry(column(delta), column(vote), column(side), column(40), column(0))
    torch.testing.assert_close(crowd, plain)
    # a lean of b where the one stands on the left is a score that is higher by b
    leaning = crowd_bradley_terry(column(delta), column(vote), column(side), column(40), column(lean))
    torch.testing.assert_close(leaning, bradley_terry(column(delta + lean * side), column(0), column(vote), column(0)))


@given(delta=rewards, vote=st.floats(0, 1), honesty=st.floats(-4, 4), lean=st.floats(-2, 2))
def test_the_two_answers_may_change_places(delta: float, vote: float, honesty: float, lean: float) -> None:
    """With them the vote, the side and the sign of Δ; somebody of honesty 1 − η who votes otherwise is the same."""
    one = crowd_bradley_terry(column(delta), column(vote), column(1), column(honesty), column(lean))
    other = crowd_bradley_terry(column(-delta), column(1 - vote), column(-1), column(honesty), column(lean))
    liar = crowd_bradley_terry(column(delta), column(1 - vote), column(1), column(-honesty), column(lean))
    torch.testing.assert_close(one, other)
    torch.testing.assert_close(one, liar)


def test_the_votes_of_who_does_not_read_move_no_score() -> None:
    delta = column(-3, 0.5, 2).requires_grad_()
    loss = crowd_bradley_terry(delta, column(1, 0, 1), column(1, 1, -1), column(0, 0, 0), column(0.3, 0, 1))
    torch.testing.assert_close(loss, column(*[math.log(2)] * 3))
    assert slope(loss, delta).abs().max() < 1e-12


def test_the_slopes_of_a_crowd() -> None:
    parts = [column(*numbers).requires_grad_() for numbers in ((0.3, -2, 5), (1, -0.5, 3), (0.2, -1, 0.7))]

    def loss(delta: Tensor, honesty: Tensor, lean: Tensor) -> Tensor:
        return crowd_bradley_terry(delta, column(1, 0.5, 0), column(1, -1, 1), honesty, lean)

    assert torch.autograd.gradcheck(loss, parts)


def test_a_vote_is_a_share() -> None:
    with pytest.raises(ValueError, match="outside"):
        crowd_bradley_terry(column(0), column(1.5), column(1), column(2), column(0))


# Rankings


def test_golden_ranking() -> None:
    scores, group = column(2, 1, 0.5, 0), torch.zeros(4, dtype=torch.long)
    assert float(plackett_luce(scores, group)) == pytest.approx(1.700353, abs=6e-7)
    assert float(kwise(scores, group)) == pytest.approx(0.317170, abs=6e-7)


@pytest.mark.parametrize("k", [2, 3, 4, 7])
def test_flat_scores(k: int) -> None:
    scores, group = torch.full((k,), 1.7, dtype=torch.float64), torch.zeros(k, dtype=torch.long)
    torch.testing.assert_close(plackett_luce(scores, group), column(math.log(math.factorial(k))))
    torch.testing.assert_close(kwise(scores, group), column(math.log(2)))


def ragged(prompts: list[list[float]]) -> tuple[Tensor, Tensor]:
    """Groups interleaved: first of each, second of each, …; numbered so that the first prompt comes last."""
    entries = [
        (prompt[place], 10 - number)
        for place in range(5)
        for number, prompt in enumerate(prompts)
        if place < len(prompt)
    ]
    scores, group = zip(*entries, strict=True)
    return torch.tensor(scores, dtype=torch.float64), torch.tensor(group)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(rankings)
def test_ragged_rankings_against_loops(prompts: list[list[float]]) -> None:
    pairs, draws = [], []
    for prompt in reversed(prompts):
        every = [surprise(better - worse) for better, worse in itertools.combinations(prompt, 2)]
        pairs.append(sum(every) / len(every))
        left = [math.log(sum(math.exp(r) for r in prompt[place:])) for place in range(len(prompt))]
        draws.append(sum(left) - sum(prompt))
    torch.testing.assert_close(kwise(*ragged(prompts)), column(*pairs), atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(plackett_luce(*ragged(prompts)), column(*draws), atol=1e-10, rtol=1e-10)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(rewards, rewards)
def test_two_completions_are_bradley_terry(better: float, worse: float) -> None:
    scores, group = column(better, worse), torch.tensor([3, 3])
    pair = bradley_terry(column(better), column(worse), column(1), column(0))
    torch.testing.assert_close(kwise(scores, group), pair)
    torch.testing.assert_close(plackett_luce(scores, group), pair)


def test_plackett_luce_is_a_distribution_over_rankings() -> None:
    scores = [2.0, 1.0, 0.5, 0.0]
    group = torch.zeros(4, dtype=torch.long)
    chances = [float((-plackett_luce(column(*order), group)).exp()) for order in itertools.permutations(scores)]
    assert sum(chances) == pytest.approx(1, abs=1e-12)


def test_ranking_gradients_by_finite_differences() -> None:
    scores = torch.randn(7, dtype=torch.float64, requires_grad=True)
    group = torch.tensor([1, 0, 1, 1, 0, 0, 0])
    assert torch.autograd.gradcheck(lambda s: kwise(s, group), scores)
    assert torch.autograd.gradcheck(lambda s: plackett_luce(s, group), scores)


def test_a_neighbouring_prompt_changes_no_loss_and_no_gradient() -> None:
    group = torch.tensor([0, 1, 0, 1, 1])
    for loss in (kwise, plackett_luce):
        found = []
        for neighbour in (0.0, 40.0):
            scores = column(1, neighbour, 0.3, -neighbour, 2).requires_grad_()
            value = loss(scores, group)[0]
            found.append((value.detach(), slope(value, scores)))
        torch.testing.assert_close(found[0][0], found[1][0], atol=0, rtol=0)
        torch.testing.assert_close(found[0][1], found[1][1], atol=0, rtol=0)
        assert (found[0][1][[1, 3, 4]] == 0).all()


@pytest.mark.parametrize("loss", [kwise, plackett_luce])
def test_a_ranking_of_one_is_refused(loss: object) -> None:
    with pytest.raises(ValueError, match="at least two completions"):
        loss(column(1, 2, 3), torch.tensor([0, 0, 1]))  # type: ignore[operator]


# PPO


def test_ppo_by_hand() -> None:
    # Ratios .5, 1, 2, both signs of A, clip .2 below and .3 above.
    ratio, advantage = column(0.5, 1, 2, 0.5, 1, 2), column(2, 2, 2, -2, -2, -2)
    found = ppo_clip(ratio.log(), torch.zeros(6).double(), advantage, 0.2, 0.3)
    torch.testing.assert_close(found, column(-1, -2, -2.6, 1.6, 2, 4))


def test_ppo_ratio_is_to_the_old_policy() -> None:
    # π = .6, π_old = .5, so ρ = 1.2.
    found = ppo_clip(column(0.6).log(), column(0.5).log(), column(1), 0.5, 0.5)
    torch.testing.assert_close(found, column(-1.2))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.floats(-1, 1), st.floats(-3, 3), st.floats(0, 0.9), st.floats(0, 0.9))
def test_ppo_against_cases(log_ratio: float, advantage: float, low: float, high: float) -> None:
    """The four cases of the paper's figure 1, and the gradient: −ρA, or 0 exactly where `ppo_clipped` says so."""
    ratio = math.exp(log_ratio)
    if advantage > 0:
        expected, clipped = -min(ratio, 1 + high) * advantage, ratio > 1 + high
    else:
        expected, clipped = -max(ratio, 1 - low) * advantage, advantage < 0 and ratio < 1 - low
    logprobs = column(log_ratio).requires_grad_()
    arguments = (column(0), column(advantage), low, high)
    loss = ppo_clip(logprobs, *arguments)
    assert float(loss.detach()) == pytest.approx(expected, abs=1e-12)
    assert ppo_clipped(logprobs, *arguments).tolist() == [clipped]
    assert float(slope(loss, logprobs)) == pytest.approx(0 if clipped else -ratio * advantage, abs=1e-12)


def test_ppo_first_pass_is_the_policy_gradient() -> None:
    torch.manual_seed(0)
    theta, arms, advantages = torch.randn(8, requires_grad=True), torch.randint(8, (64,)), torch.randn(64)
    logprobs = theta.log_softmax(0)[arms]
    old = logprobs.detach()
    assert torch.equal((logprobs - old).exp(), torch.ones(64))
    assert not ppo_clipped(logprobs, old, advantages, 0.2, 0.2).any()
    surrogate = torch.autograd.grad(ppo_clip(logprobs, old, advantages, 0.2, 0.2).mean(), theta, retain_graph=True)[0]
    policy_gradient = torch.autograd.grad((-advantages * logprobs).mean(), theta)[0]
    torch.testing.assert_close(surrogate, policy_gradient, atol=1e-6, rtol=0)


def test_ppo_first_loss_of_a_group_is_zero_and_its_gradient_is_not() -> None:
    theta = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    logprobs = theta.log_softmax(0)
    loss = ppo_clip(logprobs, logprobs.detach(), column(1.5, -0.5, -0.5, -0.5), 0.2, 0.2).sum()
    assert float(loss.detach()) == pytest.approx(0, abs=1e-12)
    assert slope(loss, theta).abs().max() > 0.1


def test_ppo_gradient_by_finite_differences() -> None:
    logprobs = column(-0.9, -0.05, 0.1, 0.9, -0.9, -0.05, 0.1, 0.9).requires_grad_()
    old, advantages = torch.zeros(8).double(), column(1, 1, 2, 2, -1, -1, -2, -2)
    assert torch.autograd.gradcheck(lambda x: ppo_clip(x, old, advantages, 0.2, 0.28), logprobs)


@pytest.mark.parametrize(("low", "high"), [(-0.1, 0.2), (1.1, 0.2), (0.2, -0.1), (math.nan, 0.2), (0.2, math.nan)])
def test_ppo_clip_range(low: float, high: float) -> None:
    for function in (ppo_clip, ppo_clipped):
        with pytest.raises(ValueError, match=r"low in \[0, 1\] and high at 0 or more"):
            function(column(0), column(0), column(1), low, high)


def test_ppo_refuses_an_old_policy_or_an_advantage_that_is_not_detached() -> None:
    live = column(0).requires_grad_()
    with pytest.raises(ValueError, match="old_logprobs carries a gradient"):
        ppo_clip(live, live, column(1), 0.2, 0.2)
    with pytest.raises(ValueError, match="advantages carries a gradient"):
        ppo_clip(live, column(0), live, 0.2, 0.2)


# Critic


def test_value_clip_by_hand() -> None:
    # V_old = 1, ε = ½. V = 2 clips to 1.5; V = 1.2 stays. Max with each return, halved.
    values, returns = column(2, 2, 1.2, 0, 0), column(2, 0, 3, 1, -2)
    found = value_clip(values, torch.ones(5).double(), returns, 0.5)
    # The larger square of each is the clipped .25, the free 4, either 3.24, the free 1 and the clipped 6.25.
    torch.testing.assert_close(found, column(0.125, 2, 1.62, 0.5, 3.125))


@settings(max_examples=50, deadline=None, derandomize=True)
@given(rewards, rewards, rewards, st.floats(0, 3))
def test_value_clip_never_rewards_moving_further(value: float, old: float, target: float, clip: float) -> None:
    found = float(value_clip(column(value), column(old), column(target), clip))
    nearest = min(max(value, old - clip), old + clip)
    assert found == pytest.approx(max((value - target) ** 2, (nearest - target) ** 2) / 2, abs=1e-12)
    plain = float(value_clip(column(value), column(old), column(target), math.inf))
    assert plain == pytest.approx((value - target) ** 2 / 2, abs=1e-12)


def test_value_clip_gradient_is_zero_past_the_clip_and_whole_inside() -> None:
    values = column(2, 1.2).requires_grad_()  # the first has overshot towards its return of 3
    found = slope(value_clip(values, column(1, 1), column(3, 3), 0.5), values)
    torch.testing.assert_close(found, column(0, 1.2 - 3))


def test_value_clip_gradient_by_finite_differences() -> None:
    values = column(2, 2, 1.2, 0, 0).requires_grad_()
    old, returns = torch.ones(5).double(), column(1.9, 0, 3, 1, -2)
    assert torch.autograd.gradcheck(lambda v: value_clip(v, old, returns, 0.5), values)


def test_value_clip_refusals() -> None:
    live = column(0).requires_grad_()
    for clip in (-0.1, math.nan):
        with pytest.raises(ValueError, match="value clip must be 0 or more"):
            value_clip(live, column(0), column(1), clip)
    with pytest.raises(ValueError, match="old_values carries a gradient"):
        value_clip(live, live, column(1), 0.2)
    with pytest.raises(ValueError, match="returns carries a gradient"):
        value_clip(live, column(0), live, 0.2)


# Other surrogates


def test_cispo_by_hand() -> None:
    """Ratios .5, 1 and 3 with a cap of 1 + .5: −w·A·log π with w = .5, 1, 1.5, and a gradient of −w·A."""
    old = column(-1.0, -2.0, -3.0)
    logprobs = (old + column(math.log(0.5), 0.0, math.log(3.0))).requires_grad_()
    advantages = column(2.0, -1.0, 1.0)
    weights = column(0.5, 1.0, 1.5)
    loss = cispo(logprobs, old, advantages, 0.5)
    torch.testing.assert_close(loss, -weights * advantages * logprobs)
    torch.testing.assert_close(slope(loss, logprobs), -weights * advantages)


def test_the_policy_gradient_by_hand() -> None:
    logprobs = column(-1.0, -2.0).requires_grad_()
    loss = policy_gradient(logprobs, column(2.0, -0.5))
    torch.testing.assert_close(loss, column(2.0, -1.0))
    torch.testing.assert_close(slope(loss, logprobs), column(-2.0, 0.5))


def test_at_ratio_1_all_surrogates_have_one_gradient() -> None:
    old = column(-1.0, -2.0, -0.3)
    advantages = column(1.0, -2.0, 0.5)
    found = []
    for surrogate in (
        lambda x: ppo_clip(x, old, advantages, 0.2, 0.2),
        lambda x: cispo(x, old, advantages, 0.2),
        lambda x: policy_gradient(x, advantages),
    ):
        logprobs = old.clone().requires_grad_()
        found.append(slope(surrogate(logprobs), logprobs))
    for one in found:
        torch.testing.assert_close(one, -advantages)


def test_what_must_be_constant_is_asked_to_be() -> None:
    live, still = column(-1.0).requires_grad_(), column(-1.0)
    for wrong in (
        lambda: cispo(still, live, still, 0.2),
        lambda: cispo(still, still, live, 0.2),
        lambda: policy_gradient(still, live),
    ):
        with pytest.raises(ValueError, match="carries a gradient"):
            wrong()
    with pytest.raises(ValueError, match="the clip must have"):
        cispo(still, still, still, -0.1)


def test_over_branches_by_hand() -> None:
    """Answers of 2 and of 3 tokens, one after the other and mixed."""
    x = column(1.0, 3.0, 0.0, 6.0, 3.0)
    torch.testing.assert_close(over_branches(x, torch.tensor([0, 0, 1, 1, 1])), column(2.0, 2.0, 3.0, 3.0, 3.0))
    torch.testing.assert_close(over_branches(x, torch.tensor([1, 0, 1, 0, 0])), column(0.5, 4.0, 0.5, 4.0, 4.0))
    given = x.clone().requires_grad_()
    (over_branches(given, torch.tensor([0, 0, 1, 1, 1])) * column(1, 0, 0, 0, 0)).sum().backward()
    torch.testing.assert_close(given.grad, column(0.5, 0.5, 0, 0, 0))


def test_a_ratio_of_the_whole_answer_is_the_geometric_mean_of_its_tokens() -> None:
    old, logprobs = column(-1.0, -2.0), column(-0.5, -1.9)
    branch = torch.tensor([0, 0])
    found = ppo_clip(over_branches(logprobs, branch), over_branches(old, branch), column(-1.0, -1.0), 0.5, 0.5)
    ratio = math.sqrt(math.exp(0.5) * math.exp(0.1))
    torch.testing.assert_close(found, column(ratio, ratio))


def test_truncated_weights_by_hand() -> None:
    """e^.5 stays, e^2 is cut off at 2; nothing has a gradient, and C = ∞ is the ratio itself."""
    logprobs, sampler = column(-1.0, -1.0, -2.0).requires_grad_(), column(-1.5, -3.0, -1.0)
    found = truncated_weight(logprobs, sampler, 2.0)
    torch.testing.assert_close(found, column(math.exp(0.5), 2.0, math.exp(-1.0)))
    assert not found.requires_grad
    torch.testing.assert_close(truncated_weight(logprobs, sampler, math.inf), column(0.5, 2.0, -1.0).exp())
    with pytest.raises(ValueError, match="at least 1"):
        truncated_weight(logprobs, sampler, 0.5)


def test_untruncated_weights_are_unbiased() -> None:
    """E_sampler[π/π_sampler·f] = E_π[f], over four tokens; a cap makes it smaller."""
    policy, sampler = column(0.1, 0.2, 0.3, 0.4), column(0.4, 0.3, 0.2, 0.1)
    value = column(1.0, -2.0, 3.0, 0.5)
    free, capped = (truncated_weight(policy.log(), sampler.log(), cap) for cap in (math.inf, 2.0))
    assert float((sampler * free * value).sum()) == pytest.approx(float((policy * value).sum()))
    assert float((sampler * capped).sum()) < 1
