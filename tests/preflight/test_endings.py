"""Answers that do not end, or whose end is not trained, are found; those that end pass."""

from __future__ import annotations

import pytest

from data.small import byte_level, talk
from keel.data.chat import Chat
from keel.data.forest import Branch, Tree
from keel.diagnostics.findings import Finding
from keel.preflight.endings import endings

EOS, PAD = 2, 0


def ended(*tails: tuple[int, bool]) -> list[Tree]:
    """A tree for each last token and its mask."""
    return [Tree((5, 6), (Branch((7, token), (True, trained)),)) for token, trained in tails]


def found(trees: list[Tree], pad: int | None = PAD) -> dict[str, Finding]:
    return {one.check: one for one in endings(trees, {EOS}, pad, lambda token: f"t{token}")}


def test_trained_ends_pass() -> None:
    checks = found(ended(*[(EOS, True)] * 20))
    assert {name: one.verdict for name, one in checks.items()} == {"EOS trained": "ok", "EOS is not pad": "ok"}
    assert "All 20 answers" in checks["EOS trained"].message
    assert "'t2'" in checks["EOS trained"].message


@pytest.mark.parametrize(("bad", "verdict"), [(0, "ok"), (1, "amber"), (3, "amber"), (4, "red"), (20, "red")])
@pytest.mark.parametrize("tail", [(9, True), (EOS, False)])
def test_answers_without_a_trained_end(tail: tuple[int, bool], bad: int, verdict: str) -> None:
    """1 of 20 is 5 %, 4 of 20 are 20 %."""
    one = found(ended(*[tail] * bad, *[(EOS, True)] * (20 - bad)))["EOS trained"]
    assert one.verdict == verdict
    if bad:
        assert f"{bad} of 20" in one.message
        assert f"'t{tail[0]}'" in one.message
        assert one.remedy


def test_pad_that_is_eos() -> None:
    trained = found(ended((EOS, True), (EOS, True)), pad=EOS)["EOS is not pad"]
    masked = found(ended((EOS, True), (EOS, False)), pad=EOS)["EOS is not pad"]
    assert (trained.verdict, masked.verdict) == ("amber", "red")
    assert "1 of 2" in masked.message
    assert found(ended((EOS, True)), pad=None)["EOS is not pad"].verdict == "ok"


def test_answers_that_a_chat_cut_off() -> None:
    whole = talk("What is the capital of France?", "The capital of France is Paris, of course.")
    length = Chat(byte_level()).demonstration(whole).size
    for limit, verdict in ((length, "ok"), (length - 1, "red")):
        chat = Chat(byte_level(), limit)
        trees = [chat.demonstration(whole)]
        (one, _) = endings(trees, {chat.eos}, chat.tokenizer.pad_token_id, str)
        assert one.verdict == verdict


def test_nothing_is_said_of_nothing() -> None:
    assert found([]) == {}
