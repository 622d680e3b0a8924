"""Preferences: pairs of the supervised model's answers, compared by people, in the run's database.

In an embedded task the people are simulated; with `preferences.labels` they are columns of the user's own table. Either
way the database is the same, and what the reward model learns from is read back from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from keel.config import Labels
from keel.config import Preferences as Settings
from keel.data.formats import read_preferences, read_prompts
from keel.errors import UserError
from keel.preferences.aggregate import Aggregate, majority, mean, to_preferences
from keel.preferences.agreement import Estimate, ceiling, measure
from keel.preferences.assign import Overlap
from keel.preferences.dawid_skene import dawid_skene
from keel.preferences.importing import Columns, import_labels
from keel.preferences.judgement import Answer, Item, Votes, collect
from keel.preferences.simulate import simulate
from keel.preferences.store import PreferenceStore
from keel.stages.answers import answerable, answers
from keel.stages.workspace import Facts, Workspace
from keel.types import Message, Preference, Prompt, Rollout

_STEP = 1 / 3
"""Units of reward per step of stated strength: 1, ⅔, ⅓, as in Llama 2 (2307.09288)."""


def collect_preferences(space: Workspace) -> list[Preference]:
    """What the reward model is to learn from: the user's own pairs, their labels, or simulated judgements."""
    recipe = space.recipe
    if recipe.reward.data is not None:
        with space.stage("preferences", None) as facts:
            rows = read_preferences(recipe.reward.data, recipe.reward.columns)
            space.display.note(rows.summary())
            facts |= {"pairs": len(rows), "read": rows.read, "dropped": len(rows.dropped)}
        return list(rows.items)
    with PreferenceStore.open(_database(space)) as store, space.stage("preferences", None) as facts:
        if recipe.preferences.labels.data is not None:
            _import(store, recipe.preferences.labels)
        else:
            _judge(space, store)
        votes = collect(store.judgements())
        aggregate = aggregated(votes, recipe.preferences)
        preferences = to_preferences(store.items(), aggregate, recipe.preferences.ties, _STEP)
        if not preferences:
            raise UserError("no pair has a winner, so there is nothing to learn; set --preferences.ties keep")
        facts |= {"pairs": len(preferences), **findings(votes, aggregate, recipe.seed)}
    return preferences


def aggregated(votes: Votes, settings: Settings) -> Aggregate:
    """The votes, brought together by the method of the recipe."""
    match settings.aggregate:
        case "majority":
            return majority(votes)
        case "mean":
            return mean(votes)
        case "dawid-skene":
            return dawid_skene(votes)


def findings(votes: Votes, aggregate: Aggregate, seed: int) -> Facts:
    """What the judgements say about the annotators, for reports."""
    agreement = measure(votes, seed=seed)
    decided = agreement.observed_without_ties.value
    reliability = zip(votes.annotators, aggregate.reliability.tolist(), strict=True)
    return {
        "judgements": len(votes.pair),
        "annotators": len(votes.annotators),
        "shared_pairs": agreement.items,
        "ties": int(aggregate.tied.sum()),
        "agreement": _estimate(agreement.observed),
        "agreement_without_ties": _estimate(agreement.observed_without_ties),
        "unanimous": _estimate(agreement.unanimous),
        "cohen": _estimate(agreement.cohen),
        "fleiss": _estimate(agreement.fleiss),
        "alpha": _estimate(agreement.alpha),
        "ac1": _estimate(agreement.ac1),
        "ceiling": round(ceiling(decided).accuracy, 4) if np.isfinite(decided) else None,
        "reliability": {name: _number(value) for name, value in reliability},
    }


def _estimate(estimate: Estimate) -> dict[str, float | None]:
    return {"value": _number(estimate.value), "low": _number(estimate.low), "high": _number(estimate.high)}


def _number(value: float) -> float | None:
    return round(value, 4) if np.isfinite(value) else None


def _database(space: Workspace) -> str:
    """A fresh database in the run's folder."""
    path = space.directory / "preferences.db"
    space.directory.mkdir(parents=True, exist_ok=True)
    for part in (path, path.with_name("preferences.db-wal"), path.with_name("preferences.db-shm")):
        part.unlink(missing_ok=True)
    return str(path)


def _import(store: PreferenceStore, labels: Labels) -> None:
    meanings = dict[str | int, int](labels.values.items())
    columns = Columns(labels.prompt, labels.first, labels.second, labels.annotators, meanings, labels.id)
    import_labels(store, Path(str(labels.data)), columns)


def _judge(space: Workspace, store: PreferenceStore) -> None:
    """Ask: the supervised model answers every prompt several times, and every pair of different answers is an item."""
    settings, task = space.recipe.preferences, space.task
    if task is None:
        raise UserError("there are no people to judge: give reward.data (pairs) or preferences.labels.data (verdicts)")
    prompts = _prompts(space)
    rollouts = answers(space, space.supervised, prompts, settings.sampling, settings.samples_per_prompt)
    items = _pairs(rollouts, _name(space))
    if not items:
        raise UserError(
            "preferences.sampling: the answers to a prompt are all the same, so there is nothing to compare; raise "
            "--preferences.sampling.temperature"
        )
    store.add_items(items)
    people = task.crowd(settings.annotators, settings.spammers, settings.noise)
    simulate(store, people, task.features, Overlap(settings.overlap, settings.votes), space.recipe.seed)


def _name(space: Workspace) -> str:
    """The supervised model's folder, from the run's folder where it lies in there."""
    path = space.supervised
    return str(path.relative_to(space.directory) if path.is_relative_to(space.directory) else path)


def _prompts(space: Workspace) -> Sequence[Prompt]:
    settings, task = space.recipe.preferences, space.task
    if settings.prompts is not None:
        rows = read_prompts(settings.prompts, settings.columns)
        space.display.note(rows.summary())
        return answerable(space, space.chat(space.supervised), rows.items)[: settings.count]
    assert task is not None
    return task.prompts(settings.count, space.recipe.seed, "preferences")


def _pairs(rollouts: Sequence[Rollout], model: str) -> list[Item]:
    """One item for each pair of different answers to one prompt; equal answers are nothing to judge."""
    answers: dict[str, list[Rollout]] = {}
    for rollout in rollouts:
        answers.setdefault(rollout.prompt.id, []).append(rollout)
    items = []
    for prompt, group in answers.items():
        for i, j in combinations(range(len(group)), 2):
            if group[i].text.strip() and group[j].text.strip() and group[i].text != group[j].text:
                both = tuple(
                    Answer((Message("assistant", one.text),), model, one.version) for one in (group[i], group[j])
                )
                items.append(Item(f"{prompt}:{i}-{j}", group[i].prompt.messages, both))
    return items
