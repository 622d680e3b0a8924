"""Answers before and after, chosen so that a reader sees the best, the usual and the worst, and what has changed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from statistics import median
from typing import Literal

from keel.diagnostics.recorded import Answered

Group = Literal["best", "typical", "worst"]
EACH = 4
_ALIKE = 0.5
_LONGEST = 400  # words; the comparison is quadratic


@dataclass(frozen=True)
class Piece:
    """A run of text; `changed` where the other answer does not have it."""

    text: str
    changed: bool


@dataclass(frozen=True)
class Comparison:
    """One prompt with both answers in pieces."""

    group: Group
    answered: Answered
    before: tuple[Piece, ...]
    after: tuple[Piece, ...]


def choose(answers: Sequence[Answered]) -> list[Comparison]:
    """At most twelve: the four largest gains, the four nearest the median gain, the four largest losses.

    With fewer than twelve answers, fewer of each. Equal gains stand in the order of the file; only a true gain is among
    the best and only a true loss among the worst.
    """
    each = min(EACH, -(-len(answers) // 3))
    order = sorted(range(len(answers)), key=lambda place: (-answers[place].gain, place))
    best = [place for place in order[:each] if answers[place].gain > 0]
    worst = [place for place in reversed(order[-each:]) if answers[place].gain < 0 and place not in best]
    centre = median(one.gain for one in answers) if answers else 0.0
    rest = [place for place in range(len(answers)) if place not in best and place not in worst]
    typical = sorted(rest, key=lambda place: abs(answers[place].gain - centre))
    groups: tuple[tuple[Group, list[int]], ...] = (("best", best), ("typical", typical[:each]), ("worst", worst))
    return [_compare(group, answers[place]) for group, places in groups for place in places]


def _compare(group: Group, answered: Answered) -> Comparison:
    before, after = difference(answered.sft, answered.policy)
    return Comparison(group, answered, before, after)


def difference(before: str, after: str) -> tuple[tuple[Piece, ...], tuple[Piece, ...]]:
    """Both texts in pieces, word by word; nothing is marked where they have too little in common."""
    one, other = (re.findall(r"\s*\S+|\s+$", text) for text in (before, after))
    matcher = SequenceMatcher(None, [word.strip() for word in one], [word.strip() for word in other], autojunk=False)
    if max(len(one), len(other)) > _LONGEST or matcher.ratio() < _ALIKE:
        return (Piece(before, False),), (Piece(after, False),)
    left: list[Piece] = []
    right: list[Piece] = []
    for kind, i1, i2, j1, j2 in matcher.get_opcodes():
        left += _pieces("".join(one[i1:i2]), kind != "equal")
        right += _pieces("".join(other[j1:j2]), kind != "equal")
    return tuple(left), tuple(right)


def _pieces(text: str, changed: bool) -> list[Piece]:
    """White space in front of what changed is not itself marked."""
    words = text.lstrip()
    pieces = [Piece(text[: len(text) - len(words)], False), Piece(words, changed)]
    return [piece for piece in pieces if piece.text]
