"""Messages ↔ tokens, the only place where one becomes the other.

A worked example, with a ChatML template and EOS = <|im_end|>:

    messages    user "Hi"                                        assistant "Hello."
    rendered    <|im_start|>user⏎Hi<|im_end|>⏎<|im_start|>assistant⏎ Hello.<|im_end|>⏎
    tree        trunk: the prompt with its generation prompt   | branch: Hello . <|im_end|>
    mask                                                       |           1   1     1

Rules, each of which holds for every template:

- `prompt(m)` is exactly the trunk of every tree whose prompt is m. Where the tokenizer would merge the end of the
  prompt with the beginning of the answer, both are encoded apart; `Chat.apart` counts the rows and the first is logged.
- The assistant's text and the EOS after it are trained, nothing else. A last turn that the template does not close
  with EOS gets one; what a template writes after that EOS (ChatML's newline) is left out.
- The text of a special token inside a message ("<|im_end|>" typed by a user) is encoded as ordinary text, so that no
  message can end a turn or open one; `Chat.literal` counts such messages and the first is logged.
- A branch that does not fit into `max_length` is cut off at the right, and then has no EOS. A row whose prompt leaves
  no room for an answer, or whose answers are the same (after the cut), raises `UnfitError`. `Chat.truncation` counts
  them all.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice, pairwise
from typing import TypeVar

from transformers import PreTrainedTokenizerBase

from keel.data.forest import Branch, Tree
from keel.data.template import Template, read_template
from keel.data.tokenizer import require_eos
from keel.errors import UserError
from keel.types import Conversation, Message, Preference, Ranking

T = TypeVar("T")
R = TypeVar("R")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Truncation:
    """What did not fit into `max_length`, so far.

    rows: conversations asked for; truncated: answers cut off at the right; prompts: rows refused because the prompt
    leaves no room; alike: rows refused because two of their answers have the same tokens.
    """

    rows: int = 0
    truncated: int = 0
    prompts: int = 0
    alike: int = 0

    def summary(self) -> str:
        """One sentence for the log."""
        return (
            f"{self.rows:,} rows: {self.truncated:,} answers cut off, {self.prompts:,} without room for one, "
            f"{self.alike:,} with equal answers."
        )


class UnfitError(UserError):
    """A row that cannot become a tree within `max_length`; it is counted in `Chat.truncation`."""


class Chat:
    """A tokenizer with its chat template.

    `template` is None (the tokenizer's own), "plain" (`keel.data.template.PLAIN`: no roles), or the path of a Jinja
    file. `max_length` is the limit of trunk + branch in tokens; None is no limit. Raises UserError for a tokenizer
    without a template, without EOS, or with pad = EOS.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, max_length: int | None = None, template: str | None = None
    ) -> None:
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.eos = require_eos(tokenizer)
        if tokenizer.pad_token_id == self.eos:
            raise UserError(
                "the tokenizer's pad token is its EOS, so a model could not learn to stop; call require_pad."
            )
        self.template = Template(tokenizer, read_template(tokenizer, template))
        self.apart = 0
        self.literal = 0
        self._truncation = Truncation()
        self._said: set[str] = set()
        special = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
        special |= set(tokenizer.all_special_tokens)
        longest_first = sorted(filter(None, special), key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, longest_first)))

    @property
    def truncation(self) -> Truncation:
        """What did not fit, so far."""
        return self._truncation

    def prompt(self, messages: Conversation) -> tuple[int, ...]:
        """The tokens of a conversation that waits for the assistant, with the generation prompt; or `UnfitError`."""
        self._count(rows=1)
        fence, (fenced,) = self._fenced((messages,))
        return self._trunk(self._cue(fenced), fence)

    def demonstration(self, messages: Conversation) -> Tree:
        """A tree of one branch with every assistant turn trained; what comes after the last of them is left out."""
        first = next((index for index, message in enumerate(messages) if message.role == "assistant"), None)
        if first is None:
            raise UserError("a demonstration has no assistant's turn, so there is nothing to learn; add one.")
        return self.completion(messages[:first], messages[first:])

    def completion(self, prompt: Conversation, completion: Conversation) -> Tree:
        """A tree of one branch: the assistant turns of `completion`, which begins with one."""
        return self._tree(prompt, (completion,))

    def preference(self, preference: Preference) -> Tree:
        """A tree of two branches, the chosen one first."""
        return self._tree(preference.prompt, (preference.chosen, preference.rejected))

    def ranking(self, ranking: Ranking) -> Tree:
        """A tree of K branches, best first."""
        return self._tree(ranking.prompt, ranking.completions)

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of the tokens, without special tokens."""
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def _tree(self, prompt: Conversation, completions: Sequence[Conversation]) -> Tree:
        self._count(rows=1)
        fence, (asked, *answers) = self._fenced((prompt, *map(_until_last_answer, completions)))
        cue = self._cue(asked)
        trunk = self._trunk(cue, fence)
        branches = [self._branch(asked, answer, cue, trunk, fence) for answer in answers]
        tree = Tree(trunk, tuple(self._cut(branch, len(trunk)) for branch in branches))
        if len({branch.tokens for branch in tree.branches}) < len(tree.branches):
            self._count(alike=1)
            raise UnfitError(
                f"two answers to one prompt have the same tokens{self._limit()}; drop the row or allow more."
            )
        return tree

    def _cue(self, prompt: Conversation) -> str:
        if not prompt or prompt[-1].role == "assistant":
            raise UserError("a prompt should end with a turn that calls for an answer; put a user's message there.")
        return self.template.cue(prompt)

    def _trunk(self, cue: str, fence: str) -> tuple[int, ...]:
        trunk = tuple(self._encode(cue, fence))
        if self.max_length is not None and len(trunk) >= self.max_length:
            self._count(prompts=1)
            raise UnfitError(
                f"a prompt of {len(trunk)} tokens leaves no room for an answer{self._limit()}; allow more."
            )
        if not trunk:
            raise UserError("the prompt has no tokens, so nothing predicts the answer's first; give a prompt.")
        return trunk

    def _branch(
        self, prompt: Conversation, answer: Conversation, cue: str, trunk: tuple[int, ...], fence: str
    ) -> Branch:
        turns = self.template.turns(prompt, answer, cue, fence)
        cuts = sorted({turns.start, *chain.from_iterable(turns.spans)})
        begins = {begin for begin, end in turns.spans if begin < end}
        tokens: list[int] = []
        mask: list[bool] = []
        for begin, piece in zip(cuts, self._pieces(turns.text, cuts, trunk, fence), strict=True):
            tokens += piece
            mask += [begin in begins] * len(piece)
        if not turns.closed:
            self._say_if_ended(turns.text)
            tokens.append(self.eos)
            mask.append(True)
        return Branch(tuple(tokens), tuple(mask))

    def _say_if_ended(self, text: str) -> None:
        """A template written for another EOS: the turn ends twice."""
        ends = [found.group() for found in self._special.finditer(text) if found.end() == len(text)]
        if ends:
            self._say_once(
                f"The chat template ends a turn with '{ends[0]}', but EOS is '{self.tokenizer.eos_token}': both are"
                f" trained; set the tokenizer's eos_token to '{ends[0]}' to end a turn with one token."
            )

    def _pieces(self, text: str, cuts: Sequence[int], trunk: tuple[int, ...], fence: str) -> list[list[int]]:
        """The tokens between each two cuts, and after the last; text[:cuts[0]] is the trunk.

        They are those of the whole text, if none of its tokens reaches over a cut. That is so if the pieces, or else
        the texts up to each cut, are encoded alone as they are within the whole.
        """
        whole = self._encode(text, fence)
        spans = [text[begin:end] for begin, end in pairwise([*cuts, len(text)])]
        pieces = [self._encode(span, fence) for span in spans]
        if [*trunk, *chain.from_iterable(pieces)] == whole:
            return pieces
        heads = [list(trunk), *(self._encode(text[:cut], fence) for cut in cuts[1:]), whole]
        if all(whole[: len(head)] == head for head in heads):
            return [whole[len(head) : len(longer)] for head, longer in pairwise(heads)]
        pieces = [self._continued(span, fence) for span in spans]
        if self._verbatim([*trunk, *chain.from_iterable(pieces)]) != self._verbatim(whole):
            raise UserError(
                "the tokenizer cannot encode a prompt and its answer one after the other, because it merges them or"
                " adds white space between them; use a chat template that ends the prompt with a special token."
            )
        self.apart += 1
        self._say_once(
            "The tokenizer would merge the end of a turn with what follows it; both are encoded apart, as they are when"
            " the model writes the answer."
        )
        return pieces

    def _cut(self, branch: Branch, trunk: int) -> Branch:
        room = len(branch.tokens) if self.max_length is None else self.max_length - trunk
        if len(branch.tokens) <= room:
            return branch
        if not any(branch.mask[:room]):
            self._count(prompts=1)
            raise UnfitError(f"nothing of the answer is left{self._limit()}; allow more tokens.")
        self._count(truncated=1)
        return Branch(branch.tokens[:room], branch.mask[:room])

    def _encode(self, text: str, fence: str) -> list[int]:
        """The tokens of a text; what stands in fences is encoded without its special tokens."""
        ids: list[int] = []
        for index, part in enumerate(re.split(f"{fence[0]}([^{fence}]*){fence[1]}", text)):
            loose = re.sub(f"[{fence}]", "", part)  # a template that cuts a message in two may leave half a fence
            ids += self.tokenizer(loose, add_special_tokens=False, split_special_tokens=index % 2 == 1, verbose=False)[
                "input_ids"
            ]
        return ids

    def _continued(self, text: str, fence: str) -> list[int]:
        """The tokens of a text that follows another, so that a tokenizer adds no space before it."""
        return self._encode(str(self.tokenizer.eos_token) + text, fence)[1:]

    def _verbatim(self, tokens: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def _fenced(self, conversations: Sequence[Conversation]) -> tuple[str, list[Conversation]]:
        """A fence (two characters that stand in no message), and the conversations with special tokens' texts in it."""
        messages = [message for conversation in conversations for message in conversation]
        said = set().union(*(message.content for message in messages))
        fence = "".join(islice((char for char in map(chr, _NONCHARACTERS) if char not in said), 2))
        quoting = sum(self._special.search(message.content) is not None for message in messages)
        if quoting:
            self._say_once("A message contains the text of a special token; it is encoded as ordinary text.")
        self.literal += quoting

        def enclose(message: Message) -> Message:
            return replace(message, content=self._special.sub(rf"{fence[0]}\g<0>{fence[1]}", message.content))

        return fence, [tuple(map(enclose, conversation)) for conversation in conversations]

    def _count(self, rows: int = 0, truncated: int = 0, prompts: int = 0, alike: int = 0) -> None:
        now = self._truncation
        self._truncation = Truncation(
            now.rows + rows, now.truncated + truncated, now.prompts + prompts, now.alike + alike
        )

    def _say_once(self, sentence: str) -> None:
        if sentence not in self._said:
            self._said.add(sentence)
            _log.warning(sentence)

    def _limit(self) -> str:
        return "" if self.max_length is None else f" within max_length {self.max_length}"


# Code points that Unicode sets apart for a program's own use, then a plane for private use: never all in one text.
_NONCHARACTERS = (*range(0xFDD0, 0xFDF0), *range(0xF0000, 0xFFFFE))


def fitting(make: Callable[[T], R], rows: Iterable[T]) -> list[tuple[T, R]]:
    """Each row with what `make` (such as `chat.preference`) makes of it, without the rows that raise `UnfitError`."""
    made: list[tuple[T, R]] = []
    for row in rows:
        try:
            made.append((row, make(row)))
        except UnfitError:
            continue  # counted by the Chat
    return made


def _until_last_answer(completion: Conversation) -> Conversation:
    last = max((index for index, message in enumerate(completion) if message.role == "assistant"), default=None)
    if last is None or completion[0].role != "assistant":
        raise UserError("an answer should begin with an assistant's turn; put the turns before it into the prompt.")
    return completion[: last + 1]
