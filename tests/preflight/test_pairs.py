"""Pairs that teach nothing, or the wrong thing."""

from __future__ import annotations

import random

import pytest

from keel.diagnostics.findings import Finding
from keel.preflight.pairs import compared, one_side, pairs
from keel.types import Conversation, Message, Preference, Ranking

WORDS = "oak elm ash fir yew bay fig".split()


def said(text: str) -> Conversation:
    return (Message("assistant", text),)


def pair(number: int, chosen: str, rejected: str, probability: float = 1.0) -> Preference:
    return Preference((Message("user", f"question {number}"),), said(chosen), said(rejected), probability)


def fair(count: int = 100) -> list[Preference]:
    """Answers of random lengths, none of them alike."""
    chance = random.Random(0)

    def answer(name: str) -> str:
        return " ".join([name, *chance.choices(WORDS, k=chance.randrange(1, 9))])

    return [pair(n, answer("good"), answer("bad"), chance.choice([1.0, 0.8])) for n in range(count)]


def found(rows: list[Preference], identical: int = 0) -> dict[str, Finding]:
    return {one.check: one for one in pairs(rows, identical)}


def verdicts(rows: list[Preference], identical: int = 0) -> dict[str, str]:
    return {name: one.verdict for name, one in found(rows, identical).items()}


def test_fair_pairs_pass() -> None:
    assert verdicts(fair()) == dict.fromkeys(["Answers differ", "Length bias", "Label balance", "Contradictions"], "ok")


@pytest.mark.parametrize(("same", "verdict"), [(1, "amber"), (19, "amber"), (20, "red")])
def test_two_answers_that_say_the_same(same: int, verdict: str) -> None:
    alike = [pair(1000 + n, "yes ", " yes") for n in range(same)]
    one = found(fair()[: 100 - same] + alike)["Answers differ"]
    assert (one.verdict, one.message.startswith(f"In {same} of 100 pairs")) == (verdict, True)
    assert verdicts(fair()[: 100 - same], identical=same)["Answers differ"] == verdict


def test_length_that_decides() -> None:
    longer = [pair(n, f"{n} " + "long " * 5, f"{n} short") for n in range(9)]
    shorter = [pair(n, f"{n} short", f"{n} " + "long " * 5) for n in range(9)]
    assert verdicts(longer)["Length bias"] == "ok"  # nine pairs are too few to tell
    assert verdicts(longer + shorter)["Length bias"] == "ok"
    for rows, share in ((longer, "100%"), (shorter, "0%")):
        more = [*rows, *(Preference((Message("user", "again"),), one.chosen, one.rejected) for one in rows)]
        one = found(more)["Length bias"]
        assert one.verdict == "amber"
        assert f"longer in {share} of 18 pairs" in one.message
    assert verdicts([*longer, *shorter[:2], *longer[:1]])["Length bias"] == "amber"  # 10 of 12
    assert verdicts([*longer[:8], *shorter[:2]])["Length bias"] == "ok"  # 8 of 10 is not above .8


def test_a_label_that_prefers_the_rejected_answer_counts_for_it() -> None:
    rows = [pair(n, f"{n} " + "long " * 5, f"{n} short", 0.1) for n in range(12)]
    checks = found(rows)
    assert "longer in 0% of 12 pairs" in checks["Length bias"].message
    assert checks["Label balance"].verdict == "red"
    assert "probability below ½" in checks["Label balance"].message
    few = [*fair(), *rows[:2]]
    assert verdicts(few)["Label balance"] == "amber"


def test_ties() -> None:
    ties = [pair(n, f"{n} oak", f"{n} elm", 0.5) for n in range(100)]
    assert verdicts(ties)["Label balance"] == "red"
    assert verdicts([*ties[:50], *fair(50)])["Label balance"] == "amber"
    assert verdicts([*ties[:49], *fair(51)])["Label balance"] == "ok"
    one = found([*ties, *ties, pair(1000, "ash oak", "elm yew", 0.4)])["Label balance"]  # ½ % below ½ hides no ties
    assert (one.verdict, one.message.startswith("100% of 201 pairs are ties")) == ("amber", True)


def test_pairs_that_contradict_one_another() -> None:
    rows = fair()
    turned = [Preference(one.prompt, one.rejected, one.chosen) for one in rows]
    assert verdicts([*rows, *turned])["Contradictions"] == "red"
    one = found([*rows[:90], *turned[:5]])["Contradictions"]
    assert (one.verdict, one.message.startswith("10 of 95 pairs")) == ("amber", True)
    tied = [Preference(one.prompt, one.rejected, one.chosen, 0.5) for one in rows]
    assert verdicts([*rows, *tied])["Contradictions"] == "ok"


def test_rankings_are_all_their_pairs() -> None:
    best, middle, worst = said("a"), said("b"), said("c")
    asked = (Message("user", "q"),)
    assert compared([Ranking(asked, (best, middle, worst))]) == [
        Preference(asked, best, middle), Preference(asked, best, worst), Preference(asked, middle, worst)
    ]  # fmt: skip
    assert list(found([])) == ["Answers differ"]


@pytest.mark.parametrize(
    ("first", "second", "verdict"), [(50, 50, "ok"), (80, 20, "ok"), (81, 19, "amber"), (9, 91, "amber"), (9, 0, "ok")]
)
def test_verdicts_for_one_side(first: int, second: int, verdict: str) -> None:
    one = one_side(first, second)
    assert one.verdict == verdict
    assert ("first" if first >= second else "second") in one.message
