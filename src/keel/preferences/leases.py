"""The nouns of the desk: its rules, what it serves, what comes back, and how it refuses."""

import math
from dataclasses import dataclass

from keel.preferences.judgement import Decline, Judgement, Shown
from keel.preferences.rows import storable


class LeaseLostError(Exception):
    """The token is not, or no longer, good for a judgement: nothing was recorded. Says why, in a sentence."""


class NotWelcomeError(Exception):
    """This annotator is unknown, paused or excluded. Says which."""


@dataclass(frozen=True)
class Rules:
    """How the desk deals.

    `lease_seconds`: how long an item waits for its annotator, from the last sign of life. `selection` names who set the
    items' priorities: "random" where nobody did. `random_share` of the fresh items enter at random however high the
    others' priority. `gold_share` and `repeat_share` of what is served are items with known answers, and items that the
    same person judged at least `repeat_after` judgements before, with the sides swapped.
    """

    lease_seconds: float = 300.0
    selection: str = "random"
    random_share: float = 0.2
    gold_share: float = 0.0
    repeat_share: float = 0.0
    repeat_after: int = 10

    def __post_init__(self) -> None:
        shares = (self.random_share, self.gold_share, self.repeat_share)
        if self.lease_seconds <= 0 or not all(0 <= share <= 1 for share in shares) or self.repeat_after < 1:
            raise ValueError(f"{self}: need lease_seconds > 0, shares within 0…1, repeat_after ≥ 1")


@dataclass(frozen=True)
class Served:
    """An item in front of its annotator until `expires` (seconds since the epoch), to be answered with `token`."""

    token: str
    shown: Shown
    served: float
    expires: float


@dataclass(frozen=True)
class Verdict:
    """What was pressed: the button of a comparison, the places of a ranking from best to worst, or a way to decline."""

    pressed: int | None = None
    places: tuple[int, ...] | None = None
    decline: Decline | None = None
    note: str = ""
    reason: str = ""
    seen: float | None = None

    def __post_init__(self) -> None:
        if sum(said is not None for said in (self.pressed, self.places, self.decline)) != 1:
            raise ValueError("a verdict is a button, a ranking, or a way to decline: one of the three")
        if self.seen is not None and not math.isfinite(self.seen):
            raise ValueError(f"seen at {self.seen}: need seconds since the epoch")
        if not (storable(self.note) and storable(self.reason)):
            raise ValueError("the note or the reason holds characters that are no text (a NUL, or half a character)")


@dataclass(frozen=True)
class Receipt:
    """What is on disk. `repeated`: it was there already, and the submission changed nothing."""

    judgement: Judgement
    repeated: bool
