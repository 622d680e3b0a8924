"""Sides and orientation: the one place where a sign could go wrong."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keel.preferences.judgement import Assignment, Item, Judgement, Pair, Shown, collect
from keel.types import Message

from .tables import item

presses = st.integers(-3, 3)


def shown(sides: tuple[int, int]) -> Shown:
    answers = item("x", "good", "bad", "ugly").answers
    return Shown(
        Assignment("x", "ann", sides),
        (Message("user", "?"),),
        (answers[sides[0]].messages, answers[sides[1]].messages),
    )


@pytest.mark.parametrize(
    ("sides", "pressed", "strength"),
    [
        ((0, 1), -3, -3),  # the left answer, which is the first
        ((0, 1), 2, 2),  # the right answer, which is the second
        ((1, 0), -3, 3),  # the left answer, which is the second
        ((1, 0), 1, -1),  # the right answer, which is the first
        ((1, 0), 0, 0),
        ((2, 0), -2, 2),  # of three answers, the third stood on the left and won
    ],
)
def test_the_pressed_side_becomes_the_canonical_answer(sides: tuple[int, int], pressed: int, strength: int) -> None:
    assert shown(sides).press(pressed).strength == strength


@given(presses)
def test_who_prefers_an_answer_prefers_it_on_either_side(pressed: int) -> None:
    one, other = shown((0, 1)).press(pressed), shown((1, 0)).press(-pressed)
    assert one.strength == other.strength
    assert one != other  # what was pressed is kept


def test_the_annotator_sees_no_author() -> None:
    screen = shown((1, 0))
    assert tuple(answer[0].content for answer in screen.answers) == ("bad", "good")
    assert "model" not in repr(screen)


def test_nothing_is_compared_where_nothing_was_pressed() -> None:
    skipped = shown((0, 1)).decline("skip", note="no idea")
    assert (skipped.kind, skipped.pressed, skipped.note) == ("skip", None, "no idea")
    with pytest.raises(ValueError, match="no strength"):
        _ = skipped.strength


def test_revisions_count_up() -> None:
    first = shown((1, 0)).press(-1, guideline="v1", served=1.0, submitted=2.0)
    edited = first.edit(3, submitted=4.0)
    undone = edited.withdraw(submitted=5.0)
    assert [first.revision, edited.revision, undone.revision] == [1, 2, 3]
    assert (edited.strength, edited.guideline, edited.served, edited.submitted) == (-3, "v1", 1.0, 4.0)
    assert (undone.kind, undone.pressed) == ("withdrawn", None)


@pytest.mark.parametrize("pressed", [-4, 4])
def test_there_are_seven_buttons(pressed: int) -> None:
    with pytest.raises(ValueError, match="not within"):
        shown((0, 1)).press(pressed)


def test_impossible_nouns_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        Item("x", (), item("x").answers[:1])
    with pytest.raises(ValueError, match="two or more different"):
        Assignment("x", "ann", (1, 1))
    with pytest.raises(ValueError, match="with pressed None"):
        Judgement("x", "ann", (0, 1), "comparison")
    with pytest.raises(ValueError, match="with pressed 1"):
        Judgement("x", "ann", (0, 1), "skip", 1)
    with pytest.raises(ValueError, match="count from 1"):
        Judgement("x", "ann", (0, 1), "skip", revision=0)


def test_votes_are_a_sorted_sparse_matrix() -> None:
    said = [
        Judgement("b", "zoe", (1, 0), "comparison", -2),
        Judgement("a", "ann", (0, 1), "comparison", -1),
        Judgement("b", "ann", (0, 1), "comparison", 0),
        Judgement("a", "zoe", (0, 1), "skip"),
        Judgement("c", "zoe", (0, 1), "both_bad"),
        Judgement("c", "ann", (2, 0), "comparison", 3),
    ]
    votes = collect(said)
    assert votes.pairs == (Pair("b", 0, 1), Pair("a", 0, 1), Pair("c", 0, 2))
    assert votes.annotators == ("zoe", "ann")
    assert votes.pair.tolist() == [0, 0, 1, 2]
    assert votes.annotator.tolist() == [0, 1, 1, 1]
    assert votes.strength.tolist() == [2, 0, -1, -3]
    assert votes.side.tolist() == [-1, 1, 1, -1]
    assert votes.label.tolist() == [2, 1, 0, 0]
    assert votes.counts().tolist() == [[0, 1, 1], [1, 0, 0], [1, 0, 0]]
    assert votes.declined == {"skip": 1, "both_bad": 1}
    assert np.array_equal(collect(list(reversed(said))).counts().sum(axis=0), votes.counts().sum(axis=0))


def test_two_votes_of_one_annotator_on_one_item_are_refused() -> None:
    once = Judgement("a", "ann", (0, 1), "comparison", 1)
    with pytest.raises(ValueError, match="item a: two votes by ann"):
        collect([once, once.edit(2)])


def test_no_votes_at_all() -> None:
    votes = collect([])
    assert votes.counts().shape == (0, 3)
    assert votes.pairs == ()
