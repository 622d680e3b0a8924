"""The whole run, stage by stage: supervised fine-tuning, preferences, reward model, PPO, evaluation, report."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from keel.config import Recipe, dump_recipe
from keel.diagnostics.report import write_report
from keel.display import Display
from keel.errors import UserError
from keel.models.load import inspect_language_model
from keel.process import set_up
from keel.stages.evaluation import check_evaluation, evaluation
from keel.stages.ppo import check_practising, practising
from keel.stages.preferences import check_collecting, collect_preferences
from keel.stages.reward import reward_modelling
from keel.stages.sft import check_fine_tuning, fine_tuning
from keel.stages.workspace import (
    Facts,
    StageName,
    Workspace,
    base_of,
    open_workspace,
    peak_mb,
    write_json,
    write_text,
)
from keel.summary import STAGES, Summary

VERSIONS = ("keel", "torch", "transformers", "peft", "tokenizers", "numpy")


def run(recipe: Recipe, directory: Path, display: Display) -> Summary:
    """Every stage that the recipe has data for; fills `directory` and returns what came of it.

    With an embedded task that is all of them; with the user's own model and data, a stage without data is left out.
    Whatever can be known to be wrong is a UserError before anything is written.
    """
    return _run(stages_of(recipe), recipe, directory, display)


def stages_of(recipe: Recipe) -> list[StageName]:
    """The stages that a recipe has data for, in order; UserError where there is none."""
    own = recipe.task is None
    judged = recipe.reward.data is not None or recipe.preferences.labels.data is not None
    wanted: Mapping[StageName, bool] = {
        "sft": not own or recipe.sft.data is not None,
        "preferences": not own or judged,
        "reward": not own or judged,
        "ppo": not own or recipe.ppo.prompts is not None,
        "evaluation": not own or (recipe.evaluation.prompts is not None and recipe.ppo.prompts is not None),
    }
    if not any(wanted.values()):
        raise UserError("the recipe names no data: give sft.data, reward.data, preferences.labels.data or ppo.prompts")
    return [name for name, is_wanted in wanted.items() if is_wanted]


def run_stage(name: Literal["sft", "reward", "ppo"], recipe: Recipe, directory: Path, display: Display) -> Summary:
    """One stage by itself, on what the recipe or the folder already holds; it says which model it starts from."""
    stages: Mapping[str, list[StageName]] = {"sft": ["sft"], "reward": ["preferences", "reward"], "ppo": ["ppo"]}
    if name != "sft":
        display.note(f"{STAGES[name]}: starts from {_start(recipe, directory)}")
    return _run(stages[name], recipe, directory, display)


def _run(stages: Sequence[StageName], recipe: Recipe, directory: Path, display: Display) -> Summary:
    start = time.monotonic()
    space = checked(stages, recipe, directory, display)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{directory} cannot be made ({error.strerror}); choose another folder with --dir") from error
    write_text(directory / "resolved.yaml", dump_recipe(recipe))
    if "sft" in stages:
        fine_tuning(space)
    if "reward" in stages:
        reward_modelling(space, collect_preferences(space))
    if "ppo" in stages:
        practising(space)
    if "evaluation" in stages:
        evaluation(space)
    return _finish(space, start)


def checked(stages: Sequence[StageName], recipe: Recipe, directory: Path, display: Display) -> Workspace:
    """The stages' workspace, with all that can be known to be wrong said as a UserError; nothing is written."""
    set_up()
    supervised = directory / "sft" / "model" if "sft" in stages else _start(recipe, directory)
    space = open_workspace(recipe, directory, display, supervised, stages)
    _check(space)
    return space


def _start(recipe: Recipe, directory: Path) -> Path:
    """What preferences, reward model and PPO start from where no supervised fine-tuning comes before them.

    The folder's fine-tuned model, if it was made from the recipe's own; else the recipe's own.
    """
    trained = directory / "sft" / "model"
    base = _report(directory, "sft").get("base")
    if trained.is_dir() and base is not None and _same(Path(base), Path(recipe.model.path)):
        return trained
    return base_of(recipe)


def _check(space: Workspace) -> None:
    """UserError for all that can be known before the first step: models, templates, files, rewards, settings."""
    start = space.base if "sft" in space.stages else space.supervised
    space.chat(inspect_language_model(start))
    checks: Mapping[StageName, Callable[[Workspace], None]] = {
        "sft": check_fine_tuning,
        "preferences": check_collecting,
        "ppo": check_practising,
        "evaluation": check_evaluation,
    }
    for name, check in checks.items():
        if name in space.stages:
            check(space)


def _finish(space: Workspace, start: float) -> Summary:
    before = _built_on(space)
    known = before | space.reports
    summary = Summary.of(
        stages={name: known[name] for name in STAGES if name in known},
        seconds=time.monotonic() - start + sum(facts["seconds"] for facts in before.values()),
        peak_mb=max([peak_mb(), *(facts["peak_mb"] for facts in before.values())]),
        seed=space.recipe.seed,
        versions={"python": platform.python_version(), **{name: version(name) for name in VERSIONS}},
        directory=space.directory,
    )
    write_json(space.directory / "summary.json", summary.to_json())
    write_report(space.directory)
    return summary


def _built_on(space: Workspace) -> dict[str, Facts]:
    """Reports of earlier runs in this folder whose models this one started from or was judged by."""
    names: list[StageName] = []
    if "sft" not in space.stages and _same(space.supervised, space.model("sft")):
        names.append("sft")
    rewards = (term.path for term in space.recipe.ppo.reward if term.kind == "model")
    judged = any(path is None or _same(Path(path), space.model("reward")) for path in rewards)
    if "ppo" in space.stages and "reward" not in space.stages and judged:
        names += ["preferences", "reward"]
    found = {name: _report(space.directory, name) for name in names}
    return {name: facts for name, facts in found.items() if facts}


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()


def _report(directory: Path, stage: StageName) -> Facts:
    """What an earlier run of a stage in this folder said of itself; nothing where there was none."""
    path = directory / stage / "report.json"
    if not path.is_file():
        return {}
    try:
        facts: Facts = json.loads(path.read_text(encoding="utf-8"))
        return {**facts, "seconds": float(facts["seconds"]), "peak_mb": float(facts["peak_mb"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}); run the stage again, or remove the file") from error
