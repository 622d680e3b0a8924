"""Which of the candidate pairs are put before annotators, where there are more than may be judged."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from keel.data.place import place
from keel.errors import UserError
from keel.models.ensemble import Ensemble
from keel.models.load import inspect_reward_model
from keel.preferences.assign import seeded
from keel.preferences.judgement import Item
from keel.preferences.select import Choice, choose, policy
from keel.stages.cast import frozen_reward
from keel.stages.judges import inspect_judge, members_of, reading
from keel.stages.workspace import Facts, Workspace
from keel.training.records import Lines
from keel.training.reward import scores

_FILE = "chosen.jsonl"


def check_selecting(space: Workspace) -> None:
    """UserError where the choice is by an ensemble, and there is none."""
    settings = space.recipe.preferences
    if not reads_candidates(space):
        return
    if settings.scorer is None:
        raise UserError(
            f"preferences.select: {settings.select} reads the members of a reward model; name one with "
            "--preferences.scorer, set --preferences.select random, or go round by round with `keel loop`, which has "
            "that of the round before"
        )
    inspect_judge(place(settings.scorer))
    members = members_of(space, settings.scorer)
    if members < 2:
        raise UserError(
            f"preferences.scorer {settings.scorer} is one reward model, and one cannot disagree with itself; train it "
            "with --reward.members 3 or more"
        )


def reads_candidates(space: Workspace) -> bool:
    """Whether the members of a reward model are asked about the candidates, where there are more than the budget."""
    return space.recipe.preferences.select != "random"


def selected(space: Workspace, items: Sequence[Item]) -> list[Item]:
    """At most `preferences.budget` of the items, in their own order; DIR/preferences/chosen.jsonl has how each came in.

    Drawn one after the other without replacement by the recipe's strategy, with its random share
    (`keel.preferences.select`). A line is a draw: item, policy, propensity, and how many were left.
    """
    settings, seed = space.recipe.preferences, space.recipe.seed
    path = space.directory / "preferences" / _FILE
    path.unlink(missing_ok=True)
    if settings.budget is None or len(items) <= settings.budget:
        return list(items)
    answers, pairs, prompt = _candidates(items)
    if not reads_candidates(space):
        read = np.zeros((1, len(answers)))
    else:
        read = _read(space, place(str(settings.scorer)), items, answers)
    way = policy(settings.select, read, pairs, prompt, settings.random_share)
    choices = choose(way, settings.budget, seeded(seed, "select", settings.select), np.ones(len(items), dtype=bool))
    _write(path, items, choices)
    return [items[at] for at in sorted(one.candidate for one in choices)]


def selection(space: Workspace) -> Facts:
    """How many candidates there were and how many of them were chosen, by what is written of it; nothing where all
    were."""
    path = space.directory / "preferences" / _FILE
    if not path.is_file():
        return {}
    draws = path.read_text(encoding="utf-8").splitlines()
    first = json.loads(draws[0])
    return {"candidates": first["left"], "selected": len(draws), "selection": first["policy"]}


def _candidates(items: Sequence[Item]) -> tuple[list[tuple[int, int]], Int[np.ndarray, "C 2"], Int[np.ndarray, " S"]]:
    """The different answers [S], each as (item, position) where it stands first; the pairs [C, 2] of them, and the
    prompt of each. An item that ranks more than two is a candidate by its first two answers: the choice among those is
    random, and reads none (`keel.config.Preferences` refuses another)."""
    places: dict[tuple[object, str], int] = {}
    prompts: dict[object, int] = {}
    answers: list[tuple[int, int]] = []
    of: list[int] = []
    pairs = np.zeros((len(items), 2), dtype=int)
    for number, item in enumerate(items):
        for side in (0, 1):
            key = (item.prompt, item.answers[side].messages[-1].content)
            if key not in places:
                places[key] = len(answers)
                answers.append((number, side))
                of.append(prompts.setdefault(item.prompt, len(prompts)))
            pairs[number, side] = places[key]
    return answers, pairs, np.array(of)


def _read(
    space: Workspace, folder: Path, items: Sequence[Item], answers: Sequence[tuple[int, int]]
) -> Float[np.ndarray, "M S"]:
    """What each member of the reward model says of each answer."""
    judge = frozen_reward(space, folder)
    assert isinstance(judge, Ensemble)
    _, chat = reading(space, space.chat(space.supervised), inspect_reward_model(folder))
    trees = [chat.completion(items[item].prompt, items[item].answers[side].messages) for item, side in answers]
    budget = space.recipe.reward.micro_tokens
    return np.stack([scores(member, trees, budget).double().numpy() for member in judge.members])


def _write(path: Path, items: Sequence[Item], choices: Sequence[Choice]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with Lines(path) as lines:
        lines.write(*({"item": items[one.candidate].id, **_told(one)} for one in choices))


def _told(choice: Choice) -> dict[str, object]:
    return {name: value for name, value in asdict(choice).items() if name != "candidate"}
