"""What people said about the answers to one prompt, as the reward model meets it: one tree, and the pairs in it.

The pairs of one prompt are correlated, and shuffled apart they let a reward model overfit within one epoch, since each
answer is learnt from once per pair. So they stay together, and each answer is read once. Source: InstructGPT
(2203.02155), section 3.5.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import combinations

from keel.data.chat import Chat
from keel.data.forest import Tree
from keel.types import Preference, Ranking, Vote

MOST = 16
"""Answers of one tree where pairs come in several rows, so that one step fits into memory; InstructGPT has 4 to 9."""


@dataclass(frozen=True)
class Pair:
    """Two answers that were compared, by their places among the branches.

    `probability` = P(chosen is preferred); `margin` in units of reward; `votes` are those behind it, where known.
    """

    chosen: int
    rejected: int
    probability: float
    margin: float
    votes: tuple[Vote, ...] = ()


@dataclass(frozen=True)
class Comparisons:
    """The answers to one prompt, a branch each, and the pairs of them that were compared (at least one)."""

    tree: Tree
    pairs: tuple[Pair, ...]


def comparisons(chat: Chat, row: Preference | Ranking) -> Comparisons:
    """One row in tokens: a preference is one pair, a ranking of K answers is all C(K,2), the better one chosen.

    Raises UserError as `Chat.preference` and `Chat.ranking` do.
    """
    if isinstance(row, Preference):
        return Comparisons(chat.preference(row), (Pair(0, 1, row.probability, row.margin, row.votes),))
    places = combinations(range(len(row.completions)), 2)
    return Comparisons(chat.ranking(row), tuple(Pair(better, worse, 1.0, 0.0) for better, worse in places))


def together(rows: Iterable[Comparisons]) -> list[Comparisons]:
    """The rows of one prompt as one, in the place of the first: each answer is there once, with all the pairs.

    A row that would bring a prompt's tree to more than `MOST` answers begins another one. A row is never split.
    """
    joined: list[Comparisons] = []
    newest: dict[tuple[int, ...], int] = {}
    for row in rows:
        place = newest.get(row.tree.trunk)
        both = row if place is None else _union(joined[place], row)
        if place is not None and len(both.tree.branches) <= MOST:
            joined[place] = both
        else:
            newest[row.tree.trunk] = len(joined)
            joined.append(row)
    return joined


def _union(one: Comparisons, other: Comparisons) -> Comparisons:
    branches = tuple(dict.fromkeys((*one.tree.branches, *other.tree.branches)))
    place = {branch: number for number, branch in enumerate(branches)}
    moved = [place[branch] for branch in other.tree.branches]
    pairs = (replace(pair, chosen=moved[pair.chosen], rejected=moved[pair.rejected]) for pair in other.pairs)
    return Comparisons(Tree(one.tree.trunk, branches), (*one.pairs, *pairs))
