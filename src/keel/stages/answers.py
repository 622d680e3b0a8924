"""Answers of a model to prompts, as the stages after training need them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from keel.config import Sampling as Settings
from keel.data.chat import fitting
from keel.data.formats import Rows
from keel.errors import UserError
from keel.models.load import context_length, load_language_model
from keel.rollout.episode import converse
from keel.rollout.generator import Sampling
from keel.rollout.local import LocalGenerator
from keel.stages.left_out import left_out
from keel.stages.workspace import Facts, Workspace
from keel.types import Prompt, Rollout

BATCH = 256
"""Prompts that are answered at once."""


@dataclass(frozen=True)
class Asked:
    """Prompts for a model to answer.

    `left_out` are the facts about those that were given beside them, `note` says the same where there are any.
    """

    prompts: tuple[Prompt, ...]
    left_out: Facts
    note: str


def answerable(
    space: Workspace, part: Literal["preferences", "rl", "evaluation"], rows: Rows[Prompt], sampling: Settings
) -> Asked:
    """The prompts that the supervised model can answer; the others are left out and counted.

    A prompt can be answered if it and `sampling.max_tokens` new tokens fit into the model's context, or else the
    sampler would refuse the whole batch, and into model.max_length, which bounds a prompt *with its answer*. `part` is
    the section of the recipe that they come from. Before that model is trained, the one that it is trained from is
    asked. UserError where none is left.
    """
    model = space.base if "sft" in space.stages and not space.supervised.is_dir() else space.supervised
    chat, context, new = space.chat(model), context_length(model), sampling.max_tokens
    limit, name, raised = space.recipe.model.max_length, "model.max_length", ", or raise --model.max_length"
    if context is not None and context < limit:
        limit, name, raised = context, "the model's context of", ""
    made = fitting(lambda one: chat.prompt(one.messages), rows)
    kept = tuple(prompt for prompt, tokens in made if len(tokens) + new <= limit)
    if not kept:
        raise UserError(
            f"{part}.prompts: no prompt leaves room for an answer of {new} tokens within {name} {limit}; lower "
            f"--{part}.sampling.max_tokens, give shorter prompts{raised}"
        )
    long = len(rows) - len(kept)
    note = f"{long} of {len(rows)} prompts left out: with an answer of {new} tokens too long for {name} {limit}"
    reasons = [*(one.reason for one in rows.dropped), *[f"too long for {name} {limit}, with its answer"] * long]
    return Asked(kept, left_out(rows.read, reasons), note if long else "")


def answers(
    space: Workspace, path: Path, prompts: Sequence[Prompt], settings: Settings, samples: int, before: int = 0
) -> list[Rollout]:
    """`samples` answers to each prompt by the model in `path`, prompt by prompt.

    Shown as they come, on top of the `before` answers that the stage has already.
    """
    chat = space.chat(path)
    model = load_language_model(path, torch.float32, space.device)
    generator = LocalGenerator(model, chat.tokenizer, products=space.dtype)
    sampling = Sampling(**settings.model_dump())
    rollouts: list[Rollout] = []
    for start in range(0, len(prompts), BATCH):
        part = prompts[start : start + BATCH]
        rollouts += converse(part, generator, chat, sampling, space.recipe.seed, 0, samples)
        space.display.step(before + len(rollouts), {})
    return rollouts
