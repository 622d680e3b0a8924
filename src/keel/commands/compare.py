"""`keel compare`: several methods on one task and one set of seeds."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from keel.commands.recipes import (
    FLAGS,
    RUN,
    RecipeArguments,
    directory_after,
    display_of,
    report,
    shipped,
    written,
)
from keel.config import Recipe
from keel.config.source import Source, parse, short
from keel.errors import UserError

_METHODS = "ppo,grpo,rloo,dpo"
_SEEDS = "0,1,2"
_MANY = {"seed": "--seeds", "method": "--methods"}
"""Fields of which a comparison takes several values, each by a flag of its own."""


def compare(argv: Sequence[str]) -> int | None:
    """keel compare [RECIPE] [--methods A,B] [--seeds 0,1,2] [--dir DIR] [--FIELD VALUE ...] [--json]"""
    arguments = RecipeArguments(
        "compare",
        "Run several methods from the same supervised models and preferences, once for each seed, and say how often "
        "each beats SFT, what KL and time it spent, with intervals. Without a recipe it is the task of `keel demo`. On "
        "that task each method has settings of its own that come with Keel, unless --with gives others; those of "
        "--with win over the recipe, and flags over everything, for all methods. The same command goes on where it was "
        "stopped, and with one more method or seed runs only what is new and keeps the others in the table. A method "
        "that fails leaves the others to go on, and the exit status is then 2.",
        "keel compare mine/recipe.yaml --methods ppo,grpo,ipo --seeds 0,1,2",
        shown=[name for name in RUN if name not in _MANY],
    )
    arguments.add_argument("recipe", metavar="RECIPE", nargs="?", help="the YAML file that all methods share")
    arguments.add_argument(
        "--methods",
        default=_METHODS,
        metavar="A,B",
        help=f"default: {_METHODS}; docs/algorithms.md has them all, and losses of dpo such as ipo count as methods",
    )
    arguments.add_argument("--seeds", default=_SEEDS, metavar="N,M", help=f"default: {_SEEDS}")
    arguments.add_argument(
        "--with", dest="own", metavar="FILE", help="YAML: what a method's recipe says otherwise, such as `grpo: {…}`"
    )
    given = arguments.read(argv)
    for field, flag in _MANY.items():
        if field in given:
            raise UserError(f"--{field}: a comparison has several; give them with {flag}")
    seeds = _seeds(given.seeds)
    source = written(given.recipe) if given.recipe else shipped("town_desk")
    source = FLAGS.apply(vars(given), source.renamed(Recipe.other_names))
    said = _said(given.own, source)
    flags = [Recipe.own_name(name) for name in vars(given)]

    from keel import trials

    names = [one.strip() for one in given.methods.split(",")]
    methods = trials.contenders(names, said, flags)
    others = trials.contenders([one for one in trials.NAMES if one not in names], said, flags)
    directory = directory_after(trials.common(source, methods), given.recipe or "compared.yaml")
    display = display_of(given)
    if given.own is None and (own := [one for one in names if one in said.values]):
        display.note(
            f"settings that come with Keel for this task are used for {', '.join(own)} (tasks/town_desk/methods.yaml); "
            "flags win over them, and --with FILE gives others"
        )
    found = trials.compare(source, methods, seeds, directory, display, others)
    report(found, given)
    if not given.json:
        print(f"\nThe page is in {directory / 'methods.html'}")
    for sentence in found.failures:
        print(f"keel: error: {sentence}", file=sys.stderr)
    return 2 if found.failures else None


def _seeds(text: str) -> list[int]:
    words = [one.strip() for one in text.split(",")]
    seeds = [int(one) for one in words if re.fullmatch("[0-9]{1,19}", one)]
    if len(seeds) < len(words) or len(set(seeds)) < len(seeds):
        raise UserError(f"--seeds {short(text)}: give different whole numbers, as in {_SEEDS}")
    return seeds


def _said(path: str | None, source: Source) -> Source:
    """By method, what its recipe says otherwise. What comes with Keel is for its own task."""
    if path is None:
        task = source.values.get("task", Recipe.model_fields["task"].default)
        return _of_the_task() if task == "town_desk" else Source()
    if not Path(path).is_file():
        raise UserError(f"--with {short(path)}: there is no such file; it holds lines such as `grpo: {{rl.clip: 0.1}}`")
    return written(path)


def _of_the_task() -> Source:
    """What suits the methods on the built-in task."""
    path = files("keel") / "tasks" / "town_desk" / "methods.yaml"
    source: Source = parse(path.read_text(encoding="utf-8"), "tasks/town_desk/methods.yaml")
    return source
