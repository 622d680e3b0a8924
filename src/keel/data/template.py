"""Messages to text: the chat template, and which characters of it are the assistant's own.

With `{% generation %}` markers the template says what the assistant wrote. Without them a turn of the assistant runs
from the end of what is rendered before it with a generation prompt, which must be how the whole text begins, to the
end of the turn. Either way it then runs to the EOS that the template writes after it, and not beyond.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import render_jinja_template

from keel.data.place import neighbour, place, unreadable
from keel.errors import UserError
from keel.types import Conversation

PLAIN = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'assistant' -%}"
    "{%- generation -%}{{ message['content'] }}{%- endgeneration -%}"
    "{%- else -%}{{ message['content'] }}{%- endif -%}"
    "{%- if (add_generation_prompt or not loop.last) and not message['content'][-1:].isspace() -%}"
    "{{ '\\n' }}{%- endif -%}"
    "{%- endfor -%}"
)
"""Raw text for base models: no roles, each turn as it stands. A newline follows a turn that does not end in white
space, unless it is the last; it belongs to the prompt. BOS comes first where the tokenizer adds one by itself."""

# What the expressions of a template may end with, as those of any program: {{ 1 / 0 }}.
_FAULTS = (TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError)
_MARKER = re.compile(r"\{%-?\s*generation\s*-?%\}")
Span = tuple[int, int]


@dataclass(frozen=True)
class Rendered:
    """A conversation as text, cut off after the assistant's last turn.

    `spans` are the characters [start, end) that the assistant wrote, in order; all lie at or after `start`, the end of
    the prompt. `closed` says whether the last span ends with EOS.
    """

    text: str
    start: int
    spans: tuple[Span, ...]
    closed: bool


def read_template(tokenizer: PreTrainedTokenizerBase, template: str | None) -> str:
    """The Jinja source to use: the tokenizer's own (None), `PLAIN` ("plain"), or that of a file (its path)."""
    if template == "plain":
        ids = list(tokenizer("a")["input_ids"])
        adds_bos = tokenizer.bos_token_id is not None and ids[:1] == [tokenizer.bos_token_id]
        return ("{{ bos_token }}" if adds_bos else "") + PLAIN
    if template is not None:
        return _read_file(place(template))
    name = str(tokenizer.name_or_path) or type(tokenizer).__name__
    if not tokenizer.chat_template:
        raise UserError(
            f"{name}: the tokenizer has no chat template; give template: plain (the turns as raw text), or the path of"
            " a Jinja file."
        )
    try:
        own = tokenizer.get_chat_template()
    except ValueError:
        raise UserError(
            f"{name}: the tokenizer has several chat templates and none is the default; give the path of one."
        ) from None
    if not isinstance(own, str):
        raise UserError(f"{name}: the tokenizer's chat template is of type {type(own).__name__}; give a Jinja file.")
    return own


def _read_file(path: Path) -> str:
    try:
        source = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: cannot be read as a chat template ({unreadable(error)}){neighbour(path, 'plain')}; "
            "give a Jinja file."
        ) from None
    if not source.strip():
        raise UserError(f"{path}: the chat template is empty; give a Jinja file that writes the messages.")
    return source


class Template:
    """A chat template bound to the tokenizer whose special tokens it writes."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, source: str) -> None:
        self.source = source
        self.marked = _MARKER.search(source) is not None
        self._tokenizer = tokenizer
        self._eos = str(tokenizer.eos_token)

    def cue(self, messages: Conversation) -> str:
        """The text that calls for the assistant's turn (with the generation prompt)."""
        return self._render(messages, cue=True)[0]

    def turns(self, prompt: Conversation, completion: Conversation, cue: str, fence: str) -> Rendered:
        """Prompt and completion as one text that begins with `cue`, which is the prompt's own rendering.

        `fence` is two characters; what stands between them is a message's and never the template's.
        """
        messages = prompt + completion
        text, marks = self._render(messages, cue=False)
        if not text.startswith(cue):
            raise UserError(
                f"chat template: the conversation {_opening(messages)} does not begin with the rendering of"
                " its prompt, so the model would be trained on another prompt than it is asked; use a template whose"
                " text only grows with the messages."
            )
        control = _Control(text, self._eos, fence)
        if self.marked:
            spans = _from_marks(control, marks, self._heads(prompt, completion, cue, text))
        else:
            spans = self._from_prefixes(control, prompt, completion, cue)
        if not spans:
            raise UserError("chat template: its {% generation %} markers leave the assistant's turn out; mark it.")
        end = spans[-1][1]
        said = next(message.content for message in reversed(completion) if message.role == "assistant")
        if said.strip() and not text[spans[-1][0] : end].removesuffix(self._eos).strip():
            raise UserError(
                f"chat template: leaves out the answer {said[:40]!r} of the conversation {_opening(messages)}; use a"
                " template that writes what the assistant said."
            )
        return Rendered(text[:end], len(cue), tuple(spans), control.ends_turn(spans[-1]))

    def _heads(self, prompt: Conversation, completion: Conversation, cue: str, text: str) -> list[int]:
        """Where the prompt of each of the completion's assistant turns ends, as far as `text` begins with it."""
        turns = (index for index, message in enumerate(completion) if index and message.role == "assistant")
        later = (self.cue(prompt + completion[:index]) for index in turns)
        return [len(cue), *(len(head) for head in later if text.startswith(head))]

    def _from_prefixes(self, control: _Control, prompt: Conversation, completion: Conversation, cue: str) -> list[Span]:
        messages = prompt + completion
        spans: list[Span] = []
        for index in range(len(prompt), len(messages)):
            if messages[index].role != "assistant":
                continue
            head = cue if index == len(prompt) else self.cue(messages[:index])
            last = index == len(messages) - 1
            whole = control.text if last else self._render(messages[: index + 1], cue=False)[0]
            end = control.turn_end(head, whole, messages[index].content)
            if end is None or (spans and len(head) < spans[-1][1]):
                raise UserError(
                    f"chat template: the assistant's turns in the conversation {_opening(messages)} cannot be"
                    " found, as the template renders a turn otherwise once others follow; mark them with"
                    " {% generation %}."
                )
            spans.append((len(head), end))
        return spans

    def _render(self, messages: Conversation, cue: bool) -> tuple[str, Sequence[Span]]:
        plain = [{"role": message.role, "content": message.content} for message in messages]
        try:
            texts, marks = render_jinja_template(
                conversations=[plain],
                chat_template=self.source,
                return_assistant_tokens_mask=self.marked,
                add_generation_prompt=cue,
                **self._tokenizer.special_tokens_map,
            )
        except (jinja2.TemplateError, *_FAULTS) as error:
            roles = ", ".join(message.role for message in messages)
            raise UserError(
                f"chat template: refuses the turns {roles} of the conversation {_opening(messages)} ({error}); change"
                " the rows or the template."
            ) from None
        return str(texts[0]), [(int(start), int(end)) for start, end in marks[0]] if self.marked else ()


@dataclass(frozen=True)
class _Control:
    """A rendered text in which EOS counts only where the template wrote it, not where a message quotes it."""

    text: str
    eos: str
    fence: str

    def eos_end(self, start: int, stop: int) -> int | None:
        """Where the first EOS that lies in [start, stop) ends."""
        opening, closing = map(re.escape, self.fence)
        pattern = re.compile(f"{opening}[^{closing}]*{closing}|(?P<eos>{re.escape(self.eos)})")
        return next((found.end() for found in pattern.finditer(self.text, start, stop) if found["eos"]), None)

    def ends_turn(self, span: Span) -> bool:
        """Whether the span ends with the first EOS in it."""
        return self.eos_end(*span) == span[1]

    def turn_end(self, head: str, whole: str, content: str) -> int | None:
        """Where the turn that `head` calls for ends; `whole` is the rendering up to and with it. None: not to be found.

        It ends at its EOS. Where it has none it ends with the rendering, less the white space that the template adds.
        """
        if not self.text.startswith(head):
            return None
        if self.text.startswith(whole) and whole.startswith(head):
            return self.eos_end(len(head), len(whole)) or len(head) + len(_own(whole[len(head) :], content))
        end = self.eos_end(len(head), len(self.text))
        said = self.text[len(head) : end].removesuffix(self.eos).strip()
        # The template may have left out a part of the message (its reasoning), but must not have added to it.
        return end if content.strip().endswith(said) else None


def _from_marks(control: _Control, marks: Sequence[Span], heads: Sequence[int]) -> list[Span]:
    """The template's own spans, from the end of their turn's prompt at the earliest, to their EOS where one follows.

    White space between that prompt and the span belongs to it, since the model has to write it.
    """
    spans: list[Span] = []
    for begin, end in marks:
        if begin < heads[0] and end <= heads[0]:
            continue  # a turn of the prompt
        begin = next((head for head in heads if begin < head < end), begin)
        before = max((head for head in heads if head <= begin), default=begin)
        if not control.text[before:begin].strip():
            begin = before
        gap = len(control.text[end:]) - len(control.text[end:].lstrip())
        after = end + gap + len(control.eos)
        spans.append((begin, control.eos_end(begin, end) or control.eos_end(end, after) or end))
    return spans


def _opening(messages: Conversation) -> str:
    return f"that begins {messages[0].content[:40]!r}"


def _own(turn: str, content: str) -> str:
    """A turn that has no EOS, without the white space that the template, not the message, put at its end."""
    bare = turn.rstrip()
    own = content[len(content.rstrip()) :]
    return bare + own if bare.endswith(content.rstrip()) and turn[len(bare) :].startswith(own) else bare
