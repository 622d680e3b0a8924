"""`keel sft`, `keel reward`, `keel ppo`: one stage on the user's own model and data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from keel.commands.recipes import RUN, RecipeArguments, directory_of, display_of, own, recipe_of, report, written
from keel.config import Recipe
from keel.errors import UserError


@dataclass(frozen=True)
class Stage:
    """A stage as a command: `short` are names for the usual fields, `data` the field it cannot do without."""

    name: Literal["sft", "reward", "ppo"]
    about: str
    example: str
    short: Mapping[str, str]
    data: str
    rows: str


_USUAL: Mapping[str, str] = {"model": "model.path"}

SFT = Stage(
    "sft",
    "Fine-tune a model on demonstrations. The result is DIR/sft/model.",
    "keel sft --model ./base --data notes.jsonl --dir runs/notes",
    {**_USUAL, "data": "sft.data", "epochs": "sft.epochs", "lr": "sft.optimizer.lr", "batch_size": "sft.batch_size"},
    "sft.data",
    "demonstrations (columns such as messages, or prompt and completion)",
)
REWARD = Stage(
    "reward",
    "Fit a reward model to preferences. The result is DIR/reward/model.",
    "keel reward --model ./base --data pairs.jsonl --dir runs/notes",
    {
        **_USUAL,
        "data": "reward.data",
        "epochs": "reward.epochs",
        "lr": "reward.optimizer.lr",
        "batch_size": "reward.batch_size",
    },
    "reward.data",
    "preferences (columns such as prompt, chosen and rejected)",
)
PPO = Stage(
    "ppo",
    "Optimise a model against a reward, near to what it was. The result is DIR/ppo/model.",
    "keel ppo --model ./base --reward ./judge --prompts asked.jsonl",
    {
        **_USUAL,
        "prompts": "ppo.prompts",
        "updates": "ppo.updates",
        "lr": "ppo.optimizer.lr",
        "batch_size": "ppo.batch_size",
    },
    "ppo.prompts",
    "prompts (a column such as prompt or messages)",
)


def sft(argv: Sequence[str]) -> None:
    """keel sft --model PATH --data FILE --dir DIR"""
    _run(SFT, argv)


def reward(argv: Sequence[str]) -> None:
    """keel reward --model PATH --data FILE --dir DIR"""
    _run(REWARD, argv)


def ppo(argv: Sequence[str]) -> None:
    """keel ppo --model PATH --reward PATH --prompts FILE --dir DIR"""
    _run(PPO, argv)


def _run(stage: Stage, argv: Sequence[str]) -> None:
    arguments = RecipeArguments(
        stage.name, stage.about, stage.example, shown=(*RUN, "model", stage.name), short=stage.short
    )
    arguments.add_argument("recipe", metavar="RECIPE", nargs="?", help="a YAML file to start from (not needed)")
    if stage is PPO:
        arguments.add_argument("--reward", metavar="PATH", help="reward model's folder, or function as file.py:name")
    given = arguments.read(argv)
    source = written(given.recipe) if given.recipe else own()
    if stage is PPO and given.reward:
        kind = "function" if ":" in given.reward else "model"
        source = source.overridden("ppo.reward", [{"kind": kind, "path": given.reward}], "--reward")
    if given.recipe is None and "model.path" not in vars(given):
        raise UserError(f"no model to start from; name one, as in `{stage.example}`")
    recipe = recipe_of(given, source)
    directory = directory_of(recipe, stage.name)
    _complete(stage, recipe, directory)

    from keel import pipeline

    report(pipeline.run_stage(stage.name, recipe, directory, display_of(given)), given)


def _complete(stage: Stage, recipe: Recipe, directory: Path) -> None:
    """UserError when the stage lacks what no default can give."""
    flag = next(name for name, dotted in stage.short.items() if dotted == stage.data)
    section, name = stage.data.split(".")
    given = getattr(getattr(recipe, section), name) or (stage is REWARD and recipe.preferences.labels.data)
    if recipe.task is None and not given:
        raise UserError(f"{stage.data} is missing: give {stage.rows} with --{flag} FILE")
    unmade = not (directory / "reward" / "model").is_dir()
    if stage is PPO and unmade and any(term.kind == "model" and term.path is None for term in recipe.ppo.reward):
        raise UserError(f"there is no reward model in {directory}/reward/model; name one with --reward PATH")
