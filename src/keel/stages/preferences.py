"""Preferences: answers of a model, compared by people, in the run's database.

In an embedded task the people are simulated, unless the recipe asks for real ones; with `preferences.labels` they are
columns of the user's own table. Either way the database is the same, and what the reward model learns from is read back
from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from itertools import combinations
from math import comb
from pathlib import Path
from types import ModuleType

import numpy as np

from keel.data.formats import Rows
from keel.data.place import DATABASE, place
from keel.errors import UserError
from keel.models.load import inspect_language_model
from keel.preferences.aggregate import STEP, Aggregate, to_preferences
from keel.preferences.agreement import Estimate, ceiling, measure
from keel.preferences.assign import Overlap
from keel.preferences.judgement import Answer, Item, Votes, collect
from keel.preferences.merging import merge
from keel.preferences.methods import aggregated
from keel.preferences.rounds import asked_for, note_asked
from keel.preferences.simulate import simulate
from keel.preferences.store import PreferenceStore
from keel.stages.answers import Asked, answerable, answers
from keel.stages.fingerprints import of_rows
from keel.stages.inputs import model_read
from keel.stages.left_out import left_out
from keel.stages.lineage import Input
from keel.stages.selecting import check_selecting, selected, selection
from keel.stages.workspace import Facts, Workspace
from keel.types import Message, Preference, Prompt, Ranking, Rollout

_FILES = (DATABASE, f"{DATABASE}-wal", f"{DATABASE}-shm")


def check_collecting(space: Workspace) -> None:
    """UserError where there is nobody to judge, a file cannot be read, or people's judgements would be lost."""
    recipe = space.recipe
    given = recipe.reward.data is not None or recipe.preferences.labels.data is not None
    if given and recipe.preferences.budget is not None:
        raise UserError("preferences.budget: these answers are judged already; use --reward.limit or fewer rows")
    if recipe.reward.data is not None:
        space.sources.comparisons(recipe.reward.data, recipe.reward.columns)
        return
    if recipe.preferences.labels.data is not None:
        space.sources.labels(recipe.preferences.labels)
    elif space.task is None and recipe.preferences.judges == "simulated":
        raise UserError(
            "there are no people to judge: give reward.data (pairs) or preferences.labels.data (verdicts), or set "
            "--preferences.judges people"
        )
    else:
        _prompts(space)
        if recipe.preferences.policy is not None:
            space.chat(inspect_language_model(_asked_model(space)))
        check_selecting(space)
    for path in recipe.preferences.earlier:
        _existing(path)
    if recipe.preferences.judges == "people":
        _page().check_serving(recipe.preferences)
    else:
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
    found = {**model_read(space, _asked_model(space), "model"), "prompts": prompts}
    if recipe.preferences.scorer is not None:
        found |= model_read(space, place(recipe.preferences.scorer), "scorer")
    return found


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
            merge(store.database, space.sources.labels(recipe.preferences.labels))
        else:
            facts |= _ask(space, store)
            facts |= _judge(space, store)
        votes = collect(store.counted())
        aggregate = aggregated(store.items(), votes, recipe.preferences.aggregate)
        preferences = to_preferences(store.items(), aggregate, recipe.preferences.ties, STEP)
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
    if not preferences_are_there(space):
        raise UserError(f"there are no preferences in {space.directory / DATABASE}; run the recipe again")
    found: list[Preference] = []
    for path in (*map(_existing, recipe.preferences.earlier), space.directory / DATABASE):
        with PreferenceStore.open(str(path)) as store:
            aggregate = aggregated(store.items(), collect(store.counted()), recipe.preferences.aggregate)
            found += to_preferences(store.items(), aggregate, recipe.preferences.ties, STEP)
    return found


def preferences_of_labels(space: Workspace) -> list[Preference]:
    """What the table of verdicts comes to, before anything is in a database."""
    settings = space.recipe.preferences
    labels = space.sources.labels(settings.labels)
    aggregate = aggregated(labels.items, collect(labels.judgements), settings.aggregate)
    return to_preferences(labels.items, aggregate, settings.ties, STEP)


def prompts_to_compare(space: Workspace) -> Asked:
    """The prompts whose answers are compared, at least `preferences.count` of them where there are so many."""
    return answerable(space, "preferences", _prompts(space), space.recipe.preferences.sampling)


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


def files_of_preferences(space: Workspace) -> list[Path]:
    """What collecting leaves beside its folder; pairs of the user's own, and what people said, stay where they are."""
    stays = space.recipe.reward.data is not None or space.recipe.preferences.judges == "people"
    return [] if stays else [space.directory / name for name in _FILES]


def _database(space: Workspace) -> str:
    """A fresh database in the run's folder; the one that is there where people are being asked just this."""
    space.directory.mkdir(parents=True, exist_ok=True)
    path = space.directory / DATABASE
    if space.recipe.preferences.judges == "people" and path.exists():
        with PreferenceStore.open(path) as store:
            if space.keys["preferences"] in asked_for(store.database):
                return str(path)
        _keep_people(space)
    for name in _FILES:
        (space.directory / name).unlink(missing_ok=True)
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


def _ask(space: Workspace, store: PreferenceStore) -> Facts:
    """A model answers every prompt several times, and every pair of different answers is an item (or all, ranked).

    Nothing is asked again where people are at it already. Returns how many prompts were answered, and the facts about
    those that were left out.
    """
    settings, key = space.recipe.preferences, space.keys.get("preferences", "")
    asked = prompts_to_compare(space)
    if asked.note:
        space.display.note(asked.note)
    prompts = asked.prompts[: settings.count]
    facts = {"prompts": len(prompts), **asked.left_out}
    if key in asked_for(store.database):
        return {**facts, **selection(space)}
    model = _asked_model(space)
    rollouts = answers(space, model, prompts, settings.sampling, settings.samples_per_prompt)
    make = _groups if settings.judges == "people" and settings.people.ranked else _pairs
    items = make(rollouts, space.name(model))
    if not items:
        raise UserError(
            "preferences.sampling: the answers to a prompt are all the same, so there is nothing to compare; raise "
            "--preferences.sampling.temperature"
        )
    store.add_items(selected(space, items))
    note_asked(store.database, key)
    return {**facts, **selection(space)}


def _judge(space: Workspace, store: PreferenceStore) -> Facts:
    """The verdicts: of people, for whom this waits, or of the task's simulated annotators."""
    settings, task = space.recipe.preferences, space.task
    if settings.judges == "people":
        found: Facts = _page().ask_people(space, store, store.items())
        return found
    assert task is not None
    people = task.crowd(settings.annotators, settings.spammers, settings.noise)
    simulate(store, people, task.features, Overlap(settings.overlap, settings.votes), space.recipe.seed)
    return {}


def _page() -> ModuleType:
    """The stage's half that serves; only who asks people waits for a web server to be imported."""
    return import_module("keel.stages.people")


def _asked_model(space: Workspace) -> Path:
    """The model whose answers are compared."""
    policy = space.recipe.preferences.policy
    return space.supervised if policy is None else place(policy)


def _existing(written: str) -> Path:
    """An earlier database; UserError where there is none, as one would be made."""
    path = place(written)
    if not path.is_file():
        raise UserError(f"preferences.earlier: there is no database {path}; name the preferences.db of a run")
    return path


def _prompts(space: Workspace) -> Rows[Prompt]:
    settings, task = space.recipe.preferences, space.task
    if settings.prompts is not None:
        rows = space.sources.prompts(settings.prompts, settings.columns)
        if settings.skip >= len(rows):
            raise UserError(
                f"preferences.skip {settings.skip}: {settings.prompts} has {len(rows)} prompts, so none is left"
            )
        return replace(rows, items=rows.items[settings.skip :])
    assert task is not None
    prompts = task.prompts(settings.skip + settings.count, space.recipe.seed, "preferences")
    return Rows.made(prompts[settings.skip :], "preferences")


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


def _groups(rollouts: Sequence[Rollout], model: str) -> list[Item]:
    """One item for the different answers to one prompt, where there are two or more."""
    answers: dict[str, dict[str, Rollout]] = {}
    for rollout in rollouts:
        if rollout.text.strip():
            answers.setdefault(rollout.prompt.id, {}).setdefault(rollout.text, rollout)
    return [
        Item(
            prompt,
            next(iter(group.values())).prompt.messages,
            tuple(Answer((Message("assistant", text),), model, one.version) for text, one in group.items()),
        )
        for prompt, group in answers.items()
        if len(group) > 1
    ]
