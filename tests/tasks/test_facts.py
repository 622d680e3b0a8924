"""Prompts: what they say, how they are drawn, and that they can be read back."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keel.tasks.town_desk.facts import (
    AUDIENCES,
    DAYS,
    EVENTS,
    ITEMS,
    NAMES,
    PLACES,
    SLOTS,
    TIMES,
    Claim,
    Facts,
    draw_facts,
    draw_prompts,
    other,
    parse,
    render,
)

PLAIN = Facts("bake sale", "Friday", "3 pm", "park", "a plate", "parents", Claim("Ana", "day", "Saturday"))
PARTS = ("sft", "preferences", "ppo", "evaluation")

claims = st.one_of(
    st.none(),
    *(
        st.builds(Claim, st.sampled_from(NAMES), st.just(slot), st.sampled_from(SLOTS[slot]))
        for slot in ("day", "time", "place")
    ),
)
anything = st.builds(
    Facts,
    *map(st.sampled_from, (EVENTS, DAYS, TIMES, PLACES)),
    item=st.none() | st.sampled_from(ITEMS),
    audience=st.sampled_from(AUDIENCES),
    claim=claims,
)


def test_a_prompt_reads_as_in_the_design() -> None:
    assert render(PLAIN) == (
        "Facts: bake sale, Friday 3 pm, park; bring a plate. Ana thinks it is Saturday. Write a short note for parents."
    )
    assert render(replace(PLAIN, item=None, claim=None)) == (
        "Facts: bake sale, Friday 3 pm, park. Write a short note for parents."
    )


@given(anything)
def test_parse_is_the_inverse_of_render(facts: Facts) -> None:
    assert parse(render(facts)) == facts


@pytest.mark.parametrize("slot", SLOTS)
def test_every_value_of_every_slot_can_be_read_back(slot: str) -> None:
    for value in SLOTS[slot]:
        facts = replace(PLAIN, **{slot: value})
        assert parse(render(facts)) == facts
        assert facts.value(slot) == value


@pytest.mark.parametrize(
    "text", ["", "Hello.", "Facts: bake sale, Friday, park. Write a short note for parents.", render(PLAIN) * 2]
)
def test_other_text_is_no_prompt(text: str) -> None:
    with pytest.raises(ValueError, match="not a Town Desk prompt"):
        parse(text)


def test_a_claim_is_false_when_it_differs_from_the_facts() -> None:
    assert PLAIN.claim_is_false
    assert not replace(PLAIN, claim=Claim("Ana", "day", "Friday")).claim_is_false
    assert not replace(PLAIN, claim=None).claim_is_false
    assert replace(PLAIN, claim=Claim("Ana", "time", "4 pm")).claim_is_false
    assert replace(PLAIN, claim=Claim("Ana", "place", "pool")).claim_is_false


def test_facts_are_drawn_with_the_shares_that_the_docstring_names() -> None:
    rng = random.Random(0)
    many = [draw_facts(rng) for _ in range(4000)]
    claimed = [facts for facts in many if facts.claim]
    # Four standard deviations of a share of 4000 are at most .032.
    assert sum(facts.item is not None for facts in many) / 4000 == pytest.approx(0.8, abs=0.032)
    assert len(claimed) / 4000 == pytest.approx(0.6, abs=0.032)
    assert sum(facts.claim_is_false for facts in claimed) / len(claimed) == pytest.approx(0.75, abs=0.04)
    for slot in SLOTS:
        assert {facts.value(slot) for facts in many} - {None} == set(SLOTS[slot])


@given(st.integers(), st.sampled_from(["day", "item", "event"]))
def test_another_value_is_another(seed: int, slot: str) -> None:
    for value in (*SLOTS[slot], None):
        assert other(slot, value, random.Random(seed)) != value


def texts(count: int, seed: int, part: str) -> set[str]:
    return {prompt.messages[0].content for prompt in draw_prompts(count, seed, part)}


@pytest.mark.parametrize("part", PARTS)
def test_prompts_are_distinct_and_repeat(part: str) -> None:
    prompts = draw_prompts(300, 7, part)
    assert len({prompt.messages[0].content for prompt in prompts}) == len({prompt.id for prompt in prompts}) == 300
    assert prompts == draw_prompts(300, 7, part)
    assert prompts[:100] == draw_prompts(100, 7, part)
    assert prompts != draw_prompts(300, 8, part)
    assert all(len(prompt.messages) == 1 and prompt.messages[0].role == "user" for prompt in prompts)
    assert not texts(300, 7, part) & set().union(*(texts(300, 7, each) for each in PARTS if each != part))


def test_evaluation_is_disjoint_from_the_rest_whatever_the_seeds() -> None:
    evaluation = set().union(*(texts(500, seed, "evaluation") for seed in range(4)))
    rest = set().union(*(texts(500, seed, part) for seed, part in product(range(4), PARTS[:-1])))
    assert len(evaluation) > 1900
    assert len(rest) > 5700
    assert not evaluation & rest


def test_disjointness_is_by_construction_and_not_by_luck(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a handful of possible prompts, evaluation still gets some and the others never these."""
    few = [replace(PLAIN, day=day, time=time) for day in DAYS for time in TIMES]
    monkeypatch.setattr("keel.tasks.town_desk.facts.draw_facts", lambda rng: rng.choice(few))
    assert [prompt.id for prompt in draw_prompts(40, 0, "sft")] == [f"sft-{place}" for place in range(40)]
    held_out = texts(8, 0, "evaluation") | texts(8, 1, "evaluation")
    assert len(held_out) > 8
    assert not held_out & (texts(40, 0, "sft") | texts(40, 1, "ppo"))
