"""Which pair next: how many labels each way of choosing needs, to make as good a reward model as 2000 at random.

    python -m benchmarks.selection [--seeds 0 1 2 3 4] [--members 3] [--strategies …] [--out FOLDER]

For each seed: the base model of Town Desk is fine-tuned, and answers each of 1500 prompts four times; the candidates
are the pairs of different answers. Labels come in rounds, up to 250, 500, 1000, 1500 and 2000 of them: the first 250 at
random, and the same for every strategy; then a strategy chooses by the scores of an ensemble, trained anew on all
labels so far (members differ by head and order). A label is the vote of one of ten simulated annotators, the one that
falls to that pair, whoever asks for it. After each round the first member ranks two answers to every one of 600 unseen
prompts, as in `benchmarks.annotators`. What is reported is where each curve first reaches the accuracy that random
selection has with 2000 labels, on the line between rounds; by seed, and on the mean curve. Leaves selection.json in
FOLDER, and prints a table.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import get_args

import numpy as np
import torch

from benchmarks.annotators import accuracy_of, reward_model, unseen_pairs
from keel import pipeline
from keel.config import Recipe, load_recipe
from keel.data.forest import Tree
from keel.display import SilentDisplay
from keel.models.roles import ScalarRole
from keel.preferences.assign import seeded
from keel.preferences.select import Strategy, choose, policy
from keel.preferences.simulate import judge
from keel.process import set_up
from keel.stages.answers import answers
from keel.stages.workspace import Workspace, open_workspace
from keel.training.reward import scores
from keel.types import Conversation, Message, Preference

ROUNDS = (250, 500, 1000, 1500, 2000)
PROMPTS, ANSWERS, UNSEEN = 1500, 4, 600


@dataclass(frozen=True)
class Pool:
    """Answers [S] with their prompts' numbers, and the candidates [C, 2] by the answers' places."""

    prompts: tuple[Conversation, ...]
    texts: tuple[str, ...]
    prompt: np.ndarray
    pairs: np.ndarray


def recipe_of(seed: int, sft: Path | None) -> Recipe:
    """The demo's, with ten annotators who all read."""
    changes = {"seed": seed, "preflight": "off", "log.to": [], "preferences.spammers": 0, "preferences.annotators": 10}
    return load_recipe(
        Path("recipes") / "town_desk.yaml", changes if sft is None else {**changes, "model.path": str(sft)}
    )


def pool_of(space: Workspace, seed: int) -> Pool:
    """The candidates of a seed."""
    assert space.task is not None
    asked = space.task.prompts(PROMPTS, seed, "preferences")
    said = answers(space, space.supervised, asked, space.recipe.preferences.sampling, ANSWERS)
    places: dict[tuple[Conversation, str], int] = {}
    for one in said:
        if one.text.strip():
            places.setdefault((one.prompt.messages, one.text), len(places))
    numbers: dict[Conversation, int] = {}
    prompt = np.array([numbers.setdefault(messages, len(numbers)) for messages, _ in places])
    pairs = [
        two for number in range(len(numbers)) for two in combinations(np.flatnonzero(prompt == number).tolist(), 2)
    ]
    return Pool(tuple(one for one, _ in places), tuple(text for _, text in places), prompt, np.array(pairs))


def label(space: Workspace, pool: Pool, candidate: int, seed: int) -> Preference:
    """What the annotator to whom this pair falls says of it; it is the same whenever it is asked for."""
    assert space.task is not None
    chance = seeded(seed, "vote", str(candidate))
    settings = space.recipe.preferences
    crowd = space.task.crowd(settings.annotators, settings.spammers, settings.noise)
    who = crowd[int(chance.integers(len(crowd)))]
    left, right = (int(place) for place in chance.permutation(pool.pairs[candidate]))
    asked = pool.prompts[left]
    on_left, on_right = (space.task.features(asked, pool.texts[place]) for place in (left, right))
    pressed = judge(who, on_left, on_right, chance)
    better, worse = (right, left) if pressed > 0 else (left, right)
    said = tuple((Message("assistant", pool.texts[place]),) for place in (better, worse))
    return Preference(asked, said[0], said[1], 0.5 if pressed == 0 else 1.0)


def curve(
    space: Workspace,
    strategy: Strategy,
    members: int,
    pool: Pool,
    unseen: Sequence[tuple[Preference, float]],
    folder: Path,
) -> list[float]:
    """The accuracy after each round."""
    seed, chat = space.recipe.seed, space.chat(space.supervised)
    trees = [
        chat.demonstration((*asked, Message("assistant", text)))
        for asked, text in zip(pool.prompts, pool.texts, strict=True)
    ]
    left = np.ones(len(pool.pairs), dtype=bool)
    labels: list[Preference] = []
    found: list[float] = []
    ensemble: list[ScalarRole] = []
    for round_, size in enumerate(ROUNDS):
        begin = round_ == 0 or strategy == "random"
        way: Strategy = "random" if begin else strategy
        read = np.zeros((1, len(pool.texts))) if begin else _read(ensemble, trees)
        chance = seeded(seed, "first" if round_ == 0 else strategy, str(round_))
        for one in choose(policy(way, read, pool.pairs, pool.prompt), size - len(labels), chance, left):
            left[one.candidate] = False
            labels.append(label(space, pool, one.candidate, seed))
        count = 1 if strategy == "random" or size == ROUNDS[-1] else members
        ensemble = [
            reward_model(space, chat, labels, number, folder / f"{strategy}-{size}-{number}") for number in range(count)
        ]
        found.append(accuracy_of(ensemble[0], chat, unseen))
        print(f"seed {seed}, {strategy}, {size}: {found[-1]:.3f}", file=sys.stderr, flush=True)
    return found


def _read(ensemble: Sequence[ScalarRole], trees: Sequence[Tree]) -> np.ndarray:
    """The scores [M, S] of every answer by every member."""
    return np.asarray(torch.stack([scores(one, trees, None) for one in ensemble]).double().numpy())


def reached(sizes: Sequence[int], accuracies: Sequence[float], target: float) -> float | None:
    """How many labels the curve needs for `target`, on the line between rounds; None where it never gets there."""
    if accuracies[0] >= target:
        return float(sizes[0])
    for place in range(1, len(sizes)):
        before, after = accuracies[place - 1], accuracies[place]
        if after >= target:
            share = (target - before) / (after - before)
            return sizes[place - 1] + share * (sizes[place] - sizes[place - 1])
    return None


def table(curves: Mapping[str, Mapping[int, Sequence[float]]]) -> str:
    """Mean accuracy by labels, and the labels needed for what random selection reaches with all of them."""
    lines = [
        "| strategy | " + " | ".join(map(str, ROUNDS)) + " | labels needed, by seed | on the mean curve |",
        "| --- |" + " --- |" * (len(ROUNDS) + 2),
    ]
    means = {name: [fmean(column) for column in zip(*rows.values(), strict=True)] for name, rows in curves.items()}
    for name, rows in curves.items():
        needed = [reached(ROUNDS, row, curves["random"][seed][-1]) for seed, row in rows.items()]
        overall = reached(ROUNDS, means[name], means["random"][-1])
        words = ", ".join("more" if one is None else f"{one:.0f}" for one in needed)
        numbers = " | ".join(f"{one:.3f}" for one in means[name])
        lines.append(f"| {name} | {numbers} | {words} | {'more' if overall is None else f'{overall:.0f}'} |")
    return "\n".join(lines)


def main(argv: Sequence[str]) -> int:
    names = get_args(Strategy)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.selection", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--members", type=int, default=3, help="of the ensemble; default: %(default)s")
    parser.add_argument("--strategies", nargs="+", choices=names, default=list(names))
    parser.add_argument("--out", type=Path, default=Path("benchmarks") / "results")
    given = parser.parse_args(argv)
    set_up()
    strategies = ["random", *(name for name in given.strategies if name != "random")]
    curves: dict[str, dict[int, list[float]]] = {name: {} for name in strategies}
    for seed in given.seeds:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            pipeline.run_stage("sft", recipe_of(seed, None), folder / "sft", SilentDisplay())
            sft = folder / "sft" / "sft" / "model"
            space = open_workspace(recipe_of(seed, sft), folder, SilentDisplay(), sft, ["reward"])
            pool, unseen = pool_of(space, seed), unseen_pairs(space, seed, UNSEEN)
            for name in strategies:
                curves[name][seed] = curve(space, name, given.members, pool, unseen, folder)
        given.out.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"labels": ROUNDS, "members": given.members, "accuracy": curves}, indent=2)
        (given.out / "selection.json").write_text(text + "\n", encoding="utf-8")
    print(table(curves))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
