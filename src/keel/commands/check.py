"""`keel check`: what is wrong with a recipe's data and models, before anything runs."""

from __future__ import annotations

import json
from collections.abc import Sequence

from keel.commands.recipes import EVERYTHING, RecipeArguments, directory_after, display_of, recipe_of, written

RED = 3
"""Exit status where something is red; 1 is a bug and 2 a mistake in the input, as everywhere."""


def check(argv: Sequence[str]) -> int:
    """keel check RECIPE [--dir DIR] [--FIELD VALUE ...] [--json]"""
    arguments = RecipeArguments(
        "check",
        "Look for what would spoil a run: answers that never end, empty masks, a wrong chat template, a reward that "
        "is the same for all, data that is cut off or comes twice, too little memory. Each finding is ok, amber or "
        "red, with a remedy. It takes seconds and writes nothing. Exit status: 0 where nothing is red, 3 where "
        "something is, 2 where the recipe cannot be read. Every field of the recipe is a flag.",
        "keel check mine/recipe.yaml",
        shown=EVERYTHING,
    )
    arguments.add_argument("recipe", metavar="RECIPE", help="the YAML file")
    given = arguments.read(argv)
    recipe = recipe_of(given, written(given.recipe))
    directory = directory_after(recipe, given.recipe)

    from rich.console import Console

    from keel import pipeline
    from keel.preflight.stages import check as checked

    found = checked(pipeline.checked(pipeline.stages_of(recipe), recipe, directory, display_of(given)))
    console = Console(highlight=False)
    if given.json:
        print(json.dumps(found.to_json(), indent=2))
    elif console.is_terminal and not console.no_color:
        for line in found.lines(colours=True):
            console.print(line, no_wrap=True, overflow="ignore", crop=False)
    else:
        print(found)
    return RED if found.verdict == "red" else 0
