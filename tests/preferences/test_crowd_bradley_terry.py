"""Bradley–Terry with annotators: its likelihood by hand, gradients by differences, the integral by another rule, and
planted people who come back, where answers meet often and where each pair has three votes."""

import math
import warnings
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keel.preferences.bradley_terry import DisconnectedGraph, bradley_terry, compared
from keel.preferences.crowd_bradley_terry import CrowdBradleyTerry, _Model, _told, crowd_bradley_terry
from keel.preferences.judgement import Item, Judgement, Votes, collect

from .tables import item

DEVIATION = 1.5


def said_by(
    rng: np.random.Generator, name: str, question: str, gap: float, eta: float, bias: float, width: float
) -> Judgement:
    """A vote of the model itself; the sides are a coin's."""
    left_is_first = rng.random() < 0.5
    z = gap + bias * (1 if left_is_first else -1)
    first, second = 1 / (1 + np.exp(width - z)), 1 / (1 + np.exp(width + z))
    if rng.random() > eta:
        first, second = second, first
    strength = int(rng.choice([-1, 0, 1], p=[first, max(0.0, 1 - first - second), second]))
    sides, pressed = ((0, 1), strength) if left_is_first else ((1, 0), -strength)
    return Judgement(question, name, sides, "comparison", pressed)


def planted(seed: int, items: int, annotators: int) -> tuple[list[Item], Votes, np.ndarray, np.ndarray, np.ndarray]:
    """Everybody's votes on pairs of 40 answers to one prompt; the planted scores, η and b. ln θ is .4."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, DEVIATION, 40)
    scores -= scores.mean()
    eta = np.where(np.arange(annotators) < 2, 0.5, 0.95)
    bias = np.where(np.arange(annotators) == annotators - 1, 1.5, 0.0)
    questions, said = [], []
    for n in range(items):
        i, j = rng.choice(40, 2, replace=False)
        questions.append(item(f"i{n}", str(i), str(j), prompt="p"))
        gap = float(scores[i] - scores[j])
        said += [said_by(rng, f"a{k}", f"i{n}", gap, eta[k], bias[k], 0.4) for k in range(annotators)]
    return questions, collect(said), scores, eta, bias


def apart(seed: int, items: int, spammers: int, width: float = 0.2) -> tuple[list[Item], Votes, np.ndarray, np.ndarray]:
    """Pairs that share no answer, each judged by three of ten people, the first of whom press at random; the gaps and
    η."""
    rng = np.random.default_rng(seed)
    eta = np.where(np.arange(10) < spammers, 0.5, 0.95)
    gaps = rng.normal(0, DEVIATION * math.sqrt(2), items)
    questions = [item(f"i{n}", prompt=f"p{n}") for n in range(items)]
    said = [
        said_by(rng, f"a{k}", f"i{n}", float(gap), float(eta[k]), 0.0, width)
        for n, gap in enumerate(gaps)
        for k in rng.choice(10, 3, replace=False)
    ]
    return questions, collect(said), gaps, eta


def model_of(questions: list[Item], votes: Votes) -> _Model:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DisconnectedGraph)
        return _Model(votes, *compared(questions, votes), DEVIATION)


def test_planted_people_come_back_from_a_tournament() -> None:
    questions, votes, scores, eta, bias = planted(seed=0, items=700, annotators=6)
    found = crowd_bradley_terry(questions, votes)
    answer = {questions[n].answers[0].messages[0].content: found.first[n] for n in range(len(questions))}
    fitted = np.array([found.scores[answer[str(i)]] for i in range(40)])
    correlation = np.corrcoef(fitted, scores)[0, 1]
    assert correlation > 0.97
    assert np.polyfit(scores, fitted, 1)[0] == pytest.approx(1, abs=0.1)
    assert found.reliability == pytest.approx(eta, abs=0.06)
    assert found.bias == pytest.approx(bias, abs=0.35)
    assert found.tie_width == pytest.approx(0.4, abs=0.05)
    # the two who press at random drag plain scores towards each other
    plain = bradley_terry(questions, votes)
    dragged = [plain.scores[answer[str(i)]] for i in range(40)]
    assert np.corrcoef(dragged, scores)[0, 1] < correlation
    assert np.polyfit(scores, dragged, 1)[0] < 0.5


@pytest.mark.parametrize(("seed", "spammers"), [(0, 4), (1, 6)])
def test_who_presses_at_random_is_found_in_three_votes_a_pair(seed: int, spammers: int) -> None:
    questions, votes, gaps, eta = apart(seed, 1200, spammers)
    found = crowd_bradley_terry(questions, votes, tolerance=3e-4)
    people = [int(name[1:]) for name in votes.annotators]
    assert found.reliability == pytest.approx(eta[people], abs=0.2)
    assert found.reliability[eta[people] < 0.9].max() + 0.15 < found.reliability[eta[people] > 0.9].min()
    assert found.tie_width == pytest.approx(0.2, abs=0.03)
    truth = gaps[[int(pair.item[1:]) for pair in votes.pairs]]
    labels = bradley_terry(questions, votes).probability, found.probability
    plain, crowd = (np.mean((one > 0.5) == (truth > 0)) for one in labels)
    assert crowd > plain + 0.03
    # where it says .8, an unbiased reader says the same eight times in ten
    assert np.polyfit(found.probability, 1 / (1 + np.exp(-truth)), 1)[0] == pytest.approx(1, abs=0.12)


def test_nobody_is_blamed_where_everybody_reads() -> None:
    questions, votes, _, _ = apart(seed=3, items=600, spammers=0)
    assert crowd_bradley_terry(questions, votes).reliability.min() > 0.85


def test_who_says_the_opposite_has_a_reliability_near_nought() -> None:
    rng = np.random.default_rng(5)
    questions = [item(f"i{n}", prompt=f"p{n}") for n in range(600)]
    said = [
        said_by(rng, name, f"i{n}", float(gap), eta, 0.0, 0.0)
        for n, gap in enumerate(rng.normal(0, 2, 600))
        for name, eta in (("ann", 0.97), ("bob", 0.97), ("cy", 0.97), ("liar", 0.03))
    ]
    found = crowd_bradley_terry(questions, collect(said))
    honest = dict(zip(found.votes.annotators, found.reliability, strict=True))
    assert honest["liar"] < 0.15
    assert min(honest[name] for name in ("ann", "bob", "cy")) > 0.9
    assert found.tie_width == 0.0


def by_differences(function: Callable[[np.ndarray], float], x: np.ndarray, step: float = 1e-5) -> list[float]:
    return [(function(x + step * e) - function(x - step * e)) / (2 * step) for e in np.eye(len(x))]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.booleans())
def test_gradients_by_finite_differences(seed: int, with_ties: bool) -> None:
    questions, votes, _, _, _ = planted(seed, items=8, annotators=4)
    if not with_ties:
        keep = votes.label != 1
        kept = votes.pair[keep], votes.annotator[keep], votes.strength[keep], votes.side[keep]
        votes = Votes(votes.pairs, votes.annotators, *kept, {})
    model = model_of(questions, votes)
    assert model.tied == bool((votes.label == 1).any())
    rng = np.random.default_rng(seed)
    people = model.start() + rng.normal(0, 0.7, len(model.start()))
    scores = rng.normal(0, 1, model.size)
    _, gradient = model.of_scores(scores, people)
    differences = by_differences(lambda x: model.of_scores(x, people)[0], scores)
    assert gradient == pytest.approx(differences, abs=1e-6, rel=1e-6)


LABELS = np.array([0, 1, 2] * 4)
PLACES = np.linspace(-3, 3, 12), np.linspace(2, -2, 12)  # z and logit η of twelve votes


@pytest.mark.parametrize("width", [0.05, 0.4, 1.3])
def test_slopes_of_a_vote_by_finite_differences(width: float) -> None:
    (z, honesty), step = PLACES, 1e-5
    told = _told(LABELS, z, honesty, width)

    def slope(move: Callable[[float], np.ndarray]) -> np.ndarray:
        return (move(step) - move(-step)) / (2 * step)

    by_z = slope(lambda d: _told(LABELS, z + d, honesty, width).surprise)
    by_honesty = slope(lambda d: _told(LABELS, z, honesty + d, width).surprise)
    by_width = slope(lambda d: _told(LABELS, z, honesty, width + d).surprise)
    assert told.by_z == pytest.approx(by_z, abs=1e-6)
    assert told.by_honesty == pytest.approx(by_honesty, abs=1e-6)
    assert told.by_width == pytest.approx(by_width, abs=1e-6, rel=1e-6)


@pytest.mark.parametrize("honesty", [-60.0, 60.0])
def test_bends_of_a_vote_by_finite_differences(honesty: float) -> None:
    """Of somebody of whom it is known that they turn no vote round, or all."""
    z, who, width, step = PLACES[0], np.full(12, honesty), 0.4, 1e-5
    told = _told(LABELS, z, who, width)
    steeper = [_told(LABELS, z + d, who, width).by_z for d in (step, -step)]
    assert told.bend == pytest.approx((steeper[0] - steeper[1]) / (2 * step), abs=1e-6)
    steeper = [_told(LABELS, z, who, width + d).by_width for d in (step, -step)]
    assert told.width_bend == pytest.approx((steeper[0] - steeper[1]) / (2 * step), abs=1e-6, rel=1e-6)


def test_the_likelihood_is_the_docstring() -> None:
    """One vote of each label, each side, by hand; with the prior of the scores."""
    items = [item("x")]
    eta, bias, width, gap = 0.8, 0.6, 0.3, 0.9
    for strength, sides in ((-1, (0, 1)), (1, (0, 1)), (-1, (1, 0)), (0, (0, 1)), (0, (1, 0))):
        pressed = strength if sides == (0, 1) else -strength
        votes = collect([Judgement("x", "ann", sides, "comparison", pressed)])
        used_width = width if strength == 0 else 0.0  # without a tie among the votes θ is 1
        people = np.array([math.log(eta / (1 - eta)), bias, *([math.log(width)] if strength == 0 else [])])
        z = gap + bias * (1 if sides == (0, 1) else -1)
        a, b = 1 / (1 + math.exp(used_width - z)), 1 / (1 + math.exp(used_width + z))
        p = {-1: eta * a + (1 - eta) * b, 1: eta * b + (1 - eta) * a, 0: 1 - a - b}[strength]
        prior = (gap**2 / 2) / 2 / DEVIATION**2
        found, _ = model_of(items, votes).of_scores(np.array([gap, -gap]) / 2, people)
        assert found == pytest.approx(prior - math.log(p))


def marginal(model: _Model, people: np.ndarray) -> float:
    """−log posterior of the people, up to a constant: pairs that share no answer, each integrated by Gauss–Hermite."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    points = np.tile(DEVIATION * math.sqrt(2) * nodes, (len(model.votes.pairs), 1))
    surprise = model._votes(points, people).surprise
    of_pairs = np.zeros_like(points)
    np.add.at(of_pairs, model.votes.pair, surprise)
    likelihood = np.log(np.exp(-of_pairs) @ (weights / weights.sum())).sum()
    honesty, bias, width = model.split(people)
    prior = (10 * np.logaddexp(0, -honesty) + np.logaddexp(0, honesty)).sum() + bias @ bias / 2
    return float(prior + ((width + 1) ** 2).sum() / 2 - likelihood)


def test_em_ends_at_the_maximum_of_the_marginal_posterior() -> None:
    """Where pairs share no answer there is nothing approximate in it."""
    questions, votes, _, _ = apart(seed=7, items=300, spammers=4)
    found = crowd_bradley_terry(questions, votes, tolerance=1e-7, limit=5000)
    model = model_of(questions, votes)
    honesty = np.log(found.reliability / (1 - found.reliability))
    people = np.concatenate([honesty, found.bias, [math.log(found.tie_width)]])
    assert by_differences(lambda x: marginal(model, x), people, 1e-4) == pytest.approx([0] * len(people), abs=0.01)
    # a maximum, and not a mere standstill: the joint maximum, everybody honest, is far less likely
    joint = np.concatenate([np.full(10, 4.6), found.bias, people[-1:]])
    assert marginal(model, people) < marginal(model, joint) - 10


def test_every_em_step_raises_the_marginal_posterior() -> None:
    questions, votes, _, _ = apart(seed=8, items=200, spammers=5)
    model = model_of(questions, votes)
    at = []
    for limit in range(1, 9):
        with pytest.warns(UserWarning, match=f"has not converged in {limit} steps of EM"):
            found = crowd_bradley_terry(questions, votes, tolerance=0.0, limit=limit)
        honesty = np.log(found.reliability / (1 - found.reliability))
        at.append(marginal(model, np.concatenate([honesty, found.bias, [math.log(found.tie_width)]])))
    assert all(later < earlier for earlier, later in pairwise(at))


def test_the_posterior_of_a_gap_is_bayes() -> None:
    """Moments of q on its 25 points beside 4,000 points of prior times likelihood."""
    questions, votes, _, _ = apart(seed=9, items=40, spammers=3)
    model = model_of(questions, votes)
    people = model.start() + np.random.default_rng(1).normal(0, 0.5, len(model.start()))
    points, weights = model.gaps(model.best_scores(np.zeros(model.size), people), people)
    grid = np.tile(np.linspace(-15, 15, 4_000), (len(votes.pairs), 1))
    log_q = -(grid**2) / (4 * DEVIATION**2)
    np.subtract.at(log_q, votes.pair, model._votes(grid, people).surprise)
    density = np.exp(log_q - log_q.max(axis=1, keepdims=True))
    density /= density.sum(axis=1, keepdims=True)
    for power in (1, 2):
        fine, coarse = (density * grid**power).sum(1), (weights * points**power).sum(1)
        assert coarse == pytest.approx(fine, abs=1e-3)


def test_the_cavity_of_connected_pairs_is_what_the_others_say() -> None:
    """A triangle whose votes speak so clearly that all is normal: variance and mean by solving for two unknowns."""
    questions = [item("ab", "a", "b", prompt="p"), item("bc", "b", "c", prompt="p"), item("ac", "a", "c", prompt="p")]
    votes = collect([Judgement(one.id, "ann", (0, 1), "comparison", -1) for one in questions])
    model = model_of(questions, votes)
    curvature = np.array([0.7, 1.1, 0.4])
    ends = np.zeros((3, 3))
    ends[np.arange(3), model.first], ends[np.arange(3), model.second] = 1, -1
    precision = np.eye(3) / DEVIATION**2 + ends.T @ np.diag(curvature) @ ends
    by_hand = np.diag(ends @ np.linalg.inv(precision) @ ends.T)
    assert model._variances(curvature) == pytest.approx(by_hand)


def test_answers_that_stand_alone_need_no_matrix() -> None:
    """The variance in closed form is that of the matrix."""
    questions, votes, _, _ = apart(seed=2, items=30, spammers=2)
    model = model_of(questions, votes)
    assert model._connected == []
    curvature = np.linspace(0.1, 3, len(votes.pairs))
    precision = [[1 / DEVIATION**2 + c, -c] for c in curvature]
    by_matrix = [np.array([1, -1]) @ np.linalg.inv([[p, q], [q, p]]) @ np.array([1, -1]) for p, q in precision]
    assert model._variances(curvature) == pytest.approx(by_matrix)


def test_fishers_information_by_differences() -> None:
    """Σ (∂P/∂z)² / P over what may be said, with ∂P/∂z by differences."""
    questions, votes, _, _, _ = planted(seed=1, items=6, annotators=3)
    model = model_of(questions, votes)
    rng = np.random.default_rng(0)
    people, gap = model.start() + rng.normal(0, 0.5, len(model.start())), rng.normal(0, 1, len(votes.pairs))
    by_hand = np.zeros(len(votes.pair))
    for label in (0, 1, 2):
        every = np.full(len(votes.pair), label)
        below, at, above = (np.exp(-model._votes(gap + step, people, every).surprise) for step in (-1e-4, 0, 1e-4))
        by_hand += ((above - below) / 2e-4) ** 2 / at
    assert model._information(gap, people) == pytest.approx(by_hand, rel=1e-5)
    assert (by_hand > 0.01).all()


def test_an_answer_beside_itself_tells_of_the_people_alone() -> None:
    questions = [item("same", "a", "a", prompt="p"), *(item(f"i{n}", "a", "b", prompt="p") for n in range(3))]
    votes = collect([Judgement(one.id, "ann", (0, 1), "comparison", -1) for one in questions])
    found = crowd_bradley_terry(questions, votes)
    assert found.probability[0] == pytest.approx(0.5, abs=1e-5)
    assert found.probability[1] > 0.6
    alone = crowd_bradley_terry(questions[:1], collect([Judgement("same", "ann", (0, 1), "comparison", -1)]))
    assert alone.probability[0] == pytest.approx(0.5, abs=1e-5)
    assert alone.bias[0] > 0.1  # the left was pressed where nothing spoke for it


def test_without_votes_there_is_nothing_to_say() -> None:
    found = crowd_bradley_terry([item("x")], collect([]))
    assert isinstance(found, CrowdBradleyTerry)
    assert len(found.probability) == len(found.reliability) == found.tie_width == 0
