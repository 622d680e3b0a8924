"""Answers of a model to prompts, as the stages after training need them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from keel.config import Sampling as Settings
from keel.models.load import load_language_model
from keel.rollout.episode import converse
from keel.rollout.generator import Sampling
from keel.rollout.local import LocalGenerator
from keel.stages.workspace import Workspace
from keel.types import Prompt, Rollout

BATCH = 256
"""Prompts that are answered at once."""


def answers(space: Workspace, path: Path, prompts: Sequence[Prompt], settings: Settings, samples: int) -> list[Rollout]:
    """`samples` answers to each prompt by the model in `path`, prompt by prompt; shown as they come."""
    chat = space.chat(path)
    generator = LocalGenerator(load_language_model(path, torch.float32, space.device), chat.tokenizer)
    sampling = Sampling(**settings.model_dump())
    rollouts: list[Rollout] = []
    for start in range(0, len(prompts), BATCH):
        part = prompts[start : start + BATCH]
        rollouts += converse(part, generator, chat, sampling, space.recipe.seed, 0, samples)
        space.display.step(len(rollouts), {})
    return rollouts
