"""The reward model as a stage: preferences in, DIR/reward/model out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from keel.data.chat import fitting
from keel.diagnostics.winrate import interval
from keel.errors import UserError
from keel.stages.cast import reward_to_train
from keel.stages.fingerprints import of_rows
from keel.stages.inputs import model_read
from keel.stages.left_out import left_out, unfit
from keel.stages.lineage import Input
from keel.stages.preferences import preferences_of
from keel.stages.seen import fingerprint, remember
from keel.stages.workspace import Facts, Workspace
from keel.training.comparisons import Comparisons, comparisons, together
from keel.training.order import count_steps, split
from keel.training.reward import Fit, fit_reward, measure


def reward_modelling_reads(space: Workspace) -> dict[str, Input]:
    """What the reward model follows from beside settings."""
    return {
        **model_read(space, space.supervised, "model"),
        "preferences": Input("preferences", of_rows(preferences_of(space))),
    }


def reward_modelling(space: Workspace) -> None:
    """Fit a reward model, on top of the supervised one, to the run's preferences, and write it down."""
    settings, seed = space.recipe.reward, space.recipe.seed
    preferences = preferences_of(space)
    chat = space.chat(space.supervised)
    rows = preferences if settings.limit is None else preferences[: settings.limit]
    made = fitting(lambda row: comparisons(chat, row), rows)
    prompts = together(one for _, one in made)
    space.display.note(chat.truncation.summary())
    if not prompts:
        raise UserError(f"no pair fits into model.max_length {chat.max_length}; allow more tokens")
    training, held_out = split(prompts, settings.held_out, seed, lambda one: one.tree.trunk)
    total = count_steps(len(training), settings.batch_size, settings.epochs, settings.max_steps)
    with space.stage("reward", total) as facts, space.record("reward") as record:
        model = reward_to_train(space)
        with space.checkpoints("reward") as kept:
            crowd = fit_reward(model, training, held_out, settings, seed, record, kept)
        model.save(space.model("reward"), chat.tokenizer)
        trained = {one.tree.trunk for one in training}
        remember(space, "reward", (fingerprint(row.prompt) for row, one in made if one.tree.trunk in trained))
        facts |= {"prompts": len(trained), "pairs": sum(len(one.pairs) for one in training)}
        if crowd is not None:
            facts |= {"annotators": {name: asdict(one) for name, one in crowd.estimated().items()}}
        facts |= {"held_out_pairs": sum(len(one.pairs) for one in held_out)}
        facts |= {"texts": sum(len(one.tree.branches) for _, one in made), "truncated": chat.truncation.truncated}
        facts |= left_out(len(rows), unfit(chat.truncation))
        if any(pair.probability != 0.5 for one in held_out for pair in one.pairs):
            facts |= _fit(measure(model, held_out, settings.micro_tokens), held_out)


def _fit(fit: Fit, held_out: Sequence[Comparisons]) -> Facts:
    """How good the model is on unseen pairs; the interval of its accuracy knows which of them have one prompt."""
    outcomes = [float(one) for right in fit.right for one in right]
    asked = [one.tree.trunk for one, right in zip(held_out, fit.right, strict=True) for _ in right]
    low, high = interval(outcomes, asked)
    return {
        "accuracy": fit.accuracy,
        "accuracy_low": low,
        "accuracy_high": high,
        "loss": fit.loss,
        "calibration": fit.calibration,
        "calibration_bins": [list(one) for one in fit.bins],
    }
