"""The whole run, stage by stage: supervised fine-tuning, preferences, reward model, PPO, evaluation, report."""

from __future__ import annotations

import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from keel.allocator import keep_freed_memory
from keel.config import EMBEDDED, Recipe, dump_recipe
from keel.diagnostics.report import write_report
from keel.display import Display
from keel.errors import UserError
from keel.stages.evaluation import evaluation
from keel.stages.ppo import practising
from keel.stages.preferences import collect_preferences
from keel.stages.reward import reward_modelling
from keel.stages.sft import fine_tuning
from keel.stages.workspace import Workspace, base_of, open_workspace, peak_mb, write_json, write_text
from keel.summary import Summary

VERSIONS = ("keel", "torch", "transformers", "peft", "tokenizers", "numpy")


def run(recipe: Recipe, directory: Path, display: Display) -> Summary:
    """Every stage that the recipe has data for; fills `directory` and returns what came of it.

    With an embedded task that is all of them; with the user's own model and data, a stage without data is left out.
    """
    start = time.monotonic()
    own = recipe.task is None
    wanted = {
        "sft": not own or recipe.sft.data is not None,
        "reward": not own or recipe.reward.data is not None or recipe.preferences.labels.data is not None,
        "ppo": not own or recipe.ppo.prompts is not None,
        "evaluation": not own or (recipe.evaluation.prompts is not None and recipe.ppo.prompts is not None),
    }
    if not any(wanted.values()):
        raise UserError("the recipe names no data: give sft.data, reward.data, preferences.labels.data or ppo.prompts")
    judged = wanted["reward"] or (directory / "reward" / "model").is_dir()
    if wanted["evaluation"] and not judged:
        raise UserError(
            "evaluation.prompts: this run has no reward model to judge the answers; give reward.data or "
            "preferences.labels.data, or leave evaluation.prompts out"
        )
    trained = directory / "sft" / "model"
    space = _begin(recipe, directory, display, trained if wanted["sft"] else base_of(recipe))
    if wanted["sft"]:
        fine_tuning(space)
    if wanted["reward"]:
        reward_modelling(space, collect_preferences(space))
    if wanted["ppo"]:
        practising(space)
    if wanted["evaluation"]:
        evaluation(space)
    return _finish(space, start)


def run_stage(name: Literal["sft", "reward", "ppo"], recipe: Recipe, directory: Path, display: Display) -> Summary:
    """One stage by itself, on what the recipe or the folder already holds.

    Reward model and PPO start from the model that the recipe names; where it names none of the user's (embedded), from
    the one that `keel sft` has left in the folder, if there is one.
    """
    start = time.monotonic()
    trained = directory / "sft" / "model"
    found = recipe.model.path == EMBEDDED and trained.is_dir()
    space = _begin(recipe, directory, display, trained if found else base_of(recipe))
    match name:
        case "sft":
            fine_tuning(space)
        case "reward":
            reward_modelling(space, collect_preferences(space))
        case "ppo":
            practising(space)
    return _finish(space, start)


def _begin(recipe: Recipe, directory: Path, display: Display, supervised: Path) -> Workspace:
    keep_freed_memory()
    space = open_workspace(recipe, directory, display, supervised)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{directory} cannot be made ({error.strerror}); choose another folder with --dir") from error
    write_text(directory / "resolved.yaml", dump_recipe(recipe))
    return space


def _finish(space: Workspace, start: float) -> Summary:
    summary = Summary.of(
        stages=space.reports,
        seconds=time.monotonic() - start,
        peak_mb=peak_mb(),
        seed=space.recipe.seed,
        versions={"python": platform.python_version(), **{name: version(name) for name in VERSIONS}},
        directory=space.directory,
    )
    write_json(space.directory / "summary.json", summary.to_json())
    write_report(space.directory)
    return summary
