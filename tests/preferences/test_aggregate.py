"""Majority, mean and the way to training data, by hand."""

import logging
import math

import numpy as np
import pytest

from keel.preferences.aggregate import Aggregate, agreement_with, majority, mean, to_preferences
from keel.preferences.judgement import Judgement, collect
from keel.types import Preference

from .tables import item, votes

TABLE = [
    [-3, -1, 1],  # first, 2 to 1
    [0, 0, 2],  # a tie, 2 to 1
    [1, -1, None],  # drawn
    [0, -2, None],  # drawn between tie and first
    [2, None, None],  # one voice
]


def test_majority_by_hand() -> None:
    found = majority(votes(TABLE))
    assert found.probability.tolist() == [1, 0.5, 0.5, 0.5, 0]
    assert found.tied.tolist() == [False, True, True, True, False]
    # against the majority of the others. a0: (−1, 1) drawn, no; (0, 2) drawn, and a tie is ½: yes; −1: no; −2: no
    # a1: (−3, 1) no; (0, 2) yes; 1: no; 0: no.  a2: (−3, −1) no; (0, 0) no
    assert found.reliability.tolist() == pytest.approx([1 / 4, 1 / 4, 0])


def test_mean_by_hand() -> None:
    found = mean(votes(TABLE))
    assert found.probability.tolist() == pytest.approx([2 / 3, 1 / 3, 1 / 2, 3 / 4, 0])
    # 1 − |own − mean of the others|. a0: others (1, 0), (½, 0), 1, 1
    assert found.reliability[0] == pytest.approx((1 / 2 + 3 / 4 + 0 + 1 / 2) / 4)
    # a2: own 0, others (1, 1); own 0, others (½, ½)
    assert found.reliability[2] == pytest.approx((0 + 1 / 2) / 2)


def test_reliability_needs_company() -> None:
    alone = votes([[1, None], [None, -1]])
    assert all(math.isnan(value) for method in (majority, mean) for value in method(alone).reliability)


def test_swapping_every_side_changes_nothing() -> None:
    """An annotator who saw the answers swapped, and pressed accordingly, said the same."""
    rng = np.random.default_rng(0)
    said = [
        Judgement(f"i{n}", f"a{k}", (0, 1), "comparison", int(rng.integers(-3, 4))) for n in range(30) for k in range(3)
    ]
    swapped = [Judgement(each.item, each.annotator, (1, 0), "comparison", -(each.pressed or 0)) for each in said]
    for method in (majority, mean):
        assert method(collect(said)).probability.tolist() == method(collect(swapped)).probability.tolist()


def test_reversing_the_answers_reverses_the_probability() -> None:
    reversed_table = [[None if cell is None else -cell for cell in line] for line in TABLE]
    for method in (majority, mean):
        one, other = method(votes(TABLE)), method(votes(reversed_table))
        assert one.probability.tolist() == pytest.approx((1 - other.probability).tolist())
        assert one.reliability.tolist() == pytest.approx(other.reliability.tolist())


def test_probability_of_what_was_chosen() -> None:
    found = agreement_with(votes([[-1, 1], [0, -2]]), np.array([0.9, 0.7]))
    assert found.tolist() == pytest.approx([(0.9 + 0.5) / 2, (0.1 + 0.7) / 2])


ITEMS = [item(f"i{row}") for row in range(5)]


def test_to_preferences_by_hand(caplog: pytest.LogCaptureFixture) -> None:
    found = mean(votes(TABLE))
    with caplog.at_level(logging.INFO):
        kept = to_preferences(ITEMS, found, "keep", margin_per_step=1 / 3)
    assert "5 pairs → 5 preferences; 1 ties kept as p = ½" in caplog.text
    first, second = [[each.answers[side].messages for each in ITEMS] for side in (0, 1)]
    prompt = [each.prompt for each in ITEMS]
    expected = [
        Preference(prompt[0], first[0], second[0], 2 / 3, 1 / 3),  # mean strength −1, one step
        Preference(prompt[1], second[1], first[1], 2 / 3, 2 / 9),  # mean strength +2/3
        Preference(prompt[2], first[2], second[2], 1 / 2, 0.0),
        Preference(prompt[3], first[3], second[3], 3 / 4, 1 / 3),
        Preference(prompt[4], second[4], first[4], 1.0, 2 / 3),
    ]
    for one, other in zip(kept, expected, strict=True):
        assert (one.prompt, one.chosen, one.rejected) == (other.prompt, other.chosen, other.rejected)
        assert (one.probability, one.margin) == pytest.approx((other.probability, other.margin))
    dropped = to_preferences(ITEMS, found, "drop", margin_per_step=0.0)
    assert [each.prompt for each in dropped] == [prompt[0], prompt[1], prompt[3], prompt[4]]
    assert [each.margin for each in dropped] == [0.0] * 4


def test_a_margin_is_never_negative() -> None:
    """Two weak voices for the second outvote a strong one for the first: no margin, but the second is chosen."""
    (found,) = to_preferences(ITEMS, majority(votes([[-3, 1, 1]])), "keep", margin_per_step=1.0)
    assert (found.chosen, found.probability, found.margin) == (ITEMS[0].answers[1].messages, 1.0, 0.0)


def test_what_compares_nothing_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    said = [
        Judgement("i0", "ann", (0, 1), "comparison", 2),
        Judgement("i1", "ann", (0, 1), "both_bad"),
        Judgement("i2", "ann", (0, 1), "skip"),
        Judgement("i3", "ann", (0, 1), "skip"),
    ]
    with caplog.at_level(logging.INFO):
        assert len(to_preferences(ITEMS, majority(collect(said)), "keep", 0.0)) == 1
    assert "1 both_bad, 2 skip" in caplog.text


def test_a_model_never_ends_at_one_half_exactly() -> None:
    base = votes([[1], [1], [1]])
    near = Aggregate(base, np.array([0.505, 0.515, 0.495]), np.ones(1))
    assert near.tied.tolist() == [True, False, True]
    kept = to_preferences(ITEMS, near, "keep", 1.0)
    assert [(each.probability, each.margin) for each in kept] == [(0.5, 0.0), (0.515, 0.0), (0.5, 0.0)]
