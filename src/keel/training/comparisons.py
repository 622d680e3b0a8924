"""What people said about the answers to one prompt, as the reward model meets it: one tree, and the pairs in it.

The pairs of one prompt are correlated, and shuffled apart they let a reward model overfit within one epoch, since each
answer is learnt from once per pair. So they stay together, and each answer is read once. Source: InstructGPT
(2203.02155), section 3.5.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

from keel.data.chat import Chat
from keel.data.forest import Tree
from keel.errors import UserError
from keel.types import Preference, Ranking, Vote

_WINNERS = {1.0: ((0, 1),), 0.0: ((1, 0),)}
"""The ranking that a pair is, by the probability of its first answer; another probability is none."""
Source = Literal["rows", "votes"]
"""Where pairs are from: rows that say what they are, or votes that were brought together."""
_WITHOUT: Mapping[Source, str] = {
    "rows": "leave such rows out of reward.data",
    "votes": "set --preferences.ties drop and --preferences.aggregate majority",
}
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
    """The answers to one prompt, a branch each, and the pairs of them that were compared (at least one).

    `rankings` are the rows behind the pairs that say who came before whom: places among the branches, best first. A
    pair with a winner is one of two.
    """

    tree: Tree
    pairs: tuple[Pair, ...]
    rankings: tuple[tuple[int, ...], ...] = ()


def comparisons(chat: Chat, row: Preference | Ranking) -> Comparisons:
    """One row in tokens: a preference is one pair, a ranking of K answers is all C(K,2), the better one chosen.

    Raises UserError as `Chat.preference` and `Chat.ranking` do.
    """
    if isinstance(row, Preference):
        pair = Pair(0, 1, row.probability, row.margin, row.votes)
        return Comparisons(chat.preference(row), (pair,), tuple(_WINNERS.get(row.probability, ())))
    places = combinations(range(len(row.completions)), 2)
    pairs = tuple(Pair(better, worse, 1.0, 0.0) for better, worse in places)
    return Comparisons(chat.ranking(row), pairs, (tuple(range(len(row.completions))),))


def require_winners(probabilities: Iterable[float], source: Source = "rows") -> None:
    """UserError where a pair does not say which of its answers comes first, as a whole ranking does of all of them."""
    unsure = sum(one not in _WINNERS for one in probabilities)
    if unsure:
        said = "1 pair is a tie or has a soft label" if unsure == 1 else f"{unsure} pairs are ties or have a soft label"
        raise UserError(
            f"reward.loss: plackett-luce reads who comes before whom, and {said}; {_WITHOUT[source]}, or set "
            "--reward.loss pairs"
        )


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
    rankings = (tuple(moved[branch] for branch in ranking) for ranking in other.rankings)
    return Comparisons(Tree(one.tree.trunk, branches), (*one.pairs, *pairs), (*one.rankings, *rankings))
