"""`keel sft`, `keel reward`, `keel ppo`, `keel rl`, `keel dpo`: one stage on the user's own model and data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

from keel.commands.recipes import FLAGS, RUN, RecipeArguments, directory_of, display_of, own, recipe_of, report, written
from keel.config import ONLINE, Method, Recipe
from keel.config.flags import Flags
from keel.data.nearest import did_you_mean
from keel.errors import UserError


@dataclass(frozen=True)
class Stage:
    """A stage as a command: `short` are names for the usual fields, `data` the field it cannot do without."""

    name: Literal["sft", "reward", "ppo", "rl", "dpo"]
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
_PRACTICE: Mapping[str, str] = {
    **_USUAL,
    "prompts": "rl.prompts",
    "updates": "rl.updates",
    "lr": "rl.optimizer.lr",
    "batch_size": "rl.batch_size",
}
PPO = Stage(
    "ppo",
    "Optimise a model against a reward, near to what it was. The result is DIR/ppo/model.",
    "keel ppo --model ./base --reward ./judge --prompts asked.jsonl",
    _PRACTICE,
    "rl.prompts",
    "prompts (a column such as prompt or messages)",
)
RL = Stage(
    "rl",
    "Optimise a model against a reward by the algorithm of --algorithm. The result is DIR/ALGORITHM/model.",
    "keel rl --algorithm grpo --model base --reward judge --prompts p.jsonl",
    _PRACTICE,
    "rl.prompts",
    "prompts (a column such as prompt or messages)",
)
DPO = Stage(
    "dpo",
    "Tune a model straight on preferences, near to what it was. The result is DIR/dpo/model.",
    "keel dpo --model ./base --data pairs.jsonl --loss ipo",
    {
        **_USUAL,
        "data": "dpo.data",
        "loss": "dpo.loss",
        "beta": "dpo.beta",
        "epochs": "dpo.epochs",
        "lr": "dpo.optimizer.lr",
        "batch_size": "dpo.batch_size",
    },
    "dpo.data",
    "preferences (columns such as prompt, chosen and rejected; for kto prompt, completion and label)",
)


def sft(argv: Sequence[str]) -> None:
    """keel sft --model PATH --data FILE --dir DIR"""
    _run(SFT, argv)


def reward(argv: Sequence[str]) -> None:
    """keel reward --model PATH --data FILE --dir DIR"""
    _run(REWARD, argv)


def ppo(argv: Sequence[str]) -> None:
    """keel ppo --model PATH --reward PATH --prompts FILE --dir DIR"""
    _run(PPO, argv, "ppo")


def rl(argv: Sequence[str]) -> None:
    """keel rl --algorithm NAME --model PATH --reward PATH --prompts FILE --dir DIR"""
    _run(RL, argv)


def dpo(argv: Sequence[str]) -> None:
    """keel dpo --model PATH --data FILE [--loss NAME] --dir DIR"""
    _run(DPO, argv, "dpo")


def _run(stage: Stage, argv: Sequence[str], method: Method | None = None) -> None:
    practises = stage in (PPO, RL)
    arguments = RecipeArguments(
        stage.name,
        stage.about,
        stage.example,
        shown=(*RUN, "model", *(("rl", "dpo.loss", "dpo.beta") if practises else (stage.name,))),
        short=stage.short,
        section=stage.data.partition(".")[0],
        flags=_flags(argv) if stage is RL else FLAGS,
    )
    arguments.add_argument("recipe", metavar="RECIPE", nargs="?", help="a YAML file to start from (not needed)")
    if practises:
        arguments.add_argument("--reward", metavar="PATH", help="reward model's folder, or function as file.py:name")
    if stage is RL:
        arguments.add_argument("--algorithm", metavar="NAME", help=f"one of {', '.join(ONLINE)}; default: the recipe's")
    given = arguments.read(argv)
    source = written(given.recipe) if given.recipe else own()
    if stage is RL and given.algorithm is not None:
        method = _algorithm(given.algorithm)
    if method is not None:
        source = source.overridden("method", method, "--algorithm")
    if practises and given.reward:
        kind = "function" if ":" in given.reward else "model"
        source = source.renamed(Recipe.other_names)
        source = source.overridden("rl.reward", [{"kind": kind, "path": given.reward}], "--reward")
    if given.recipe is None and "model.path" not in vars(given):
        raise UserError(f"no model to start from; name one, as in `{stage.example}`")
    recipe = recipe_of(given, source)
    if stage is RL and recipe.method not in ONLINE:
        raise UserError(f"method {recipe.method} is no algorithm of `keel rl`; name one with --algorithm")
    name: Literal["sft", "reward"] | Method = recipe.method
    if stage.name in ("sft", "reward"):
        name = stage.name
    directory = directory_of(recipe, name)
    _complete(stage, recipe, directory)

    from keel import pipeline

    report(pipeline.run_stage(name, recipe, directory, display_of(given)), given)


def _algorithm(name: str) -> Method:
    found = next((one for one in ONLINE if one == name), None)
    if found is None:
        raise UserError(f"there is no algorithm '{name}'{did_you_mean(name, ONLINE)}; there are {', '.join(ONLINE)}")
    return found


def _flags(argv: Sequence[str]) -> Flags:
    """Flags whose help has the defaults of the algorithm that is asked for."""
    words = [part for word in argv for part in word.split("=", 1)]
    named = dict(pairwise([*words, ""])).get("--algorithm", "")
    return Flags(Recipe, Recipe.model_validate({"method": named})) if named in ONLINE else FLAGS


def _complete(stage: Stage, recipe: Recipe, directory: Path) -> None:
    """UserError when the stage lacks what no default can give."""
    flag = next(name for name, dotted in stage.short.items() if dotted == stage.data)
    section, name = stage.data.split(".")
    judged = stage in (REWARD, DPO) and (
        recipe.reward.data or recipe.preferences.labels.data or recipe.preferences.judges == "people"
    )
    if recipe.task is None and not (getattr(getattr(recipe, section), name) or judged):
        raise UserError(f"{stage.data} is missing: give {stage.rows} with --{flag} FILE")
    own = any(term.kind == "model" and term.path is None for term in recipe.rl.reward)
    if stage in (PPO, RL) and own and not (directory / "reward" / "model").is_dir():
        raise UserError(f"there is no reward model in {directory}/reward/model; name one with --reward PATH")
