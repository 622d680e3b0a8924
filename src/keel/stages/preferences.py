"""Preferences: pairs of the supervised model's answers, compared by people, in the run's database.

In an embedded task the people are simulated; with `preferences.labels` they are columns of the user's own table. Either
way the database is the same, and what the reward model learns from is read back from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from math import comb

import numpy as np

from keel.config import Preferences as Settings
from keel.data.formats import Rows
from keel.errors import UserError
from keel.preferences.aggregate import Aggregate, majority, mean, to_preferences
from keel.preferences.agreement import Estimate, ceiling, measure
from keel.preferences.assign import Overlap
from keel.preferences.dawid_skene import dawid_skene
from keel.preferences.importing import import_labels
from keel.preferences.judgement import Answer, Item, Votes, collect
from keel.preferences.simulate import simulate
from keel.preferences.store import PreferenceStore
from keel.stages.answers import Asked, answerable, answers
from keel.stages.fingerprints import of_rows
from keel.stages.inputs import model_read
from keel.stages.left_out import left_out
from keel.stages.lineage import Input
from keel.stages.workspace import Facts, Workspace
from keel.types import Message, Preference, Prompt, Ranking, Rollout

DATABASE = "preferences.db"
_STEP = 1 / 3
"""Units of reward per step of stated strength: 1, ⅔, ⅓, as in Llama 2 (2307.09288)."""


def check_collecting(space: Workspace) -> None:
    """UserError where there is nobody to judge, a file cannot be read, or people's judgements would be lost."""
    recipe = space.recipe
    if recipe.reward.data is not None:
        space.sources.comparisons(recipe.reward.data, recipe.reward.columns)
        return
    if recipe.preferences.labels.data is not None:
        space.sources.labels(recipe.preferences.labels)
    elif space.task is None:
        raise UserError("there are no people to judge: give reward.data (pairs) or preferences.labels.data (verdicts)")
    elif recipe.preferences.prompts is not None:
        space.sources.prompts(recipe.preferences.prompts, recipe.preferences.columns)
    _keep_people(space)


def collecting_reads(space: Workspace) -> dict[str, Input]:
    """What the preferences follow from beside settings."""
    recipe = space.recipe
    if recipe.reward.data is not None:
        rows = space.sources.comparisons(recipe.reward.data, recipe.reward.columns)
        return {"pairs": Input(recipe.reward.data, of_rows(rows))}
    if recipe.preferences.labels.data is not None:
        labels = space.sources.labels(recipe.preferences.labels)
        return {"labels": Input(recipe.preferences.labels.data, of_rows([*labels.items, *labels.judgements]))}
    prompts = Input(recipe.preferences.prompts or "the task's own", of_rows(_prompts(space)))
    return {**model_read(space, space.supervised, "model"), "prompts": prompts}


def collect_preferences(space: Workspace) -> None:
    """Gather what the reward model is to learn from: pairs and rankings, labels, or simulated judgements."""
    recipe = space.recipe
    if recipe.reward.data is not None:
        with space.stage("preferences", None) as facts:
            rows = space.sources.comparisons(recipe.reward.data, recipe.reward.columns)
            pairs = sum(comb(len(row.completions), 2) if isinstance(row, Ranking) else 1 for row in rows)
            facts |= {"pairs": pairs, **left_out(rows.read, [one.reason for one in rows.dropped])}
        return
    with PreferenceStore.open(_database(space)) as store, space.stage("preferences", None) as facts:
        if recipe.preferences.labels.data is not None:
            import_labels(store, space.sources.labels(recipe.preferences.labels))
        else:
            facts |= _judge(space, store)
        votes = collect(store.judgements())
        aggregate = aggregated(votes, recipe.preferences)
        preferences = to_preferences(store.items(), aggregate, recipe.preferences.ties, _STEP)
        if not preferences:
            raise UserError("no pair has a winner, so there is nothing to learn; set --preferences.ties keep")
        facts |= {"pairs": len(preferences), **findings(votes, aggregate, recipe.seed)}


def preferences_are_there(space: Workspace) -> bool:
    """Whether `preferences_of` has something to read."""
    return space.recipe.reward.data is not None or (space.directory / DATABASE).is_file()


def preferences_of(space: Workspace) -> Sequence[Preference | Ranking]:
    """What was gathered: the user's own pairs and rankings, or what the run's database holds, brought together."""
    recipe = space.recipe
    if recipe.reward.data is not None:
        return space.sources.comparisons(recipe.reward.data, recipe.reward.columns).items
    with PreferenceStore.open(str(space.directory / DATABASE)) as store:
        aggregate = aggregated(collect(store.judgements()), recipe.preferences)
        return to_preferences(store.items(), aggregate, recipe.preferences.ties, _STEP)


def prompts_to_compare(space: Workspace) -> Asked:
    """The prompts whose answers are compared, at least `preferences.count` of them where there are so many."""
    return answerable(space, "preferences", _prompts(space), space.recipe.preferences.sampling)


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
    decided = agreement.observed_without_ties
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
        "ceiling": _ceiling(decided.value),
        "ceiling_low": _ceiling(decided.low),
        "ceiling_high": _ceiling(decided.high),
        "reliability": {name: _number(value) for name, value in reliability},
    }


def _estimate(estimate: Estimate) -> dict[str, float | None]:
    return {"value": _number(estimate.value), "low": _number(estimate.low), "high": _number(estimate.high)}


def _ceiling(agreement: float) -> float | None:
    """The best accuracy that an agreement allows, where it is known."""
    return round(ceiling(agreement).accuracy, 4) if np.isfinite(agreement) else None


def _number(value: float) -> float | None:
    return round(value, 4) if np.isfinite(value) else None


def _database(space: Workspace) -> str:
    """A fresh database in the run's folder."""
    path = space.directory / DATABASE
    space.directory.mkdir(parents=True, exist_ok=True)
    for part in (path, path.with_name(f"{DATABASE}-wal"), path.with_name(f"{DATABASE}-shm")):
        part.unlink(missing_ok=True)
    return str(path)


def _keep_people(space: Workspace) -> None:
    """UserError where the folder's database holds what people said: a program can judge anew, people cannot."""
    path = space.directory / DATABASE
    if not path.exists():
        return
    with PreferenceStore.open(path) as store:
        people = {name for name, role in store.annotators().items() if role not in ("simulated", "imported")}
        said = sum(judgement.annotator in people for judgement in store.history())
    if said:
        raise UserError(
            f"{path} holds {said} judgements by people, which this stage would replace; choose another --dir, or move "
            "the file away"
        )


def _judge(space: Workspace, store: PreferenceStore) -> Facts:
    """Ask: the supervised model answers every prompt several times, and every pair of different answers is an item.

    Returns how many prompts were answered, and the facts about those that were left out.
    """
    settings, task = space.recipe.preferences, space.task
    assert task is not None
    asked = prompts_to_compare(space)
    if asked.note:
        space.display.note(asked.note)
    prompts = asked.prompts[: settings.count]
    rollouts = answers(space, space.supervised, prompts, settings.sampling, settings.samples_per_prompt)
    items = _pairs(rollouts, space.name(space.supervised))
    if not items:
        raise UserError(
            "preferences.sampling: the answers to a prompt are all the same, so there is nothing to compare; raise "
            "--preferences.sampling.temperature"
        )
    store.add_items(items)
    people = task.crowd(settings.annotators, settings.spammers, settings.noise)
    simulate(store, people, task.features, Overlap(settings.overlap, settings.votes), space.recipe.seed)
    return {"prompts": len(prompts), **asked.left_out}


def _prompts(space: Workspace) -> Rows[Prompt]:
    settings, task = space.recipe.preferences, space.task
    if settings.prompts is not None:
        return space.sources.prompts(settings.prompts, settings.columns)
    assert task is not None
    return Rows.made(task.prompts(settings.count, space.recipe.seed, "preferences"), "preferences")


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
