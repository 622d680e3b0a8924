"""What the base model is trained on: the verdicts are true, and nothing else is called one."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from keel.tasks.town_desk.corpus import END, VERDICT, Span, check, document, remarks, tally
from keel.tasks.town_desk.facts import Facts, draw_facts, parse, render
from keel.tasks.town_desk.gold import read
from keel.tasks.town_desk.pretrain import collate, encode
from keel.tasks.town_desk.task import TownDesk

BAKE = parse(
    "Facts: bake sale, Friday 3 pm, park; bring a plate. Ana thinks it is Saturday. Write a short note for parents."
)
WALK = parse("Facts: garden walk, Sunday 10 am, garden. Write a short note for neighbors.")
seeds = st.integers(min_value=0, max_value=2**32)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(TownDesk().base())


def text_of(spans: Sequence[Span]) -> str:
    return "".join(span.text for span in spans)


def values_before_verdicts(spans: list[Span]) -> list[tuple[str, str, str]]:
    """(slot, value, verdict) of a check."""
    return re.findall(r" (event|day|time|place|item) (.+?) (right|wrong)(?=,)", text_of(spans))


def test_remarks_by_hand() -> None:
    note = "Join us for the bake sale on Saturday at the park. Bring a plate if you can. Ana is right."
    said = {"event": "right", "day": "wrong", "time": "missing", "place": "right", "item": "right"}
    assert remarks(BAKE, note) == said
    assert remarks(WALK, "The garden walk is on Sunday. It is on Monday.") == {
        "event": "right",
        "day": "wrong",  # one of two
        "time": "missing",
        "place": "missing",
        "item": "absent",
    }
    assert remarks(WALK, "Bring a hat if you can.")["item"] == "wrong"


def test_a_tally_counts_in_either_order() -> None:
    note = "The bake sale is on Saturday."
    written = {text_of([*tally(BAKE, note, random.Random(seed))]) for seed in range(20)}
    assert written == {"1 wrong, 3 missing.", "3 missing, 1 wrong."}


@given(seeds)
def test_every_verdict_of_a_check_is_true(seed: int) -> None:
    rng = random.Random(seed)
    facts = draw_facts(rng)
    spans = list(check(facts, rng))
    said = values_before_verdicts(spans)
    assert len(said) == 8 == sum(span.weight == VERDICT for span in spans)
    for slot, value, verdict in said:
        assert verdict == ("right" if facts.value(slot) == value else "wrong")


def test_checks_are_balanced_and_test_the_false_claims() -> None:
    rng = random.Random(0)
    found: Counter[str] = Counter()
    for facts in (draw_facts(rng) for _ in range(500)):
        for slot, value, verdict in values_before_verdicts(list(check(facts, rng))):
            found[verdict] += 1
            if facts.claim is not None and facts.claim.slot == slot and facts.claim_is_false and verdict == "wrong":
                found["claimed"] += value == facts.claim.value
                found["could be claimed"] += 1
    # Every item is wrong in the fifth of the prompts that name none; four deviations of a share of 4000 are .03.
    assert found["right"] / 4000 == pytest.approx(0.5, abs=0.04)
    assert found["claimed"] / found["could be claimed"] == pytest.approx(0.5, abs=0.1)


@given(seeds)
def test_a_tally_finds_something_wrong_where_the_gold_parser_does(seed: int) -> None:
    """Two counts of one note: the corpus goes by slots, the parser by values, so only "is there any" must agree."""
    rng = random.Random(seed)
    facts = draw_facts(rng)
    text = text_of(document(facts, rng))
    for note, counts in re.findall(rf"(?:Note|Draft):\n(.+?){re.escape(END)}(\d \w+, \d \w+)", text):
        number = {word: int(count) for count, word in re.findall(r"(\d) (\w+)", counts)}
        assert (number["wrong"] > 0) == (read(facts, note).wrong > 0)
        assert number["missing"] == list(remarks(facts, note).values()).count("missing")


@given(seeds)
def test_a_document_begins_with_its_prompt_and_only_verdicts_weigh_most(seed: int) -> None:
    rng = random.Random(seed)
    facts: Facts = draw_facts(rng)
    spans = document(facts, rng)
    assert spans[0].text == render(facts)
    assert text_of(spans).count("\n") >= 2
    for span in spans:
        if span.weight == VERDICT:
            assert re.fullmatch(r" (right|wrong|missing|absent)| ?\d", span.text)


@given(seed=seeds)
def test_spans_begin_where_tokens_begin(tokenizer: PreTrainedTokenizerFast, seed: int) -> None:
    rng = random.Random(seed)
    spans = document(draw_facts(rng), rng)
    assert [index for index, _ in encode(tokenizer, spans)] == tokenizer(text_of(spans)).input_ids


def test_padding_weighs_nothing() -> None:
    batch = collate([[(7, 1.0)], [(8, 0.1), (9, 4.0)]], pad=0)
    assert batch.ids.tolist() == [[7, 0], [8, 9]]
    assert batch.weights.tolist() == [[1.0, 0.0], [pytest.approx(0.1), 4.0]]
