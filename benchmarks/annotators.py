"""Does knowing the annotators make a better reward model? Held-out gold accuracy by how votes are brought together.

    python -m benchmarks.annotators [--seeds 0 1 2 3 4] [--pairs 2000] [--spammers 4] [--noise 1.0] [--epochs 2]
        [--models 3] [--unseen 2000] [--out FOLDER]

For each seed: the base model of Town Desk is fine-tuned, two of its answers to each prompt are judged by three of ten
simulated annotators, some of whom press any key without reading, and reward models, which differ by head and order, are
trained for each method on the same votes with the settings of the demo. Each then ranks two answers to every one of
2,000 unseen prompts; what is counted is how often it ranks them as the hidden gold score does, over those whose gold
scores differ, and the mean of the models is a method's accuracy. Differences to majority are paired by seed; their
interval is Student's over seeds. Leaves annotators.json in FOLDER, and prints a table.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from keel import pipeline
from keel.config import Recipe, load_recipe
from keel.data.chat import Chat
from keel.display import SilentDisplay
from keel.models.ensemble import Scoring
from keel.models.roles import ScalarRole
from keel.process import set_up
from keel.stages.answers import answers
from keel.stages.cast import reward_to_train
from keel.stages.preferences import preferences_of
from keel.stages.workspace import Workspace, open_workspace
from keel.training.comparisons import comparisons, together
from keel.training.records import Record
from keel.training.reward import fit_reward, scores
from keel.types import Conversation, Message, Preference, Rollout

METHODS: Mapping[str, Mapping[str, str]] = {
    "majority": {"aggregate": "majority"},
    "mean": {"aggregate": "mean"},
    "dawid-skene": {"aggregate": "dawid-skene"},
    "bradley-terry": {"aggregate": "bradley-terry"},
    "learned": {"aggregate": "mean", "annotators": "learned"},
}
_STUDENT = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
"""97.5 % quantile of Student's t by degrees of freedom."""


def recipe_of(given: argparse.Namespace, seed: int, method: str, sft: Path | None, **more: Any) -> Recipe:
    """The demo's recipe with this crowd, and the votes brought together by this method."""
    chosen = METHODS[method]
    changes: dict[str, Any] = {
        "seed": seed,
        "preflight": "off",
        "log.to": [],
        "preferences.count": given.pairs,
        "preferences.annotators": 10,
        "preferences.spammers": given.spammers,
        "preferences.noise": given.noise,
        "preferences.overlap": 1.0,
        "preferences.votes": 3,
        "preferences.aggregate": chosen["aggregate"],
        "reward.annotators": chosen.get("annotators", "aggregated"),
        "reward.epochs": given.epochs,
        **more,
    }
    if sft is not None:
        changes["model.path"] = str(sft)
    return load_recipe(Path("recipes") / "town_desk.yaml", changes)


def unseen_pairs(space: Workspace, seed: int, count: int) -> list[tuple[Preference, float]]:
    """Two answers of the supervised model to prompts of the evaluation, and the difference of their gold scores."""
    assert space.task is not None
    prompts = space.task.prompts(count, seed, "evaluation")
    said = answers(space, space.supervised, prompts, space.recipe.preferences.sampling, 2)
    found = []
    for one, other in zip(said[::2], said[1::2], strict=True):
        gap = space.task.gold(one.prompt.messages, one.text) - space.task.gold(other.prompt.messages, other.text)
        if gap != 0:
            found.append((Preference(one.prompt.messages, _said(one), _said(other)), gap))
    return found


def _said(rollout: Rollout) -> Conversation:
    return (Message("assistant", rollout.text),)


def accuracy_of(model: Scoring, chat: Chat, pairs: Sequence[tuple[Preference, float]]) -> float:
    """How often a reward model ranks them as gold does."""
    read = scores(model, [chat.preference(pair) for pair, _ in pairs], None).tolist()
    right = [(one - other) * gap > 0 for one, other, (_, gap) in zip(read[::2], read[1::2], pairs, strict=True)]
    return fmean(right)


def measured(given: argparse.Namespace, seed: int, folder: Path) -> dict[str, float]:
    """The held-out gold accuracy of each method."""
    pipeline.run_stage("sft", recipe_of(given, seed, "majority", None), folder / "sft", SilentDisplay())
    sft = folder / "sft" / "sft" / "model"
    asked = recipe_of(given, seed, "majority", sft, **{"reward.max_steps": 1})
    pipeline.run_stage("reward", asked, folder, SilentDisplay())  # for the votes; its model is not used
    pairs: list[tuple[Preference, float]] = []
    found: dict[str, float] = {}
    for method in METHODS:
        space = open_workspace(recipe_of(given, seed, method, sft), folder, SilentDisplay(), sft, ["reward"])
        chat = space.chat(sft)
        pairs = pairs or unseen_pairs(space, seed, given.unseen)
        labels = [one for one in preferences_of(space) if isinstance(one, Preference)]
        made = (
            accuracy_of(reward_model(space, chat, labels, number, folder / f"{method}-{number}"), chat, pairs)
            for number in range(given.models)
        )
        found[method] = fmean(made)
        told = f"{right_of(space, labels):.3f} of the labels, {found[method]:.4f} of {len(pairs)} pairs"
        print(f"seed {seed}, {method}: {told}", file=sys.stderr, flush=True)
    return found


def right_of(space: Workspace, labels: Sequence[Preference]) -> float:
    """How often a label says what gold says, where gold tells the answers apart; one without a winner is half right."""
    assert space.task is not None
    right = []
    for one in labels:
        better, worse = (space.task.gold(one.prompt, said[-1].content) for said in (one.chosen, one.rejected))
        if better != worse:
            right.append(0.5 if one.probability == 0.5 else float((one.probability > 0.5) == (better > worse)))
    return fmean(right)


def reward_model(space: Workspace, chat: Chat, labels: Sequence[Preference], number: int, folder: Path) -> ScalarRole:
    """One of several reward models that differ by head and order, trained from the supervised model on."""
    seed = space.recipe.seed * 100 + number
    model = reward_to_train(replace(space, recipe=space.recipe.model_copy(update={"seed": seed})))
    rows = together(comparisons(chat, one) for one in labels)
    with Record(folder, SilentDisplay()) as record:
        fit_reward(model, rows, [], space.recipe.reward, seed, record)
    return model


def interval(differences: Sequence[float]) -> tuple[float, float]:
    """Mean difference and half the width of its 95 % interval, Student's; nan where one seed tells no width."""
    if len(differences) < 2:
        return fmean(differences), math.nan
    half = _STUDENT.get(len(differences) - 1, 1.96) * stdev(differences) / math.sqrt(len(differences))
    return fmean(differences), half


def table(rows: Mapping[int, Mapping[str, float]]) -> str:
    """One row a method, in Markdown."""
    lines = [
        "| method | " + " | ".join(f"seed {seed}" for seed in rows) + " | mean | over majority [95 %] |",
        "| --- |" + " --- |" * (len(rows) + 2),
    ]
    for method in METHODS:
        found = [row[method] for row in rows.values()]
        mean, half = interval([row[method] - row["majority"] for row in rows.values()])
        ahead = "" if method == "majority" else f"{mean:+.3f} [{mean - half:+.3f}, {mean + half:+.3f}]"
        lines.append(f"| {method} | {' | '.join(f'{one:.3f}' for one in found)} | {fmean(found):.3f} | {ahead} |")
    return "\n".join(lines)


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.annotators", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--pairs", type=int, default=2000, help="prompts with two answers each; default: %(default)s")
    parser.add_argument("--spammers", type=int, default=4, help="of ten annotators; default: %(default)s")
    parser.add_argument("--noise", type=float, default=1.0, help="of the others; default: %(default)s")
    parser.add_argument("--epochs", type=int, default=2, help="of each reward model; default: %(default)s")
    parser.add_argument("--models", type=int, default=3, help="by each method; default: %(default)s")
    parser.add_argument("--unseen", type=int, default=2000, help="prompts to rank answers to; default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("benchmarks") / "results")
    given = parser.parse_args(argv)
    set_up()
    rows: dict[int, dict[str, float]] = {}
    for seed in given.seeds:
        with tempfile.TemporaryDirectory() as folder:
            rows[seed] = measured(given, seed, Path(folder))
        given.out.mkdir(parents=True, exist_ok=True)
        setting = {"pairs": given.pairs, "spammers": given.spammers, "noise": given.noise, "epochs": given.epochs}
        setting |= {"models": given.models, "unseen": given.unseen}
        text = json.dumps({"setting": setting, "accuracy": rows}, indent=2)
        (given.out / "annotators.json").write_text(text + "\n", encoding="utf-8")
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
