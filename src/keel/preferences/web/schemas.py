"""The shapes of the API's JSON."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from keel.preferences.judgement import STRONGEST, Decline, Role
from keel.preferences.leases import Verdict
from keel.preferences.people import State

LONGEST_NOTE = 2000
LONGEST_REASON = 200
STORABLE = r"^[^\u0000]*$"  # PostgreSQL keeps no NUL

Note = Annotated[str, Field(max_length=LONGEST_NOTE, pattern=STORABLE)]
Reason = Annotated[str, Field(max_length=LONGEST_REASON, pattern=STORABLE)]
Token = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9_-]+$")]


def _whole(value: object) -> object:
    """JSON does not tell 2.0 from 2."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Pressed = Annotated[int, Field(ge=-STRONGEST, le=STRONGEST), BeforeValidator(_whole)]
Place = Annotated[int, Field(ge=0, le=63), BeforeValidator(_whole)]
Places = Annotated[list[Place], Field(min_length=2, max_length=64)]
Version = Annotated[int, Field(ge=1, le=2**31 - 1), BeforeValidator(_whole)]


class Sent(BaseModel):
    """What is sent to us: a field that we do not know is a mistake."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Refused(BaseModel):
    """Why something was refused, in one sentence; `state` of whoever may not go on."""

    error: str
    state: State | None = None


class Nothing(BaseModel):
    """It is done, and there is nothing to say."""


class Progress(BaseModel):
    """The annotator's own work: judged in all, judged today, about how many are left, pace without breaks."""

    done: int
    today: int
    left: int
    per_hour: float | None
    median_seconds: float | None


class Turn(BaseModel):
    """One turn of a conversation, as it was written and as harmless HTML."""

    role: str
    text: str
    html: str


class Item(BaseModel):
    """An item under a lease until `expires` (seconds since the epoch); the answers in the places where they stand."""

    token: str
    expires: float
    ranked: bool
    prompt: list[Turn]
    answers: list[list[Turn]]
    revision: int


class Me(BaseModel):
    """Who has signed in. `csrf` is null for programs; `guideline` is the newest version."""

    name: str
    role: Role
    state: State
    powers: list[Literal["label", "review", "admin"]]
    csrf: str | None
    guideline: int
    mode: Literal["pair", "ranking"]
    progress: Progress


class Count(Sent):
    """How many items the page wants to hold, the one in front of the annotator included."""

    count: Annotated[int, Field(ge=1, le=3), BeforeValidator(_whole)] = 1


class Items(BaseModel):
    """Items that are held for the annotator now; none where nothing is left for them at the moment.

    `guideline` is the newest version.
    """

    items: list[Item]
    guideline: int


class Held(Sent):
    """An item, by the token of its lease."""

    token: Token


class Expires(BaseModel):
    """When the lease ends, in seconds since the epoch; `guideline` is the newest version."""

    expires: float
    guideline: int


class Undo(Sent):
    """The latest judgement; with the `token` by which it was made it is undone once, however often this is sent."""

    token: Token | None = None


def _one_of_three(schema: dict[str, Any]) -> None:
    """Says in the description what the validator checks: just one of the three is given."""
    ways = {"pressed": "integer", "places": "array", "decline": "string"}
    schema["oneOf"] = [{"required": [way], "properties": {way: {"type": kind}}} for way, kind in ways.items()]


class Judged(Sent):
    """A verdict on an item: `pressed` (−3 left is much better … 0 no difference … +3 right is), or `places` (0 the
    first, from the best to the worst), or `decline`.

    `looked`: seconds for which the item has been before the annotator's eyes. `guideline`: the version that was in
    front of them. `ahead`: how many items beyond the next one the page wants to hold.
    """

    model_config = ConfigDict(json_schema_extra=_one_of_three)

    token: Token
    guideline: Version
    pressed: Pressed | None = None
    places: Places | None = None
    decline: Decline | None = None
    note: Note = ""
    reason: Reason = ""
    looked: Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)] | None = None
    ahead: Annotated[int, Field(ge=0, le=2), BeforeValidator(_whole)] = 0

    @model_validator(mode="after")
    def _says_one_thing(self) -> "Judged":
        self.verdict(None)
        return self

    def verdict(self, now: float | None) -> Verdict:
        """As the desk takes it, at `now` (seconds since the epoch)."""
        seen = None if now is None or self.looked is None else now - self.looked
        places = None if self.places is None else tuple(self.places)
        return Verdict(self.pressed, places, self.decline, self.note, self.reason, seen)


class Receipt(BaseModel):
    """The judgement is on disk. `repeated`: it was there already. `next`: all that is held for the annotator now.

    `guideline` is the newest version.
    """

    repeated: bool
    guideline: int
    progress: Progress
    next: list[Item]


class Said(BaseModel):
    """What an annotator had said before they undid it."""

    kind: str
    pressed: int | None
    places: list[int] | None
    note: str
    reason: str


class Undone(BaseModel):
    """The item that waits again, and what had been said about it; null where there was nothing to undo."""

    item: Item | None
    said: Said | None
    progress: Progress


class Guideline(BaseModel):
    """A version of the guidelines. `at` is in seconds since the epoch; `author` is null for annotators."""

    version: int
    text: str
    html: str
    at: float
    author: str | None
