"""Signs of a wrong chat template, each planted with templates of the field."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from data.small import CHATML, LLAMA3, REASONING, byte_level, talk
from keel.data.chat import Chat
from keel.data.forest import Branch, Tree
from keel.preflight.sample import made
from keel.preflight.templates import Said, additions, beginnings, double_ends, markers, own_template, refusals

NO_CUE = "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}{{ eos_token }}\n{% endfor %}"
"""Knows nothing of add_generation_prompt, so the assistant's header comes after the prompt."""
ROWS = [talk(f"What is {n}?", f"It is the number {n}.") for n in range(10)]


def said(template: str, eos: str = "<|im_end|>") -> list[Said]:
    chat = Chat(byte_level(template, eos))
    trees = [chat.demonstration(row) for row in ROWS]
    return [
        Said(row[-1].content, chat.tokenizer.decode([t for t, m in zip(b.tokens, b.mask, strict=True) if m]))
        for row, tree in zip(ROWS, trees, strict=True)
        for b in tree.branches
    ]


# markers


@pytest.mark.parametrize(
    "marker",
    [
        "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|start_header_id|>", "[INST]", "[/INST]",
        "<<SYS>>", "<start_of_turn>", "<end_of_turn>", "</s>", "### Human:", "###Response:", "Human:", "USER:",
        "<|reserved_special_token_5|>", "<｜User｜>", "<｜end▁of▁sentence｜>",
    ],
)  # fmt: skip
def test_each_marker_is_found(marker: str) -> None:
    found = markers(["q"] * 5, [f"Yes.\n{marker} more", *["a"] * 3], {"<|im_end|>"}, plain=False)
    assert found.verdict == "red"
    assert f"'{marker}'" in found.message
    assert "0 of 5 prompts and 1 of 4 answers" in found.message
    assert ("would be a special token" in found.message) == (marker == "<|im_end|>")


@pytest.mark.parametrize(
    "text", ["a < b | c > d", "see [INSTALL]", "The human: a study", "## Response", "<start>", "a|b", "1 <s 2"]
)
def test_ordinary_text_is_no_marker(text: str) -> None:
    assert markers([text], [text], set(), plain=False).verdict == "ok"


@pytest.mark.parametrize(
    ("prompts", "answers", "plain", "verdict"),
    [
        (0, 0, False, "ok"),
        (0, 1, False, "amber"),
        (0, 20, False, "red"),
        (1, 0, False, "amber"),
        (20, 0, False, "red"),
        (100, 0, True, "amber"),  # written there on purpose, perhaps
        (0, 20, True, "red"),
    ],
)
def test_how_many_markers_are_too_many(prompts: int, answers: int, plain: bool, verdict: str) -> None:
    def of(count: int) -> list[str]:
        return ["[INST] hello [/INST]"] * count + ["hello"] * (100 - count)

    assert markers(of(prompts), of(answers), set(), plain).verdict == verdict


# prompts


def test_bos() -> None:
    bos = 1
    assert beginnings([(1, 5), (1, 6)], bos, adds_bos=True).verdict == "ok"
    assert beginnings([(5,), (6,)], bos, adds_bos=False).verdict == "ok"
    assert beginnings([(5,), (6,)], None, adds_bos=False).verdict == "ok"
    missing = beginnings([(1, 5), (6,)], bos, adds_bos=True)
    assert (missing.verdict, missing.message[:6]) == ("amber", "1 of 2")
    doubled = beginnings([(1, 1, 5), (1, 6)], bos, adds_bos=True)
    assert (doubled.verdict, doubled.message[:6]) == ("red", "1 of 2")


def test_two_bos_of_a_real_template() -> None:
    for template, verdict in ((LLAMA3, "ok"), ("{{ bos_token }}" + LLAMA3, "red")):
        chat = Chat(byte_level(template, "<|eot_id|>"))
        trunks = [chat.prompt(row[:1]) for row in ROWS]
        assert beginnings(trunks, chat.tokenizer.bos_token_id, adds_bos=True).verdict == verdict


def test_a_template_that_renders_the_prompt_otherwise_once_it_is_answered() -> None:
    changing = "{% if messages[-1]['role'] == 'assistant' %}A chat. {% endif %}" + CHATML
    for template, refused, verdict in ((CHATML, 0, "ok"), (changing, 10, "red")):
        chat = Chat(byte_level(template))
        rows, reasons = made(ROWS, chat.demonstration)
        assert (len(rows), len(reasons)) == (10 - refused, refused)
        found = refusals(reasons, len(ROWS))
        assert found.verdict == verdict
        assert ("does not begin with the rendering of its prompt" in found.message) == bool(refused)


def test_rows_that_do_not_fit_are_not_refused() -> None:
    rows, reasons = made(ROWS, Chat(byte_level(), max_length=5).demonstration)
    assert (rows, reasons) == ([], [])


# answers


@pytest.mark.parametrize(("template", "verdict"), [(CHATML, "ok"), (NO_CUE, "red"), (REASONING, "amber")])
def test_what_a_template_adds_to_answers(template: str, verdict: str) -> None:
    found = additions(said(template), {"<|assistant|>", "<|im_end|>"})
    assert found.verdict == verdict
    if verdict == "red":
        assert "'<|assistant|>'" in found.message
    if verdict == "amber":
        assert "<think>" in found.message


@pytest.mark.parametrize("head", ["assistant\n", "Assistant: ", "### Response:\n", "<start_of_turn>model\n"])
def test_role_words_in_front_of_an_answer(head: str) -> None:
    clean = [Said("Paris is big.", "Paris is big.</s>")] * 9
    found = additions([*clean, Said("Paris is big.", f"{head}Paris is big.</s>")], set())
    assert found.verdict == "amber"
    assert "1 of 10" in found.message
    assert additions([Said("Paris is big.", f"{head}Paris is big.</s>")] * 2, set()).verdict == "red"
    assert additions([Said("PARIS", f"{head}paris</s>")], set()).verdict == "red"


@pytest.mark.parametrize(
    "one",
    [
        Said("The model: a story.", "The model: a story.</s>"),
        Said("User guide", " User guide</s>"),
        Said("naïve", "na ve"),  # not to be found again, and begins with no role
    ],
)
def test_answers_about_roles_are_none(one: Said) -> None:
    assert additions([one], {"</s>"}).verdict == "ok"


def test_a_turn_that_ends_twice() -> None:
    chat = Chat(byte_level(CHATML, eos="</s>"))
    special = set(chat.tokenizer.all_special_ids) | set(chat.tokenizer.added_tokens_decoder)
    name: Callable[[int], str] = lambda token: chat.tokenizer.decode([token])  # noqa: E731
    (found,) = double_ends([chat.demonstration(row) for row in ROWS], special, name)
    assert found.verdict == "amber"
    assert "10 of 10 answers end with '<|im_end|>' and then '</s>'" in found.message
    right = Chat(byte_level(CHATML))
    assert list(double_ends([right.demonstration(row) for row in ROWS], special, name)) == []
    unmasked = Tree((5,), (Branch((7, 2, 3), (True, True, False)),))
    assert list(double_ends([unmasked], {2, 3}, name)) == []


def test_a_template_of_its_own_that_is_not_used() -> None:
    assert own_template(ignored=True).verdict == "amber"
    assert own_template(ignored=False).verdict == "ok"
