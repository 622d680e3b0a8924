"""Several methods on one task and one set of seeds: what each makes of the same supervised model and preferences.

    DIR/seed-0/before      SFT, preferences and reward model, once for each seed
    DIR/seed-0/ppo         a whole run for each method, which begins with those (its folder has them too)
    DIR/methods.json       what came of all of them
    DIR/methods.html       the same as a page

Every trial is a run like any other, with a report of its own; the same command goes on where it was stopped. Trials of
earlier commands stay in the table as long as the same recipe would make them as they are.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from itertools import accumulate, combinations
from pathlib import Path
from typing import Any, Literal

from keel import pipeline
from keel.config import OFFLINE, ONLINE, Dpo, Recipe
from keel.config.load import build
from keel.config.section import leaves
from keel.config.source import Source, Trail
from keel.config.supervised import USED_BY
from keel.data.nearest import did_you_mean
from keel.data.place import DATABASE
from keel.data.write import new_folder, reason, write_json
from keel.diagnostics.bout import Bout, Trial
from keel.diagnostics.methods_page import write_methods
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
_GIVEN = ("rl.prompts", "rl.columns", "rl.reward", "dpo.data", "dpo.columns")
"""What they are given to learn from, in which they may not differ either."""
_KIND = ("credit", "surrogate", "ratio", "clip_high", "mean", "whiten", "kl.place", "kl.estimator")
"""Choices of rl that tell any two online methods apart; rates and sizes make no other method."""
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


def contenders(names: Sequence[str], said: Source, flags: Collection[str] = ()) -> list[Contender]:
    """The methods with these names. `said` has, by method, what its recipe says otherwise: `grpo: {rl.kl.coef: 0.1}`.
    The fields in `flags` have been given on the command line, which wins.

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
    changes = {name: [one for one in _changes(name, said) if one.field not in flags] for name in said.values}
    return [Contender(name, (*_chosen(name), *changes.get(name, ()))) for name in names]


def common(source: Source, methods: Sequence[Contender]) -> Recipe:
    """The recipe that all methods share, without what is for the losses of some of them only."""
    return build(_without(source, _idle(source, _loss(source), _losses(source, methods))), Recipe)


def compare(
    source: Source,
    methods: Sequence[Contender],
    seeds: Sequence[int],
    directory: Path,
    display: Display,
    others: Sequence[Contender] = (),
) -> Bout:
    """Runs every method from every seed, and writes table and page after each of them.

    A trial that fails is named in `Bout.failures`, and the rest goes on. `others` are methods that are not run: where
    they and other seeds were run before from the same recipe, they stay in the table. Raises UserError before the first
    of them runs where a recipe cannot be.
    """
    losses = _losses(source, methods)
    recipes = {(seed, one.name): _recipe(source, one, seed, losses) for seed in seeds for one in methods}
    _check({one.name: recipes[seeds[0], one.name] for one in methods}, directory / f"seed-{seeds[0]}")
    for one in methods:
        for name in _idle(source, _loss(source, one), losses):
            display.note(f"{one.name}: without dpo.{name}, for which dpo.loss: {_loss(source, one)} has no use")
    found = _known_trials(source, [*methods, *others], directory)
    failures: list[str] = []

    def write() -> Bout:
        order = [*seeds, *sorted({seed for seed, _ in found} - set(seeds))]
        places = [(seed, one.name) for seed in order for one in (*methods, *others) if (seed, one.name) in found]
        trials = tuple(found[place][0] for place in places)
        titles = {one.name: found[place][1] for one in (*methods, *others) for place in places if place[1] == one.name}
        bout = Bout(trials, titles, _alike_before(list(recipes.values())), tuple(failures))
        write_json(directory / "methods.json", bout.to_json())
        write_methods(bout, directory / "methods.html")
        return bout

    for seed in seeds:
        folder = directory / f"seed-{seed}"
        mine = {one.name: recipes[seed, one.name] for one in methods}
        try:
            _run_before(seed, mine.values(), folder / "before", display)
        except UserError as error:
            failures.append(f"seed {seed}, what all methods begin with: {error}")
            display.note(failures[-1])
            continue
        for name, recipe in mine.items():
            display.note(f"seed {seed}: {name}")
            try:
                _begin(folder / "before", folder / name, _shared(recipe), display)
                summary = pipeline.run(recipe, folder / name, display)
            except UserError as error:
                found.pop((seed, name), None)
                failures.append(f"method {name}, seed {seed}: {error}")
                display.note(failures[-1])
            else:
                found[seed, name] = _trial(name, seed, recipe, summary, directory), summary.title
            write()
    return write()


def _run_before(seed: int, recipes: Iterable[Recipe], place: Path, display: Display) -> None:
    """The stages before the policy, which are the same for all, but a method straight from preferences has no reward
    model."""
    fullest = max(recipes, key=lambda one: len(_shared(one)))
    if _shared(fullest):
        display.note(f"seed {seed}: what all methods begin with")
        pipeline.run_before(fullest, place, display)


def _known_trials(
    source: Source, methods: Sequence[Contender], directory: Path
) -> dict[tuple[int, str], tuple[Trial, str]]:
    """By seed and name the trials that are there, with their titles, if the recipe would make them as they are."""
    found: dict[tuple[int, str], tuple[Trial, str]] = {}
    for folder in directory.glob("seed-*"):
        for one in methods:
            number = folder.name.removeprefix("seed-")
            place = folder / one.name
            if not (re.fullmatch("[0-9]{1,19}", number) and (place / "summary.json").is_file()):
                continue
            try:
                recipe = _recipe(source, one, int(number), ("dpo", *LOSSES))
                if pipeline.is_finished(recipe, place):
                    summary = Summary.read(place / "summary.json")
                    found[int(number), one.name] = (
                        _trial(one.name, int(number), recipe, summary, directory),
                        summary.title,
                    )
            except UserError:  # no trial of this recipe
                continue
    return found


def _alike_before(recipes: Sequence[Recipe]) -> tuple[Literal["sft", "preferences", "reward"], ...]:
    """The stages that all methods with a use for them begin with."""
    stages = {name for recipe in recipes for name in _shared(recipe)}
    trained = "reward" in stages and any(_learns_from_own_reward(recipe) for recipe in recipes)
    straight = [recipe for recipe in recipes if recipe.method in OFFLINE]
    gathered = (trained or bool(straight)) and all(recipe.dpo.data is None for recipe in straight)
    held = {"sft": True, "preferences": gathered, "reward": trained}
    return tuple(name for name in ("sft", "preferences", "reward") if name in stages and held[name])


def _learns_from_own_reward(recipe: Recipe) -> bool:
    return recipe.method in ONLINE and any(one.kind == "model" and one.path is None for one in recipe.rl.reward)


def _loss(source: Source, one: Contender | None = None) -> str:
    """dpo.loss of the recipe, or of a method's."""
    chosen = [change.value for change in one.changes if change.field == "dpo.loss"] if one else []
    section = source.values.get("dpo")
    stated = section.get("loss") if isinstance(section, Mapping) else None
    return str(chosen[-1] if chosen else stated or Dpo().loss)


def _losses(source: Source, methods: Sequence[Contender]) -> set[str]:
    """Those of the methods that learn from preferences or in pairs."""
    return {_loss(source, one) for one in methods if one.name not in ONLINE or one.name == "online-dpo"}


def _idle(source: Source, loss: str, losses: Collection[str]) -> list[str]:
    """The fields of dpo that the recipe gives for one of `losses`, and for which `loss` has no use."""
    section = source.values.get("dpo")
    given = section if isinstance(section, Mapping) else {}
    return [
        name
        for name, users in USED_BY.items()
        if loss not in users
        and given.get(name, Dpo.model_fields[name].default) != Dpo.model_fields[name].default
        and any(other in users for other in losses)
    ]


def _without(source: Source, idle: Iterable[str]) -> Source:
    for name in idle:
        source = source.overridden(f"dpo.{name}", Dpo.model_fields[name].default, "its default")
    return source


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
        if field.partition(".")[0] not in _OWN or any(f"{field}.".startswith(f"{one}.") for one in _GIVEN):
            raise UserError(
                f"{place}: {field} cannot be {name}'s alone, for methods are compared from the same beginnings and by "
                "the same judge; set it in the recipe, and here only how a method learns (rl, dpo)"
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


def _recipe(source: Source, one: Contender, seed: int, losses: Collection[str]) -> Recipe:
    source = _without(source, _idle(source, _loss(source, one), losses))
    for change in one.changes:
        source = source.overridden(change.field, change.value, change.origin)
    with _of_method(one.name):
        return build(source.overridden("seed", seed, "--seeds"), Recipe)


def _check(recipes: Mapping[str, Recipe], folder: Path) -> None:
    """UserError for all that can be known before the first trial; one seed's recipes stand for those of all."""
    for (one, mine), (other, theirs) in combinations(recipes.items(), 2):
        if mine.method == theirs.method and mine == theirs:
            raise UserError(f"{one} and {other} come to the same recipe here; leave one of them out")
        if mine.method in ONLINE and theirs.method in ONLINE and _kind(mine) == _kind(theirs):
            raise UserError(
                f"{one} and {other} come to the same method here, for the recipe writes down the choices that would "
                f"make them differ; leave {', '.join(f'rl.{name}' for name in _KIND)} out of it, or one of the methods"
            )
    for name, recipe in recipes.items():
        with _of_method(name):
            stages = pipeline.stages_of(recipe)
            if recipe.method not in stages:
                needs = "rl.prompts" if recipe.method in ONLINE else "dpo.data, reward.data or preferences.labels.data"
                raise UserError(f"the recipe has nothing that it could learn from; give {needs}")
            pipeline.checked(stages, recipe, folder / name, SilentDisplay())


def _kind(recipe: Recipe) -> list[Any]:
    """What makes an online method the one that it is."""
    return [reduce(getattr, name.split("."), recipe.rl) for name in _KIND]


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
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{place} cannot be made ({reason(error)}); choose another --dir") from error
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


def _trial(name: str, seed: int, recipe: Recipe, summary: Summary, directory: Path) -> Trial:
    facts = summary.stages.get("evaluation", {})
    trained = [summary.method, *(["reward"] if _learns_from_own_reward(recipe) and "reward" in summary.stages else [])]
    return Trial(
        name=name,
        seed=seed,
        judge=summary.judge,
        win_rate=summary.win_rate,
        win_rate_low=summary.win_rate_low,
        win_rate_high=summary.win_rate_high,
        gold_before=summary.gold_sft,
        gold=summary.gold_policy,
        gain_low=facts.get("gold_gain_low"),
        gain_high=facts.get("gold_gain_high"),
        reward=summary.reward_policy,
        kl=summary.kl,
        length=facts.get(f"length_{summary.method}"),
        seconds=sum(float(summary.stages[stage]["seconds"]) for stage in trained),
        directory=summary.directory.relative_to(directory).as_posix(),
    )
