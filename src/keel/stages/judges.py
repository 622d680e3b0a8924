"""The reward models that a recipe's terms name, and how each reads what the policy has written."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from keel.config import RewardTerm
from keel.data.chat import Chat
from keel.errors import UserError
from keel.maths.ensembles import mean_score, uncertainty_weighted, worst_case
from keel.models.ensemble import Ensemble, Together, places
from keel.models.load import inspect_reward_model, load_tokenizer
from keel.models.roles import Judge
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


def members_of(space: Workspace, path: str | None) -> int:
    """How many reward models the folder holds; the run's own may be yet to come."""
    if path is None and ("reward" in space.stages or not space.model("reward").is_dir()):
        return space.recipe.reward.kept
    return len(places(inspect_reward_model(path or space.model("reward"))))


def judges_of(space: Workspace) -> list[int]:
    """The members of each term that is a model."""
    return [members_of(space, term.path) for term in space.recipe.rl.reward if term.kind == "model"]


def inspect_judge(folder: Path) -> None:
    """UserError where a reward model, or one of several, could not be loaded; only names are read."""
    for one in places(inspect_reward_model(folder)):
        inspect_reward_model(one.folder)


def judging(judge: Judge, term: RewardTerm) -> Judge:
    """A model with several members says what the term wants of them; one model says what it says."""
    return replace(judge, together=way_of(term)) if isinstance(judge, Ensemble) else judge


def way_of(term: RewardTerm) -> Together:
    """How a term's members become one score."""
    match term.aggregate:
        case "mean":
            return mean_score
        case "worst":
            return worst_case
        case "uncertainty":
            return partial(uncertainty_weighted, penalty=term.penalty)


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
