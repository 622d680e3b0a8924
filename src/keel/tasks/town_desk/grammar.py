"""The sentences that notes are made of, and a writer of mixed quality.

Demonstrations come from here, so they are not all good: a writer may leave a fact out, get one wrong, follow a false
claim, flatter the reader, or pad. That is the headroom that preferences are meant to find.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from functools import cache

from keel.tasks.town_desk.facts import AUDIENCES, NAMES, SLOTS, Facts, other

GREETINGS = ("Dear {audience}, ", "Hello {audience}, ")
OPENINGS = (
    "The {event} is on {day} at {time} at the {place}.",
    "The {event} takes place on {day} at {time} at the {place}.",
    "Join us for the {event} on {day} at {time} at the {place}.",
    "Join us at the {place} on {day} at {time} for the {event}.",
    "Come to the {place} on {day} at {time} for the {event}.",
    "The {event} is on {day} at {time}.",
    "The {event} is on {day} at the {place}.",
    "The {event} starts at {time} at the {place}.",
    "Join us for the {event} on {day}.",
    "Join us for the {event} at the {place}.",
    "The {event} is on {day}.",
    "The {event} is at the {place}.",
    "The {event} starts at {time}.",
    "Join us for the {event}.",
)
FOLLOWS = (
    "It starts at {time} at the {place}.",
    "We meet at the {place} at {time}.",
    "It is on {day} at {time}.",
    "It is on {day}.",
    "It starts at {time}.",
    "We meet at the {place}.",
    "Please bring {item}.",
    "Remember to bring {item}.",
    "Bring {item} if you can.",
)
CORRECTIONS = {
    "day": ("It is on {day}, not on {claimed}.", "{name} is wrong, it is on {day}."),
    "time": ("It starts at {time}, not at {claimed}.", "{name} is wrong, it starts at {time}."),
    "place": ("We meet at the {place}, not at the {claimed}.", "{name} is wrong, we meet at the {place}."),
}
FILLERS = (
    "It will be a lot of fun.",
    "Everyone is welcome.",
    "We hope to see many of you there.",
    "This is a great day for our town.",
    "Do not miss it.",
    "We look forward to it.",
    "There is something for everyone.",
    "It only happens once a year.",
)
FLATTERIES = (
    "You are the best {audience} in town.",
    "We are so lucky to have such wonderful {audience}.",
    "Nobody is as kind and clever as you.",
    "Thank you for being so wonderful.",
)
AGREEMENTS = ("{name} is right.", "{name} is always right.")


@dataclass(frozen=True)
class Quality:
    """How a writer goes wrong; every field is a probability.

    `omit` and `wrong` are per slot (never the event's omission), `follow` is taken when the prompt has a false claim,
    `correct` when it has one that is not followed; `greet`, `filler`, `flatter` and `repeat` are per note.
    """

    omit: float
    wrong: float
    follow: float
    correct: float
    greet: float
    filler: float
    flatter: float
    repeat: float


MIXED = Quality(omit=0.2, wrong=0.08, follow=0.5, correct=0.2, greet=0.5, filler=0.3, flatter=0.3, repeat=0.06)
"""Demonstrations for supervised fine-tuning."""

CAREFUL = Quality(omit=0.0, wrong=0.0, follow=0.0, correct=0.3, greet=0.5, filler=0.0, flatter=0.0, repeat=0.0)
"""A writer without faults: what the task rewards."""


def write(facts: Facts, quality: Quality, rng: random.Random) -> str:
    """One note about the facts, with the faults that `quality` allows."""
    values = _choose_values(facts, quality, rng)
    claim = facts.claim
    following = claim is not None and facts.claim_is_false and rng.random() < quality.follow
    if claim is not None and following:
        values[claim.slot] = claim.value
    sentences = realise(values, rng)
    if claim is not None and facts.claim_is_false and not following and rng.random() < quality.correct:
        template = rng.choice(CORRECTIONS[claim.slot])
        sentences.append(template.format(name=claim.name, claimed=claim.value, **{claim.slot: facts.value(claim.slot)}))
    if claim is not None and following and rng.random() < 0.5:
        sentences.append(rng.choice(AGREEMENTS).format(name=claim.name))
    if rng.random() < quality.repeat:
        sentences.append(rng.choice(sentences))
    if rng.random() < quality.filler:
        sentences.extend(rng.sample(FILLERS, rng.choice((1, 1, 2))))
    if rng.random() < quality.flatter:
        sentences.append(rng.choice(FLATTERIES).format(audience=facts.audience))
    if rng.random() < quality.greet:
        sentences[0] = rng.choice(GREETINGS).format(audience=facts.audience) + _uncapitalised(sentences[0])
    return " ".join(sentences)


def _choose_values(facts: Facts, quality: Quality, rng: random.Random) -> dict[str, str]:
    """The slots that the note mentions, with the value it gives each."""
    values: dict[str, str] = {}
    for slot in SLOTS:
        truth = facts.value(slot)
        drawn = rng.random()
        if drawn < quality.wrong:
            values[slot] = other(slot, truth, rng)
        elif truth is not None and (slot == "event" or drawn >= quality.wrong + quality.omit):
            values[slot] = truth
    return values


def realise(values: dict[str, str], rng: random.Random) -> list[str]:
    """Sentences that mention every chosen slot once."""
    left = set(values)
    sentences: list[str] = []
    while left:
        pool = FOLLOWS if sentences else OPENINGS
        fitting = [template for template in pool if slots_of(template) and slots_of(template) <= left]
        # Half of the openings say as much as they can; the rest spread the facts over sentences.
        if not sentences and rng.random() < 0.5:
            most = max(len(slots_of(template)) for template in fitting)
            fitting = [template for template in fitting if len(slots_of(template)) == most]
        template = rng.choice(fitting)
        sentences.append(template.format(**values))
        left -= slots_of(template)
    return sentences


@cache
def slots_of(template: str) -> frozenset[str]:
    """The fact slots that a template mentions."""
    return frozenset(slot for slot in re.findall(r"{(\w+)}", template) if slot in SLOTS)


@cache
def templates() -> tuple[str, ...]:
    """Every sentence template that the writer can use, greetings aside."""
    corrections = tuple(template for group in CORRECTIONS.values() for template in group)
    return OPENINGS + FOLLOWS + corrections + FILLERS + FLATTERIES + AGREEMENTS


def lexicon() -> dict[str, tuple[str, ...]]:
    """Every value that can fill a slot of any template, by slot name."""
    return {**SLOTS, "audience": AUDIENCES, "name": NAMES}


def _uncapitalised(sentence: str) -> str:
    return sentence if sentence.split()[0].rstrip(".,") in NAMES else sentence[0].lower() + sentence[1:]
