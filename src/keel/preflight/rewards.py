"""What the terms of the reward say of a few answers, before any is normalised."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from keel.config import RewardTerm
from keel.data.chat import Chat
from keel.diagnostics.findings import Finding
from keel.errors import UserError
from keel.preflight.sample import Start
from keel.preflight.spread import failed, spread, to_come
from keel.rollout.score import LearnedReward, Scorer, load_reward_function
from keel.stages.cast import frozen_reward
from keel.stages.judges import folder_of, judging, reading
from keel.stages.workspace import Workspace
from keel.types import Rollout


def reward_spread(space: Workspace, start: Start, rollouts: Sequence[Rollout]) -> Iterator[Finding]:
    """The weighted sum of the recipe's terms over `rollouts`; a term that the run has yet to train is waited for."""
    terms = space.recipe.rl.reward
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
    folder = folder_of(space, term)
    reader, _ = reading(space, chat, folder)
    judge = judging(frozen_reward(space, folder), term)
    return LearnedReward(judge, reader, budget=space.recipe.rl.micro_tokens)
