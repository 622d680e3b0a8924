"""The reward models that a recipe's terms name, and how each reads what the policy has written."""

from __future__ import annotations

from pathlib import Path

from transformers import PreTrainedTokenizerBase

from keel.config import RewardTerm
from keel.data.chat import Chat
from keel.errors import UserError
from keel.models.load import load_tokenizer
from keel.rollout.score import Reader, as_sampled, retold
from keel.stages.workspace import Workspace


def folder_of(space: Workspace, term: RewardTerm) -> Path:
    """Where the model of a term lies; UserError where it is the run's own and is not there yet."""
    if term.path is not None:
        return Path(term.path)
    folder = space.model("reward")
    if not folder.is_dir():
        raise UserError(f"rl.reward: there is no reward model in {folder}; train one first, or name one by its path")
    return folder


def same_tokens(chat: Chat, other: PreTrainedTokenizerBase) -> bool:
    """Whether a reward model's tokenizer says the same of every text; without a template it takes the policy's."""
    own = chat.tokenizer
    return bool(own.get_vocab() == other.get_vocab() and other.chat_template in (None, own.chat_template))


def reading(space: Workspace, chat: Chat, folder: Path) -> tuple[Reader, Chat]:
    """How the reward model in a folder reads the answers of a policy that has this chat, and its own chat.

    One with other tokens reads by its own template, or by the recipe's where it has none.
    """
    tokenizer = load_tokenizer(folder)
    if same_tokens(chat, tokenizer):
        return as_sampled, chat
    template = None if tokenizer.chat_template else space.recipe.model.template
    own = Chat(tokenizer, None, None if template == "auto" else template)
    return retold(own), own
