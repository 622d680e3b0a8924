"""What the roles read in a rollout equals plain transformers on its whole sequence, whatever stands beside it."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
import torch

from keel.training.annotate import annotate, settled, tree_of, trees_of, value
from keel.types import Annotated, Rollout, Sample
from models.small import some

from .small import BUDGETS, cast, head, language, numbers, plain, read, rollout, scalar, scored


def rollouts(chance: random.Random) -> list[Rollout]:
    """Answers to three prompts, one of them drawn again at once and again later, one with a search result."""
    found = []
    for prompt, answers in (((5, 6, 7), 2), ((9, 8), 1), ((9, 8), 2), ((8, 9), 1), ((5, 6, 7), 1)):
        for _ in range(answers):
            found.append(rollout(prompt, some(chance, chance.randrange(1, 8))))
    searched = some(chance, 7)
    found.append(rollout((3, 5), searched, (True, True, False, False, False, True, True)))
    return found


def sampled(one: Rollout, numbers_: torch.Tensor) -> list[float]:
    """Of the numbers at tokens 1, 2, … of the whole sequence those that belong to sampled tokens."""
    first = len(one.prompt_tokens) - 1
    return [float(numbers_[first + place]) for place, mine in enumerate(one.mask) if mine]


@pytest.mark.parametrize(("family", "temperature"), [("llama", 0.7), ("qwen3", 2.0), ("gpt2", 1.0)])
def test_logprobs_are_those_of_each_sequence_alone_at_the_sampling_temperature(family: str, temperature: float) -> None:
    mine, theirs = plain(family), plain(family, seed=4)
    given = rollouts(random.Random(1))
    with torch.no_grad():
        own = [sampled(one, read(mine, one.prompt_tokens + one.tokens, temperature)) for one in given]
        frozen = [sampled(one, read(theirs, one.prompt_tokens + one.tokens, temperature)) for one in given]
    for budget in BUDGETS:
        policy, reference = language(family), language(family, seed=4)
        found = annotate([scored(one) for one in given], policy, reference, temperature, budget)
        assert [one.scored.rollout for one in found] == given
        for one, logprobs, others in zip(found, own, frozen, strict=True):
            assert one.logprobs == pytest.approx(logprobs, abs=1e-6)
            assert one.reference_logprobs == pytest.approx(others, abs=1e-6)


@pytest.mark.parametrize("budget", BUDGETS)
def test_values_are_those_of_the_state_before_each_sampled_token(budget: int) -> None:
    given = rollouts(random.Random(2))
    annotated = [Annotated(scored(one), one.logprobs, one.logprobs) for one in given]
    found = value(annotated, scalar(), budget)
    model, weight = plain(), head().weight.detach()
    for one, other in zip(found, given, strict=True):
        with torch.no_grad():
            states = numbers(model, weight, other.prompt_tokens + other.tokens)[:-1]
        assert one.values == pytest.approx(sampled(other, states), abs=1e-6)
        assert (one.scored.rollout, one.logprobs, one.reference_logprobs) == (other, other.logprobs, other.logprobs)


def test_reading_leaves_no_gradient_behind() -> None:
    roles = cast()
    given = [scored(one) for one in rollouts(random.Random(3))]
    value(annotate(given, roles.policy, roles.reference, 1.0, 40), roles.critic, 40)
    assert all(p.grad is None for p in (*roles.policy.parameters(), *roles.critic.parameters()))


def branches(found: Sequence[object]) -> list[int]:
    return [len(tree.branches) for tree in found]  # type: ignore[attr-defined]


def test_neighbours_of_one_prompt_share_a_trunk_and_the_order_is_kept() -> None:
    given = rollouts(random.Random(4))
    trees = trees_of(given)
    assert branches(trees) == [2, 3, 1, 1, 1]  # (9, 8), drawn twice in a row, is one tree
    assert [tree.trunk for tree in trees] == [(5, 6, 7), (9, 8), (8, 9), (5, 6, 7), (3, 5)]
    flat = [branch for tree in trees for branch in tree.branches]
    assert [branch.tokens for branch in flat] == [one.tokens for one in given]
    assert [branch.mask for branch in flat] == [one.mask for one in given]
    assert tree_of(given[:2]) == trees[0]


def test_log_probs_of_samples_find_their_rollouts() -> None:
    """In whatever order they come."""
    first, second = (Annotated(scored(rollout((3,), (token, token))), (-1.0, -1.0), (0.0, 0.0)) for token in (4, 5))
    samples = [
        Sample(one.scored.rollout, (own, own), (0.0, 0.0), (0.0, 0.0), (1.0, 1.0))
        for own, one in ((-3.0, second), (-2.0, first))
    ]
    assert [one.logprobs for one in settled([first, second], samples)] == [(-2.0, -2.0), (-3.0, -3.0)]
    assert [one.scored for one in settled([first, second], samples)] == [first.scored, second.scored]
