"""What the terms of the reward say of a few answers, before any is normalised."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from keel.config import RewardTerm
from keel.data.chat import Chat
from keel.diagnostics.findings import Finding
from keel.errors import UserError
from keel.models.load import load_tokenizer
from keel.preflight.sample import Start
from keel.preflight.spread import failed, spread, to_come
from keel.rollout.score import LearnedReward, Scorer, as_sampled, load_reward_function, retold
from keel.stages.cast import frozen_reward
from keel.stages.workspace import Workspace
from keel.types import Rollout


def reward_spread(space: Workspace, start: Start, rollouts: Sequence[Rollout]) -> Iterator[Finding]:
    """The weighted sum of the recipe's terms over `rollouts`; a term that the run has yet to train is waited for."""
    terms = space.recipe.ppo.reward
    missing = [term for term in terms if term.kind == "model" and not term.path and not space.model("reward").is_dir()]
    if missing:
        yield to_come(["its reward model"])
        return
    totals = [0.0] * len(rollouts)
    try:
        for term in terms:
            for place, one in enumerate(_scorer(space, start.chat, term).score(rollouts)):
                totals[place] += term.weight * one.reward
    except UserError as error:  # a number that is none, too few numbers, a folder that is no reward model
        yield failed(str(error))
        return
    yield spread(totals, [one.prompt.id for one in rollouts], start.stand_in)


def _scorer(space: Workspace, chat: Chat, term: RewardTerm) -> Scorer:
    if term.kind == "function":
        return load_reward_function(str(term.path))
    folder = space.model("reward") if term.path is None else Path(term.path)
    tokenizer = load_tokenizer(folder)
    own = chat.tokenizer
    same = own.get_vocab() == tokenizer.get_vocab() and tokenizer.chat_template in (None, own.chat_template)
    template = None if tokenizer.chat_template or space.recipe.model.template == "auto" else space.recipe.model.template
    reader = as_sampled if same else retold(Chat(tokenizer, None, template))
    return LearnedReward(frozen_reward(space, folder), reader, budget=space.recipe.ppo.micro_tokens)
