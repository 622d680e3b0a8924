"""Supervised fine-tuning: the loss of plain transformers, whatever the micro-batches; it learns, and learns to stop."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from keel.config import Sft
from keel.data.forest import Branch, Tree
from keel.models.roles import LanguageRole
from keel.rollout.generator import Request, Sampling
from keel.rollout.local import LocalGenerator
from keel.training.sft import fine_tune, mean_nll
from keel.types import Message
from models.small import padded, words

from .small import (
    BARE,
    BUDGETS,
    WIDTH,
    chat,
    check_equal,
    demonstration_trees,
    gradients_of,
    language,
    plain,
    record,
    rows_of,
    steps_of,
    unequal,
    weights,
)


def settings(**changes: object) -> Sft:
    given = {"batch_size": 100, "micro_tokens": 40, "optimizer": {"lr": 1e-3}, "log_every": 1}
    return Sft.model_validate(given | changes)


def loss_of(model: PreTrainedModel, trees: Sequence[Tree], side: str = "right") -> Tensor:
    """−mean log-prob of the trained tokens over one padded batch: the definition."""
    head = torch.zeros(WIDTH, dtype=next(model.parameters()).dtype)
    return -padded(model, head, trees, side).logprobs.mean()


def trained(
    policy: LanguageRole, trees: Sequence[Tree], directory: Path, held_out: Sequence[Tree] = (), **changes: object
) -> list[dict[str, float]]:
    """What a run logs."""
    with record(directory) as written:
        fine_tune(policy, trees, held_out, settings(**changes), 0, written)
    return rows_of(directory)


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2"])
def test_loss_and_gradient_equal_those_of_a_padded_batch(family: str, budget: int, tmp_path: Path) -> None:
    trees = demonstration_trees(random.Random(1), 7)
    model, policy = plain(family), language(family)
    theirs = loss_of(model, trees)
    assert mean_nll(policy, trees, budget) == pytest.approx(theirs.item(), rel=1e-10)
    assert mean_nll(policy, trees, budget) == pytest.approx(loss_of(model, trees, "left").item(), rel=1e-10)

    moved = steps_of(
        policy.select(), lambda: trained(policy, trees, tmp_path, micro_tokens=budget, optimizer=BARE.model_dump())
    )
    (row,) = rows_of(tmp_path)
    gradient = gradients_of(model, theirs)
    assert row["loss"] == pytest.approx(theirs.item(), rel=1e-10)
    assert row["grad_norm"] == pytest.approx(math.sqrt(sum(float(g.square().sum()) for g in gradient.values())))
    check_equal(moved, gradient, 1e-9)


def test_the_denominator_counts_the_tokens_of_the_step_and_not_of_the_micro_batch(tmp_path: Path) -> None:
    """Two demonstrations of 1 and 9 trained tokens: each token weighs a tenth."""
    chance = random.Random(2)
    trees = [
        Tree((5, 6), (Branch((7,), (True,)),)),
        Tree((8,), (Branch(tuple(chance.randrange(3, 60) for _ in range(9)), (True,) * 9),)),
    ]
    policy = language()
    alone = [mean_nll(policy, [tree], 1) for tree in trees]
    assert alone[0] != pytest.approx(alone[1], rel=0.1)
    (row,) = trained(policy, trees, tmp_path, micro_tokens=1)
    assert row["loss"] == pytest.approx((alone[0] + 9 * alone[1]) / 10, rel=1e-10)


def test_a_token_outside_the_mask_teaches_nothing_of_itself() -> None:
    """With one trained token, only what stands before it matters; the loss is that token's log-prob."""
    policy, model = language(), plain()
    for mask, place in (((True, False, False), 0), ((False, False, True), 2)):
        tree = Tree((5, 6), (Branch((7, 8, 9), mask),))
        logprobs = model(input_ids=torch.tensor([[5, 6, 7, 8, 9]]), use_cache=False).logits[0].log_softmax(-1)
        assert mean_nll(policy, [tree], 100) == pytest.approx(-logprobs[1 + place, 7 + place].item(), rel=1e-10)


def test_steps_epochs_and_the_rows_that_are_logged(tmp_path: Path) -> None:
    trees = demonstration_trees(random.Random(3), 10)
    held_out = demonstration_trees(random.Random(4), 4)
    policy = language(dtype=torch.float32)
    rows = trained(policy, trees, tmp_path, held_out, batch_size=4, epochs=3, log_every=4)
    assert [row["step"] for row in rows] == [1, 4, 8, 9]
    assert [round(row["lr"] / 1e-3 * 9) for row in rows] == [9, 6, 2, 1]
    assert all(row["skipped"] == 0 and row["tokens_per_second"] > 0 for row in rows)
    assert ["held_out/loss" in row for row in rows] == [False, False, False, True]
    assert rows[-1]["held_out/loss"] == pytest.approx(mean_nll(policy, held_out, 40), rel=1e-6)
    rows = trained(language(dtype=torch.float32), trees, tmp_path, batch_size=4, epochs=3, max_steps=2)
    assert [row["step"] for row in rows] == [1, 2]
    assert [round(row["lr"] / 1e-3 * 2) for row in rows] == [2, 1]  # the schedule knows that it ends early


def test_measuring_moves_nothing_and_keeps_no_graph() -> None:
    policy = language(dtype=torch.float32)
    before = weights(policy.select().state_dict().items())
    mean_nll(policy, demonstration_trees(random.Random(5), 3), 40)
    assert not unequal(before, policy.select().state_dict())
    assert all(parameter.grad is None for parameter in policy.parameters())


def test_a_run_is_a_function_of_its_seed(tmp_path: Path) -> None:
    trees = demonstration_trees(random.Random(6), 9)

    def weights_after(seed: int) -> dict[str, Tensor]:
        policy = language(dtype=torch.float32)
        with record(tmp_path / str(seed)) as written:
            fine_tune(policy, trees, [], settings(batch_size=2), seed, written)
        return weights(policy.select().state_dict().items())

    assert not unequal(weights_after(0), weights_after(0))
    assert unequal(weights_after(0), weights_after(1))


def test_it_overfits_to_the_floor_and_then_stops_by_itself(tmp_path: Path) -> None:
    """One prompt has two answers that part at their first token, so no model can go below 2·ln 2 over all tokens."""
    tongue = chat()
    said = [("w3 w4", "w10 w11"), ("w5 w6", "w12"), ("w6 w5", "w13 w14 w15 w16"), ("w7", "w17"), ("w7", "w18 w19")]
    trees = [tongue.demonstration((Message("user", asked), Message("assistant", answer))) for asked, answer in said]
    tokens = sum(len(tree.branches[0].tokens) for tree in trees)
    assert tokens == sum(len(answer.split()) + 1 for _, answer in said)  # EOS is trained
    floor = 2 * math.log(2) / tokens
    policy = language("qwen3", torch.float32)
    rates = {"lr": 1e-2, "schedule": "cosine", "weight_decay": 0.0}
    rows = trained(policy, trees, tmp_path, batch_size=5, epochs=120, optimizer=rates, log_every=10, micro_tokens=4096)
    assert rows[0]["loss"] > 2
    end = mean_nll(policy, trees, 40)
    assert floor - 1e-4 <= end <= floor + 0.02

    generator = LocalGenerator(policy.select(), words())
    requests = [Request(tree.trunk, 0, Sampling(20, temperature=0.0)) for tree in trees]
    answers = generator.generate(requests)
    assert [one.stop for one in answers] == ["eos"] * 5
    assert [one.tokens for one in answers[:3]] == [tree.branches[0].tokens for tree in trees[:3]]
    assert answers[3].tokens in {tree.branches[0].tokens for tree in trees[3:]}
