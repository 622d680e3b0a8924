"""Several methods on one task and one set of seeds: what each makes of the same supervised model and preferences.

    DIR/seed-0/before      SFT, preferences and reward model, once for each seed
    DIR/seed-0/ppo         a whole run for each method, which begins with those (its folder has them too)
    DIR/methods.json       what came of all of them

Every trial is a run like any other, with a report of its own; the same command goes on where it was stopped.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, combinations
from pathlib import Path
from typing import Any

from keel import pipeline
from keel.config import OFFLINE, ONLINE, Recipe
from keel.config.load import build
from keel.config.section import leaves
from keel.config.source import Source, Trail
from keel.data.nearest import did_you_mean
from keel.data.place import DATABASE
from keel.data.write import new_folder, reason, write_json
from keel.diagnostics.bout import Bout, Trial
from keel.display import Display, SilentDisplay
from keel.errors import UserError
from keel.stages.lineage import Lineage, StageName
from keel.stages.occupied import occupied
from keel.stages.reuse import holds_work, put_aside
from keel.summary import STAGES, Summary

LOSSES = ("ipo", "cdpo", "robust", "kto", "orpo", "simpo")
"""Losses of dpo that may be named as a method of their own."""
NAMES = (*ONLINE, *OFFLINE, *LOSSES)
"""What can be compared."""
_SHARED: tuple[StageName, ...] = ("sft", "preferences", "reward")
_OWN = ("rl", "dpo")
"""Sections in which methods may differ: by any other they would not begin with the same, or not be judged alike."""
_SECTIONS = frozenset(
    section for name, _ in leaves(Recipe) for section in accumulate(name.split(".")[:-1], "{}.{}".format)
)


@dataclass(frozen=True)
class Change:
    """A field that a method's recipe has otherwise than the common one, and where that is said."""

    field: str
    value: Any
    origin: str


@dataclass(frozen=True)
class Contender:
    """A method under the name that it has here, and what its recipe says otherwise than the common one."""

    name: str
    changes: tuple[Change, ...]


def contenders(names: Sequence[str], said: Source) -> list[Contender]:
    """The methods with these names. `said` has, by method, what its recipe says otherwise: `grpo: {rl.kl.coef: 0.1}`.

    UserError for a method that there is not, one named twice, and for what no method may say for itself alone.
    """
    for place, name in enumerate(names):
        _known(name, "")
        if name in names[:place]:
            raise UserError(f"method {name} is named twice; name each once")
    for name, settings in said.values.items():
        _known(name, f"{said.origin((name,)) or 'settings'}: ")
        if not isinstance(settings, Mapping):
            at = said.origin((name,)) or "settings"
            raise UserError(f"{at}: {name} must hold settings, as in `{name}: {{rl.kl.coef: 0.1}}`")
    changes = {name: tuple(_changes(name, said)) for name in said.values}
    return [Contender(name, (*_chosen(name), *changes.get(name, ()))) for name in names]


def compare(
    source: Source, methods: Sequence[Contender], seeds: Sequence[int], directory: Path, display: Display
) -> Bout:
    """Runs every method from every seed. Raises UserError as `pipeline.run` does, and before the first of them runs
    where a recipe cannot be."""
    recipes = {(seed, one.name): _recipe(source, one, seed) for seed in seeds for one in methods}
    _check({one.name: recipes[seeds[0], one.name] for one in methods}, directory / f"seed-{seeds[0]}")
    bout = Bout((), {})
    for seed in seeds:
        folder = directory / f"seed-{seed}"
        # the stages before the policy are the same for all, but a method straight from preferences has no reward model
        fullest = max((recipes[seed, one.name] for one in methods), key=lambda one: len(_shared(one)))
        if _shared(fullest):
            display.note(f"seed {seed}: what all methods begin with")
            pipeline.run_before(fullest, folder / "before", display)
        for one in methods:
            recipe = recipes[seed, one.name]
            display.note(f"seed {seed}: {one.name}")
            _begin(folder / "before", folder / one.name, _shared(recipe), display)
            summary = pipeline.run(recipe, folder / one.name, display)
            bout = bout.with_trial(_trial(one.name, seed, summary, directory), summary.title)
            write_json(directory / "methods.json", bout.to_json())
    return bout


def _known(name: str, place: str) -> None:
    if name not in NAMES:
        raise UserError(f"{place}there is no method '{name}'{did_you_mean(name, NAMES)}; there are {', '.join(NAMES)}")


def _chosen(name: str) -> tuple[Change, ...]:
    """What the name itself says."""
    if name in LOSSES:
        return (Change("method", "dpo", f"method {name}"), Change("dpo.loss", name, f"method {name}"))
    return (Change("method", name, f"method {name}"),)


def _changes(name: str, said: Source) -> Iterator[Change]:
    found: set[str] = set()
    for trail, written, value in _fields((name,), "", said.values[name]):
        field, place = Recipe.own_name(written), said.origin(trail) or f"settings of {name}"
        if field.partition(".")[0] not in _OWN:
            raise UserError(
                f"{place}: {field} cannot be {name}'s alone, for methods are compared from the same beginnings and by "
                "the same judge; set it in the recipe, and here only what is in rl or dpo"
            )
        if name in LOSSES and field == "dpo.loss":
            raise UserError(f"{place}: {name} is dpo.loss: {name}; leave dpo.loss out here")
        if field in found:
            raise UserError(f"{place}: {field} is given twice for {name}; keep one of them")
        found.add(field)
        yield Change(field, value, place)


def _fields(trail: Trail, dotted: str, value: Any) -> Iterator[tuple[Trail, str, Any]]:
    """The fields of a mapping, `{rl.kl.coef: 0.1}` and `{rl: {kl: {coef: 0.1}}}` alike; what is left empty says
    nothing."""
    section = not dotted or Recipe.own_name(dotted) in _SECTIONS
    if section and isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _fields((*trail, key), f"{dotted}.{key}" if dotted else key, inner)
    elif not section or value is not None:
        yield trail, dotted, value


def _recipe(source: Source, one: Contender, seed: int) -> Recipe:
    for change in one.changes:
        source = source.overridden(change.field, change.value, change.origin)
    with _of_method(one.name):
        return build(source.overridden("seed", seed, "--seeds"), Recipe)


def _check(recipes: Mapping[str, Recipe], folder: Path) -> None:
    """UserError for all that can be known before the first trial; one seed's recipes stand for those of all."""
    for (one, mine), (other, theirs) in combinations(recipes.items(), 2):
        if mine == theirs:
            raise UserError(f"{one} and {other} come to the same recipe here; leave one of them out")
    for name, recipe in recipes.items():
        with _of_method(name):
            stages = pipeline.stages_of(recipe)
            if recipe.method not in stages:
                needs = "rl.prompts" if recipe.method in ONLINE else "dpo.data, reward.data or preferences.labels.data"
                raise UserError(f"the recipe has nothing that it could learn from; give {needs}")
            pipeline.checked(stages, recipe, folder / name, SilentDisplay())


@contextmanager
def _of_method(name: str) -> Iterator[None]:
    """Says of which method's recipe a UserError is."""
    try:
        yield
    except UserError as error:
        raise UserError(f"method {name}: {error}") from error


def _shared(recipe: Recipe) -> list[StageName]:
    return [name for name in pipeline.stages_of(recipe) if name in _SHARED]


def _begin(before: Path, place: Path, stages: Sequence[StageName], display: Display) -> None:
    """The stages that methods share, in the folder of one of them; what was made otherwise there is put aside."""
    place.mkdir(parents=True, exist_ok=True)
    with occupied(place):
        for stage in stages:
            held, target = before / stage, place / stage
            if _result(held) == _result(target):
                continue
            beside = sorted(before.glob(f"{DATABASE}*")) if stage == "preferences" else []
            if holds_work(target):
                aside = put_aside(place, stage, [place / file.name for file in beside])
                display.note(f"{STAGES[stage]}: that of {before}; what was there is kept in {aside}")
            for file in beside:  # before the folder, whose being there says that all is
                _copy(file, place / file.name)
            with new_folder(target) as draft:
                shutil.copytree(held, draft, copy_function=_link, dirs_exist_ok=True)


def _result(folder: Path) -> tuple[str, Mapping[str, str]] | None:
    """What a stage in this folder was made from and what it made; None where there is none."""
    lineage = Lineage.read(folder)
    return None if lineage is None else (lineage.made.key, lineage.outputs)


def _copy(file: Path, target: Path) -> None:
    draft = target.with_name(f".{target.name}.draft")
    try:
        shutil.copy2(file, draft)
        draft.replace(target)
    except OSError as error:
        raise UserError(f"{target} cannot be written ({reason(error)}); free space or choose another --dir") from error


def _link(source: str, target: str) -> None:
    """Weights, which nothing writes into once they are there, are not copied but linked."""
    if source.endswith(".safetensors"):
        try:
            os.link(source, target)
        except OSError:  # a file system without links
            shutil.copy2(source, target)
    else:
        shutil.copy2(source, target)


def _trial(name: str, seed: int, summary: Summary, directory: Path) -> Trial:
    facts = summary.stages.get("evaluation", {})
    return Trial(
        name=name,
        seed=seed,
        judge=summary.judge,
        win_rate=summary.win_rate,
        win_rate_low=summary.win_rate_low,
        win_rate_high=summary.win_rate_high,
        gold_before=summary.gold_sft,
        gold=summary.gold_policy,
        reward=summary.reward_policy,
        kl=summary.kl,
        length=facts.get(f"length_{summary.method}"),
        seconds=float(summary.stages[summary.method]["seconds"]),
        directory=summary.directory.relative_to(directory).as_posix(),
    )
