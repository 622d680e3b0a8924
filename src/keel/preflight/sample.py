"""A few rows of each data set, as tokens, and a few answers: what the checks look at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from keel.config import Sampling as Settings
from keel.data.chat import Chat, UnfitError
from keel.data.forest import Tree
from keel.errors import UserError
from keel.models.load import load_tokenizer
from keel.models.roles import Roles
from keel.rollout.episode import converse
from keel.rollout.generator import Sampling
from keel.rollout.local import LocalGenerator
from keel.stages.cast import RoleGenerator, online_roles
from keel.stages.workspace import StageName, Workspace
from keel.types import Conversation, Prompt, Rollout

T = TypeVar("T")

ROWS = 64
"""Rows of a data set that become tokens."""
TEXTS = 2000
"""Rows whose texts are searched."""
PROMPTS, ANSWERS = 8, 2
"""Prompts that are answered, and answers to each."""
TOKENS = 128
"""Longest answer that is sampled."""
_VERSION = -2  # of the policy, for the seeds of answers: a run's own count from 0, and its reward's scale has −1


@dataclass(frozen=True)
class Start:
    """The model that a stage starts from, with its chat template and what its tokenizer says.

    `stand_in`: the model is the base, as the fine-tuned one that the stage will start from is not there yet.
    """

    path: Path
    stand_in: bool
    chat: Chat
    special: frozenset[int]
    bos: int | None
    adds_bos: bool
    ignored_template: bool

    @classmethod
    def of(cls, space: Workspace, stage: StageName) -> Start:
        """What the stage would find now."""
        to_come = stage != "sft" and "sft" in space.stages and not space.supervised.is_dir()
        path = space.base if stage == "sft" or to_come else space.supervised
        chat = space.chat(path)
        plain = space.recipe.model.template == "plain"
        tokenizer = load_tokenizer(path)  # as it is on disk: a chat carries the recipe's template
        bos = tokenizer.bos_token_id
        first = list(tokenizer("a")["input_ids"])[:1]
        return cls(
            path=path,
            stand_in=to_come,
            chat=chat,
            special=frozenset(tokenizer.all_special_ids)
            | {place for place, token in tokenizer.added_tokens_decoder.items() if token.special},
            bos=bos,
            adds_bos=bos is not None and first == [bos],
            ignored_template=plain
            and bool(tokenizer.chat_template)
            and tokenizer.chat_template != chat.template.source,
        )

    @property
    def special_texts(self) -> frozenset[str]:
        """The special tokens as they are written."""
        return frozenset(map(self.name, self.special))

    def name(self, token: int) -> str:
        """The text of one token."""
        return self.decode((token,))

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens, special ones included."""
        return str(
            self.chat.tokenizer.decode(list(tokens), skip_special_tokens=False, clean_up_tokenization_spaces=False)
        )


def made(rows: Iterable[T], make: Callable[[T], Tree]) -> tuple[list[tuple[T, Tree]], list[str]]:
    """Each row with its tree, and the reasons of those that the template refuses.

    Rows that do not fit are in neither: the chat counts them.
    """
    found: list[tuple[T, Tree]] = []
    refused: list[str] = []
    for row in rows:
        try:
            found.append((row, make(row)))
        except UnfitError:
            continue
        except UserError as error:
            refused.append(str(error))
    return found, refused


def spread_out(items: Sequence[T], count: int) -> list[T]:
    """So many of them, or all, at even distances: a file may be sorted."""
    count = min(count, len(items))
    return [items[int((place + 0.5) * len(items) / count)] for place in range(count)]


def cast(space: Workspace, path: Path) -> Roles:
    """Policy and reference in the layout of the recipe, starting from the model in `path`; no reward model, and the
    least that a critic can be."""
    settings = space.recipe.rl
    critic = settings.critic.model_copy(update={"body": "policy", "init": "zero"})
    recipe = space.recipe.model_copy(update={"rl": settings.model_copy(update={"critic": critic})})
    return online_roles(replace(space, recipe=recipe, supervised=path), None)


def sampled(space: Workspace, roles: Roles, chat: Chat, prompts: Sequence[Prompt], settings: Settings) -> list[Rollout]:
    """`ANSWERS` answers of the policy to each of `PROMPTS` prompts, of at most `TOKENS` tokens."""
    local = LocalGenerator(roles.policy.select(), chat.tokenizer, products=space.dtype)
    sampling = replace(Sampling(**settings.model_dump()), max_tokens=min(settings.max_tokens, TOKENS))
    asked = spread_out(prompts, PROMPTS)
    return converse(asked, RoleGenerator(roles.policy, local), chat, sampling, space.recipe.seed, _VERSION, ANSWERS)


def texts(conversations: Iterable[Conversation]) -> tuple[list[str], list[str]]:
    """What is asked and what is answered, one text for each conversation in which somebody does."""
    asked: list[str] = []
    said: list[str] = []
    for one in conversations:
        questions = [turn.content for turn in one if turn.role != "assistant"]
        answers = [turn.content for turn in one if turn.role == "assistant"]
        asked += ["\n".join(questions)] if questions else []
        said += ["\n".join(answers)] if answers else []
    return asked, said
