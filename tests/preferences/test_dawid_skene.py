"""EM against naive loops, its monotone objective, and planted annotators."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keel.preferences.assign import sides
from keel.preferences.dawid_skene import dawid_skene
from keel.preferences.judgement import Judgement, Votes, collect

from .tables import item, votes

full_tables = st.lists(
    st.lists(st.sampled_from([-1, 0, 1, None]), min_size=3, max_size=3), min_size=4, max_size=12
).filter(lambda table: any(cell is not None for line in table for cell in line))


def by_loops(table: list[list[int | None]], smoothing: float, steps: int) -> tuple[list[list[float]], float]:
    """Dawid & Skene's equations (2.3)–(2.5), one number at a time; labels −1, 0, 1."""
    labels = (-1, 0, 1)
    voted = [[(k, cell) for k, cell in enumerate(line) if cell is not None] for line in table]
    voted = [line for line in voted if line]
    truth = [[sum(cell == c for _, cell in line) / len(line) for c in labels] for line in voted]
    likelihood = math.nan
    for _ in range(steps):
        shares = [sum(row[c] for row in truth) + smoothing for c in range(3)]
        shares = [share / sum(shares) for share in shares]
        pi: dict[tuple[int, int, int], float] = {}
        for k, c in itertools.product(range(len(table[0])), range(3)):
            counts = [
                smoothing + sum(row[c] for row, line in zip(truth, voted, strict=True) if (k, y) in line)
                for y in labels
            ]
            for y, count in zip(labels, counts, strict=True):
                pi[k, c, y] = count / sum(counts) if sum(counts) else 1 / 3
        joint = [[shares[c] * math.prod(pi[k, c, y] for k, y in line) for c in range(3)] for line in voted]
        truth = [[part / sum(row) for part in row] for row in joint]
        likelihood = sum(math.log(sum(row)) for row in joint)
    return truth, likelihood


@settings(max_examples=40, deadline=None)
@given(full_tables)
def test_parity_with_loops(table: list[list[int | None]]) -> None:
    found = dawid_skene(votes(table), smoothing=0.3)
    truth, _ = by_loops(table, 0.3, len(found.objective))
    assert found.probability.tolist() == pytest.approx([row[0] + row[1] / 2 for row in truth], abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(full_tables, st.sampled_from([0.0, 0.1, 1.0]))
def test_the_objective_never_falls(table: list[list[int | None]], smoothing: float) -> None:
    found = dawid_skene(votes(table), smoothing=smoothing, limit=100_000)  # some tables take thousands
    assert all(later >= earlier - 1e-9 for earlier, later in itertools.pairwise(found.objective))
    assert found.objective[-1] - found.objective[-2] <= 1e-8 * found.votes.counts().sum()  # it went on to the end
    assert found.confusion.sum(axis=2) == pytest.approx(np.ones(found.confusion.shape[:2]))
    assert found.shares.sum() == pytest.approx(1)
    if smoothing == 0:
        _, likelihood = by_loops(table, 0.0, len(found.objective))
        assert found.objective[-1] == pytest.approx(likelihood)


def crowd(items: int, seed: int) -> tuple[Votes, np.ndarray, np.ndarray]:
    """Five careful annotators of planted accuracy, one at random, one always left, one always wrong; the truths."""
    rng = np.random.default_rng(seed)
    truth = np.where(rng.random(items) < 0.15, 0, np.where(rng.random(items) < 0.5, -1, 1))
    accuracy = np.array([0.95, 0.9, 0.85, 0.8, 0.7])
    said = []
    for row, right in enumerate(truth.tolist()):
        others = [label for label in (-1, 0, 1) if label != right]
        shown = item(f"i{row}")
        for k, share in enumerate(accuracy):
            label = right if rng.random() < share else others[int(rng.integers(2))]
            said.append(Judgement(shown.id, f"careful{k}", (0, 1), "comparison", label))
        said.append(Judgement(shown.id, "random", (0, 1), "comparison", int(rng.integers(-1, 2))))
        said.append(Judgement(shown.id, "left", sides(shown, "left", seed), "comparison", -1))
        said.append(Judgement(shown.id, "liar", (0, 1), "comparison", -right))
    return collect(said), truth, accuracy


def test_planted_reliabilities_come_back_and_spammers_show() -> None:
    table, truth, accuracy = crowd(1500, seed=1)
    found = dawid_skene(table)
    who = dict(zip(table.annotators, range(len(table.annotators)), strict=True))
    careful = [who[f"careful{k}"] for k in range(5)]
    assert found.reliability[careful] == pytest.approx(accuracy, abs=0.04)
    assert found.reliability[who["random"]] == pytest.approx(1 / 3, abs=0.05)
    assert found.reliability[who["liar"]] == pytest.approx(0.15, abs=0.05)  # right on ties alone
    spam = found.spam_score()
    assert max(spam[who["random"]], spam[who["left"]]) < 0.02 < 0.25 < min(spam[careful])
    assert spam[who["liar"]] > 0.9  # a liar is informative
    assert found.shares == pytest.approx([0.425, 0.15, 0.425], abs=0.03)
    # the liar and the spammers outweighed: better than the best single annotator
    label = np.where(found.probability > 2 / 3, -1, np.where(found.probability < 1 / 3, 1, 0))
    assert (label == truth).mean() > 0.97


def test_agreeing_annotators_are_believed() -> None:
    found = dawid_skene(votes([[-1, -1, -1], [1, 1, 1], [0, 0, 0]] * 20))
    assert found.probability[:3].tolist() == pytest.approx([1, 0, 0.5], abs=1e-3)
    assert min(found.reliability) > 0.98
    assert found.tied[:3].tolist() == [False, False, True]


def test_limits_are_reported() -> None:
    table, _, _ = crowd(60, seed=2)
    with pytest.warns(UserWarning, match="not converged in 2 steps"):
        assert len(dawid_skene(table, limit=2).objective) == 2
    with pytest.raises(ValueError, match="must not be negative"):
        dawid_skene(table, smoothing=-1.0)
