"""Prompts that were trained on, recognised among those of the evaluation."""

from __future__ import annotations

from pathlib import Path

import pytest

import keel.pipeline
from keel.config import Recipe
from keel.display import SilentDisplay
from keel.pipeline import run
from keel.stages.seen import fingerprint, questions
from keel.training.order import split
from keel.types import Message

from .small import language_model, lines, merged, own_data, recipe, rows


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keel.pipeline, "write_report", lambda directory: None)


def said(*turns: str, system: str | None = None) -> tuple[Message, ...]:
    """User and assistant take turns."""
    first = () if system is None else (Message("system", system),)
    return first + tuple(Message(("user", "assistant")[place % 2], text) for place, text in enumerate(turns))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (said("Why?"), said("Why?"), True),
        (said("Why is it?"), said("  why\nIS  it? "), True),
        (said("ﬁne ２"), said("fine 2"), True),
        (said("Why?"), said("Why?", system="Be brief."), True),
        (said("Why?"), said("Why"), False),
        (said("a", "b", "c"), said("a", "x", "c"), False),
        (said("a", "b", "c"), said("c"), False),
        ((Message("user", "a"),), (Message("assistant", "a"),), False),
        ((Message("user", "a b"),), (Message("user", "a"), Message("user", "b")), False),
    ],
)
def test_what_asks_the_same(one: tuple[Message, ...], other: tuple[Message, ...], same: bool) -> None:
    assert (fingerprint(one) == fingerprint(other)) == same


def test_a_demonstration_answers_a_question_at_each_turn_of_the_assistant() -> None:
    whole = said("a", "b", "c", "d", system="s")
    assert questions(whole) == [whole[:2], whole[:4]]


def test_prompts_are_counted_by_the_stage_that_trained_on_them(tmp_path: Path) -> None:
    """Of six prompts to evaluate two are of SFT, one is of the pairs, two are of PPO (one of SFT too), two of none."""
    data = own_data(tmp_path / "data")
    base = language_model(tmp_path / "base")
    shown = [row["prompt"] for row in lines(Path(data["sft"]))]
    training, held_out = split(shown, 0.25, 0, lambda one: one)
    pairs = [{"prompt": f"w{token}", "chosen": "w40", "rejected": "w41"} for token in range(42, 52)]
    compared, _ = split([row["prompt"] for row in pairs], 0.25, 0, lambda one: one)
    practised = ["w60 w61", training[0].upper().replace("W", "w")]
    asked = [
        training[1],
        f" {training[0]} ",
        compared[0],
        "w60  w61",
        "w62 w63",
        held_out[0],
    ]  # held out: not trained on
    settings = recipe(
        base,
        data,
        reward={"data": rows(tmp_path / "pairs.jsonl", pairs)},
        rl={"prompts": rows(tmp_path / "practised.jsonl", [{"prompt": one} for one in practised])},
        evaluation={
            "prompts": rows(tmp_path / "asked.jsonl", [{"prompt": one} for one in asked]),
            "sampling": {"max_tokens": 4},
        },
    )
    directory = tmp_path / "run"
    facts = run(settings, directory, SilentDisplay()).stages["evaluation"]
    assert (facts["seen"], facts["seen_by"]) == (4, {"sft": 2, "reward": 1, "ppo": 2})

    # A later run in the folder goes on from its models: what they have trained on is still known.
    start = {"model": {"path": str(directory / "sft" / "model")}, "sft": {"data": None}, "reward": {"data": None}}
    again = run(Recipe.model_validate(merged(settings.model_dump(), start)), directory, SilentDisplay())
    assert again.stages["evaluation"]["seen_by"] == {"sft": 2, "reward": 1, "ppo": 2}

    # One that starts from another model does not count the demonstrations of this folder's.
    other = merged(settings.model_dump(), start | {"model": {"path": str(language_model(tmp_path / "other", 1))}})
    facts = run(Recipe.model_validate(other), directory, SilentDisplay()).stages["evaluation"]
    assert (facts["seen"], facts["seen_by"]) == (3, {"reward": 1, "ppo": 2})
