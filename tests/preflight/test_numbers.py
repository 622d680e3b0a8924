"""Spread of rewards, cut-off texts, repeats: counts and thresholds by hand, faults planted one by one."""

from __future__ import annotations

import math

import pytest

from keel.data.chat import Truncation
from keel.preflight.repeats import overlap, repeats
from keel.preflight.spread import failed, same_answers, spread, to_come
from keel.preflight.truncation import cut_answers, cut_rows, unanswerable
from keel.types import Message, Prompt, Rollout, StopReason

TWICE = ["a", "a", "b", "b"]


@pytest.mark.parametrize(
    ("rewards", "stand_in", "verdict"),
    [
        ([0.0, 1.0, 0.5, 0.2], False, "ok"),
        ([1.0] * 4, False, "red"),
        ([1e6, 1e6 + 0.1, 1e6, 1e6], False, "red"),  # as good as the same
        ([1.0] * 4, True, "amber"),  # the model is not the one that PPO starts from
        ([0.0, 0.0, 1.0, 1.0], False, "amber"),  # nothing to choose between answers to one prompt
        ([0.0, 0.0, 1.0, 1.5], False, "amber"),  # half of the prompts
        ([0.0, math.nan, 1.0, 1.0], False, "red"),
        ([0.0, math.inf, 1.0, 1.0], True, "red"),
    ],
)
def test_spread_of_rewards(rewards: list[float], stand_in: bool, verdict: str) -> None:
    found = spread(rewards, TWICE, stand_in)
    assert (found.check, found.verdict) == ("Reward spread", verdict)


def test_spread_in_numbers() -> None:
    assert spread([0.0, 2.0, 0.0, 2.0], TWICE, False).message == "1.00 ± 1.00 over 4 answers."
    assert spread([0.0, 2.0, 3.0, 4.0], ["a", "b", "c", "d"], False).verdict == "ok"  # one answer each tells nothing
    assert failed("it returned nan").verdict == "red"
    assert "it returned nan" in failed("it returned nan").message
    assert to_come(["its reward model"]).verdict == "ok"


@pytest.mark.parametrize(
    ("texts", "verdict"),
    [(["x", "y", "x", "y"], "ok"), (["x", "x ", "x", "y"], "amber"), (["x", "x", "y", "y"], "red")],
)
def test_answers_that_cannot_be_compared(texts: list[str], verdict: str) -> None:
    assert same_answers(texts, TWICE).verdict == verdict


@pytest.mark.parametrize(
    ("truncated", "prompts", "verdict"),
    [(0, 0, "ok"), (4, 0, "ok"), (5, 0, "amber"), (10, 9, "amber"), (10, 12, "red")],
)
def test_rows_that_are_cut(truncated: int, prompts: int, verdict: str) -> None:
    found = cut_rows(Truncation(rows=100, truncated=truncated, prompts=prompts), 100, 64)
    assert found.verdict == verdict
    said = f"{truncated} of 100 answers are cut off at model.max_length 64, and {prompts} of 100 prompts leave no room"
    assert found.message.startswith(said if truncated else "All 100 answers fit into 64 tokens.")


@pytest.mark.parametrize(("prompts", "verdict"), [(19, "amber"), (20, "red")])
def test_a_row_without_room_loses_all_its_answers(prompts: int, verdict: str) -> None:
    found = cut_rows(Truncation(rows=100, prompts=prompts), 400, 64)  # four answers to each prompt
    assert found.verdict == verdict
    assert f"0 of 400 answers are cut off at model.max_length 64, and {prompts} of 100 prompts" in found.message


@pytest.mark.parametrize(("left_out", "verdict"), [(0, "ok"), (1, "ok"), (5, "amber"), (20, "red")])
def test_prompts_without_room(left_out: int, verdict: str) -> None:
    assert unanswerable(left_out, 100, "ppo").verdict == verdict


def rollout(stop: StopReason) -> Rollout:
    return Rollout(Prompt("p", (Message("user", "q"),)), (1,), (2,), (True,), (-0.1,), "a", stop, 0, 0)


@pytest.mark.parametrize(
    ("cut", "asked", "stand_in", "verdict", "said"),
    [
        (0, 32, False, "ok", "All 20 sampled answers end within 32"),
        (0, 16, False, "ok", "All 20 sampled answers end within 16"),
        (1, 32, False, "amber", "1 of 20 sampled answers"),
        (4, 32, False, "red", "4 of 20 sampled answers"),
        (4, 16, False, "ok", "Not yet known: only 16 of 32"),
        (20, 32, True, "ok", "Not yet known: the base"),
    ],
)
def test_sampled_answers_that_are_cut(cut: int, asked: int, stand_in: bool, verdict: str, said: str) -> None:
    answers = [rollout("length")] * cut + [rollout("eos")] * (20 - cut)
    found = cut_answers(answers, asked, 32, "ppo", stand_in)
    assert found.verdict == verdict
    assert found.message.startswith(said)


@pytest.mark.parametrize(("copies", "verdict"), [(0, "ok"), (4, "ok"), (5, "amber"), (49, "amber"), (50, "red")])
def test_rows_that_come_twice(copies: int, verdict: str) -> None:
    rows = [f"row {n}" for n in range(100 - copies)] + ["row 0"] * copies
    found = repeats(rows, "demonstrations", "sft.data")
    assert found.verdict == verdict
    assert found.message.startswith(f"{copies or 'None'} of 100 demonstrations")


@pytest.mark.parametrize(("known", "verdict"), [(0, "ok"), (1, "amber"), (19, "amber"), (20, "red")])
def test_prompts_that_were_trained_on(known: int, verdict: str) -> None:
    asked = [f"q{n}" for n in range(100)]
    found = overlap({"sft": set(asked[:known]), "ppo": set(asked[:1]) if known else set()}, asked)
    assert found.verdict == verdict
    if known:
        assert f"{known} of 100 prompts" in found.message  # one that two stages train on counts once
        assert f"SFT {known}, PPO 1" in found.message
