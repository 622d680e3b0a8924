"""The nouns of preference collection: what is asked, what was shown, what was pressed, and the votes that follow.

Two orientations, one number line. On the screen the seven buttons lie between the two answers, −3 on the left:

    pressed    −3        −2      −1           0     +1            +2       +3
    means      left is                        no    right is
               much      better  slightly     one   slightly      better   much better

An item's answers have an order of their own (first, second); sides are drawn per (item, annotator). A *strength* is the
same number line laid from the first answer (−3) to the second (+3): it equals `pressed` where the first answer stood on
the left, and `−pressed` where the sides were swapped. Only `Judgement.strength` translates between the two.

    shown (0, 1), pressed −2  →  strength −2   the first answer is better
    shown (1, 0), pressed −2  →  strength +2   the second answer is better: it stood on the left

Where more than two answers are shown, they are ranked instead: `order` names them, the best first, and stands for a
comparison of each two of them, of strength 1.

    shown (2, 0, 1), order (0, 1, 2)  →  0 before 1, 0 before 2, 1 before 2, whichever place they stood in
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Int

from keel.types import Conversation

Kind = Literal["comparison", "ranking", "both_bad", "skip", "flag", "withdrawn"]
"""What a judgement says. `withdrawn` is an undo: the item waits for its annotator again."""

COUNTED: tuple[Kind, ...] = ("comparison", "ranking", "both_bad")
"""Kinds that say something about the answers, and so count towards the annotators that an item is to have."""

Decline = Literal["both_bad", "skip", "flag"]
"""Ways to answer without comparing."""

Role = Literal["admin", "reviewer", "annotator", "simulated", "imported"]
"""What a name in the store is. The last two never sign in: a program, and a column of somebody's file."""

PROGRAMS: tuple[Role, ...] = ("simulated", "imported")
"""Roles whose judgements are not counted among those that people are asked for."""

STRONGEST = 3
"""Buttons on either side of the tie."""


@dataclass(frozen=True)
class Answer:
    """One completion, and who wrote it. `model` and `version` (of the policy) are never shown to annotators."""

    messages: Conversation
    model: str = ""
    version: int | None = None


@dataclass(frozen=True)
class Item:
    """A prompt and its K ≥ 2 answers, in their canonical order. `id` is the caller's, and unique in a store."""

    id: str
    prompt: Conversation
    answers: tuple[Answer, ...]

    def __post_init__(self) -> None:
        if len(self.answers) < 2:
            raise ValueError(f"item {self.id}: {len(self.answers)} answers, a comparison needs at least 2")


@dataclass(frozen=True)
class Assignment:
    """This annotator is to judge this item: two answers, `shown[0]` on the left, or more to rank, in this order."""

    item: str
    annotator: str
    shown: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.shown) < 2 or len(set(self.shown)) < len(self.shown) or min(self.shown) < 0:
            raise ValueError(f"item {self.item}: sides {self.shown} are not two or more different answers")

    @property
    def ranked(self) -> bool:
        """Whether a ranking is asked for instead of a comparison."""
        return len(self.shown) > 2


@dataclass(frozen=True)
class Judgement:
    """What one annotator said about one item, as it was pressed; never changed, only superseded.

    `pressed` is on the screen's number line (module docstring) and is None unless `kind` is "comparison"; `order` names
    the answers of `shown` from best to worst and is None unless `kind` is "ranking". `served`, `seen` (when the item
    was first before the annotator's eyes: it may be fetched ahead) and `submitted` are seconds since the epoch, None
    where unknown. `reason` is why an item is flagged. `revision` counts from 1; the highest is what the annotator now
    says.
    """

    item: str
    annotator: str
    shown: tuple[int, ...]
    kind: Kind
    pressed: int | None = None
    note: str = ""
    guideline: str = ""
    served: float | None = None
    submitted: float | None = None
    revision: int = 1
    order: tuple[int, ...] | None = None
    seen: float | None = None
    reason: str = ""

    def __post_init__(self) -> None:
        if (self.kind == "comparison") != (self.pressed is not None):
            raise ValueError(f"item {self.item}: kind {self.kind!r} with pressed {self.pressed}")
        if self.pressed is not None and abs(self.pressed) > STRONGEST:
            raise ValueError(f"item {self.item}: pressed {self.pressed} is not within −{STRONGEST}…+{STRONGEST}")
        if self.kind == "comparison" and len(self.shown) != 2:
            raise ValueError(f"item {self.item}: a comparison of {len(self.shown)} answers; rank them")
        if (self.kind == "ranking") != (self.order is not None):
            raise ValueError(f"item {self.item}: kind {self.kind!r} with order {self.order}")
        if self.order is not None and sorted(self.order) != sorted(self.shown):
            raise ValueError(f"item {self.item}: order {self.order} does not rank the answers {self.shown}")
        if self.revision < 1:
            raise ValueError(f"item {self.item}: revisions count from 1, not {self.revision}")

    @property
    def strength(self) -> int:
        """The verdict in canonical orientation: −3 the answer with the lower index is much better … +3 the other is."""
        if self.pressed is None:
            raise ValueError(f"item {self.item}: a judgement of kind {self.kind!r} has no strength")
        return self.pressed if self.shown[0] < self.shown[1] else -self.pressed

    def edit(self, pressed: int, note: str = "", submitted: float | None = None) -> "Judgement":
        """The next revision: the annotator has thought again."""
        return replace(
            self,
            kind="comparison",
            pressed=pressed,
            note=note,
            submitted=submitted,
            reason="",
            revision=self.revision + 1,
        )

    def seen_at(self, seen: float | None) -> "Judgement":
        """The same, with the time at which the item was first before the annotator's eyes."""
        return replace(self, seen=seen)

    def withdraw(self, submitted: float | None = None) -> "Judgement":
        """The next revision: undone, the item waits again."""
        return replace(
            self,
            kind="withdrawn",
            pressed=None,
            order=None,
            note="",
            reason="",
            submitted=submitted,
            revision=self.revision + 1,
        )


@dataclass(frozen=True)
class Shown:
    """What the annotator sees: the prompt and the answers in their places, without a word about who wrote them.

    `revision` is the number that the annotator's verdict will carry.
    """

    assignment: Assignment
    prompt: Conversation
    answers: tuple[Conversation, ...]
    revision: int = 1

    def press(
        self,
        pressed: int,
        note: str = "",
        guideline: str = "",
        served: float | None = None,
        submitted: float | None = None,
    ) -> Judgement:
        """The verdict on two answers: −3 the left one is much better … 0 a tie … +3 the right one is."""
        return replace(self._blank(note, guideline, served, submitted), kind="comparison", pressed=pressed)

    def rank(
        self,
        places: Sequence[int],
        note: str = "",
        guideline: str = "",
        served: float | None = None,
        submitted: float | None = None,
    ) -> Judgement:
        """The verdict on several: the places in which the answers stand, 0 the first, from the best to the worst."""
        shown = self.assignment.shown
        if sorted(places) != list(range(len(shown))):
            raise ValueError(f"item {self.assignment.item}: places {tuple(places)} do not rank {len(shown)} answers")
        order = tuple(shown[place] for place in places)
        return replace(self._blank(note, guideline, served, submitted), kind="ranking", order=order)

    def decline(
        self,
        kind: Decline,
        note: str = "",
        guideline: str = "",
        served: float | None = None,
        submitted: float | None = None,
        reason: str = "",
    ) -> Judgement:
        """An answer that compares nothing: both are bad, skip, or flag for a `reason`."""
        return replace(self._blank(note, guideline, served, submitted), kind=kind, reason=reason)

    def _blank(self, note: str, guideline: str, served: float | None, submitted: float | None) -> Judgement:
        """Everything but the verdict."""
        asked = self.assignment
        return Judgement(
            asked.item, asked.annotator, asked.shown, "skip", None, note, guideline, served, submitted, self.revision
        )


class Pair(NamedTuple):
    """Two answers of one item, `first` < `second`: the unit that votes are about."""

    item: str
    first: int
    second: int


@dataclass(frozen=True, eq=False)
class Votes:
    """Comparisons in canonical orientation, as a sparse matrix: V votes by A annotators on N pairs.

    Vote v says that `annotators[annotator[v]]` gave `pairs[pair[v]]` the `strength[v]`, −3 first … +3 second, while the
    first answer stood on the left (`side[v]` +1) or on the right (−1). Votes are sorted by pair, then by annotator.
    `declined` counts the judgements that compare nothing, by kind; they are in no other field.
    """

    pairs: tuple[Pair, ...]
    annotators: tuple[str, ...]
    pair: Int[np.ndarray, " V"]
    annotator: Int[np.ndarray, " V"]
    strength: Int[np.ndarray, " V"]
    side: Int[np.ndarray, " V"]
    declined: Mapping[str, int]

    @property
    def label(self) -> Int[np.ndarray, " V"]:
        """0 the first is better, 1 a tie, 2 the second is better."""
        return np.asarray(np.sign(self.strength) + 1)

    def counts(self) -> Int[np.ndarray, "N 3"]:
        """How many annotators gave each pair each label."""
        cells = np.bincount(self.pair * 3 + self.label, minlength=len(self.pairs) * 3)
        return cells.reshape(len(self.pairs), 3)


def collect(judgements: Sequence[Judgement]) -> Votes:
    """The votes in `judgements`, at most one per item and annotator (as `PreferenceStore.judgements` returns them).

    A ranking of K answers is K(K − 1)/2 votes of strength 1, and an answer shown before another stood to its left.
    Pairs and annotators keep the order in which they first appear.
    """
    pairs: dict[Pair, int] = {}
    annotators: dict[str, int] = {}
    declined: dict[str, int] = {}
    votes: list[tuple[int, int, int, int]] = []
    for judgement in judgements:
        said = _said(judgement)
        if not said:
            declined[judgement.kind] = declined.get(judgement.kind, 0) + 1
            continue
        column = annotators.setdefault(judgement.annotator, len(annotators))
        for pair, strength, side in said:
            votes.append((pairs.setdefault(pair, len(pairs)), column, strength, side))
    columns = np.array(sorted(votes), dtype=np.int64).reshape(-1, 4)
    doubled = (columns[1:, :2] == columns[:-1, :2]).all(axis=1)
    if doubled.any():
        row, column = columns[1:, :2][doubled][0]
        raise ValueError(f"item {tuple(pairs)[row].item}: two votes by {tuple(annotators)[column]}")
    return Votes(tuple(pairs), tuple(annotators), columns[:, 0], columns[:, 1], columns[:, 2], columns[:, 3], declined)


def _said(judgement: Judgement) -> list[tuple[Pair, int, int]]:
    """The pairs that a judgement compares, each with its canonical strength and the first answer's side."""
    if judgement.order is not None:
        place, rank = judgement.shown.index, judgement.order.index
        return [
            (
                Pair(judgement.item, first, second),
                -1 if rank(first) < rank(second) else 1,
                1 if place(first) < place(second) else -1,
            )
            for first, second in combinations(sorted(judgement.shown), 2)
        ]
    if judgement.pressed is None:
        return []
    first, second = sorted(judgement.shown)
    return [(Pair(judgement.item, first, second), judgement.strength, 1 if judgement.shown[0] == first else -1)]
