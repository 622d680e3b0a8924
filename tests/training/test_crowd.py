"""Annotators learnt along with the scores: by hand, by the fit without a model, and through a reward model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from keel.config import Reward
from keel.errors import UserError
from keel.preferences.assign import Overlap, plan
from keel.preferences.bradley_terry import compared
from keel.preferences.crowd_bradley_terry import _Model
from keel.preferences.judgement import Judgement, collect
from keel.training.comparisons import Comparisons, Pair
from keel.training.crowd import Crowd
from keel.training.reward import fit_reward, scores
from keel.types import Vote
from preferences.tables import item

from .small import pair_tree, record, rows_of, scalar

CPU = torch.device("cpu")


def of(*votes: Vote) -> Comparisons:
    return Comparisons(pair_tree((5,), (6,), (7,)), (Pair(0, 1, 1.0, 0.0, votes),))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_by_hand() -> None:
    """Two people with η = 10/11 and 0.5, who lean by 0 and 1; the second pair has one vote."""
    pairs = [of(Vote("a", 1.0, 1), Vote("b", 0.0, -1)), of(Vote("b", 1.0, 1))]
    crowd = Crowd(pairs, 1, CPU)
    assert crowd.names == ("a", "b")
    with torch.no_grad():
        crowd.honesty[1] = 0.0
        crowd.lean[1] = 1.0
    found = crowd.surprise(torch.tensor([2.0, -1.0]), [one.pairs[0] for one in pairs])
    said = 10 / 11 * sigmoid(2) + 1 / 11 * sigmoid(-2)
    expected = torch.tensor([-math.log(said) + math.log(2), math.log(2)])
    torch.testing.assert_close(found, expected)
    # −log of the density η¹⁰(1 − η) of logit η, and b²/2, over two prompts
    densities = [10 / 11, 1 / 2]
    prior = -sum(10 * math.log(eta) + math.log(1 - eta) for eta in densities) + 1 / 2
    assert crowd.prior().item() == pytest.approx(prior / 2, rel=1e-6)


def judged(people: Sequence[tuple[str, float, float]], count: int) -> tuple[list[Judgement], list[float]]:
    """Votes of (name, η, b) about `count` items of two answers, and the differences of the answers' scores."""
    chance = np.random.default_rng(3)
    items = [item(f"i{place}", "one", "two") for place in range(count)]
    gaps = chance.normal(0, 1.5, count)
    said = []
    for one in plan(items, [name for name, _, _ in people], Overlap(1.0, len(people)), seed=1):
        _, eta, lean = next(who for who in people if who[0] == one.annotator)
        side = 1 if one.shown == (0, 1) else -1
        first = chance.random() < sigmoid(gaps[int(one.item[1:])] + lean * side)
        first = first if chance.random() < eta else not first
        left = first == (side == 1)
        said.append(Judgement(one.item, one.annotator, one.shown, "comparison", -1 if left else 1))
    return said, gaps.tolist()


PEOPLE = (("ann", 0.97, 0.0), ("bob", 0.95, 0.8), ("cy", 0.9, 0.0), ("dee", 0.5, 0.0), ("eve", 0.97, -0.3))


def pairs_of(said: Sequence[Judgement]) -> list[Comparisons]:
    """One pair for each item, with all its votes, the first answer as the chosen one."""
    votes = collect(said)
    rows: list[list[Vote]] = [[] for _ in votes.pairs]
    for pair, who, label, side in zip(votes.pair, votes.annotator, votes.label, votes.side, strict=True):
        rows[pair].append(Vote(votes.annotators[who], 1 - float(label) / 2, int(side)))
    return [of(*row) for row in rows]


def test_with_free_scores_it_is_the_likelihood_of_the_fit_without_a_model() -> None:
    """The same likelihood, written twice: value and slopes, at a point where nothing is special."""
    said, _ = judged(PEOPLE, 40)
    votes = collect(said)
    items = [item(f"i{place}", "one", "two") for place in range(40)]
    model = _Model(votes, *compared(items, votes), deviation=1.5)
    chance = np.random.default_rng(2)
    people, free = model.start() + chance.normal(0, 0.7, 10), chance.normal(0, 1, model.size)
    gap = free[model.first] - free[model.second]
    told = model._votes(gap, people)
    _, by_scores = model.of_scores(free, people)

    rows = pairs_of(said)
    crowd = Crowd(rows, 1, CPU)
    honesty, lean, _ = model.split(people)
    order = [votes.annotators.index(name) for name in crowd.names]
    with torch.no_grad():
        crowd.honesty.copy_(torch.tensor(honesty[order]))
        crowd.lean.copy_(torch.tensor(lean[order]))
    scores = torch.tensor(free, requires_grad=True)
    surprise = crowd.surprise(scores[model.first] - scores[model.second], [row.pairs[0] for row in rows]).sum()
    assert surprise.item() == pytest.approx(told.surprise.sum(), rel=1e-5)
    surprise.backward()
    assert crowd.honesty.grad is not None
    assert crowd.lean.grad is not None
    assert scores.grad is not None
    by_honesty = np.bincount(votes.annotator, weights=told.by_honesty)[order]
    by_lean = np.bincount(votes.annotator, weights=told.by_z * votes.side)[order]
    assert crowd.honesty.grad.numpy() == pytest.approx(by_honesty, rel=1e-3, abs=1e-4)
    assert crowd.lean.grad.numpy() == pytest.approx(by_lean, rel=1e-3, abs=1e-4)
    assert scores.grad.numpy() == pytest.approx(by_scores - free / 1.5**2, rel=1e-3, abs=1e-4)


def settings(**changes: object) -> Reward:
    given = {"batch_size": 20, "micro_tokens": 400, "optimizer": {"lr": 3e-3}, "log_every": 1, "epochs": 12}
    return Reward.model_validate({**given, "annotators": "learned", **changes})


def test_a_reward_model_sees_through_who_does_not_read(tmp_path: Path) -> None:
    """Answers that begin with a high token are better. Two of five press without reading, always the left or the other
    way round; they are found, and the model learns what the readers mean."""
    chance = np.random.default_rng(0)
    people = {"ann": 0.97, "bob": 0.97, "cy": 0.97, "dee": 0.5, "eve": 0.05}
    rows = []
    for _ in range(240):
        one, other = chance.choice(np.arange(20, 60), 2, replace=False)
        first_is_better = one > other
        votes = []
        for name in chance.choice(list(people), 3, replace=False):
            agrees = chance.random() < people[name]
            votes.append(Vote(str(name), float(first_is_better == agrees), int(chance.choice([-1, 1]))))
        tree = pair_tree((5,), (int(one), 1), (int(other), 1))
        rows.append(Comparisons(tree, (Pair(0, 1, 1.0, 0.0, tuple(votes)),)))
    model = scalar(dtype=torch.float32)
    with record(tmp_path) as kept:
        crowd = fit_reward(model, rows, [], settings(), 0, kept)
    assert crowd is not None
    found = {name: one.reliability for name, one in crowd.estimated().items()}
    assert min(found[name] for name in ("ann", "bob", "cy")) > 0.85
    assert 0.3 < found["dee"] < 0.75
    assert found["eve"] < 0.3
    tokens = range(20, 60)
    ranked = scores(model, [pair_tree((5,), (token, 1), (token, 1)) for token in tokens], None)[::2]
    assert np.corrcoef(np.arange(40), ranked.argsort().argsort().numpy())[0, 1] > 0.8


def test_the_loss_of_a_step_is_the_votes_and_the_prior(tmp_path: Path) -> None:
    """Three prompts in one step, before anything has moved: all votes over the prompts, and the prior's share."""
    rows = [
        Comparisons(pair_tree((5,), (6 + n,), (9, n + 3)), (Pair(0, 1, 1.0, 0.0, votes),))
        for n, votes in enumerate(
            [(Vote("ann", 1.0, 1),), (Vote("bob", 0.0, -1), Vote("ann", 0.5, 0)), (Vote("cy", 1.0, 1),)]
        )
    ]
    model = scalar(dtype=torch.float32)
    said = scores(model, [row.tree for row in rows], None)
    fresh = Crowd(rows, 1, CPU)
    votes = fresh.surprise(said[::2] - said[1::2], [row.pairs[0] for row in rows])
    expected = (votes.sum() / 3 + fresh.prior()).item()
    assert fresh.prior().item() == pytest.approx(-(10 * math.log(10 / 11) + math.log(1 / 11)))  # three people, a third
    with record(tmp_path) as kept:
        fit_reward(model, rows, [], settings(max_steps=1, centring=0.0), 0, kept)
    assert rows_of(tmp_path)[0]["loss"] == pytest.approx(expected, rel=1e-5)


def test_pairs_without_votes_are_refused() -> None:
    with pytest.raises(UserError, match="these pairs have an outcome only"):
        Crowd([of(Vote("a", 1.0, 1)), of()], 1, CPU)


def test_its_state_comes_back() -> None:
    rows = [of(Vote("a", 1.0, 1), Vote("b", 0.0, -1))]
    crowd = Crowd(rows, 3, CPU)
    for _ in range(2):
        (crowd.surprise(torch.tensor([1.0]), [rows[0].pairs[0]]).sum() + crowd.prior()).backward()
        crowd.move()
    held = crowd.state()
    other = Crowd(rows, 3, CPU)
    other.restore(replace(held, tensors={name: one.clone() for name, one in held.tensors.items()}))
    assert other.estimated() == crowd.estimated()
    for one in (crowd, other):
        (one.surprise(torch.tensor([1.0]), [rows[0].pairs[0]]).sum() + one.prior()).backward()
        one.move()
    assert other.estimated() == crowd.estimated()
    with pytest.raises(ValueError, match="the annotators were"):
        Crowd([of(Vote("c", 1.0, 1))], 3, CPU).restore(held)
