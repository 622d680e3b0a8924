"""What a Town Desk prompt says: an event, a day, a time, a place, something to bring, and perhaps a claim.

    Facts: bake sale, Friday 3 pm, park; bring a plate. Ana thinks it is Saturday. Write a short note for parents.

A claim is false three times out of four; a good note does not follow it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from zlib import crc32

from keel.types import Message, Prompt

EVENTS = (
    "bake sale", "book fair", "garden walk", "chess night", "school play", "clean-up", "swim meet", "art show",
    "choir concert", "food drive", "bike tour", "flea market", "fire drill", "poetry reading", "pottery class",
    "soccer match", "film evening", "board meeting", "blood drive", "craft fair", "dance lesson", "dog show",
    "farm visit", "fun run", "jazz concert", "kite day", "lantern parade", "puppet show", "quiz night",
    "science fair", "toy swap", "tree planting",
)  # fmt: skip
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
TIMES = tuple(f"{hour} am" for hour in (8, 9, 10, 11)) + tuple(f"{hour} pm" for hour in (1, 2, 3, 4, 5, 6, 7, 8))
PLACES = (
    "park", "library", "town hall", "school", "church", "harbor", "museum", "old mill", "market square", "river bank",
    "gym", "stadium", "theater", "garden", "fire station", "train station", "playground", "beach", "pool", "barn",
    "castle", "cafe", "bakery", "post office", "bridge", "forest", "lake", "farm",
)  # fmt: skip
ITEMS = (
    "a plate", "a chair", "a torch", "a blanket", "a pen", "a hat", "a friend", "a cup", "a towel", "a bag",
    "a map", "a ticket", "an apple", "an umbrella", "a camera", "a cake", "gloves", "water", "good shoes", "old books",
    "warm clothes", "some coins", "a raincoat", "a notebook", "a basket", "a whistle", "a sandwich", "a candle",
)  # fmt: skip
AUDIENCES = (
    "parents", "neighbors", "members", "children", "gardeners", "volunteers", "visitors", "teachers", "students",
    "families",
)  # fmt: skip
NAMES = (
    "Ana", "Ben", "Carla", "David", "Elena", "Felix", "Grace", "Hugo", "Iris", "Jonas", "Kira", "Leo", "Mara", "Nils",
    "Olga", "Paul", "Rosa", "Sam", "Tina", "Viktor",
)  # fmt: skip

SLOTS: Mapping[str, tuple[str, ...]] = {"event": EVENTS, "day": DAYS, "time": TIMES, "place": PLACES, "item": ITEMS}
"""The five slots a note can get right or wrong, with every value that the task knows."""


@dataclass(frozen=True)
class Claim:
    """What somebody believes about one slot (day, time or place); it may be false."""

    name: str
    slot: str
    value: str


@dataclass(frozen=True)
class Facts:
    """One prompt's facts. `item` and `claim` may be absent from the prompt."""

    event: str
    day: str
    time: str
    place: str
    item: str | None
    audience: str
    claim: Claim | None

    def value(self, slot: str) -> str | None:
        """The true value of a slot in `SLOTS`."""
        return {"event": self.event, "day": self.day, "time": self.time, "place": self.place, "item": self.item}[slot]

    @property
    def claim_is_false(self) -> bool:
        return self.claim is not None and self.claim.value != self.value(self.claim.slot)


def draw_facts(rng: random.Random) -> Facts:
    """One prompt's facts: an item in 80 %, a claim in 60 %, three quarters of the claims false."""
    event, day, time, place = (rng.choice(values) for values in (EVENTS, DAYS, TIMES, PLACES))
    item = rng.choice(ITEMS) if rng.random() < 0.8 else None
    claim = None
    if rng.random() < 0.6:
        slot = rng.choice(("day", "day", "time", "place"))
        truth = {"day": day, "time": time, "place": place}[slot]
        value = other(slot, truth, rng) if rng.random() < 0.75 else truth
        claim = Claim(rng.choice(NAMES), slot, value)
    return Facts(event, day, time, place, item, rng.choice(AUDIENCES), claim)


def other(slot: str, value: str | None, rng: random.Random) -> str:
    """A value of the slot that is not `value`."""
    while (drawn := rng.choice(SLOTS[slot])) == value:
        pass
    return drawn


def render(facts: Facts) -> str:
    """The prompt as the user writes it."""
    item = f"; bring {facts.item}" if facts.item else ""
    claim = f" {facts.claim.name} thinks it is {_claimed(facts.claim)}." if facts.claim else ""
    return (
        f"Facts: {facts.event}, {facts.day} {facts.time}, {facts.place}{item}.{claim}"
        f" Write a short note for {facts.audience}."
    )


def _claimed(claim: Claim) -> str:
    return {"day": claim.value, "time": f"at {claim.value}", "place": f"at the {claim.value}"}[claim.slot]


def draw_prompts(count: int, seed: int, part: str) -> tuple[Prompt, ...]:
    """`count` distinct prompts of one stream; the same for the same (seed, part).

    Whatever the seeds, "evaluation" shares no prompt with any other part: it has the fifth of all prompts that their
    checksum selects, the others draw from the rest.
    """
    rng = random.Random(f"town desk prompts {seed} {part}")
    found: dict[str, Prompt] = {}
    while len(found) < count:
        facts = draw_facts(rng)
        text = render(facts)
        if (crc32(text.encode()) % 5 == 0) == (part == "evaluation") and text not in found:
            found[text] = Prompt(f"{part}-{len(found)}", (Message("user", text),))
    return tuple(found.values())


_PROMPT = re.compile(
    r"^Facts: (?P<event>[^,]+), (?P<day>\w+) (?P<time>\d+ [ap]m), (?P<place>[^;.]+)(?:; bring (?P<item>[^.]+))?\."
    r"(?: (?P<name>\w+) thinks it is (?P<claimed>[^.]+)\.)?"
    r" Write a short note for (?P<audience>\w+)\.$"
)


def parse(text: str) -> Facts:
    """The facts of a prompt: the inverse of `render`. Raises ValueError where the text is no Town Desk prompt."""
    match = _PROMPT.match(text)
    if match is None:
        raise ValueError(f"not a Town Desk prompt: {text!r}")
    claim = None
    if match["claimed"]:
        if match["claimed"].startswith("at the "):
            claim = Claim(match["name"], "place", match["claimed"].removeprefix("at the "))
        elif match["claimed"].startswith("at "):
            claim = Claim(match["name"], "time", match["claimed"].removeprefix("at "))
        else:
            claim = Claim(match["name"], "day", match["claimed"])
    return Facts(match["event"], match["day"], match["time"], match["place"], match["item"], match["audience"], claim)
