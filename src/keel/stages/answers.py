"""Answers of a model to prompts, as the stages after training need them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from keel.config import Sampling as Settings
from keel.data.chat import Chat, fitting
from keel.errors import UserError
from keel.models.load import load_language_model
from keel.rollout.episode import converse
from keel.rollout.generator import Sampling
from keel.rollout.local import LocalGenerator
from keel.stages.workspace import Workspace
from keel.types import Prompt, Rollout

BATCH = 256
"""Prompts that are answered at once."""


def answerable(space: Workspace, chat: Chat, prompts: Sequence[Prompt]) -> list[Prompt]:
    """The prompts that leave room for an answer within model.max_length; how many are left out is said."""
    kept = [prompt for prompt, _ in fitting(lambda one: chat.prompt(one.messages), prompts)]
    if not kept:
        raise UserError(f"no prompt leaves room for an answer in model.max_length {chat.max_length}; allow more tokens")
    if len(kept) < len(prompts):
        left = len(prompts) - len(kept)
        space.display.note(
            f"{left} of {len(prompts)} prompts left out: too long for model.max_length {chat.max_length}"
        )
    return kept


def answers(
    space: Workspace, path: Path, prompts: Sequence[Prompt], settings: Settings, samples: int, before: int = 0
) -> list[Rollout]:
    """`samples` answers to each prompt by the model in `path`, prompt by prompt.

    Shown as they come, on top of the `before` answers that the stage has already.
    """
    chat = space.chat(path)
    generator = LocalGenerator(load_language_model(path, torch.float32, space.device), chat.tokenizer)
    sampling = Sampling(**settings.model_dump())
    rollouts: list[Rollout] = []
    for start in range(0, len(prompts), BATCH):
        part = prompts[start : start + BATCH]
        rollouts += converse(part, generator, chat, sampling, space.recipe.seed, 0, samples)
        space.display.step(before + len(rollouts), {})
    return rollouts
