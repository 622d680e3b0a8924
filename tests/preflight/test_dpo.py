"""What the preflight says of preferences that a policy learns from itself: each finding, ok and not ok."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

import keel.preflight.stages
from keel.diagnostics.findings import Finding
from keel.display import SilentDisplay
from keel.pipeline import checked
from keel.preflight.dpo import sides
from keel.preflight.stages import preflight
from keel.preflight.table import Preflight
from keel.types import Message, Rated
from stages.small import language_model, merged, own_words, recipe, rows, say

Rows = list[dict[str, Any]]
COUNT = 24
SPACED = "{% for m in messages %}{{ m['content'] }} {% endfor %}"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    tokenizer_folder = language_model(tmp_path / "base")
    tokenizer = own_words()
    tokenizer.bos_token = "<bos>"
    tokenizer.save_pretrained(tokenizer_folder)
    return tokenizer_folder


def pairs(chance: random.Random, chosen: int | None = None, rejected: int = 3, **others: Any) -> Rows:
    """Sound unless something else is asked for: answers of mixed lengths, none twice."""
    return [
        {
            "prompt": say(chance, 3),
            "chosen": say(chance, 2 + n % 2 if chosen is None else chosen),
            "rejected": say(chance, 3 - n % 2 if chosen is None else rejected),
            **others,
        }
        for n in range(COUNT)
    ]


def ratings(chance: random.Random, good: Callable[[int], bool] = lambda n: n % 2 == 0, tail: str = "") -> Rows:
    return [{"prompt": say(chance, 3), "completion": say(chance, 3) + tail, "label": good(n)} for n in range(COUNT)]


def looked(base: Path, folder: Path, content: Iterable[dict[str, Any]] | None, **changes: Any) -> Preflight:
    data = None if content is None else rows(folder / "rows.jsonl", content)
    given = {"method": "dpo", "dpo": {"data": data, "batch_size": 4}}
    nothing = {"sft": None, "reward": None, "prompts": None}
    settings = recipe(base, nothing, **merged(given, changes))
    return preflight(checked(["dpo"], settings, folder / "run", SilentDisplay()), "dpo")


def wrong(found: Preflight) -> dict[str, str]:
    return {one.check: one.verdict for one in found.findings if one.verdict != "ok"}


def of(found: Preflight, name: str) -> Finding:
    (one,) = (one for one in found.findings if one.check == name)
    return one


SHARED = {"EOS trained", "EOS is not pad", "Length limit", "Chat template", "Template chosen", "Foreign markers", "BOS"}
OF_PAIRS = {"Answers differ", "Length bias", "Label balance", "Contradictions"}


def test_sound_data(base: Path, tmp_path: Path) -> None:
    """Pairs, and for kto ratings too; the example has the tokens of both answers or of the one."""
    chance = random.Random("sound")
    found = looked(base, tmp_path, pairs(chance))
    assert wrong(found) == {}
    assert {one.check for one in found.findings} == SHARED | OF_PAIRS | {"Duplicates", "Memory"}
    assert found.example is not None
    for content in (ratings(chance), pairs(chance)):
        found = looked(base, tmp_path, content, dpo={"loss": "kto"})
        assert wrong(found) == {}
        own = OF_PAIRS if "chosen" in content[0] else {"Good and bad answers"}
        assert {one.check for one in found.findings} == SHARED | own | {"Duplicates", "Memory"}
    assert not (tmp_path / "run").exists()


HEAVY = {"dpo": {"loss": "kto"}}
Planted = tuple[Callable[[random.Random], Rows], dict[str, Any], str, str]
FAULTS: dict[str, Planted] = {
    "only good answers": (lambda c: ratings(c, lambda n: True), HEAVY, "Good and bad answers", "red"),
    "few bad answers": (lambda c: ratings(c, lambda n: n > 0), HEAVY, "Good and bad answers", "amber"),
    "ratings twice": (lambda c: ratings(c)[:6] * 4, HEAVY, "Duplicates", "red"),
    "pairs twice": (lambda c: pairs(c)[:6] * 4, {}, "Duplicates", "red"),
    "pairs turned round": (
        lambda c: [*(few := pairs(c)), *({**one, "chosen": one["rejected"], "rejected": one["chosen"]} for one in few)],
        {}, "Contradictions", "red",
    ),
    "equal answers": (lambda c: [one | {"rejected": one["chosen"]} for one in pairs(c)[:8]] + pairs(c), {},
                      "Answers differ", "red"),
    "longer is better": (lambda c: pairs(c, 4, 3), {}, "Length bias", "amber"),
    "longer is better for kto": (lambda c: pairs(c, 4, 3), HEAVY, "Length bias", "amber"),
    "all are ties": (lambda c: pairs(c, probability=0.5), {}, "Label balance", "red"),
    "swapped columns": (lambda c: pairs(c, probability=0.2), {}, "Label balance", "red"),
    "answers without EOS": (pairs, {"model": {"max_length": 6}}, "EOS trained", "red"),
    "answers that are cut off": (ratings, {**HEAVY, "model": {"max_length": 6}}, "Length limit", "red"),
    "markers": (lambda c: ratings(c, tail=" [/INST]"), HEAVY, "Foreign markers", "red"),
    "two BOS": (pairs, {"template": "<bos> <bos> " + SPACED}, "BOS", "red"),
    "a prompt that changes": (
        pairs,
        {"template": "{% if messages|length > 1 %}w50 {% endif %}" + SPACED},
        "Chat template", "red",
    ),
}  # fmt: skip
"""How a fault is planted, and the check and verdict that it must come out as."""


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault: str, base: Path, tmp_path: Path) -> None:
    plant, changes, name, verdict = FAULTS[fault]
    if "template" in changes:
        path = tmp_path / "template.jinja"
        path.write_text(changes["template"], encoding="utf-8")
        changes = {"model": {"template": str(path)}}
    one = of(looked(base, tmp_path, plant(random.Random(fault)), **changes), name)
    assert one.verdict == verdict, one.message
    assert one.remedy
    assert "\n" not in one.message + one.remedy


def test_a_template_that_is_ignored(base: Path, tmp_path: Path) -> None:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(base)
    tokenizer.chat_template = SPACED
    tokenizer.save_pretrained(base)
    found = looked(base, tmp_path, pairs(random.Random(1)))
    assert wrong(found) == {"Template chosen": "amber"}


def test_a_machine_that_is_too_small(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keel.preflight.stages, "room", lambda device: 2**20)
    assert set(wrong(looked(base, tmp_path, ratings(random.Random(2)), dpo={"loss": "kto"}))) == {"Memory"}


def test_what_the_run_gathers_itself(base: Path, tmp_path: Path) -> None:
    """Pairs for the reward model are what is learnt from, to dpo's limit and not the reward model's; verdicts too."""
    chance = random.Random(3)
    data = rows(
        tmp_path / "given.jsonl", [*pairs(chance), *(one | {"rejected": one["chosen"]} for one in pairs(chance))]
    )
    found = looked(base, tmp_path, None, reward={"data": data, "limit": 3})
    assert of(found, "Answers differ").message.startswith(f"In {COUNT} of {2 * COUNT} pairs")
    assert of(found, "Duplicates").message == f"None of {COUNT} pairs comes twice."
    found = looked(base, tmp_path, None, reward={"data": data}, dpo={"limit": 12})
    assert of(found, "Answers differ").message.startswith("In 12 of 24 pairs")
    content = [{"ask": say(chance, 3), "a": say(chance, 2), "b": say(chance, 3), "x": 1 + n % 2} for n in range(8)]
    labels = {"data": rows(tmp_path / "verdicts.jsonl", content), "prompt": ["ask"], "first": "a", "second": "b"}
    found = looked(base, tmp_path, None, preferences={"labels": {**labels, "annotators": ["x"]}})
    assert of(found, "Answers differ").message == "None of 8 pairs has two equal answers."


def test_what_is_not_there_yet(base: Path, tmp_path: Path) -> None:
    """People are to be asked."""
    chance = random.Random(4)
    asked = rows(tmp_path / "asked.jsonl", ({"prompt": say(chance, 3)} for _ in range(8)))
    found = looked(base, tmp_path, None, preferences={"prompts": asked, "judges": "people", "count": 8})
    assert of(found, "Pairs").message.startswith("Not yet known")


@pytest.mark.parametrize(
    ("good", "bad", "verdict"),
    [(5, 5, "ok"), (1, 9, "ok"), (9, 1, "ok"), (1, 10, "amber"), (10, 1, "amber"), (0, 3, "red"), (3, 0, "red")],
)
def test_good_and_bad_answers(good: int, bad: int, verdict: str) -> None:
    asked, said = (Message("user", "q"),), (Message("assistant", "a"),)
    one = sides([Rated(asked, said, n < good) for n in range(good + bad)])
    assert one.verdict == verdict
    assert one.message.startswith(f"{good} of {good + bad} answers are good")
    assert ("look is due" in one.message) is (verdict != "ok")
