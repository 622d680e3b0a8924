"""Bradley–Terry against its closed form and another algorithm; the crowd's gradient and its planted parameters."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keel.preferences.bradley_terry import DisconnectedGraph, _Crowd, _graph, bradley_terry, crowd_bradley_terry
from keel.preferences.judgement import Item, Judgement, Votes, collect
from keel.preferences.minimise import minimise

from .tables import item


def tournament(games: list[tuple[str, str, int]]) -> tuple[list[Item], Votes]:
    """One item per game between two named answers to one prompt; each judged once: −1 first won, 0 tie, 1 second."""
    items = [item(f"g{n}", one, other, prompt="p") for n, (one, other, _) in enumerate(games)]
    said = [Judgement(f"g{n}", "ann", (0, 1), "comparison", verdict) for n, (_, _, verdict) in enumerate(games)]
    return items, collect(said)


@pytest.mark.parametrize(("wins", "ties", "n"), [(7, 0, 10), (2, 0, 9), (3, 4, 10)])
def test_two_answers_are_the_logit_of_the_share(wins: int, ties: int, n: int) -> None:
    games = [("a", "b", -1)] * wins + [("a", "b", 0)] * ties + [("b", "a", -1)] * (n - wins - ties)
    found = bradley_terry(*tournament(games), deviation=math.inf)
    share = (wins + ties / 2) / n
    assert found.scores[found.first[0]] - found.scores[found.second[0]] == pytest.approx(math.log(share / (1 - share)))
    assert found.probability[0] == pytest.approx(share)
    assert found.components == 1


def test_parity_with_minorisation_maximisation() -> None:
    """Hunter (2004): s_i ← W_i / Σ_j n_ij/(s_i + s_j), on a round robin of five with ties as half wins."""
    rng = np.random.default_rng(0)
    names = "abcde"
    games = [
        (names[i], names[j], int(rng.choice([-1, 0, 1], p=[0.5, 0.1, 0.4])))
        for i in range(5)
        for j in range(i)
        for _ in range(12)
    ]
    won = np.zeros((5, 5))
    for one, other, verdict in games:
        i, j = names.index(one), names.index(other)
        won[i, j] += (1 - verdict) / 2
        won[j, i] += (1 + verdict) / 2
    strength = np.ones(5)
    for _ in range(5000):
        meets = (won + won.T) / (strength[:, None] + strength[None, :])
        strength = won.sum(1) / meets.sum(1)
        strength /= np.exp(np.log(strength).mean())
    found = bradley_terry(*tournament(games), deviation=math.inf)
    order = {name: found.first[n] for n, (name, _, _) in enumerate(games)} | {
        name: found.second[n] for n, (_, name, _) in enumerate(games)
    }
    assert [found.scores[order[name]] for name in names] == pytest.approx(np.log(strength).tolist(), abs=1e-5)


def test_the_prior_keeps_unanimous_votes_finite() -> None:
    """3 wins to 0: the maximum of 3·log σ(Δ) − Δ²/(4·1.5²) solves 3σ(−Δ) = Δ/4.5."""
    found = bradley_terry(*tournament([("a", "b", -1)] * 3))
    gap = found.scores[found.first[0]] - found.scores[found.second[0]]
    assert 3 / (1 + math.exp(gap)) == pytest.approx(gap / 4.5, abs=1e-6)
    assert found.reliability.tolist() == pytest.approx([found.probability[0]])


def test_answers_that_never_met_are_compared_through_others() -> None:
    found = bradley_terry(*tournament([("a", "b", -1)] * 6 + [("b", "c", -1)] * 6 + [("a", "c", 0)]))
    assert found.probability[-1] > 0.75  # one tie against twelve wins through b


def test_a_disconnected_graph_warns() -> None:
    items, votes = tournament([("a", "b", -1), ("c", "d", 1)])
    with pytest.warns(DisconnectedGraph, match="1 prompts fall into 2 groups"):
        found = bradley_terry(items, votes)
    assert found.components == 2
    assert found.scores[[0, 1]].sum() == pytest.approx(0)  # each group has its own zero
    assert found.scores[[2, 3]].sum() == pytest.approx(0)


def test_different_prompts_need_no_link() -> None:
    items = [item("x"), item("y")]  # pytest turns a warning into an error
    votes = collect([Judgement(each.id, "ann", (0, 1), "comparison", -1) for each in items])
    assert bradley_terry(items, votes).components == 2


def test_three_answers_of_one_item() -> None:
    said = [
        Judgement("x", "ann", (2, 0), "comparison", -1),
        Judgement("x", "bob", (1, 2), "comparison", 2),
        Judgement("x", "cat", (0, 1), "comparison", -1),
    ]
    found = bradley_terry([item("x", "0", "1", "2")], collect(said))
    assert found.components == 1
    ranked = {(pair.first, pair.second): p for pair, p in zip(found.votes.pairs, found.probability, strict=True)}
    assert ranked[0, 2] < 0.5 < ranked[0, 1]  # 2 ≻ 0 ≻ 1
    assert ranked[1, 2] < ranked[0, 2]


def planted(seed: int, items: int, annotators: int) -> tuple[list[Item], Votes, np.ndarray, np.ndarray, np.ndarray]:
    """Votes of the model itself, over 40 answers to one prompt; the planted scores, η and b. ln θ is .4."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(0, 1.5, 40)
    scores -= scores.mean()
    eta = np.where(np.arange(annotators) < 2, 0.5, 0.95)
    bias = np.where(np.arange(annotators) == annotators - 1, 1.5, 0.0)
    questions, said = [], []
    for n in range(items):
        i, j = rng.choice(40, 2, replace=False)
        questions.append(item(f"i{n}", str(i), str(j), prompt="p"))
        for k in range(annotators):
            left_is_first = rng.random() < 0.5
            z = scores[i] - scores[j] + bias[k] * (1 if left_is_first else -1)
            first, second = 1 / (1 + np.exp(0.4 - z)), 1 / (1 + np.exp(0.4 + z))
            if rng.random() > eta[k]:
                first, second = second, first
            strength = int(rng.choice([-1, 0, 1], p=[first, 1 - first - second, second]))
            sides, pressed = ((0, 1), strength) if left_is_first else ((1, 0), -strength)
            said.append(Judgement(f"i{n}", f"a{k}", sides, "comparison", pressed))
    return questions, collect(said), scores, eta, bias


def test_planted_crowd_parameters_come_back() -> None:
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


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.booleans())
def test_the_crowds_gradient_by_finite_differences(seed: int, with_ties: bool) -> None:
    questions, votes, _, _, _ = planted(seed, items=8, annotators=4)
    if not with_ties:
        keep = votes.label != 1
        votes = Votes(
            votes.pairs,
            votes.annotators,
            votes.pair[keep],
            votes.annotator[keep],
            votes.strength[keep],
            votes.side[keep],
            {},
        )
    first, second, _, size = _graph_quietly(questions, votes)
    crowd = _Crowd(votes, first, second, size, deviation=1.5)
    assert crowd.tied == bool((votes.label == 1).any())
    x = crowd.start() + np.random.default_rng(seed).normal(0, 0.7, len(crowd.start()))
    _, gradient = crowd.loss(x)
    step = 1e-5
    by_differences = [(crowd.loss(x + step * e)[0] - crowd.loss(x - step * e)[0]) / (2 * step) for e in np.eye(len(x))]
    assert gradient == pytest.approx(by_differences, abs=1e-6, rel=1e-6)


def _graph_quietly(questions: list[Item], votes: Votes) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DisconnectedGraph)
        return _graph(questions, votes)


def test_the_crowds_likelihood_is_the_docstring() -> None:
    """One vote of each label, each side, by hand: the difference to the priors alone is −log P."""
    items = [item("x")]
    eta, bias, width, gap = 0.8, 0.6, 0.3, 0.9
    x = np.array([gap / 2, -gap / 2, math.log(eta / (1 - eta)), bias, math.log(width)])
    for strength, sides in ((-1, (0, 1)), (1, (0, 1)), (-1, (1, 0)), (0, (0, 1)), (0, (1, 0))):
        pressed = strength if sides == (0, 1) else -strength
        votes = collect([Judgement("x", "ann", sides, "comparison", pressed)])
        first, second, _, size = _graph(items, votes)
        start = x if strength == 0 else x[:-1]
        used_width = width if strength == 0 else 0.0  # without a tie among the votes θ is 1
        prior = (gap**2 / 2) / 2 / 1.5**2 + bias**2 / 2 - 10 * math.log(eta) - math.log(1 - eta)
        prior += (math.log(width) + 1) ** 2 / 2 if strength == 0 else 0.0
        z = gap + bias * (1 if sides == (0, 1) else -1)
        a, b = 1 / (1 + math.exp(used_width - z)), 1 / (1 + math.exp(used_width + z))
        p = {-1: eta * a + (1 - eta) * b, 1: eta * b + (1 - eta) * a, 0: 1 - a - b}[strength]
        assert _Crowd(votes, first, second, size, 1.5).loss(start)[0] == pytest.approx(prior - math.log(p))


def test_the_minimiser_on_rosenbrocks_valley() -> None:
    def valley(x: np.ndarray) -> tuple[float, np.ndarray]:
        a, b = x
        return (1 - a) ** 2 + 100 * (b - a * a) ** 2, np.array([2 * (a - 1) - 400 * a * (b - a * a), 200 * (b - a * a)])

    found = minimise(valley, np.array([-1.2, 1.0]))
    assert found.converged
    assert found.x == pytest.approx([1, 1], abs=1e-5)
    assert not minimise(valley, np.array([-1.2, 1.0]), limit=3).converged


def test_the_minimiser_on_a_stiff_quadratic() -> None:
    scale = np.logspace(-1, 4, 30)
    found = minimise(lambda x: (float(0.5 * x @ (scale * x)), scale * x), np.ones(30))
    assert found.converged
    assert np.abs(found.x).max() < 1e-4
