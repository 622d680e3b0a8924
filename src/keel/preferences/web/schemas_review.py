"""The shapes of the JSON for reviewers and admins. Times are in seconds since the epoch; null is "not known (yet)"."""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from keel.preferences.judgement import Kind, Role
from keel.preferences.people import State
from keel.preferences.quality.findings import Level
from keel.preferences.quality.limits import Measure
from keel.preferences.web.schemas import STORABLE, Reason, Sent, Turn


class Counts(BaseModel):
    """Ordinary items: how many, with all judgements that are wanted, set aside; judgements that are missing.

    `judgements` by people that count, `skips` and `flags` of theirs, `gold` items and `repeats` that are in the queue.
    """

    items: int
    done: int
    aside: int
    missing: int
    judgements: int
    skips: int
    flags: int
    gold: int
    repeats: int


class Day(BaseModel):
    """Judgements of one day of the server's calendar, as YYYY-MM-DD."""

    day: str
    judgements: int


class Estimate(BaseModel):
    """A statistic with its interval at 95 %; null where it is undefined."""

    value: float | None
    low: float | None
    high: float | None


class Agreement(BaseModel):
    """How far people agree, gold items and excluded people left out: on `items` with two votes or more."""

    items: int
    votes: int
    observed: Estimate
    observed_without_ties: Estimate
    unanimous: Estimate
    cohen: Estimate
    fleiss: Estimate
    alpha: Estimate
    alpha_ordinal: Estimate
    ac1: Estimate


class Share(BaseModel):
    """`successes` of `trials`, with the interval of their share at 95 %."""

    successes: float
    trials: int
    value: float | None
    low: float
    high: float


class Gold(BaseModel):
    """Right answers on gold items; `doubt` is the probability that the accuracy is too low."""

    share: Share
    doubt: float
    declined: int


class Repeats(BaseModel):
    """The same answer when asked again with the sides swapped; the same side, of those decided twice."""

    consistent: Share
    sided: Share


class Pace(BaseModel):
    """Median seconds, judgements per hour without breaks, and the share below the time that reading takes."""

    median: float
    per_hour: float | None
    too_fast: Share


class Sides(BaseModel):
    """Presses on the left; `adjusted` is the p-value of no bias, adjusted across annotators."""

    left: Share
    z: float
    p: float
    adjusted: float


class Run(BaseModel):
    """The longest run of one button."""

    button: str
    length: int
    presses: int
    p: float
    adjusted: float


class Finding(BaseModel):
    """What one measure says of an annotator, and what to do."""

    measure: Measure
    verdict: Level
    message: str
    remedy: str


class Annotator(BaseModel):
    """One person. `reliability` is the probability of saying the true label (Dawid–Skene)."""

    name: str
    role: Role
    state: State
    judgements: int
    last: float | None
    reliability: float | None
    agreement: Share | None
    gold: Gold | None
    repeats: Repeats | None
    pace: Pace | None
    sides: Sides | None
    run: Run | None
    spam: float | None
    verdict: Level
    findings: list[Finding]


class Vote(BaseModel):
    """What one person says of an item. `strength`: −3 the first answer is much better … +3 the second is; of a ranking
    `order`, the answers from best to worst."""

    annotator: str
    kind: Kind
    strength: int | None
    order: list[int] | None
    note: str
    reason: str
    at: float | None


class Content(BaseModel):
    """An item in canonical order, without a word about who wrote it."""

    id: str
    prompt: list[Turn]
    answers: list[list[Turn]]
    aside: bool


class Disputed(BaseModel):
    """An item on which people disagree: the share of pairs of votes that differ, 0…1."""

    item: Content
    disagreement: float
    votes: list[Vote]


class Flag(BaseModel):
    """An item that somebody has flagged."""

    item: Content
    vote: Vote


class Event(BaseModel):
    """What was done to whom, by whom, and why."""

    at: float
    by: str
    what: str
    whom: str
    why: str


class Published(BaseModel):
    """A version of the guidelines; `author` is null where Keel or the command line wrote it."""

    version: int
    at: float
    author: str | None


class Review(BaseModel):
    """Everything of the reviewer's page, as of `at`; the newest first where there is an order in time."""

    at: float
    counts: Counts
    days: list[Day]
    agreement: Agreement | None
    annotators: list[Annotator]
    disputed: list[Disputed]
    flags: list[Flag]
    set_aside: list[Content]
    events: list[Event]
    guidelines: list[Published]


class NewState(Sent):
    """Whether somebody may go on, and why."""

    state: State
    why: Reason = ""


class Aside(Sent):
    """Whether an item is set aside."""

    aside: bool


class Invited(Sent):
    """Somebody who is to come in."""

    name: Annotated[str, Field(min_length=1, max_length=80)]
    role: Literal["annotator", "reviewer", "admin"]


class Link(BaseModel):
    """Lets somebody in once."""

    name: str
    role: Role
    link: str


class Revoked(BaseModel):
    """How many links, sessions and tokens let nobody in any more."""

    revoked: int


class NewGuidelines(Sent):
    """What annotators are told to look at, in Markdown."""

    text: Annotated[str, Field(min_length=1, max_length=100_000, pattern=STORABLE)]


class Preview(BaseModel):
    """Markdown as harmless HTML."""

    html: str
