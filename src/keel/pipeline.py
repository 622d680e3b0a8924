"""The whole run, stage by stage: supervised fine-tuning, preferences, reward model, policy, evaluation, report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from keel.config import OFFLINE, ONLINE, Method, Recipe, dump_recipe
from keel.data.write import write_json, write_text
from keel.diagnostics.provenance import maker
from keel.diagnostics.report import write_report
from keel.display import Display, SilentDisplay
from keel.errors import UserError
from keel.models.load import inspect_language_model
from keel.preflight.stages import preflight
from keel.preflight.table import Checked, Preflight
from keel.process import set_up
from keel.stages.direct import check_preferring, preferring, preferring_reads
from keel.stages.evaluation import check_evaluation, evaluation, evaluation_reads
from keel.stages.fingerprints import of_file, of_folder, of_rows
from keel.stages.lineage import Input, Lineage, Made, resumptions, settings_of, versions
from keel.stages.occupied import occupied
from keel.stages.practice import check_practising, practising, practising_reads
from keel.stages.preferences import (
    check_collecting,
    collect_preferences,
    collecting_reads,
    files_of_preferences,
    preferences_are_there,
    preferences_of,
)
from keel.stages.reuse import CHECKPOINTS, Decision, decide, holds_work, put_aside, report_of
from keel.stages.reward import check_reward_modelling, reward_modelling, reward_modelling_reads
from keel.stages.sft import check_fine_tuning, fine_tuning, fine_tuning_reads
from keel.stages.workspace import (
    Facts,
    StageName,
    Workspace,
    base_of,
    open_workspace,
)
from keel.summary import STAGES, Summary
from keel.training.checkpoint import discard


def run(recipe: Recipe, directory: Path, display: Display) -> Summary:
    """Every stage that the recipe has data for; fills `directory` and returns what came of it.

    With an embedded task that is all of them; with the user's own model and data, a stage without data is left out.
    Whatever can be known to be wrong is a UserError before anything is written.
    """
    return _run(stages_of(recipe), recipe, directory, display)


def stages_of(recipe: Recipe) -> list[StageName]:
    """The stages that a recipe has data for, in order; UserError where there is none."""
    own = recipe.task is None
    judged = (
        recipe.reward.data is not None
        or recipe.preferences.labels.data is not None
        or recipe.preferences.judges == "people"
    )
    offline = recipe.method in OFFLINE
    tunes = (recipe.dpo.data is not None or judged) if offline else recipe.rl.prompts is not None
    # a policy straight from preferences needs no reward model, unless it is to be judged by one
    scored = not offline or (recipe.evaluation.judge == "reward" or (own and recipe.evaluation.prompts is not None))
    wanted: Mapping[StageName, bool] = {
        "sft": not own or recipe.sft.data is not None,
        "preferences": not own or judged,
        "reward": (not own or judged) and scored,
        recipe.method: not own or tunes,
        "evaluation": not own or (recipe.evaluation.prompts is not None and tunes),
    }
    if not any(wanted.values()):
        raise UserError(
            "the recipe names no data: give sft.data, reward.data, preferences.labels.data, rl.prompts or dpo.data"
        )
    return [name for name, is_wanted in wanted.items() if is_wanted]


def run_round(recipe: Recipe, directory: Path, display: Display) -> Summary:
    """Every stage but the supervised fine-tuning, whose model the recipe names; see `keel.rounds`."""
    return _run([name for name in stages_of(recipe) if name != "sft"], recipe, directory, display)


def run_before(recipe: Recipe, directory: Path, display: Display) -> Summary:
    """What comes before the policy: the stages that several methods can begin with."""
    return _run(
        [name for name in stages_of(recipe) if name in ("sft", "preferences", "reward")], recipe, directory, display
    )


def is_finished(recipe: Recipe, directory: Path) -> bool:
    """Whether the folder holds all that `run` would make of the recipe, so that it would keep every stage."""
    try:
        stages = stages_of(recipe)
        space = checked(stages, recipe, directory, SilentDisplay())
        return all(_foreseen(name, space, ())[0].action == "keep" for name in stages)
    except UserError:
        return False


def run_stage(name: Literal["sft", "reward"] | Method, recipe: Recipe, directory: Path, display: Display) -> Summary:
    """One stage by itself, on what the recipe or the folder already holds; it says which model it starts from."""
    gathers = name == "reward" or (name in OFFLINE and recipe.dpo.data is None)
    if name != "sft":
        display.note(f"{STAGES[name]}: starts from {start(recipe, directory)}")
    return _run(["preferences", name] if gathers else [name], recipe, directory, display)


@dataclass(frozen=True)
class Stage:
    """A stage: what can be checked before anything runs, what its result follows from, its work, and what it makes;
    `beside` are the files that it leaves outside of its folder."""

    check: Callable[[Workspace], None]
    reads: Callable[[Workspace], dict[str, Input]]
    work: Callable[[Workspace], None]
    made: Callable[[Workspace], dict[str, str]]
    beside: Callable[[Workspace], Sequence[Path]] = lambda _: ()


def _model_of(name: StageName) -> Callable[[Workspace], dict[str, str]]:
    """What a stage that trains makes: its model."""

    def made(space: Workspace) -> dict[str, str]:
        folder = space.model(name)
        return {"model": of_folder(folder)} if folder.is_dir() else {}

    return made


def _preferences_made(space: Workspace) -> dict[str, str]:
    return {"preferences": of_rows(preferences_of(space))} if preferences_are_there(space) else {}


def _answers_made(space: Workspace) -> dict[str, str]:
    path = space.directory / "evaluation" / "answers.jsonl"
    return {"answers.jsonl": of_file(path)} if path.is_file() else {}


_STAGES: Mapping[StageName, Stage] = {
    "sft": Stage(check_fine_tuning, fine_tuning_reads, fine_tuning, _model_of("sft")),
    "preferences": Stage(
        check_collecting, collecting_reads, collect_preferences, _preferences_made, files_of_preferences
    ),
    "reward": Stage(check_reward_modelling, reward_modelling_reads, reward_modelling, _model_of("reward")),
    **{name: Stage(check_practising, practising_reads, practising, _model_of(name)) for name in ONLINE},
    "dpo": Stage(check_preferring, preferring_reads, preferring, _model_of("dpo")),
    "evaluation": Stage(check_evaluation, evaluation_reads, evaluation, _answers_made),
}


def _run(stages: Sequence[StageName], recipe: Recipe, directory: Path, display: Display) -> Summary:
    space = checked(stages, recipe, directory, display)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{directory} cannot be made ({error.strerror}); choose another folder with --dir") from error
    with occupied(directory):
        write_text(directory / "resolved.yaml", dump_recipe(recipe))
        _announce(stages, space)
        for name in stages:
            _make(name, space)
        return _finish(space)


def _announce(stages: Sequence[StageName], space: Workspace) -> None:
    """Say before the first stage which will be made anew, and why, as far as it is known by now."""
    unsettled: list[StageName] = []
    lines = []
    for name in stages:
        decision, waits = _foreseen(name, space, unsettled)
        if waits or decision.action != "keep":
            unsettled.append(name)
        if waits or decision.action == "make anew":
            following = [f"{STAGES[one]} is made anew" for one in waits]
            lines.append(f"  {STAGES[name]}, because {'; '.join([*decision.reasons, *following])}")
            lines[-1] += "" if decision.reasons else " (kept if that comes out as it was)"
    if lines:
        space.display.note("\n".join(["what is made anew in this run:", *lines]))


def _foreseen(
    name: StageName, space: Workspace, unsettled: Sequence[StageName]
) -> tuple[Decision, Sequence[StageName]]:
    """What would be done about a stage if those in `unsettled` came out as they were, and from which of them it
    follows."""
    folder, settings = space.directory / name, settings_of(space.recipe, name)
    lineage = Lineage.read(folder)
    if lineage is None or not holds_work(folder):
        return decide(folder, Made(name, settings, {}), {}), ()
    before = lineage.made.inputs
    try:
        now = _STAGES[name].reads(space)
    except UserError:  # of what is yet to be made
        now = dict(before)
    makers = {key: made[0] for key, one in (*before.items(), *now.items()) if (made := maker(one.source))}
    now |= {key: one for key, one in before.items() if makers.get(key) in unsettled}
    decision = decide(folder, Made(name, settings, now), _STAGES[name].made(space))
    return decision, [one for one in unsettled if one in makers.values()]


def _make(name: StageName, space: Workspace) -> None:
    """Keep the stage that is in the folder, go on with it, or make it; what was there before is put aside."""
    stage, folder = _STAGES[name], space.directory / name
    made = Made(name, settings_of(space.recipe, name), stage.reads(space))
    space.keys[name] = made.key
    decision = decide(folder, made, stage.made(space))
    if decision.action == "keep":
        space.display.note(decision.sentence())
        space.reports[name] = report_of(space.directory, name)
    else:
        found = None if decision.action == "go on" else _look(name, space)
        if decision.action == "make anew":
            _refuse(found, space)  # while everything is where it was
            kept = space.name(put_aside(space.directory, name, stage.beside(space)))
            space.display.note(f"{decision.sentence()}; what was there is kept in {kept}")
        Lineage(made, {}, versions(), resumptions(folder) if decision.action == "go on" else ()).write(folder)
        if found is not None:
            write_json(folder / "preflight.json", Checked((found,)).to_json())
            _refuse(found, space)
        stage.work(space)
        Lineage(made, stage.made(space), versions(), resumptions(folder)).write(folder)
    discard(folder / CHECKPOINTS)


def _look(name: StageName, space: Workspace) -> Preflight | None:
    """What the preflight of a stage finds, shown; None where the recipe wants none."""
    if space.recipe.preflight == "off":
        return None
    found = preflight(space, name)
    space.display.note(found.brief())
    return found


def _refuse(found: Preflight | None, space: Workspace) -> None:
    """UserError where something is red and the recipe says stop."""
    red = [] if found is None else [one for one in found.findings if one.verdict == "red"]
    if found and red and space.recipe.preflight == "stop" and found.stage != "evaluation":  # which spoils nothing
        raise UserError(
            f"{STAGES[found.stage]} was not started, for {' and '.join(f'“{one.check}”' for one in red)} would spoil "
            "it (see above); mend it, or go on all the same with --preflight say"
        )


def checked(stages: Sequence[StageName], recipe: Recipe, directory: Path, display: Display) -> Workspace:
    """The stages' workspace, with all that can be known to be wrong said as a UserError; nothing is written."""
    set_up()
    supervised = directory / "sft" / "model" if "sft" in stages else start(recipe, directory)
    space = open_workspace(recipe, directory, display, supervised, stages)
    _check(space)
    return space


def start(recipe: Recipe, directory: Path) -> Path:
    """What preferences, reward model and policy start from where no supervised fine-tuning comes before them.

    The folder's fine-tuned model, if it was made from the recipe's own; else the recipe's own.
    """
    trained = directory / "sft" / "model"
    base = report_of(directory, "sft").get("base")
    if trained.is_dir() and base is not None and _same(Path(base), Path(recipe.model.path)):
        return trained
    return base_of(recipe)


def _check(space: Workspace) -> None:
    """UserError for all that can be known before the first step: models, templates, files, rewards, settings."""
    start = space.base if "sft" in space.stages else space.supervised
    space.chat(inspect_language_model(start))
    for name, stage in _STAGES.items():
        if name in space.stages:
            stage.check(space)


def _finish(space: Workspace) -> Summary:
    before = _built_on(space)
    known = before | space.reports
    summary = Summary.of(
        stages={name: known[name] for name in STAGES if name in known},
        seconds=sum(float(facts["seconds"]) for facts in known.values()),
        peak_mb=max(float(facts["peak_mb"]) for facts in known.values()),
        seed=space.recipe.seed,
        versions=versions(),
        directory=space.directory,
        method=space.recipe.method,
    )
    write_json(space.directory / "summary.json", summary.to_json())
    write_report(space.directory)
    return summary


def _built_on(space: Workspace) -> dict[str, Facts]:
    """Reports of earlier runs in this folder whose models this one started from or was judged by."""
    names: list[StageName] = []
    if "sft" not in space.stages and _same(space.supervised, space.model("sft")):
        names.append("sft")
    if space.recipe.method in space.stages and "reward" not in space.stages and _leans_on_a_reward_model(space):
        names += ["preferences", "reward"]
    found = {name: report_of(space.directory, name) for name in names}
    return {name: facts for name, facts in found.items() if facts}


def _leans_on_a_reward_model(space: Workspace) -> bool:
    """Whether the folder's reward model is what the policy practised for, or its judge."""
    if space.reports.get("evaluation", {}).get("judge") == "reward":
        return True
    rewards = (term.path for term in space.recipe.rl.reward if term.kind == "model")
    practises = space.recipe.method in ONLINE
    return practises and any(path is None or _same(Path(path), space.model("reward")) for path in rewards)


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()
