"""The pairs of one prompt in one tree: each answer once, every pair on the right branches."""

from __future__ import annotations

import itertools
import random

import pytest

from keel.data.chat import UnfitError
from keel.data.forest import Branch, Tree
from keel.errors import UserError
from keel.training.comparisons import MOST, Comparisons, Pair, comparisons, require_winners, together
from keel.types import Message, Preference, Ranking, Vote

from .small import chat, pair_tree

ASKED = (Message("user", "w5 w6"),)


def said(text: str) -> tuple[Message, ...]:
    return (Message("assistant", text),)


def told(one: Comparisons) -> set[tuple[tuple[int, ...], tuple[int, ...], float, float]]:
    """The pairs by what the answers say."""
    answers = [branch.tokens for branch in one.tree.branches]
    return {(answers[two.chosen], answers[two.rejected], two.probability, two.margin) for two in one.pairs}


def test_a_preference_is_one_pair() -> None:
    votes = (Vote("ann", 1.0, 1), Vote("bob", 0.5, -1))
    row = Preference(ASKED, said("w7"), said("w8 w9"), 0.75, 0.5, votes)
    assert comparisons(chat(), row) == Comparisons(chat().preference(row), (Pair(0, 1, 0.75, 0.5, votes),))


def test_a_ranking_is_all_pairs_of_its_answers_the_better_one_chosen() -> None:
    row = Ranking(ASKED, (said("w7"), said("w8 w9"), said("w9"), said("w7 w7")))
    found = comparisons(chat(), row)
    assert found.tree == chat().ranking(row)
    assert found.pairs == tuple(
        Pair(better, worse, 1.0, 0.0) for better, worse in ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))
    )
    with pytest.raises(UnfitError):
        comparisons(chat(), Ranking(ASKED, (said("w7"), said("w8"), said("w7"))))


def test_the_pairs_of_a_ranking_in_rows_of_their_own_are_the_ranking() -> None:
    """In any order, some the other way round: four answers, six pairs."""
    chance = random.Random(0)
    answers = [said(text) for text in ("w7", "w8 w9", "w9", "w7 w7")]
    whole = comparisons(chat(), Ranking(ASKED, tuple(answers)))
    rows = [Preference(ASKED, better, worse) for better, worse in itertools.combinations(answers, 2)]
    rows = [Preference(ASKED, row.rejected, row.chosen, 0.0) if chance.random() < 0.5 else row for row in rows]
    (found,) = together(comparisons(chat(), row) for row in chance.sample(rows, 6))
    assert len(found.tree.branches) == len(set(found.tree.branches)) == 4
    assert set(found.tree.branches) == set(whole.tree.branches)
    assert len(found.pairs) == 6
    ahead = {(one, other) if p == 1.0 else (other, one) for one, other, p, _ in told(found)}
    assert ahead == {(one, other) for one, other, _, _ in told(whole)}


def test_prompts_keep_their_place_and_their_labels() -> None:
    first = Comparisons(pair_tree((5,), (6,), (7,)), (Pair(0, 1, 0.8, 0.0),))
    other = Comparisons(pair_tree((9,), (6,), (7,)), (Pair(0, 1, 1.0, 0.0),))
    more = Comparisons(pair_tree((5,), (8,), (6,)), (Pair(0, 1, 0.6, 0.25),))
    again = Comparisons(pair_tree((5,), (6,), (7,)), (Pair(1, 0, 1.0, 0.0),))
    found = together([first, other, more, again])
    assert [one.tree.trunk for one in found] == [(5,), (9,)]
    assert found[1] == other
    assert [branch.tokens for branch in found[0].tree.branches] == [(6,), (7,), (8,)]
    assert found[0].pairs == (Pair(0, 1, 0.8, 0.0), Pair(2, 0, 0.6, 0.25), Pair(1, 0, 1.0, 0.0))
    assert together([first, other]) == [first, other]


def test_answers_that_differ_in_what_was_sampled_are_two() -> None:
    """The same tokens under another mask are another branch."""
    masked = Tree((5,), (Branch((6,), (False,)), Branch((7,), (True,))))
    (found,) = together([Comparisons(pair_tree((5,), (6,), (7,)), (Pair(0, 1, 1.0, 0.0),)),
                         Comparisons(masked, (Pair(0, 1, 1.0, 0.0),))])  # fmt: skip
    assert found.pairs == (Pair(0, 1, 1.0, 0.0), Pair(2, 1, 1.0, 0.0))


def test_a_tree_that_is_full_is_followed_by_another_and_no_row_is_split() -> None:
    """Pairs of ever new answers: eight to a tree. One that brings nothing new still goes into the full one."""
    pairs = [Comparisons(pair_tree((5,), (place,), (100 + place,)), (Pair(0, 1, 1.0, 0.0),)) for place in range(10, 20)]
    found = together([*pairs[:8], pairs[0], *pairs[8:]])
    assert [(len(one.tree.branches), len(one.pairs)) for one in found] == [(MOST, 9), (4, 2)]
    long = Comparisons(
        Tree((5,), tuple(Branch((place,), (True,)) for place in range(MOST + 4))), (Pair(0, MOST + 3, 1.0, 0.0),)
    )
    assert together([pairs[0], long]) == [pairs[0], long]
    three = Comparisons(Tree((5,), long.tree.branches[:3]), (Pair(0, 2, 1.0, 0.0),))
    assert [len(one.tree.branches) for one in together([*pairs[:7], three])] == [14, 3]  # 17 are one too many
    assert together([long]) == [long]


def test_what_ranks_answers_is_kept_beside_its_pairs() -> None:
    row = Ranking(ASKED, (said("w7"), said("w8 w9"), said("w9")))
    assert comparisons(chat(), row).rankings == ((0, 1, 2),)
    for probability, expected in ((1.0, ((0, 1),)), (0.0, ((1, 0),)), (0.5, ()), (0.8, ())):
        assert comparisons(chat(), Preference(ASKED, said("w7"), said("w9"), probability)).rankings == expected


def test_rankings_of_one_prompt_find_their_answers_when_rows_come_together() -> None:
    rows = [
        Ranking(ASKED, (said("w9"), said("w7"))),
        Ranking(ASKED, (said("w8 w9"), said("w7"), said("w9"))),
        Preference(ASKED, said("w8 w9"), said("w6"), 0.0),
    ]
    (found,) = together(comparisons(chat(), row) for row in rows)
    answers = [chat().preference(Preference(ASKED, said(text), said("w4"))).branches[0] for text in
               ("w9", "w7", "w8 w9", "w6")]  # fmt: skip
    assert list(found.tree.branches) == answers
    assert found.rankings == ((0, 1), (2, 1, 0), (3, 2))


def test_a_pair_without_a_winner_has_no_place_in_a_ranking() -> None:
    require_winners([1.0, 0.0])
    with pytest.raises(UserError) as caught:
        require_winners([1.0, 0.5, 0.8])
    assert str(caught.value) == (
        "reward.loss: plackett-luce reads who comes before whom, and 2 pairs are ties or have a soft label; leave such "
        "rows out of reward.data, or set --reward.loss pairs"
    )
    with pytest.raises(UserError) as caught:
        require_winners([1.0, 0.5], "votes")
    assert str(caught.value) == (
        "reward.loss: plackett-luce reads who comes before whom, and 1 pair is a tie or has a soft label; set "
        "--preferences.ties drop and --preferences.aggregate majority, or set --reward.loss pairs"
    )
