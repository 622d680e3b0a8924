"""The writers, and the gold score on what they write."""

from __future__ import annotations

import random
import re
from dataclasses import asdict, fields, replace
from statistics import mean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keel.tasks.town_desk.facts import Facts, draw_facts
from keel.tasks.town_desk.gold import gold_score, read
from keel.tasks.town_desk.grammar import CAREFUL, MIXED, Quality, lexicon, slots_of, templates, write
from keel.tasks.town_desk.sentence import LONGEST, sentences, shapes, template_shape

seeds = st.integers(min_value=0, max_value=2**32)


def drawn(seed: int) -> Facts:
    return draw_facts(random.Random(seed))


@given(seeds)
def test_the_careful_writer_gets_the_maximum(seed: int) -> None:
    facts = drawn(seed)
    reading = asdict(read(facts, write(facts, CAREFUL, random.Random(seed))))
    assert reading.pop("right") == (4 if facts.item is None else 5)
    assert reading.pop("words") > 0
    assert not any(reading.values())


@given(seeds, st.floats(0, 1))
def test_a_careful_writer_who_leaves_things_out_loses_these_and_no_more(seed: int, omit: float) -> None:
    facts = drawn(seed)
    note = write(facts, replace(CAREFUL, omit=omit, correct=0.0), random.Random(seed))
    said = [value for value in (facts.event, facts.day, facts.time, facts.place, facts.item) if value]
    # "school" is no mention of the place when it is the school play.
    left = note.replace(facts.event, "EVENT")
    mentioned = [value for value in said if value == facts.event or re.search(rf"\b{value}\b", left)]
    assert gold_score(facts, note) == len(mentioned)


FAULTS = {
    "omit": "left out",
    "wrong": "wrong",
    "follow": "wrong",
    "filler": "filler",
    "flatter": "flattery",
    "repeat": "repeated",
}


@pytest.mark.parametrize(("fault", "counted"), FAULTS.items())
def test_every_fault_is_counted_as_what_it_is_and_lowers_the_gold_score(fault: str, counted: str) -> None:
    rng = random.Random(1)
    many = [facts for facts in (draw_facts(rng) for _ in range(400)) if facts.claim_is_false]
    found, lost = [], []
    for facts in many:
        best = 4 if facts.item is None else 5
        reading = read(facts, write(facts, replace(CAREFUL, **{fault: 0.5}), rng))
        found.append(best - reading.right if counted == "left out" else reading.features()[counted])
        lost.append(best - reading.gold)
    assert mean(found) > 0.3
    assert min(lost) == 0
    assert mean(lost) > 0.2


@pytest.mark.parametrize("habit", ["correct", "greet"])
def test_what_is_no_fault_costs_nothing(habit: str) -> None:
    rng = random.Random(1)
    for _ in range(200):
        facts = draw_facts(rng)
        for chance in (0.0, 1.0):
            note = write(facts, replace(CAREFUL, **{habit: chance}), rng)
            assert gold_score(facts, note) == (4 if facts.item is None else 5), note


def test_every_field_of_a_quality_is_tested_here() -> None:
    assert {field.name for field in fields(Quality)} == {*FAULTS, "correct", "greet"}


@given(seeds, st.randoms(use_true_random=False))
def test_the_order_of_the_follow_up_sentences_does_not_matter(seed: int, rng: random.Random) -> None:
    facts = drawn(seed)
    note = write(facts, replace(MIXED, repeat=0.5, correct=0.8), random.Random(seed))
    first, *rest = re.findall(r"[^.]+\.", note)
    rng.shuffle(rest)
    assert read(facts, "".join((first, *(f" {sentence.strip()}" for sentence in rest)))) == read(facts, note)


@given(seeds)
def test_mixed_notes_are_english_with_faults(seed: int) -> None:
    facts = drawn(seed)
    note = write(facts, MIXED, random.Random(seed))
    reading = read(facts, note)
    assert reading.ungrammatical == reading.unfinished == 0
    assert reading.words == note.count(" ") + 1
    assert reading.gold <= (4 if facts.item is None else 5)


@given(seeds)
def test_writing_is_deterministic(seed: int) -> None:
    facts = drawn(seed)
    assert write(facts, MIXED, random.Random(seed)) == write(facts, MIXED, random.Random(seed))


@pytest.mark.parametrize("template", templates())
def test_every_template_is_a_sentence_for_the_gold_score(template: str) -> None:
    assert template_shape(template) in shapes()
    for name, values in lexicon().items():
        for value in values:
            filling = {key: others[0] for key, others in lexicon().items()} | {"claimed": "Sunday", name: value}
            (sentence,) = sentences(template.format(**filling))
            assert sentence.tidy, template.format(**filling)
            mentioned = {(slot, filling[slot]) for slot in slots_of(template)}
            assert mentioned <= sentence.clear
            assert sentence.formed or "claimed" in template


def test_a_shape_says_a_slot_at_most_once_and_denies_only_what_it_says() -> None:
    for shape in shapes():
        said, _, denied = shape.partition(" , not ")
        slots = re.findall(r"<(event|day|time|place|item)>", said)
        assert len(slots) == len(set(slots)), shape
        assert set(re.findall(r"<(\w+)>", denied)) <= set(slots), shape
        assert len(("dear", "audience", ",", *shape.split())) + shape.count("<") <= LONGEST, shape
