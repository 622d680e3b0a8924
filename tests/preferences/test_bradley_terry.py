"""Bradley–Terry against its closed form and another algorithm, and the minimiser on functions with known minima."""

import math

import numpy as np
import pytest

from keel.preferences.bradley_terry import DisconnectedGraph, bradley_terry
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
