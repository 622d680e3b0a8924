"""The reward model as a stage: preferences in, DIR/reward/model out."""

from __future__ import annotations

from collections.abc import Sequence

from keel.data.chat import fitting
from keel.diagnostics.winrate import win_rate
from keel.errors import UserError
from keel.stages.cast import reward_to_train
from keel.stages.left_out import left_out, unfit
from keel.stages.seen import fingerprint, remember
from keel.stages.workspace import Workspace
from keel.training.order import count_steps, split
from keel.training.records import Record
from keel.training.reward import Pair, fit_reward, measure
from keel.types import Preference


def reward_modelling(space: Workspace, preferences: Sequence[Preference]) -> None:
    """Fit a reward model, on top of the supervised one, and write it down."""
    settings, seed = space.recipe.reward, space.recipe.seed
    chat = space.chat(space.supervised)
    rows = preferences if settings.limit is None else preferences[: settings.limit]
    made = fitting(chat.preference, rows)
    pairs = [Pair(tree, row.probability, row.margin) for row, tree in made]
    space.display.note(chat.truncation.summary())
    if not pairs:
        raise UserError(f"no pair fits into model.max_length {chat.max_length}; allow more tokens")
    training, held_out = split(pairs, settings.held_out, seed, lambda pair: pair.tree.trunk)
    total = count_steps(len(training), settings.batch_size, settings.epochs, settings.max_steps)
    with space.stage("reward", total) as facts, Record(space.directory / "reward", space.display) as record:
        model = reward_to_train(space)
        fit_reward(model, training, held_out, settings, seed, record)
        model.save(space.model("reward"), chat.tokenizer)
        trained = {pair.tree.trunk for pair in training}
        remember(space, "reward", (fingerprint(row.prompt) for row, tree in made if tree.trunk in trained))
        facts |= {"pairs": len(training), "held_out_pairs": len(held_out), "truncated": chat.truncation.truncated}
        facts |= {"texts": 2 * len(pairs), **left_out(len(rows), unfit(chat.truncation))}
        if any(pair.probability != 0.5 for pair in held_out):
            fit = measure(model, held_out, settings.micro_tokens)
            right = round(fit.accuracy * fit.decided)
            interval = win_rate([1.0] * right + [0.0] * (fit.decided - right), [0.5] * fit.decided)
            facts |= {
                "accuracy": fit.accuracy,
                "accuracy_low": interval.low,
                "accuracy_high": interval.high,
                "loss": fit.loss,
                "calibration": fit.calibration,
                "calibration_bins": [list(one) for one in fit.bins],
            }
