"""The reward model as a stage: preferences in, DIR/reward/model out. It may be several models, see
`keel.models.ensemble`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import get_args

import torch
from jaxtyping import Float
from torch import Tensor

from keel.config import Aggregated
from keel.data.chat import fitting
from keel.diagnostics.winrate import interval
from keel.errors import UserError
from keel.maths.ensembles import disagreement
from keel.models.ensemble import Ensemble
from keel.models.members import Members
from keel.models.roles import Judge
from keel.stages.cast import rewards_to_train
from keel.stages.fingerprints import of_rows
from keel.stages.inputs import model_read
from keel.stages.judges import judging, way_of
from keel.stages.left_out import left_out, unfit
from keel.stages.lineage import Input
from keel.stages.preferences import preferences_of, preferences_of_labels
from keel.stages.seen import fingerprint, remember
from keel.stages.workspace import Facts, Workspace
from keel.training.comparisons import Comparisons, comparisons, require_winners, together
from keel.training.members import seeds_of
from keel.training.order import count_steps, split
from keel.training.reward import Fit, fit_members, fit_of, measure, scores
from keel.types import Preference, Ranking


def check_reward_modelling(space: Workspace) -> None:
    """UserError where the user's pairs, or the verdicts of their people, are not what the loss learns from."""
    settings = space.recipe.reward
    if settings.loss != "plackett-luce":
        return
    if settings.data is not None:
        rows: Sequence[Preference | Ranking] = space.sources.comparisons(settings.data, settings.columns).items
    elif space.recipe.preferences.labels.data is not None:
        rows = preferences_of_labels(space)
    else:
        return
    _require_winners(space, (row.probability for row in rows[: settings.limit] if isinstance(row, Preference)))


def reward_modelling_reads(space: Workspace) -> dict[str, Input]:
    """What the reward model follows from beside settings."""
    return {
        **model_read(space, space.supervised, "model"),
        "preferences": Input("preferences", of_rows(preferences_of(space))),
    }


def reward_modelling(space: Workspace) -> None:
    """Fit a reward model, or several, on top of the supervised one, to the run's preferences, and write it down."""
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
    if settings.loss == "plackett-luce":
        _require_winners(space, (pair.probability for one in prompts for pair in one.pairs))
        if all(len(ranking) == 2 for one in prompts for ranking in one.rankings):
            space.display.note("no row ranks more than two answers, so reward.loss: plackett-luce is that of pairs")
    total = settings.members * count_steps(len(training), settings.batch_size, settings.epochs, settings.max_steps)
    with space.stage("reward", total) as facts, space.record("reward") as record:
        orders = seeds_of(seed, settings.members)
        members = rewards_to_train(space, [seed] * len(orders) if settings.combine == "weights" else orders)
        with space.checkpoints("reward") as kept:
            crowd = fit_members(members.roles, training, held_out, settings, orders, record, kept)
        said = [scores(one, [row.tree for row in held_out], settings.micro_tokens) for one in members.roles if held_out]
        judge = _judge(space, members, training)
        judge.save(space.model("reward"), chat.tokenizer)
        trained = {one.tree.trunk for one in training}
        remember(space, "reward", (fingerprint(row.prompt) for row, one in made if one.tree.trunk in trained))
        facts |= {"prompts": len(trained), "pairs": sum(len(one.pairs) for one in training)}
        if crowd is not None:
            facts |= {"annotators": {name: asdict(one) for name, one in crowd.estimated().items()}}
        facts |= {"held_out_pairs": sum(len(one.pairs) for one in held_out)}
        facts |= {"texts": sum(len(one.tree.branches) for _, one in made), "truncated": chat.truncation.truncated}
        facts |= left_out(len(rows), unfit(chat.truncation))
        if settings.members > 1:
            facts |= {"combine": settings.combine, "members": settings.members}
        if any(pair.probability != 0.5 for one in held_out for pair in one.pairs):
            facts |= _facts(space, judge, torch.stack(said), held_out)


def _require_winners(space: Workspace, probabilities: Iterable[float]) -> None:
    require_winners(probabilities, "votes" if space.recipe.reward.data is None else "rows")


def _facts(space: Workspace, judge: Judge, said: Float[Tensor, "E B"], held_out: Sequence[Comparisons]) -> Facts:
    """How good what the members have become is on unseen pairs, and each of them by itself; `said` are their scores."""
    settings, term = space.recipe.reward, space.recipe.own_term
    if settings.members == 1:
        return _fit(fit_of(said[0], held_out), held_out)
    alone = {"alone": [_plain(fit_of(one, held_out)) for one in said]}
    if not isinstance(judge, Ensemble):
        return {**_fit(measure(judge, held_out, settings.micro_tokens), held_out), **alone}
    centred = said - torch.tensor(judge.zeros)[:, None]
    ways = {way: way_of(term.model_copy(update={"aggregate": way})) for way in get_args(Aggregated)}
    return {
        **_fit(fit_of(judge.together(centred), held_out), held_out),
        **alone,
        "aggregate": term.aggregate,
        "penalty": term.penalty,
        "aggregates": {way: _plain(fit_of(one(centred), held_out)) for way, one in ways.items()},
        "disagreement": float(disagreement(centred).mean()),
    }


def _judge(space: Workspace, members: Members, training: Sequence[Comparisons]) -> Judge:
    """What the members are from here on: one model with the mean of their weights, or all, each from its own zero.

    The zero of a member is its mean score of the answers that it learnt from.
    """
    settings = space.recipe.reward
    if settings.members == 1:
        return members.roles[0]
    if settings.combine == "weights":
        return members.averaged()
    trees = [one.tree for one in training]
    zeros = [float(scores(one, trees, settings.micro_tokens).mean()) for one in members.roles]
    return judging(Ensemble(members.roles, tuple(zeros)), space.recipe.own_term)


def _plain(fit: Fit) -> dict[str, float]:
    return {"accuracy": fit.accuracy, "loss": fit.loss, "calibration": fit.calibration}


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
