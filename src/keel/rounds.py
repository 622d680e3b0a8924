"""Round and round: the policy answers, people compare, a reward model learns from all rounds so far, and a new policy.

    round 1    SFT → preferences of the SFT model → reward model → PPO
    round r    preferences of the policy of round r − 1 → reward model, on the judgements of rounds 1 … r → PPO

So the reward model meets the answers that it will be asked about: those of a policy that has moved. Every round's PPO
starts from the supervised model, and is held to it, so that a round corrects what the last one learnt wrongly instead
of building on it; after the iterated online RLHF of Bai et al. (2204.05862). Each round asks about prompts that no
round before it asked about.

A round is a run like any other, in DIR/round-1, DIR/round-2, …, with its own lineage; what is finished and unchanged is
kept. DIR/loop.json says what came of each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keel import pipeline
from keel.config import Recipe
from keel.config.load import changed
from keel.data.place import DATABASE
from keel.data.write import write_json
from keel.display import Display
from keel.errors import UserError
from keel.summary import Summary
from keel.summary_file import said


@dataclass(frozen=True)
class Loop:
    """What came of each round, the first first."""

    rounds: tuple[Summary, ...]

    def to_json(self) -> dict[str, Any]:
        """The content of loop.json."""
        return {"rounds": [{"directory": one.directory.name, **_numbers(one)} for one in self.rounds]}

    def __str__(self) -> str:
        head = ("round", "pairs", "reward model", "win rate", "gold", "KL")
        forms = ("{}", "{:,}", "{:.1%}", "{:.1%}", "{:.2f}", "{:.1f}")
        keys = ("pairs", "accuracy", "win_rate", "gold_policy", "kl")
        rows: list[tuple[str, ...]] = [head]
        for number, one in enumerate(self.rounds, start=1):
            found = (number, *(_numbers(one)[said(key, one.method)] for key in keys))
            rows.append(
                tuple("–" if value is None else form.format(value) for form, value in zip(forms, found, strict=True))
            )
        widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
        policy = self.rounds[-1].directory / self.rounds[-1].method / "model"
        return "\n".join(
            [
                *lines,
                "",
                "pairs: those that the round's reward model has learnt from, of all rounds so far.",
                "win rate: of the round's policy over the supervised model.",
                f"The last policy is in {policy}",
            ]
        )


def loop(recipe: Recipe, rounds: int, directory: Path, display: Display) -> Loop:
    """Runs the rounds one after the other and returns what came of them; raises UserError as `pipeline.run` does."""
    _can_go_round(recipe)
    done: list[Summary] = []
    for number in range(1, rounds + 1):
        display.note(f"round {number} of {rounds}")
        place = directory / f"round-{number}"
        if number == 1:
            done.append(pipeline.run(_first(recipe, display), place, display))
        else:
            done.append(pipeline.run_round(of_round(recipe, number, directory), place, display))
        write_json(directory / "loop.json", Loop(tuple(done)).to_json())
    return Loop(tuple(done))


def of_round(recipe: Recipe, number: int, directory: Path) -> Recipe:
    """The recipe of a round after the first, whose folders lie beside each other in `directory`."""
    before = [directory / f"round-{one}" for one in range(1, number)]
    supervised = before[0] / "sft" / "model"
    if not supervised.is_dir():
        supervised = pipeline.start(recipe, before[0])
    changes: Mapping[str, Any] = {
        "model.path": str(supervised),
        "preferences.policy": str(before[-1] / recipe.method / "model"),
        "preferences.skip": recipe.preferences.skip + (number - 1) * recipe.preferences.count,
        "preferences.earlier": [str(one / DATABASE) for one in before],
    }
    if recipe.preferences.select != "random":
        changes = {**changes, "preferences.scorer": str(before[-1] / "reward" / "model")}
    return changed(recipe, changes)


def _first(recipe: Recipe, display: Display) -> Recipe:
    """The recipe of the first round: before it there is no reward model to select pairs by, unless one is named."""
    if recipe.preferences.select == "random" or recipe.preferences.scorer is not None:
        return recipe
    display.note("the first round's pairs are chosen at random: there is no reward model yet")
    share = type(recipe.preferences).model_fields["random_share"].default
    return changed(recipe, {"preferences.select": "random", "preferences.random_share": share})


def _can_go_round(recipe: Recipe) -> None:
    """UserError where nobody can be asked about a policy that is yet to come."""
    if recipe.reward.data is not None or recipe.preferences.labels.data is not None:
        raise UserError(
            "a loop asks anew in every round, and these labels are of answers that exist already; set "
            "--preferences.judges people, or use a built-in task"
        )
    settings = recipe.preferences
    if settings.select != "random" and recipe.reward.kept < 2:
        raise UserError(
            f"preferences.select: {settings.select} reads several reward models, and a round would leave one for the "
            "next; set --reward.members 3 or more and --reward.combine scores"
        )
    if recipe.task is None and recipe.rl.prompts is None:
        raise UserError("a loop makes a new policy in every round, and needs something to practise on: rl.prompts")


def _numbers(summary: Summary) -> dict[str, Any]:
    reward: Mapping[str, Any] = summary.stages.get("reward", {})
    names = ("win_rate", "win_rate_low", "win_rate_high", "gold_sft", "gold_policy", "reward_policy", "kl")
    learnt = {"pairs": reward.get("pairs"), "accuracy": reward.get("accuracy")}
    numbers = {said(name, summary.method): getattr(summary, name) for name in names}
    return {**learnt, **numbers, "seconds": summary.seconds}
