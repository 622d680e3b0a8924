"""Which answers are shown, and which of their words are marked."""

from __future__ import annotations

import random

import pytest

from keel.diagnostics.comparisons import choose, difference
from keel.diagnostics.recorded import Answered


def answered(place: int, gain: float) -> Answered:
    return Answered(f"{place}", f"prompt {place}", None, "before", "after", 1.0, 1.0 + gain)


def shown(gains: list[float]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {"best": [], "typical": [], "worst": []}
    for one in choose([answered(place, gain) for place, gain in enumerate(gains)]):
        found[one.group].append(one.answered.prompt.removeprefix("prompt "))
    return found


def test_best_typical_and_worst_by_hand() -> None:
    gains = [0.0, 5.0, -3.0, 1.0, 2.0, -1.0, 9.0, 0.5, 0.25, -2.0, 7.0, 3.0, 0.75, -4.0]
    # sorted: 9 7 5 3 | 2 1 .75 .5 .25 0 | −1 −2 −3 −4; median (.75 + .5)/2 = .625
    assert shown(gains) == {
        "best": ["6", "10", "1", "11"],
        "typical": ["7", "12", "3", "8"],
        "worst": ["13", "2", "9", "5"],
    }


def test_only_gains_are_best_and_only_losses_are_worst() -> None:
    assert shown([0.0] * 20) == {"best": [], "typical": ["0", "1", "2", "3"], "worst": []}
    assert shown([1.0, 2.0, 3.0]) == {"best": ["2"], "typical": ["1"], "worst": []}
    assert shown([-1.0]) == {"best": [], "typical": [], "worst": ["0"]}
    assert choose([]) == []


def test_no_answer_is_shown_twice() -> None:
    rng = random.Random(0)
    for count in range(1, 30):
        chosen = choose([answered(place, rng.choice((-1, 0, 1))) for place in range(count)])
        prompts = [one.answered.prompt for one in chosen]
        assert len(set(prompts)) == len(prompts) <= 12


def marked(text: str, other: str) -> list[str]:
    return [piece.text for piece in difference(text, other)[0] if piece.changed]


def test_words_that_differ_are_marked() -> None:
    before, after = "The sale is on Friday at noon.", "The sale is on Sunday at noon."
    assert marked(before, after) == ["Friday"]
    assert marked(after, before) == ["Sunday"]
    assert marked("one two three", "one two three four") == []
    assert marked("one two three four", "one two three") == ["four"]
    assert marked("same", "same") == []


def test_texts_with_little_in_common_are_not_marked() -> None:
    assert marked("all of this is new", "nothing there was old") == []


@pytest.mark.parametrize("seed", range(20))
def test_the_pieces_make_up_the_text(seed: int) -> None:
    rng = random.Random(seed)
    texts = ["".join(rng.choice(("a", "b", " ", "\n", "c ", "é")) for _ in range(rng.randrange(40))) for _ in range(2)]
    pieces = difference(*texts)
    assert ["".join(piece.text for piece in side) for side in pieces] == texts
