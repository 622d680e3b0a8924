"""The policy straight from preferences: every loss by its definition over plain transformers, metrics by hand."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from keel.config import Dpo
from keel.data.forest import Branch, Tree
from keel.models.roles import LanguageRole
from keel.training.comparisons import Comparisons, Pair
from keel.training.order import visits
from keel.training.pairs import Answers, Pairs, pair_losses
from keel.training.preference import (
    Contested,
    Single,
    learn_preferences,
    learn_singles,
    measure_pairs,
    measure_singles,
    read_reference,
)
from models.small import some

from .small import (
    BARE,
    BUDGETS,
    check_equal,
    gradients_of,
    language,
    pair_tree,
    plain,
    read,
    record,
    rows_of,
    steps_of,
    unequal,
    weights,
)

CASES: dict[str, dict[str, Any]] = {
    "dpo": {"beta": 0.3},
    "dpo with margins": {"beta": 0.3, "margin": "stated"},
    "cdpo": {"loss": "cdpo", "beta": 0.3, "flips": 0.2},
    "cdpo with margins": {"loss": "cdpo", "beta": 0.3, "flips": 0.2, "margin": "stated"},
    "robust": {"loss": "robust", "beta": 0.3, "flips": 0.2},
    "ipo": {"loss": "ipo", "beta": 0.4},
    "ipo per token": {"loss": "ipo", "beta": 0.4, "length": "mean"},
    "orpo": {"loss": "orpo", "beta": 0.7},
    "simpo": {"loss": "simpo", "beta": 1.5, "gamma": 0.6},
}
STRENGTH = {"dpo": 0.1, "cdpo": 0.1, "robust": 0.1, "ipo": 0.1, "kto": 0.1, "orpo": 0.1, "simpo": 2.0}
"""β where a recipe names none, by the losses' sources."""


def settings(**changes: Any) -> Dpo:
    given = {"batch_size": 100, "micro_tokens": 40, "optimizer": BARE.model_dump(), "log_every": 1}
    return Dpo.model_validate(given | changes)


def branch(chance: random.Random, length: int) -> Branch:
    """Trained tokens with holes between them, at least one trained."""
    mask = [chance.random() < 0.7 for _ in range(length)]
    mask[chance.randrange(length)] = True
    return Branch(some(chance, length), tuple(mask))


def random_prompts(chance: random.Random, count: int) -> list[Comparisons]:
    """Two to five answers each; some of their pairs, each way round, with soft labels, ties and margins."""
    found = []
    for place in range(count):
        tree = Tree(
            some(chance, chance.randrange(1, 6)),
            tuple(branch(chance, chance.randrange(1, 7)) for _ in range(2 + place % 4)),
        )
        every = [
            two if chance.random() < 0.5 else two[::-1] for two in itertools.combinations(range(len(tree.branches)), 2)
        ]
        chosen = chance.sample(every, chance.randrange(1, len(every) + 1))
        labels = ((chance.choice((1.0, 0.5, 0.8, 0.3)), chance.choice((0.0, 0.5))) for _ in chosen)
        found.append(Comparisons(tree, tuple(Pair(*two, p, m) for two, (p, m) in zip(chosen, labels, strict=True))))
    return found


def total(model: PreTrainedModel, tree: Tree, one: Branch) -> Tensor:
    """log π of an answer: the sum over its trained tokens, from the whole sequence read alone."""
    logprobs = read(model, tree.trunk + one.tokens)[len(tree.trunk) - 1 :]
    return logprobs[torch.tensor(one.mask)].sum()


@torch.no_grad()
def totals(model: PreTrainedModel, tree: Tree) -> tuple[float, ...]:
    return tuple(float(total(model, tree, one)) for one in tree.branches)


def contested(prompts: Sequence[Comparisons], seed: int = 1) -> list[Contested]:
    """With another model as the reference."""
    model = plain(seed=seed)
    return [Contested(one, totals(model, one.tree)) for one in prompts]


def surprise(x: Tensor) -> Tensor:
    """−log σ(x)"""
    return torch.log1p(torch.exp(-x))


def loss_of_pair(given: Mapping[str, Any], sides: Sequence[tuple[Tensor, float, int]], p: float, m: float) -> Tensor:
    """The definitions, from (log π, log π_ref, trained tokens) of the two answers; in expectation over the label."""
    beta, e = given["beta"], given.get("flips", 0.0)
    ratio = [mine - theirs for mine, theirs, _ in sides]
    mean = [mine / tokens for mine, _, tokens in sides]
    h, m = ratio[0] - ratio[1], m if given.get("margin") == "stated" else 0.0

    def expected(loss: Callable[[float], Tensor]) -> Tensor:
        """Of a loss on the pair (+1) and on the pair turned round (−1)."""
        return p * loss(1) + (1 - p) * loss(-1)

    match given.get("loss", "dpo"):
        case "dpo":
            return expected(lambda side: surprise(side * beta * h - m))
        case "cdpo":
            return expected(lambda s: (1 - e) * surprise(s * beta * h - m) + e * surprise(-s * beta * h - m))
        case "robust":
            return expected(lambda s: ((1 - e) * surprise(s * beta * h) - e * surprise(-s * beta * h)) / (1 - 2 * e))
        case "ipo":
            if given.get("length") == "mean":
                h = ratio[0] / sides[0][2] - ratio[1] / sides[1][2]
            return expected(lambda side: (side * h - 1 / (2 * beta)) ** 2)
        case "simpo":
            return expected(lambda side: surprise(side * beta * (mean[0] - mean[1]) - given["gamma"]))
        case "orpo":
            odds = [one - torch.log(1 - torch.exp(one)) for one in mean]
            likely = p * mean[0] + (1 - p) * mean[1]
            return -likely + beta * expected(lambda side: surprise(side * (odds[0] - odds[1])))
        case other:
            raise ValueError(other)


def loss_of(model: PreTrainedModel, given: Mapping[str, Any], prompts: Sequence[Contested]) -> Tensor:
    """Every prompt weighs the same, whatever the number of its pairs."""
    whole = torch.zeros((), dtype=torch.float64)
    for one in prompts:
        tree = one.comparisons.tree
        mine = [
            (total(model, tree, each), theirs, sum(each.mask))
            for each, theirs in zip(tree.branches, one.reference, strict=True)
        ]
        for pair in one.comparisons.pairs:
            sides = [mine[pair.chosen], mine[pair.rejected]]
            loss = loss_of_pair(given, sides, pair.probability, pair.margin)
            whole = whole + loss / len(one.comparisons.pairs) / len(prompts)
    return whole


@torch.no_grad()
def metrics_of(model: PreTrainedModel, given: Mapping[str, Any], prompts: Sequence[Contested]) -> dict[str, float]:
    """Pair by pair, ties left out: the preferred answer's gain and the other's."""
    found = []
    for one in prompts:
        tree = one.comparisons.tree
        gains = []
        for each, mine, theirs in zip(tree.branches, totals(model, tree), one.reference, strict=True):
            tokens = sum(each.mask)
            free = given.get("loss") in ("orpo", "simpo")
            gains.append(mine / tokens if free else (mine - theirs) / (tokens if given.get("length") else 1))
        for pair in one.comparisons.pairs:
            two = gains[pair.chosen], gains[pair.rejected]
            if pair.probability != 0.5:
                found.append(two if pair.probability > 0.5 else two[::-1])
    ties = sum(pair.probability == 0.5 for one in prompts for pair in one.comparisons.pairs)
    assert 0 < ties < len(found)
    better, worse = zip(*found, strict=True)
    chosen, rejected = sum(better) / len(found), sum(worse) / len(found)
    return {
        "accuracy": sum(b > w for b, w in found) / len(found),
        "margin": given["beta"] * (chosen - rejected),
        "chosen": chosen,
        "rejected": rejected,
    }


def learn(role: LanguageRole, prompts: Sequence[Contested], chosen: Dpo, directory: Path, **others: Any) -> Any:
    with record(directory) as written:
        learn_preferences(role, prompts, others.get("held_out", []), chosen, 0, written)
    return rows_of(directory)


@pytest.mark.parametrize("case", CASES)
def test_one_step_is_the_gradient_of_the_definition(case: str, tmp_path: Path) -> None:
    """Whatever the micro-batches."""
    prompts, given, model = contested(random_prompts(random.Random(1), 8)), CASES[case], plain()
    loss = loss_of(model, given, prompts)
    expected, gradient = metrics_of(model, given, prompts), gradients_of(model, loss)
    for budget in BUDGETS:
        role = language()
        go = partial(learn, role, prompts, settings(micro_tokens=budget, **given), tmp_path / str(budget))
        check_equal(steps_of(role.select(), go), gradient, 1e-6)
        (row,) = rows_of(tmp_path / str(budget))
        assert row["loss"] == pytest.approx(loss.item(), rel=1e-9)
        assert {name: row[name] for name in expected} == pytest.approx(expected, rel=1e-9)
        assert 0 < row["accuracy"] < 1


def test_a_step_learns_from_its_own_batch_only(tmp_path: Path) -> None:
    """The second of three batches, in the seeded order; the weights do not move in the first."""
    prompts = contested(random_prompts(random.Random(2), 8))
    _, second, _ = visits(8, 3, 1, None, 0)
    model, role = plain(), language()
    rates = {"optimizer": {**BARE.model_dump(), "lr": 1e-30}, "batch_size": 3}
    rows = learn(role, prompts, settings(**CASES["dpo"], **rates), tmp_path)
    batch = [prompts[place] for place in second]
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert rows[1]["loss"] == pytest.approx(loss_of(model, CASES["dpo"], batch).item(), rel=1e-9)


def test_which_answer_stands_first_does_not_matter(tmp_path: Path) -> None:
    """Swapped answers with p → 1 − p: the same loss, metrics and gradient."""
    prompts = contested(random_prompts(random.Random(3), 8))
    turned = [
        replace(
            one,
            comparisons=replace(
                one.comparisons,
                pairs=tuple(
                    Pair(pair.rejected, pair.chosen, 1 - pair.probability, pair.margin)
                    for pair in one.comparisons.pairs
                ),
            ),
        )
        for one in prompts
    ]
    for case, given in CASES.items():
        mine, theirs = (measure_pairs(language(), each, settings(**given)) for each in (prompts, turned))
        assert mine == pytest.approx(theirs, rel=1e-9), case


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"loss": "dpo"}, math.log(2)),
        ({"loss": "cdpo", "flips": 0.2}, math.log(2)),
        ({"loss": "robust", "flips": 0.2}, math.log(2)),
        ({"loss": "ipo"}, 25.0),  # 1/(4τ²), τ = .1
        ({"loss": "ipo", "beta": 0.5, "length": "mean"}, 1.0),
    ],
)
def test_the_first_loss_is_known(changes: dict[str, Any], expected: float, tmp_path: Path) -> None:
    """At π = π_ref, whatever the pairs and their labels."""
    prompts, role = random_prompts(random.Random(4), 7), language()
    reference = read_reference(role, [one.tree for one in prompts], 30)
    given = [Contested(one, sums) for one, sums in zip(prompts, reference, strict=True)]
    (row,) = learn(role, given, settings(micro_tokens=70, **changes), tmp_path)
    assert row["loss"] == pytest.approx(expected, abs=1e-6)
    assert (row["margin"], row["chosen"], row["rejected"]) == pytest.approx((0, 0, 0), abs=1e-6)


@pytest.mark.parametrize("budget", BUDGETS)
def test_the_reference_is_what_the_frozen_model_reads(budget: int) -> None:
    """Tree by tree, branch by branch, over trained tokens only."""
    prompts, role = random_prompts(random.Random(5), 9), language(seed=3)
    found = read_reference(role, [one.tree for one in prompts], budget)
    expected = [totals(plain(seed=3), one.tree) for one in prompts]
    assert [len(one) for one in found] == [len(one) for one in expected]
    for mine, theirs in zip(found, expected, strict=True):
        assert mine == pytest.approx(theirs, abs=1e-9)
    assert all(parameter.grad is None for parameter in role.parameters())


def test_every_prompt_weighs_the_same(tmp_path: Path) -> None:
    """Of ten pairs of one prompt and one of another, each prompt has half of the loss."""
    chance = random.Random(6)
    answers = tuple(branch(chance, 4) for _ in range(5))
    every = tuple(Pair(*two, 1.0, 0.0) for two in itertools.combinations(range(5), 2))
    many = contested([Comparisons(Tree((5, 6), answers), every)])
    one = contested([Comparisons(pair_tree((7,), (8, 9), (10,)), (Pair(0, 1, 1.0, 0.0),))])
    chosen = settings(beta=0.3)
    alone = [measure_pairs(language(), each, chosen)["loss"] for each in (many, one)]
    assert measure_pairs(language(), [*many, *one], chosen)["loss"] == pytest.approx(sum(alone) / 2)
    assert alone[0] != pytest.approx(alone[1], rel=0.1)


def test_defaults_are_those_of_the_sources() -> None:
    for loss, strength in STRENGTH.items():
        assert Dpo.model_validate({"loss": loss}).strength == strength
        assert Dpo.model_validate({"loss": loss}).has_reference is (loss not in ("orpo", "simpo"))


def test_held_out_pairs_are_measured_after_the_last_step(tmp_path: Path) -> None:
    given = CASES["cdpo with margins"]
    prompts, held_out = (contested(random_prompts(random.Random(seed), 6)) for seed in (7, 8))
    chosen = settings(batch_size=2, epochs=2, log_every=4, optimizer={"lr": 1e-3}, **given)
    role = language()
    rows = learn(role, prompts, chosen, tmp_path, held_out=held_out)
    assert [row["step"] for row in rows] == [1, 4, 6]
    assert ["held_out/loss" in row for row in rows] == [False, False, True]
    model = role.select()
    model.set_attn_implementation("by_the_book")
    expected = {"loss": loss_of(model, given, held_out).item(), **metrics_of(model, given, held_out)}
    assert {name: rows[-1][f"held_out/{name}"] for name in expected} == pytest.approx(expected, rel=1e-6)


def test_ties_have_no_accuracy(tmp_path: Path) -> None:
    ties = contested([Comparisons(pair_tree((5,), (6,), (7, 8)), (Pair(0, 1, 0.5, 0.0),))])
    (row,) = learn(language(), ties, settings(), tmp_path, held_out=ties)
    for name in ("accuracy", "margin", "chosen", "rejected"):
        assert row[name] is row[f"held_out/{name}"] is None  # JSON has no nan
    assert math.isfinite(row["loss"])


def test_equal_gains_are_not_right(tmp_path: Path) -> None:
    """As the model starts, nothing is ahead of anything."""
    role = language()
    one = Comparisons(pair_tree((5,), (6,), (7, 8)), (Pair(0, 1, 1.0, 0.0), Pair(1, 0, 1.0, 0.0)))
    (sums,) = read_reference(role, [one.tree], 40)
    assert measure_pairs(role, [Contested(one, sums)], settings())["accuracy"] == 0


def test_a_run_is_a_function_of_its_seed_and_not_of_micro_batches(tmp_path: Path) -> None:
    prompts = contested(random_prompts(random.Random(9), 7))
    found = {}
    for name, budget, seed in (("a", 40, 0), ("b", 40, 0), ("c", 100_000, 0), ("d", 40, 1)):
        role = language(dtype=torch.float32)
        chosen = settings(batch_size=2, optimizer={"lr": 1e-3}, micro_tokens=budget)
        with record(tmp_path / name) as written:
            learn_preferences(role, prompts, [], chosen, seed, written)
        found[name] = weights(role.named_parameters()), [row["loss"] for row in rows_of(tmp_path / name)]
    assert not unequal(found["a"][0], found["b"][0])
    assert found["c"][1] == pytest.approx(found["a"][1], rel=1e-3)
    assert found["d"][1] != pytest.approx(found["a"][1], rel=1e-3)


def test_kto_has_no_pairs() -> None:
    one = torch.ones(1)
    pairs = Pairs(torch.tensor([0]), torch.tensor([0]), one, one)
    with pytest.raises(ValueError, match="kto learns from single answers"):
        pair_losses(settings(loss="kto"), Answers(one, one, one), pairs)


# Single answers

GAINS = (0.5, -0.4, 1.5, 2.0, 0.1, -1.0, 0.9)
LABELS = (True, True, False, True, False, False, True)


def singles(mismatched: Sequence[float], gains: Sequence[float] = GAINS) -> list[Single]:
    """Answers on which the model of seed 0 has gained so much, beside others on which it has gained `mismatched`."""
    chance, model = random.Random(10), plain()
    found = []
    for gain, other, good in zip(gains, mismatched, LABELS, strict=False):
        trunk = some(chance, chance.randrange(1, 6))
        mine, theirs = (Tree(trunk, (branch(chance, chance.randrange(1, 7)),)) for _ in range(2))
        (own,), (foreign,) = totals(model, mine), totals(model, theirs)
        found.append(Single(mine, theirs, good, own - gain, foreign - other))
    return found


def kto_by_hand(gains: Sequence[Any], baseline: float, beta: float, good: float, bad: float) -> Any:
    """λ_D·(1 − σ(β(r − z₀))) and λ_U·(1 − σ(β(z₀ − r))), their mean."""
    losses = [
        good / (1 + (beta * (r - baseline)).exp()) if label else bad / (1 + (beta * (baseline - r)).exp())
        for r, label in zip(gains, LABELS, strict=False)
    ]
    return sum(losses) / len(losses)


WEIGHTS = {"beta": 0.3, "desirable_weight": 1.3, "undesirable_weight": 0.8}


@pytest.mark.parametrize(
    ("mismatched", "baseline"),
    [((0.2, 0.9, -0.3, 1.2, 0.4, 0.8, 1.0), 0.6), ((-1.0, 0.2, -0.3, 0.4, -2.0, 0.1, -0.2), 0.0)],
)
@pytest.mark.parametrize("budget", BUDGETS)
def test_one_step_of_kto_is_the_gradient_of_the_definition(
    budget: int, mismatched: tuple[float, ...], baseline: float, tmp_path: Path
) -> None:
    answers, model, role = singles(mismatched), plain(), language()
    gains = [total(model, one.tree, one.tree.branches[0]) - one.reference for one in answers]
    loss = kto_by_hand(gains, baseline, 0.3, 1.3, 0.8)

    def go() -> None:
        with record(tmp_path) as written:
            learn_singles(role, answers, [], settings(loss="kto", micro_tokens=budget, **WEIGHTS), 0, written)

    moved = steps_of(role.select(), go)
    check_equal(moved, gradients_of(model, loss), 1e-6)
    (row,) = rows_of(tmp_path)
    assert row["baseline"] == pytest.approx(baseline, abs=1e-6)
    assert row["loss"] == pytest.approx(loss.item(), rel=1e-7)
    # by hand: good ones are right above the baseline, bad ones below it
    right = {0.6: 2 + 2, 0.0: 3 + 1}[baseline]
    assert row["accuracy"] == pytest.approx(right / 7)
    assert row["chosen"] == pytest.approx((0.5 - 0.4 + 2.0 + 0.9) / 4, abs=1e-9)
    assert row["rejected"] == pytest.approx((1.5 + 0.1 - 1.0) / 3, abs=1e-9)


def test_the_baseline_is_that_of_the_step(tmp_path: Path) -> None:
    """Of its own batch, by the weights before the step: the second of three batches."""
    mismatched = (0.2, 0.9, -0.3, 1.2, 0.4, 0.8, 1.0)
    answers = singles(mismatched)
    _, second, _ = visits(7, 3, 1, None, 0)
    rates = {"optimizer": {**BARE.model_dump(), "lr": 1e-30}, "batch_size": 3}
    with record(tmp_path) as written:
        learn_singles(language(), answers, [], settings(loss="kto", **rates), 0, written)
    expected = max(0.0, sum(mismatched[place] for place in second) / 3)
    assert expected > 0
    assert rows_of(tmp_path)[1]["baseline"] == pytest.approx(expected, abs=1e-6)


def test_the_first_loss_of_kto_is_known(tmp_path: Path) -> None:
    """Half of the weights' mean at π = π_ref, where no answer is on its side yet."""
    role, answers = language(), singles((0.0,) * 7)
    trees = [tree for one in answers for tree in (one.tree, one.mismatched)]
    sums = [number for (number,) in read_reference(role, trees, 40)]
    read_ = [
        replace(one, reference=mine, mismatched_reference=other)
        for one, mine, other in zip(answers, sums[::2], sums[1::2], strict=True)
    ]
    found = measure_singles(role, read_, settings(loss="kto", desirable_weight=1.2, undesirable_weight=0.6))
    assert found["loss"] == pytest.approx((4 * 1.2 + 3 * 0.6) / 7 / 2, abs=1e-9)
    assert found["accuracy"] == 0
    assert found["chosen"] == found["rejected"] == 0


def test_a_batch_of_one_kind_says_nothing_of_the_other(tmp_path: Path) -> None:
    good, bad = ([one for one in singles((0.0,) * 7) if one.desirable is kind] for kind in (True, False))
    found = [measure_singles(language(), each, settings(loss="kto")).keys() for each in (good, bad)]
    assert found == [{"loss", "accuracy", "chosen"}, {"loss", "accuracy", "rejected"}]


def test_held_out_answers_are_measured_after_the_last_step(tmp_path: Path) -> None:
    answers = singles((0.2,) * 7)
    chosen = settings(loss="kto", batch_size=2, optimizer={"lr": 1e-3}, log_every=3, **WEIGHTS)
    role = language()
    with record(tmp_path) as written:
        learn_singles(role, answers[:4], answers[4:], chosen, 0, written)
    rows = rows_of(tmp_path)
    assert [row["step"] for row in rows] == [1, 2]
    assert "held_out/loss" not in rows[0]
    found = measure_singles(role, answers[4:], chosen)
    assert {name: rows[-1][f"held_out/{name}"] for name in found} == pytest.approx(found)
