"""Supervised fine-tuning as a stage: demonstrations in, DIR/sft/model out."""

from __future__ import annotations

from itertools import chain

from keel.data.chat import fitting
from keel.data.formats import Rows
from keel.errors import UserError
from keel.stages.cast import policy_to_train
from keel.stages.fingerprints import of_rows
from keel.stages.inputs import model_read
from keel.stages.left_out import left_out, unfit
from keel.stages.lineage import Input
from keel.stages.seen import fingerprint, questions, remember
from keel.stages.workspace import Workspace
from keel.training.order import count_steps, split
from keel.training.sft import fine_tune, mean_nll
from keel.types import Demonstration

OWN = 2000
"""Demonstrations that an embedded task writes where the recipe sets no limit."""


def check_fine_tuning(space: Workspace) -> None:
    """UserError where the demonstrations cannot be read."""
    demonstrations(space)


def fine_tuning_reads(space: Workspace) -> dict[str, Input]:
    """What the fine-tuned model follows from beside settings."""
    return {
        **model_read(space, space.base, "model"),
        "demonstrations": Input(space.recipe.sft.data or "the task's own", of_rows(demonstrations(space))),
    }


def fine_tuning(space: Workspace) -> None:
    """Train the base model on demonstrations and write it down."""
    settings, seed = space.recipe.sft, space.recipe.seed
    chat = space.chat(space.base)
    rows = demonstrations(space)
    made = fitting(lambda row: chat.demonstration(row.messages), rows)
    trees = [tree for _, tree in made]
    space.display.note(chat.truncation.summary())
    if not trees:
        raise UserError(f"no demonstration fits into model.max_length {chat.max_length}; allow more tokens")
    training, held_out = split(trees, settings.held_out, seed, lambda tree: tree.trunk)
    total = count_steps(len(training), settings.batch_size, settings.epochs, settings.max_steps)
    with space.stage("sft", total) as facts, space.record("sft") as record:
        policy = policy_to_train(space)
        with space.checkpoints("sft") as kept:
            fine_tune(policy, training, held_out, settings, seed, record, kept)
        policy.save(space.model("sft"), chat.tokenizer)
        trained = {tree.trunk for tree in training}
        asked = chain.from_iterable(questions(row.messages) for row, tree in made if tree.trunk in trained)
        remember(space, "sft", map(fingerprint, asked))
        facts |= {
            "base": space.recipe.model.path,
            "demonstrations": len(training),
            "held_out": len(held_out),
            "held_out_loss": mean_nll(policy, held_out, settings.micro_tokens) if held_out else None,
            "truncated": chat.truncation.truncated,
            "texts": len(trees),
            **left_out(rows.read, [*(one.reason for one in rows.dropped), *unfit(chat.truncation)]),
        }


def demonstrations(space: Workspace) -> Rows[Demonstration]:
    """The user's demonstrations, or the task's own."""
    settings = space.recipe.sft
    if settings.data is not None:
        return space.sources.demonstrations(settings.data, settings.columns).first(settings.limit)
    if space.task is None:
        raise UserError("sft.data is missing: give demonstrations with --sft.data FILE")
    return Rows.made(space.task.demonstrations(settings.limit or OWN, space.recipe.seed), "sft")
