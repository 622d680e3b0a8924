"""What the base model of Town Desk reads: text about facts, in which most that can be learnt is a comparison.

    Facts: bake sale, Friday 3 pm, park; bring a plate. Ana thinks it is Saturday. Write a short note for parents.
    Check: day Saturday wrong, place park right, time 3 pm right, day Friday right, ...
    Note:
    The bake sale is on Saturday at the park.<|end|>1 wrong, 2 missing.

A document is a facts line and two pieces of writing about it. Cards and answers make a model copy, which a note needs.
Checks and marked notes put a verdict right behind each value, so that comparing is one step of attention and most of
the loss; without them a model of this size does not come to compare. The tally behind a note's end asks for the sum of
these verdicts where a reward model will be read, at the end token.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from keel.tasks.town_desk.facts import SLOTS, Facts, other, render
from keel.tasks.town_desk.grammar import Quality, realise, write
from keel.tasks.town_desk.sentence import sentences

END = "<|end|>"
DRAFT = Quality(omit=0.25, wrong=0.15, follow=0.5, correct=0.3, greet=0.5, filler=0.3, flatter=0.12, repeat=0.08)
WRITER = Quality(omit=0.1, wrong=0.02, follow=0.2, correct=0.3, greet=0.5, filler=0.2, flatter=0.08, repeat=0.02)
CHECKED: Mapping[str, float] = {"event": 1.0, "day": 1.5, "time": 3.0, "place": 1.5, "item": 1.0}
"""How often a slot is checked: times, which are two tokens of which one is not enough, take longest to learn."""

RANDOM, PLAIN, VERDICT = 0.1, 1.0, 4.0
"""Weights in the loss: of what nobody can predict, of writing, and of verdicts."""


@dataclass(frozen=True)
class Span:
    """A stretch of a document, and what each of its tokens weighs in the loss. It begins where a token begins."""

    text: str
    weight: float


def document(facts: Facts, rng: random.Random) -> tuple[Span, ...]:
    """A facts line and two pieces of writing about it."""
    kinds: tuple[Callable[[Facts, random.Random], Iterator[Span]], ...]
    kinds = (check, _marked, _note, _draft, _card, _answers)
    spans = [Span(render(facts), RANDOM)]
    for kind in rng.choices(kinds, (0.25, 0.2, 0.25, 0.2, 0.05, 0.05), k=2):
        spans += [Span("\n", RANDOM), *kind(facts, rng)]
    return tuple(spans)


def check(facts: Facts, rng: random.Random) -> Iterator[Span]:
    """Eight values and whether they are right; every second one is, and half of the others are what is claimed."""
    yield Span("Check:", RANDOM)
    for slot in rng.choices(tuple(CHECKED), tuple(CHECKED.values()), k=8):
        value = _value(facts, slot, 0.5, rng)
        yield Span(f" {slot} {value}", RANDOM)
        yield Span(_verdict(facts, slot, value), VERDICT)
        yield Span(",", RANDOM)


def _marked(facts: Facts, rng: random.Random) -> Iterator[Span]:
    """A note with a verdict behind each value, in the middle of its sentences."""
    values = {slot: _value(facts, slot, 0.6, rng) for slot in SLOTS if slot == "event" or rng.random() < 0.8}
    verdicts = {slot: _verdict(facts, slot, value) for slot, value in values.items()}
    yield Span("Marked:\n", RANDOM)
    text = " ".join(realise({slot: value + verdicts[slot] for slot, value in values.items()}, rng))
    yield from _split(text)


def _split(text: str) -> Iterator[Span]:
    """Verdict words apart from the rest of a text."""
    rest = ""
    for word in text.replace(" ", "\0 ").split("\0"):
        bare = word.rstrip(".")
        if bare in (" right", " wrong"):
            yield Span(rest, PLAIN)
            yield Span(bare, VERDICT)
            rest = word.removeprefix(bare)
        else:
            rest += word
    yield Span(rest, PLAIN)


def _value(facts: Facts, slot: str, right: float, rng: random.Random) -> str:
    """A value to be judged: with probability `right` the true one, else the claimed one or any other."""
    truth, claim = facts.value(slot), facts.claim
    if truth is not None and rng.random() < right:
        return truth
    if claim is not None and claim.slot == slot and claim.value != truth and rng.random() < 0.5:
        return claim.value
    return other(slot, truth, rng)


def _verdict(facts: Facts, slot: str, value: str) -> str:
    return " right" if facts.value(slot) == value else " wrong"


def _note(facts: Facts, rng: random.Random) -> Iterator[Span]:
    """A note of the better sort."""
    note = write(facts, WRITER, rng)
    yield Span(f"Note:\n{note}{END}", PLAIN)
    yield from tally(facts, note, rng)


def _draft(facts: Facts, rng: random.Random) -> Iterator[Span]:
    """A poor note, with a proof-reader's remark on each of its facts."""
    note = write(facts, DRAFT, rng)
    yield Span(f"Draft:\n{note}{END}", PLAIN)
    yield from tally(facts, note, rng)
    for slot, remark in remarks(facts, note).items():
        yield Span(f" {slot}", PLAIN)
        yield Span(f" {remark}", VERDICT)
        yield Span(",", PLAIN)


def tally(facts: Facts, note: str, rng: random.Random) -> Iterator[Span]:
    """How many facts the note gets wrong and leaves out, in either order: the end token must know both."""
    found = list(remarks(facts, note).values())
    counts = [(found.count(word), word) for word in ("wrong", "missing")]
    rng.shuffle(counts)
    for (count, word), before, after in zip(counts, ("", " "), (",", "."), strict=True):
        yield Span(f"{before}{count}", VERDICT)
        yield Span(f" {word}{after}", PLAIN)


def remarks(facts: Facts, note: str) -> dict[str, str]:
    """What a proof-reader says of each slot: right, wrong, missing, or absent where there is nothing to say."""
    stated = {value for sentence in sentences(note) for value in sentence.stated}
    return {slot: _remark(facts, slot, {value for of, value in stated if of == slot}) for slot in SLOTS}


def _remark(facts: Facts, slot: str, said: set[str]) -> str:
    if not said:
        return "absent" if facts.value(slot) is None else "missing"
    return "right" if said == {facts.value(slot)} else "wrong"


def _card(facts: Facts, rng: random.Random) -> Iterator[Span]:
    lines = [f"Event: {facts.event}.", f"Day: {facts.day}.", f"Time: {facts.time}.", f"Place: {facts.place}."]
    lines += [f"Bring: {facts.item}."] if facts.item else []
    lines += [f"{facts.claim.name} says: {facts.claim.value}."] if facts.claim else []
    rng.shuffle(lines)
    yield Span("Card: " + " ".join(lines), PLAIN)


def _answers(facts: Facts, rng: random.Random) -> Iterator[Span]:
    pairs = [
        ("What is it?", f"It is the {facts.event}."),
        ("Which day is it on?", f"It is on {facts.day}."),
        ("What time does it start?", f"It starts at {facts.time}."),
        ("Where do we meet?", f"We meet at the {facts.place}."),
        ("What do we bring?", f"Bring {facts.item}." if facts.item else "Nothing."),
        ("Who is it for?", f"It is for {facts.audience}."),
    ]
    yield Span(" ".join(f"{question} {answer}" for question, answer in rng.sample(pairs, 4)), PLAIN)
