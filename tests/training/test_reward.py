"""The reward model: its loss by the definition, its measures by hand, and a planted preference learnt."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from keel.config import Reward
from keel.data.forest import Branch, Tree, grow
from keel.errors import UserError
from keel.maths.losses import bradley_terry, centring, kwise, plackett_luce
from keel.models.heads import ScalarHead
from keel.models.roles import ScalarRole
from keel.training.comparisons import Comparisons, Pair, together
from keel.training.learner import Learner
from keel.training.order import visits
from keel.training.reward import Fit, calibration, fit_reward, measure, scores
from models.small import some

from .small import (
    BARE,
    BUDGETS,
    check_equal,
    gradients_of,
    head,
    numbers,
    pair_tree,
    plain,
    record,
    rows_of,
    scalar,
    steps_of,
    unequal,
    weights,
)

CENTRING = 0.05


def settings(**changes: object) -> Reward:
    given = {
        "batch_size": 100,
        "micro_tokens": 40,
        "optimizer": {"lr": 1e-3},
        "log_every": 1,
        "centring": CENTRING,
    }
    return Reward.model_validate(given | changes)


def pair(tree: Tree, probability: float, margin: float) -> Comparisons:
    """One pair of one prompt, the first branch chosen."""
    return Comparisons(tree, (Pair(0, 1, probability, margin),))


def random_pairs(chance: random.Random, count: int) -> list[Comparisons]:
    """Soft labels, ties, margins; answers of all lengths, some trunks shared in value; one pair for each prompt."""
    pairs = []
    for place in range(count):
        trunk = (5, 6) if place % 3 == 0 else some(chance, chance.randrange(1, 6))
        tree = pair_tree(trunk, some(chance, chance.randrange(1, 8)), some(chance, chance.randrange(1, 8)))
        p = (1.0, 0.5, 0.8, 0.3)[place % 4]
        pairs.append(pair(tree, p, 0.0 if p == 0.5 else 0.25 * place))
    return pairs


def random_prompts(chance: random.Random, count: int) -> list[Comparisons]:
    """Two to five answers each; some of their pairs, each way round, with soft labels, ties and margins."""
    found = []
    for place in range(count):
        answers = {some(chance, chance.randrange(1, 7)): None for _ in range(2 + place % 4)}
        tree = Tree(some(chance, chance.randrange(1, 6)), tuple(Branch(one, (True,) * len(one)) for one in answers))
        every = [two if chance.random() < 0.5 else two[::-1] for two in itertools.combinations(range(len(answers)), 2)]
        chosen = chance.sample(every, chance.randrange(1, len(every) + 1))
        found.append(
            Comparisons(
                tree,
                tuple(Pair(*two, chance.choice((1.0, 0.5, 0.8, 0.3)), chance.choice((0.0, 0.5))) for two in chosen),
            )
        )
    return found


def score(model: PreTrainedModel, weight: Tensor, tree: Tree, branch: int) -> Tensor:
    return numbers(model, weight, tree.trunk + tree.branches[branch].tokens)[-1]


def loss_of(model: PreTrainedModel, weight: Tensor, prompts: Sequence[Comparisons], stated: bool) -> Tensor:
    """The definition, pair by pair, from whole sequences read alone."""
    total = torch.zeros((), dtype=weight.dtype)
    for one in prompts:
        own = torch.zeros((), dtype=weight.dtype)
        for two in one.pairs:
            chosen, rejected = (score(model, weight, one.tree, branch) for branch in (two.chosen, two.rejected))
            margin = two.margin if stated else 0.0
            for share, delta in ((two.probability, chosen - rejected), (1 - two.probability, rejected - chosen)):
                own = own + share * torch.log1p(torch.exp(-(delta - margin)))
            own = own + CENTRING * (chosen + rejected) ** 2
        total = total + own / len(one.pairs)
    return total / len(prompts)


@torch.no_grad()
def deltas_of(model: PreTrainedModel, weight: Tensor, prompts: Sequence[Comparisons]) -> list[float]:
    return [
        float(score(model, weight, one.tree, two.chosen) - score(model, weight, one.tree, two.rejected))
        for one in prompts
        for two in one.pairs
    ]


def labels_of(prompts: Sequence[Comparisons]) -> list[float]:
    return [two.probability for one in prompts for two in one.pairs]


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("margin", ["none", "stated"])
@pytest.mark.parametrize("budget", BUDGETS)
def test_loss_and_gradient_equal_the_definition(budget: int, margin: str, several: bool, tmp_path: Path) -> None:
    pairs = random_prompts(random.Random(1), 9) if several else random_pairs(random.Random(1), 9)
    model, weight = plain(), head().weight.detach().clone().requires_grad_(True)
    theirs = loss_of(model, weight, pairs, margin == "stated")
    role = scalar()
    body = role._weights.model
    before = role.head.weight.detach().clone()

    def go() -> None:
        with record(tmp_path) as written:
            chosen = settings(micro_tokens=budget, margin=margin, optimizer=BARE.model_dump())
            fit_reward(role, pairs, [], chosen, 0, written)

    moved = steps_of(body, go)
    gradient = gradients_of(model, theirs)
    (row,) = rows_of(tmp_path)
    assert row["loss"] == pytest.approx(theirs.item(), rel=1e-6)  # soft labels are held in fp32
    names = [name for name in moved if not name.startswith("lm_head")]
    check_equal({name: moved[name] for name in names}, {name: gradient[name] for name in names}, 1e-6)
    assert weight.grad is not None
    check_equal({"head": before - role.head.weight.detach()}, {"head": weight.grad}, 1e-6)
    deltas = deltas_of(model, weight.detach(), pairs)
    right = [(delta > 0) == (p > 0.5) for delta, p in zip(deltas, labels_of(pairs), strict=True)]
    decided = [p != 0.5 for p in labels_of(pairs)]
    assert row["accuracy"] == pytest.approx(
        sum(itertools.compress(right, decided)) / sum(decided)
    )  # before the step, as the loss is


def as_before(role: ScalarRole, pairs: Sequence[Comparisons]) -> Tensor:
    """The loss of pairs as it was before a prompt could have several: the branches in turn, one mean."""
    chosen, rejected = role.scores(grow([one.tree for one in pairs], role.layout)).view(-1, 2).unbind(1)
    p, margin = (torch.tensor([getattr(one.pairs[0], name) for one in pairs]) for name in ("probability", "margin"))
    losses = bradley_terry(chosen, rejected, p, margin) + CENTRING * centring(chosen, rejected)
    return losses.sum() / len(pairs)


def test_one_pair_for_each_prompt_is_what_it_always_was(tmp_path: Path) -> None:
    """To the last bit: the loss, and the weights after a step."""
    pairs = random_pairs(random.Random(8), 9)
    role, other = (scalar(dtype=torch.float32) for _ in range(2))
    with record(tmp_path) as written:
        fit_reward(role, pairs, [], settings(margin="stated", micro_tokens=100_000), 0, written)
    order = next(visits(9, 100, 1, None, 0))
    learner = Learner(other.parameters(), settings().optimizer, 1)
    report = learner.step([as_before(other, [pairs[place] for place in order])])
    (row,) = rows_of(tmp_path)
    assert (row["loss"], row["grad_norm"]) == (report.loss, report.grad_norm)
    assert not unequal(weights(role.named_parameters()), weights(other.named_parameters()))


def ranking(chance: random.Random, answers: int) -> Comparisons:
    """All pairs of so many answers of different lengths, best first."""
    branches = tuple(Branch(one, (True,) * len(one)) for one in (some(chance, 2 + place) for place in range(answers)))
    pairs = (Pair(*two, 1.0, 0.0) for two in itertools.combinations(range(answers), 2))
    return Comparisons(Tree(some(chance, 3), branches), tuple(pairs), (tuple(range(answers)),))


def test_rankings_have_the_k_wise_loss(tmp_path: Path) -> None:
    """InstructGPT's equation 1, as `keel.maths.losses.kwise` has it: K = 2, 4, 3 and 5 in one batch."""
    chance = random.Random(9)
    prompts = [ranking(chance, answers) for answers in (2, 4, 3, 5)]
    role = scalar()
    forest = grow([one.tree for one in prompts], role.layout)
    with torch.no_grad():
        expected = kwise(role.scores(forest), forest.tree).mean()
    assert measure(role, prompts, 40).loss == pytest.approx(float(expected), rel=1e-6)
    with record(tmp_path) as written:
        fit_reward(role, prompts, [], settings(centring=0.0), 0, written)
    assert rows_of(tmp_path)[0]["loss"] == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize("budget", BUDGETS)
def test_loss_and_gradient_of_whole_rankings_equal_the_definition(budget: int, tmp_path: Path) -> None:
    """Written out, from whole sequences read alone: K = 2, 4, 3, and one prompt with two rankings."""
    chance = random.Random(1)
    prompts = [ranking(chance, answers) for answers in (2, 4, 3, 5)]
    last = prompts[3]
    prompts[3] = Comparisons(last.tree, last.pairs, ((4, 0, 2), (1, 3, 0, 2)))
    model, weight = plain(), head().weight.detach().clone().requires_grad_(True)
    total = torch.zeros((), dtype=weight.dtype)
    for one in prompts:
        scores = [numbers(model, weight, one.tree.trunk + branch.tokens)[-1] for branch in one.tree.branches]
        for order in one.rankings:
            for place in range(len(order) - 1):
                left = torch.stack([scores[other] for other in order[place:]])
                total = total + (left.exp().sum().log() - left[0]) / len(one.rankings)
        for two in one.pairs:
            total = total + CENTRING * (scores[two.chosen] + scores[two.rejected]) ** 2 / len(one.pairs)
    theirs = total / len(prompts)
    role = scalar()
    before = role.head.weight.detach().clone()

    def go() -> None:
        with record(tmp_path) as written:
            chosen = settings(loss="plackett-luce", micro_tokens=budget, batch_size=100, optimizer=BARE.model_dump())
            fit_reward(role, prompts, [], chosen, 0, written)

    moved = steps_of(role._weights.model, go)
    gradient = gradients_of(model, theirs)
    (row,) = rows_of(tmp_path)
    assert row["loss"] == pytest.approx(theirs.item(), rel=1e-6)
    names = [name for name in moved if not name.startswith("lm_head")]
    check_equal({name: moved[name] for name in names}, {name: gradient[name] for name in names}, 1e-6)
    assert weight.grad is not None
    check_equal({"head": before - role.head.weight.detach()}, {"head": weight.grad}, 1e-6)


def test_of_two_answers_both_losses_are_the_same(tmp_path: Path) -> None:
    """Rows, gradients and weights after several steps; to rounding, as one is computed by another formula."""
    chance = random.Random(2)
    found = []
    for loss in ("pairs", "plackett-luce"):
        chance = random.Random(2)
        prompts = [comparisons_of(chance) for _ in range(7)]
        role = scalar()
        with record(tmp_path / loss) as written:
            fit_reward(role, prompts, [], settings(loss=loss), 0, written)
        found.append((rows_of(tmp_path / loss), weights(role.named_parameters())))
    (ours, moved), (theirs, others) = found
    for one, other in zip(ours, theirs, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-6)
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-6)
        assert one["accuracy"] == other["accuracy"]
    check_equal(moved, others, 1e-6)


def comparisons_of(chance: random.Random) -> Comparisons:
    """Three answers to a prompt and all their pairs, each a row of its own, some the other way round."""
    answers = [some(chance, 2 + place) for place in range(3)]
    trunk, rows = some(chance, 3), []
    for better, worse in itertools.combinations(answers, 2):
        swap = chance.random() < 0.5
        tree = pair_tree(trunk, *((worse, better) if swap else (better, worse)))
        rows.append(Comparisons(tree, (Pair(0, 1, 0.0 if swap else 1.0, 0.0),), ((1, 0) if swap else (0, 1),)))
    (found,) = together(rows)
    return found


def test_flat_scores_of_a_ranking_cost_ln_k_factorial(tmp_path: Path) -> None:
    prompts = [ranking(random.Random(3), answers) for answers in (3, 5)]
    role = scalar()
    with torch.no_grad():
        role.head.weight.zero_()
    with record(tmp_path) as written:
        fit_reward(role, prompts, [], settings(loss="plackett-luce"), 0, written)
    assert rows_of(tmp_path)[0]["loss"] == pytest.approx((math.log(6) + math.log(120)) / 2)


def test_rankings_of_unequal_trees_are_read_from_their_own_branches(tmp_path: Path) -> None:
    """Each answer is read once, whatever the rankings."""
    prompt = ranking(random.Random(10), 5)
    role = scalar(dtype=torch.float32)
    forest = grow([prompt.tree], role.layout)
    with torch.no_grad():
        expected = plackett_luce(role.scores(forest), forest.tree)
    with record(tmp_path) as written:
        fit_reward(role, [prompt], [], settings(loss="plackett-luce", centring=0.0), 0, written)
    assert rows_of(tmp_path)[0]["loss"] == pytest.approx(float(expected), rel=1e-6)


def test_rankings_are_learnt_and_told_on_unseen_answers_as_well_by_either_loss(tmp_path: Path) -> None:
    """Answers are better the more often they say token 3; K = 4."""
    chance = random.Random(4)
    prompts = []
    for _ in range(240):
        answers = []
        for count in chance.sample(range(6), 4):
            tokens = [3] * count + [chance.randrange(5, 60) for _ in range(6 - count)]
            answers.append(tuple(chance.sample(tokens, 6)))
        answers.sort(key=lambda tokens: -tokens.count(3))
        branches = tuple(Branch(one, (True,) * 6) for one in answers)
        pairs = tuple(Pair(*two, 1.0, 0.0) for two in itertools.combinations(range(4), 2))
        prompts.append(Comparisons(Tree(some(chance, 3), branches), pairs, ((0, 1, 2, 3),)))
    found = {}
    for loss in ("pairs", "plackett-luce"):
        role = scalar("qwen3", torch.float32)
        role.head = ScalarHead.normal(24, torch.Generator().manual_seed(0)).requires_grad_(True)
        assert measure(role, prompts[200:], None).accuracy < 0.75
        rates = {"lr": 4e-3, "schedule": "cosine", "warmup_ratio": 0.1}
        chosen = settings(loss=loss, batch_size=16, epochs=4, optimizer=rates)
        with record(tmp_path / loss) as written:
            fit_reward(role, prompts[:200], [], chosen, 0, written)
        found[loss] = measure(role, prompts[200:], None).accuracy
    assert min(found.values()) > 0.9
    assert abs(found["pairs"] - found["plackett-luce"]) < 0.05


def test_a_tie_has_no_place_in_a_ranking(tmp_path: Path) -> None:
    tied = pair(pair_tree((5,), (6,), (7,)), 0.5, 0.0)
    with record(tmp_path) as written, pytest.raises(UserError, match="1 pair is a tie"):
        fit_reward(scalar(), [tied], [], settings(loss="plackett-luce"), 0, written)


def test_each_answer_is_read_once(tmp_path: Path) -> None:
    """Five answers in ten pairs: five branches on one trunk, not ten pairs of branches."""
    prompt = ranking(random.Random(10), 5)
    role = scalar(dtype=torch.float32)
    sizes = []
    plainly = role.scores
    role.scores = lambda forest: (sizes.append((len(forest.ends), len(forest.tokens))), plainly(forest))[1]  # type: ignore[func-returns-value, method-assign]
    with record(tmp_path) as written:
        fit_reward(role, [prompt], [], settings(), 0, written)
    assert sizes == [(5, 3 + 2 + 3 + 4 + 5 + 6)]


def test_what_is_right_is_told_prompt_by_prompt() -> None:
    prompts = random_prompts(random.Random(11), 8)
    deltas = deltas_of(plain(), head().weight.detach(), prompts)
    found = iter(zip(deltas, labels_of(prompts), strict=True))
    expected = [
        [(delta > 0) == (p > 0.5) for delta, p in itertools.islice(found, len(one.pairs)) if p != 0.5]
        for one in prompts
    ]
    fit = measure(scalar(), prompts, 40)
    assert [list(one) for one in fit.right] == expected
    together = list(itertools.chain.from_iterable(expected))
    assert fit.accuracy == pytest.approx(sum(together) / len(together))


@pytest.mark.parametrize("several", [False, True])
def test_measures_by_hand(several: bool) -> None:
    pairs = random_prompts(random.Random(2), 7) if several else random_pairs(random.Random(2), 11)
    model, weight = plain(), head().weight.detach()
    deltas = deltas_of(model, weight, pairs)
    loss = right = 0.0
    bins: dict[int, list[tuple[float, float]]] = {}
    shares = [1 / len(one.pairs) for one in pairs for _ in one.pairs]
    for delta, p, share in zip(deltas, labels_of(pairs), shares, strict=True):
        chance = 1 / (1 + math.exp(-delta))
        loss -= share * (p * math.log(chance) + (1 - p) * math.log(1 - chance))
        right += p != 0.5 and (delta > 0) == (p > 0.5)
        for predicted, actual in ((chance, p), (1 - chance, 1 - p)):
            bins.setdefault(int(predicted * 10), []).append((predicted, actual))
    error = sum(abs(sum(p - a for p, a in inside)) for inside in bins.values()) / (2 * len(deltas))
    decided = sum(p != 0.5 for p in labels_of(pairs))
    assert 0 < decided < len(deltas)
    for budget in BUDGETS:
        fit = measure(scalar(), pairs, budget)
        assert fit.loss == pytest.approx(loss / len(pairs), rel=1e-5)  # without margin and centring
        assert (fit.accuracy, decided_of(fit)) == (pytest.approx(right / decided), decided)
        assert fit.calibration == pytest.approx(error, rel=1e-5)
        assert len(fit.bins) == len(bins)
        for (predicted, actual, share), (_, inside) in zip(fit.bins, sorted(bins.items()), strict=True):
            assert predicted == pytest.approx(sum(p for p, _ in inside) / len(inside), rel=1e-5)
            assert actual == pytest.approx(sum(a for _, a in inside) / len(inside), rel=1e-5)
            assert share == pytest.approx(len(inside) / (2 * len(deltas)))
        assert sum(share for _, _, share in fit.bins) == pytest.approx(1)


def decided_of(fit: Fit) -> int:
    return sum(len(one) for one in fit.right)


def planted(given: Sequence[tuple[float, float]], probabilities: Sequence[float]) -> Fit:
    """`measure` of a model that gives these scores (chosen, rejected) to the pairs."""
    role = scalar(dtype=torch.float32)
    role.scores = lambda forest: torch.tensor([score for two in given for score in two])  # type: ignore[method-assign]
    pairs = [pair(pair_tree((5,), (6,), (7,)), p, 0.0) for p in probabilities]
    return measure(role, pairs, 100_000)


def test_accuracy_needs_a_strictly_higher_score_and_leaves_ties_out() -> None:
    fit = planted([(1.0, 0.0), (0.0, 0.0), (0.0, 1.0), (2.0, 1.0)], [1.0, 1.0, 1.0, 0.5])
    assert (fit.accuracy, decided_of(fit)) == (pytest.approx(1 / 3), 3)  # an equal score is not right
    fit = planted([(0.0, 1.0), (1.0, 0.0)], [0.2, 0.2])
    assert (fit.accuracy, decided_of(fit)) == (0.5, 2)  # p < ½: the second answer is the better one
    fit = planted([(0.0, 1.0), (1.0, 0.0)], [0.5, 0.5])
    assert math.isnan(fit.accuracy)
    assert decided_of(fit) == 0
    assert fit.loss == pytest.approx(math.log(1 + math.exp(1)) - 0.5)


def test_calibration_by_hand() -> None:
    """.93 was right, .91 wrong, .62 right: three bins and their mirror images."""
    predicted, actual = torch.tensor([0.93, 0.91, 0.62]), torch.tensor([1.0, 0.0, 1.0])
    found = calibration(predicted, actual, bins=10)
    expected = [(0.08, 0.5, 1 / 3), (0.38, 0.0, 1 / 6), (0.62, 1.0, 1 / 6), (0.92, 0.5, 1 / 3)]
    assert [pytest.approx(one, abs=1e-6) for one in expected] == list(found)
    # probability 1 belongs to the last bin, 0 to the first
    assert calibration(torch.tensor([1.0]), torch.tensor([1.0]), bins=10) == ((0.0, 0.0, 0.5), (1.0, 1.0, 0.5))


def test_a_calibrated_model_has_no_error_and_a_bold_one_has() -> None:
    draw = torch.Generator().manual_seed(0)
    delta = torch.randn(20_000, generator=draw) * 1.5
    wins = torch.bernoulli(delta.sigmoid(), generator=draw)

    def error(scale: float) -> float:
        bins = calibration((scale * delta).sigmoid(), wins, bins=10)
        return sum(share * abs(predicted - actual) for predicted, actual, share in bins)

    assert error(1.0) < 0.01
    assert error(3.0) > 0.1


@pytest.mark.parametrize("margin", ["none", "stated"])
def test_the_order_of_the_two_answers_does_not_matter(margin: str, tmp_path: Path) -> None:
    """Swapped answers with p → 1 − p: the same loss, step and measures."""
    pairs = random_pairs(random.Random(3), 8)
    swapped = [
        pair(Tree(one.tree.trunk, one.tree.branches[::-1]), 1 - two.probability, two.margin)
        for one in pairs
        for two in one.pairs
    ]
    first, second = scalar(), scalar()
    mine, theirs = measure(first, pairs, 40), measure(second, swapped, 40)
    assert (mine.accuracy, mine.right) == (theirs.accuracy, theirs.right)
    assert mine.loss == pytest.approx(theirs.loss, rel=1e-6)
    assert mine.calibration == pytest.approx(theirs.calibration, rel=1e-5)
    for name, role, given in (("a", first, pairs), ("b", second, swapped)):
        with record(tmp_path / name) as written:
            fit_reward(role, given, [], settings(margin=margin), 0, written)
    assert rows_of(tmp_path / "a")[0]["loss"] == pytest.approx(rows_of(tmp_path / "b")[0]["loss"], rel=1e-6)
    # Adam's first step is ±lr wherever the gradient is clearly not 0
    check_equal(*(weights(role._weights.model.state_dict().items()) for role in (first, second)), 1e-5)


def test_scores_are_those_of_whole_sequences_at_their_last_token() -> None:
    model, weight = plain(), head().weight.detach()
    three = tuple(Branch(tokens, (True,) * len(tokens)) for tokens in ((7,), (8, 9), (7, 7, 7)))
    trees = [Tree((5, 6), three), pair_tree((4,), (9, 8), (8,))]
    with torch.no_grad():
        expected = [float(score(model, weight, tree, place)) for tree in trees for place in range(len(tree.branches))]
    for budget in BUDGETS:
        found = scores(scalar(), trees, budget)
        assert found.dtype == torch.float32
        assert not found.requires_grad
        assert found.tolist() == pytest.approx(expected, rel=1e-6)


def test_rows_that_are_logged_and_what_is_measured_at_the_end(tmp_path: Path) -> None:
    pairs, held_out = random_pairs(random.Random(4), 9), random_pairs(random.Random(5), 6)
    role = scalar(dtype=torch.float32)
    with record(tmp_path) as written:
        fit_reward(role, pairs, held_out, settings(batch_size=2, epochs=2, log_every=4), 0, written)
    rows = rows_of(tmp_path)
    assert [row["step"] for row in rows] == [1, 4, 8, 10]
    assert [round(row["lr"] / 1e-3 * 10) for row in rows] == [10, 7, 3, 1]
    fit = measure(role, held_out, 40)
    assert ["held_out/loss" in row for row in rows] == [False, False, False, True]
    for name in ("accuracy", "loss", "calibration"):
        assert rows[-1][f"held_out/{name}"] == pytest.approx(getattr(fit, name))
    assert all(parameter.grad is None for parameter in role.parameters())


def test_a_batch_of_ties_has_no_accuracy(tmp_path: Path) -> None:
    pairs = [pair(pair_tree((5,), (6,), (7,)), 0.5, 0.0)]
    with record(tmp_path) as written:
        fit_reward(scalar(dtype=torch.float32), pairs, [], settings(), 0, written)
    assert rows_of(tmp_path)[0]["accuracy"] is None  # JSON has no nan


def fresh(seed: int) -> ScalarRole:
    role = scalar("qwen3", torch.float32, seed)
    role.head = ScalarHead.normal(24, torch.Generator().manual_seed(seed)).requires_grad_(True)
    return role


def with_token(chance: random.Random, token: int) -> tuple[int, ...]:
    """An answer of six tokens that holds `token` somewhere, and no other of 3 and 4."""
    tokens = [chance.randrange(5, 60) for _ in range(6)]
    tokens[chance.randrange(6)] = token
    return tuple(tokens)


def test_it_learns_a_planted_preference_and_knows_it_on_unseen_pairs(tmp_path: Path) -> None:
    """People prefer answers with token 3 over answers with token 4; a tenth of the labels is soft."""
    chance = random.Random(6)
    pairs = []
    for place in range(500):
        good, bad = with_token(chance, 3), with_token(chance, 4)
        swap = chance.random() < 0.5
        p = 0.9 if place % 10 == 0 else 1.0
        pairs.append(
            pair(pair_tree(some(chance, 3), *((bad, good) if swap else (good, bad))), 1 - p if swap else p, 0.0)
        )
    training, held_out = pairs[:400], pairs[400:]
    role = fresh(0)
    assert measure(role, held_out, 8192).accuracy < 0.8
    rates = {"lr": 4e-3, "schedule": "cosine", "warmup_ratio": 0.1}
    with record(tmp_path) as written:
        fit_reward(
            role, training, held_out, settings(batch_size=32, epochs=3, optimizer=rates, micro_tokens=8192), 0, written
        )
    fit = measure(role, held_out, 8192)
    assert fit.accuracy > 0.95
    assert fit.loss < 0.25
    rows = rows_of(tmp_path)
    assert rows[-1]["held_out/accuracy"] == fit.accuracy
    assert rows[-1]["loss"] < rows[0]["loss"] / 2
    # centring: the mean of the scores stays near 0
    assert abs(scores(role, [one.tree for one in held_out], 8192).mean()) < 0.5


def test_a_run_is_a_function_of_its_seed(tmp_path: Path) -> None:
    pairs = random_pairs(random.Random(7), 9)

    def after(seed: int) -> dict[str, Tensor]:
        role = scalar(dtype=torch.float32)
        with record(tmp_path) as written:
            fit_reward(role, pairs, [], settings(batch_size=2), seed, written)
        return weights(role.named_parameters())

    assert not unequal(after(0), after(0))
    assert unequal(after(0), after(1))
