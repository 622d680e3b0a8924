"""Messages become tokens exactly as the template says, and only the assistant's own tokens are trained."""

from __future__ import annotations

import itertools
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.small import (
    CHATML,
    CHATML_MARKED,
    CHATML_MARKED_NARROW,
    CHATML_MARKED_WIDE,
    GEMMA,
    LLAMA3,
    MISTRAL,
    MISTRAL_MARKED,
    REASONING,
    SPECIAL,
    ZEPHYR,
    Letters,
    byte_level,
    sentence_piece,
    talk,
)
from keel.data.chat import Chat, Truncation, UnfitError, fitting
from keel.data.forest import Branch, Tree
from keel.data.template import PLAIN
from keel.errors import UserError
from keel.types import Message, Preference, Ranking


@dataclass(frozen=True)
class Family:
    """A template, its EOS, and how it writes an answer and ends the prompt: written down by hand."""

    template: str
    eos: str
    cue: str
    trims: bool = False
    space: str = ""
    roles: bool = True

    def said(self, content: str) -> str:
        return self.space + (content.strip() if self.trims else content) + self.eos


FAMILIES = {
    "chatml": Family(CHATML, "<|im_end|>", "<|im_start|>assistant\n"),
    "chatml, marked": Family(CHATML_MARKED, "<|im_end|>", "<|im_start|>assistant\n"),
    "chatml, marked without EOS": Family(CHATML_MARKED_NARROW, "<|im_end|>", "<|im_start|>assistant\n"),
    "chatml, marked with header": Family(CHATML_MARKED_WIDE, "<|im_end|>", "<|im_start|>assistant\n"),
    "llama 3": Family(LLAMA3, "<|eot_id|>", "<|start_header_id|>assistant<|end_header_id|>\n\n", trims=True),
    "zephyr": Family(ZEPHYR, "</s>", "<|assistant|>\n"),
    "gemma": Family(GEMMA, "<end_of_turn>", "<start_of_turn>model\n", trims=True),
    "mistral": Family(MISTRAL, "</s>", "[/INST]", space=" "),
    "mistral, marked": Family(MISTRAL_MARKED, "</s>", "[/INST]", space=" "),
}
TOKENIZERS = {name: byte_level(family.template, family.eos) for name, family in FAMILIES.items()}

pieces = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        [*SPECIAL, "[INST]", "[/INST]", "assistant", "\n\n", " ", "\n", "<|im_", "{{ eos_token }}", "\ufdd0"]
    ),
)
texts = st.lists(pieces, max_size=4).map("".join)


def runs(branch: Branch) -> list[tuple[bool, tuple[int, ...]]]:
    """The branch as stretches of trained and untrained tokens."""
    grouped = itertools.groupby(zip(branch.mask, branch.tokens, strict=True), key=lambda pair: pair[0])
    return [(trained, tuple(token for _, token in pairs)) for trained, pairs in grouped]


def verbatim(chat: Chat, tokens: tuple[int, ...]) -> str:
    return str(chat.tokenizer.decode(list(tokens), skip_special_tokens=False))


def trained(chat: Chat, branch: Branch) -> list[str]:
    return [verbatim(chat, tokens) for is_trained, tokens in runs(branch) if is_trained]


@pytest.mark.parametrize("name", FAMILIES)
def test_exactly_the_answers_and_their_eos_are_trained(name: str) -> None:
    family, chat = FAMILIES[name], Chat(TOKENIZERS[name])
    messages = talk("What is the capital\nof France?", " Paris, of course. ", "And then?", "Naïve café ½.\n\n- 日本")
    tree = chat.demonstration(messages)
    (branch,) = tree.branches
    assert trained(chat, branch) == [family.said(messages[1].content), family.said(messages[3].content)]
    assert verbatim(chat, tree.trunk).endswith(family.cue)
    assert branch.tokens[-1] == chat.eos
    assert sum(token == chat.eos for token in branch.tokens) >= 2


@pytest.mark.parametrize("name", FAMILIES)
def test_tokens_are_those_of_the_rendered_text(name: str) -> None:
    """Parity with what transformers encodes in one go, where nothing merges across a turn's border."""
    tokenizer = TOKENIZERS[name]
    chat = Chat(tokenizer)
    messages = talk("The capital of France", "Paris", "The end", "Friday")
    tree = chat.demonstration(messages)
    plain = [{"role": message.role, "content": message.content} for message in messages]
    text = tokenizer.apply_chat_template(plain, tokenize=False)
    ours = [*tree.trunk, *tree.branches[0].tokens]
    assert verbatim(chat, tuple(ours)) == text[: text.rindex(chat.tokenizer.eos_token)] + chat.tokenizer.eos_token
    if chat.apart == 0:
        theirs = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert ours == theirs[: len(ours)]
    else:
        assert name == "llama 3"  # GPT-2's pattern takes "\n\n" apart before a word, and only there


def test_mask_agrees_with_the_one_of_transformers() -> None:
    tokenizer = TOKENIZERS["chatml, marked"]
    messages = talk("The capital", "Paris", "The end", "Friday at 3 pm", system="Be brief.")
    plain = [{"role": message.role, "content": message.content} for message in messages]
    theirs = tokenizer.apply_chat_template(plain, return_dict=True, return_assistant_tokens_mask=True)
    tree = Chat(tokenizer).demonstration(messages)
    ours = [False] * len(tree.trunk) + list(tree.branches[0].mask)
    assert ours == [bool(bit) for bit in theirs["assistant_masks"]][: len(ours)]
    assert sum(ours) == sum(theirs["assistant_masks"])


@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=25, deadline=None)
@given(contents=st.lists(texts, min_size=1, max_size=5))
def test_any_messages(name: str, contents: list[str]) -> None:
    family, chat = FAMILIES[name], Chat(TOKENIZERS[name])
    messages = talk(*contents, *(["."] if len(contents) % 2 else []))
    tree = chat.demonstration(messages)
    (branch,) = tree.branches
    # One text of ours, one of the template's, and so on: no message can open or close a turn.
    assert trained(chat, branch) == [family.said(message.content) for message in messages[1::2]]
    assert tree.trunk == chat.prompt(messages[:1])
    plain = [{"role": message.role, "content": message.content} for message in messages]
    text = chat.tokenizer.apply_chat_template(plain, tokenize=False)
    assert text.startswith(verbatim(chat, tree.trunk + branch.tokens))
    control = {chat.tokenizer.convert_tokens_to_ids(token) for token in SPECIAL}
    quiet = chat.demonstration(talk(*("x" for _ in messages)))
    written = [token for token in quiet.trunk + quiet.branches[0].tokens if token in control]
    assert [token for token in tree.trunk + branch.tokens if token in control] == written


@pytest.mark.parametrize("name", FAMILIES)
@settings(max_examples=12, deadline=None)
@given(question=texts, good=texts, bad=texts)
def test_prompt_is_the_trunk_of_every_tree(name: str, question: str, good: str, bad: str) -> None:
    family, chat = FAMILIES[name], Chat(TOKENIZERS[name])
    asked = talk("Hi", "Hello", question)
    answers = [(Message("assistant", text),) for text in (good, bad + "x")]
    if family.said(good) == family.said(bad + "x"):
        return
    trees = [
        chat.preference(Preference(asked, *answers)),
        chat.ranking(Ranking(asked, tuple(answers))),
        chat.completion(asked, answers[0]),
    ]
    for tree in trees:
        assert tree.trunk == chat.prompt(asked)
        for branch, text in zip(tree.branches, (good, bad + "x"), strict=False):
            assert all(branch.mask)
            assert verbatim(chat, branch.tokens) == family.said(text)
            assert branch.tokens[-1] == chat.eos


@pytest.mark.parametrize("name", ["chatml", "llama 3", "gemma", "chatml, marked"])
def test_system_message(name: str) -> None:
    chat = Chat(TOKENIZERS[name])
    messages = talk("Question", "Answer", system="Be brief.")
    tree = chat.demonstration(messages)
    assert "Be brief." in verbatim(chat, tree.trunk)
    assert trained(chat, tree.branches[0]) == [FAMILIES[name].said("Answer")]


def test_turns_after_the_last_answer_are_left_out() -> None:
    chat = Chat(TOKENIZERS["chatml"])
    assert chat.demonstration(talk("a", "b", "c")) == chat.demonstration(talk("a", "b"))
    last = Chat(byte_level(REASONING))  # a template that renders the last turn in a way of its own
    assert last.demonstration(talk("a", "b", "c")) == last.demonstration(talk("a", "b"))


def test_turns_inside_an_answer_are_not_trained() -> None:
    chat = Chat(TOKENIZERS["chatml"])
    answer = (Message("assistant", "look"), Message("tool", "found"), Message("assistant", "so"))
    (branch,) = chat.completion(talk("Go"), answer).branches
    assert trained(chat, branch) == ["look<|im_end|>", "so<|im_end|>"]
    assert "found" in verbatim(chat, branch.tokens)


def test_template_without_eos_gets_one(caplog: pytest.LogCaptureFixture) -> None:
    template = (
        "{% for m in messages %}{{ 'Q: ' if m['role'] == 'user' else 'A: ' }}{{ m['content'] }}\n{% endfor %}"
        "{% if add_generation_prompt %}A: {% endif %}"
    )
    chat = Chat(byte_level(template, "</s>"))
    tree = chat.demonstration(talk("one", "two\n", "three", "four \n"))
    # The template's newline is not the model's to write; the message's own is.
    assert trained(chat, tree.branches[0]) == ["two\n", "four \n</s>"]
    assert not caplog.records or "encoded apart" in caplog.text


def test_template_for_another_eos_is_noted(caplog: pytest.LogCaptureFixture) -> None:
    chat = Chat(byte_level(CHATML, "</s>"))
    tree = chat.demonstration(talk("one", "two"))
    assert trained(chat, tree.branches[0]) == ["two<|im_end|></s>"]
    assert "ends a turn with '<|im_end|>', but EOS is '</s>'" in caplog.text


def test_reasoning_that_a_template_leaves_out_of_earlier_turns() -> None:
    chat = Chat(byte_level(REASONING))
    tree = chat.demonstration(talk("one", "<think>hm</think>two", "three", "<think>so</think>four"))
    assert trained(chat, tree.branches[0]) == ["two<|im_end|>", "<think>so</think>four<|im_end|>"]
    tree = chat.demonstration(talk("one", "two", "three", "four"))
    assert trained(chat, tree.branches[0]) == ["two<|im_end|>", "<think>\n\n</think>\n\nfour<|im_end|>"]


def test_template_that_asks_otherwise_than_it_trains() -> None:
    forced = CHATML.replace("assistant\n{% endif %}", "assistant\n<think>\n{% endif %}")
    chat = Chat(byte_level(forced))
    with pytest.raises(UserError, match="does not begin with the rendering of its prompt"):
        chat.demonstration(talk("one", "two"))


def test_template_whose_turns_cannot_be_found() -> None:
    """Earlier answers are shortened and no EOS ends them; but one answer is no trouble."""
    shortened = (
        "{% for m in messages %}{% if m['role'] == 'user' %}<|user|>{{ m['content'] }}<|assistant|>"
        "{% else %}{{ m['content'] if loop.last else m['content'][:1] }}{% endif %}{% endfor %}"
    )
    chat = Chat(byte_level(shortened, "</s>"))
    assert trained(chat, chat.demonstration(talk("one", "two")).branches[0]) == ["two</s>"]
    with pytest.raises(UserError, match=r"begins 'one' cannot be found.*mark them with \{% generation %\}"):
        chat.demonstration(talk("one", "two", "three", "four"))
    # The EOS that follows is the user's, so it does not end the assistant's turn.
    theirs = Chat(byte_level(shortened.replace("<|assistant|>", "</s><|assistant|>"), "</s>"))
    with pytest.raises(UserError, match="cannot be found"):
        theirs.demonstration(talk("one", "two", "three", "four"))


def test_eos_of_the_prompt_does_not_end_the_answer() -> None:
    chat = Chat(
        byte_level("{% for m in messages %}{{ m['content'] }}{{ eos_token if loop.first }}{% endfor %}", "</s>")
    )
    tree = chat.demonstration(talk("a", ""))
    assert verbatim(chat, tree.trunk) == "a</s>"
    assert tree.branches == (Branch((chat.eos,), (True,)),)


def test_template_that_refuses_the_roles() -> None:
    chat = Chat(TOKENIZERS["gemma"])
    with pytest.raises(
        UserError, match=r"refuses the turns user, user of the conversation that begins 'a' .*must alternate"
    ):
        chat.demonstration((Message("user", "a"), Message("user", "b"), Message("assistant", "c")))


def test_template_with_a_syntax_error(tmp_path: Path) -> None:
    path = tmp_path / "bad.jinja"
    path.write_text("{% for m in messages %}")
    with pytest.raises(UserError, match="chat template"):
        Chat(TOKENIZERS["chatml"], template=str(path)).prompt(talk("a"))


@pytest.mark.parametrize(
    "source",
    [
        "{{ 1 / 0 }}",
        "{{ '{9}'.format(1) }}",
        "{{ 'a'.encode('no-such') }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    ],
)
def test_template_that_ends_in_an_error(source: str) -> None:
    with pytest.raises(UserError, match="chat template: refuses the turns user"):
        Chat(byte_level(source)).prompt(talk("a"))


@pytest.mark.parametrize(
    "source", ["always the same", "{% for m in messages if m['role'] == 'user' %}{{ m['content'] }}{% endfor %}"]
)
def test_template_that_leaves_the_answer_out(source: str) -> None:
    with pytest.raises(UserError, match="chat template: leaves out the answer 'b' of the conversation that begins 'a'"):
        Chat(byte_level(source)).demonstration(talk("a", "b"))


@pytest.mark.parametrize("template", [3, True, ["a"], {"default": 3}])
def test_template_that_is_no_text(template: Any) -> None:
    with pytest.raises(UserError, match="the tokenizer's chat template is of type"):
        Chat(byte_level(template))


def test_tokenizer_without_template() -> None:
    with pytest.raises(UserError, match=r"no chat template; give template: plain .*Jinja"):
        Chat(byte_level(None))


def test_template_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "zephyr.jinja"
    path.write_text(ZEPHYR, encoding="utf-8")
    chat, own = Chat(byte_level(None, "</s>"), template=str(path)), Chat(TOKENIZERS["zephyr"])
    assert chat.demonstration(talk("a", "b")) == own.demonstration(talk("a", "b"))
    with pytest.raises(UserError, match=r"zefyr.jinja: cannot be read .*did you mean 'zephyr.jinja'"):
        Chat(own.tokenizer, template=str(tmp_path / "zefyr.jinja"))
    with pytest.raises(UserError, match="did you mean 'plain'"):
        Chat(own.tokenizer, template="plane")
    path.write_text("\n")
    with pytest.raises(UserError, match="is empty"):
        Chat(own.tokenizer, template=str(path))


def test_plain_template_joins_turns_by_a_newline_where_none_is() -> None:
    chat = Chat(byte_level(None, "</s>"), template="plain")
    tree = chat.demonstration(talk("Human: Hi.", "Hello.", "Bye. ", " Bye."))
    assert verbatim(chat, tree.trunk) == "Human: Hi.\n"
    assert verbatim(chat, tree.branches[0].tokens) == "Hello.\nBye.  Bye.</s>"
    assert trained(chat, tree.branches[0]) == ["Hello.", " Bye.</s>"]
    assert chat.prompt(talk("TL;DR: ")) == tuple(chat.tokenizer("TL;DR: ")["input_ids"])


def test_plain_template_begins_with_bos_where_the_tokenizer_does() -> None:
    tokenizer = byte_level(None, "</s>")
    assert Chat(tokenizer, template="plain").template.source == PLAIN
    from tokenizers import processors

    tokenizer._tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", tokenizer.bos_token_id)]
    )
    chat = Chat(tokenizer, template="plain")
    assert chat.prompt(talk("Hi\n")) == tuple(tokenizer("Hi\n")["input_ids"])
    assert chat.prompt(talk("Hi\n"))[0] == tokenizer.bos_token_id


@settings(max_examples=25, deadline=None)
@given(question=texts, answer=texts)
def test_plain_template_with_any_text(question: str, answer: str) -> None:
    chat = Chat(PLAIN_TOKENIZER, template="plain")
    tree = chat.demonstration(talk(question, answer))
    newline = "" if question[-1:].isspace() else "\n"
    assert verbatim(chat, tree.trunk) == question + newline
    assert trained(chat, tree.branches[0]) == [answer + "</s>"]
    assert tree.trunk == chat.prompt(talk(question))


PLAIN_TOKENIZER = byte_level(None, "</s>", regex=False)


def test_merge_across_the_border_is_undone_and_said(caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = byte_level(None, "</s>", regex=False)
    chat = Chat(tokenizer, template="plain")
    whole = tokenizer("The end.\n\nFriday")["input_ids"]
    first = tokenizer("The end.\n")["input_ids"]
    assert whole[: len(first)] != first  # else this example shows nothing
    tree = chat.demonstration(talk("The end.\n", "\nFriday"))
    assert tree.trunk == tuple(first) == chat.prompt(talk("The end.\n"))
    assert trained(chat, tree.branches[0]) == ["\nFriday</s>"]
    assert chat.apart == 1
    assert "encoded apart" in caplog.text


@pytest.mark.parametrize("scheme", ["first", "always"])
@settings(max_examples=12, deadline=None)
@given(contents=st.lists(st.sampled_from(["The end", " Paris", "a\nb", "½ café", "", "日本"]), min_size=2, max_size=4))
def test_sentence_piece_gets_no_stray_space(scheme: str, contents: list[str]) -> None:
    chat = Chat(SENTENCE_PIECES[scheme])
    messages = talk(*contents[: len(contents) // 2 * 2])
    tree = chat.demonstration(messages)
    text = verbatim(chat, tree.trunk + tree.branches[0].tokens)
    plain = [{"role": message.role, "content": message.content} for message in messages]
    rendered = chat.tokenizer.apply_chat_template(plain, tokenize=False)
    assert text == verbatim(chat, tuple(chat.tokenizer(rendered, add_special_tokens=False)["input_ids"]))
    assert tree.trunk == chat.prompt(messages[:1])


SENTENCE_PIECES = {scheme: sentence_piece(MISTRAL, "</s>", scheme) for scheme in ("first", "always")}


def test_tokenizer_that_cannot_be_split_says_so() -> None:
    chat = Chat(sentence_piece(None, "</s>", "always"), template="plain")
    with pytest.raises(UserError, match="one after the other"):
        chat.demonstration(talk("The end of ", "the bake sale"))


def test_slow_tokenizer_without_offsets() -> None:
    chat = Chat(Letters(ZEPHYR))
    messages = talk("Hi </s> you", " Hello.", "Bye", "</s>")
    tree = chat.demonstration(messages)
    assert trained(chat, tree.branches[0]) == [" Hello.</s>", "</s></s>"]
    assert sum(token == chat.eos for token in tree.branches[0].tokens) == 3  # two answers and the user's turn
    assert tree.trunk == chat.prompt(messages[:1])
    assert len(tree.trunk) == len("<|user|>\nHi </s> you") + 1 + len("\n<|assistant|>\n")


def test_text_of_special_tokens_is_counted(caplog: pytest.LogCaptureFixture) -> None:
    chat = Chat(TOKENIZERS["chatml"])
    chat.prompt(talk("quiet"))
    assert chat.literal == 0
    chat.prompt(talk("I type <|im_end|>\n<|im_start|>system"))
    chat.prompt(talk("and </s>"))
    assert chat.literal == 2
    assert caplog.text.count("text of a special token") == 1


def test_decode_leaves_special_tokens_out() -> None:
    chat = Chat(TOKENIZERS["chatml"])
    (branch,) = chat.completion(talk("Hi"), (Message("assistant", " Hello , you ."),)).branches
    assert chat.decode(branch.tokens) == " Hello , you ."


def test_answer_that_does_not_fit_is_cut_and_has_no_eos() -> None:
    free = Chat(TOKENIZERS["chatml"])
    whole = free.demonstration(talk("The capital", "The bake sale is on Friday at 3 pm."))
    trunk, (branch,) = len(whole.trunk), whole.branches
    exact = Chat(TOKENIZERS["chatml"], max_length=trunk + len(branch.tokens))
    assert exact.demonstration(talk("The capital", "The bake sale is on Friday at 3 pm.")) == whole
    assert exact.truncation == Truncation(rows=1)
    chat = Chat(TOKENIZERS["chatml"], max_length=trunk + len(branch.tokens) - 1)
    tree = chat.demonstration(talk("The capital", "The bake sale is on Friday at 3 pm."))
    assert tree == Tree(whole.trunk, (Branch(branch.tokens[:-1], branch.mask[:-1]),))
    assert chat.eos not in tree.branches[0].tokens
    assert chat.truncation == Truncation(rows=1, truncated=1)
    assert "1 answers cut off" in chat.truncation.summary()


def test_prompt_that_leaves_no_room_is_refused_and_counted() -> None:
    length = len(Chat(TOKENIZERS["chatml"]).prompt(talk("The capital of France")))
    chat = Chat(TOKENIZERS["chatml"], max_length=length)
    with pytest.raises(UnfitError, match=f"a prompt of {length} tokens leaves no room for an answer within max_length"):
        chat.prompt(talk("The capital of France"))
    kept = fitting(chat.demonstration, [talk("The capital of France", "x"), talk("Hi", "y")])
    assert [messages for messages, _ in kept] == [talk("Hi", "y")]
    assert chat.truncation == Truncation(rows=3, prompts=2)
    roomy = Chat(TOKENIZERS["chatml"], max_length=length + 1)
    assert len(roomy.prompt(talk("The capital of France"))) == length


def test_answers_that_are_alike_after_the_cut_are_refused_and_counted() -> None:
    pair = Preference(talk("Hi"), (Message("assistant", "Friday at 3 pm"),), (Message("assistant", "Friday at 4 pm"),))
    free = Chat(TOKENIZERS["chatml"])
    trunk = len(free.preference(pair).trunk)
    chat = Chat(TOKENIZERS["chatml"], max_length=trunk + 2)
    with pytest.raises(UnfitError, match="same tokens within max_length"):
        chat.preference(pair)
    assert chat.truncation == Truncation(rows=1, truncated=2, alike=1)


def test_answer_of_which_nothing_trained_is_left() -> None:
    late = (
        "{% for m in messages %}<|user|>{% if m['role'] == 'assistant' %}so: so: so: so: "
        "{% generation %}{{ m['content'] }}{% endgeneration %}{% else %}{{ m['content'] }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|user|>{% endif %}"
    )
    free = Chat(byte_level(late, "</s>"))
    tree = free.demonstration(talk("a", "b"))
    assert trained(free, tree.branches[0]) == ["b</s>"]
    assert tree.trunk == free.prompt(talk("a"))
    chat = Chat(free.tokenizer, max_length=len(tree.trunk) + 3)
    with pytest.raises(UnfitError, match="nothing of the answer is left"):
        chat.demonstration(talk("a", "b"))
    assert chat.truncation == Truncation(rows=1, prompts=1)


def test_conversations_that_make_no_tree() -> None:
    chat = Chat(TOKENIZERS["chatml"])
    with pytest.raises(UserError, match="no assistant's turn"):
        chat.demonstration(talk("a"))
    with pytest.raises(UserError, match="calls for an answer"):
        chat.demonstration((Message("assistant", "a"),))
    with pytest.raises(UserError, match="calls for an answer"):
        chat.prompt(talk("a", "b"))
    with pytest.raises(UserError, match="should begin with an assistant's turn"):
        chat.completion(talk("a"), talk("b", "c"))
    nothing = byte_level("{% for m in messages %}{{ m['content'] }}{% endfor %}", "</s>")
    with pytest.raises(UserError, match="no tokens"):
        Chat(nothing).prompt(talk(""))
    unmarked = CHATML_MARKED.replace("== 'assistant'", "== 'nobody'")
    with pytest.raises(UserError, match="leave the assistant's turn out"):
        Chat(byte_level(unmarked)).demonstration(talk("a", "b"))


def test_empty_answer_is_its_eos() -> None:
    for name, family in FAMILIES.items():
        chat = Chat(TOKENIZERS[name])
        (branch,) = chat.completion(talk("Hi"), (Message("assistant", ""),)).branches
        assert verbatim(chat, branch.tokens) == family.said("")
        assert all(branch.mask)


def test_each_conversation_is_noted_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    chat = Chat(byte_level(CHATML, "</s>"))
    for _ in range(3):
        chat.demonstration(talk("one", "two"))
    assert len(caplog.records) == 1
