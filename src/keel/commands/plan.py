"""`keel plan`: what a recipe will take, before it runs."""

from __future__ import annotations

from collections.abc import Sequence

from keel.commands.recipes import EVERYTHING, RecipeArguments, directory_after, display_of, recipe_of, report, written
from keel.data.place import place


def plan(argv: Sequence[str]) -> None:
    """keel plan RECIPE [--against DIR] [--FIELD VALUE ...] [--json]"""
    arguments = RecipeArguments(
        "plan",
        "Predict the memory of each role and the time of each hop: a shortened model of the shape is timed for a few "
        "seconds on batches of the recipe's own data. Nothing is written. Every field of the recipe is a flag.",
        "keel plan mine/recipe.yaml --rl.batch_size 256",
        shown=EVERYTHING,
    )
    arguments.add_argument("recipe", metavar="RECIPE", help="the YAML file")
    arguments.add_argument("--against", metavar="DIR", help="a finished run of the recipe, to be shown beside the plan")
    given = arguments.read(argv)
    recipe = recipe_of(given, written(given.recipe))
    directory = directory_after(recipe, given.recipe)

    from keel import pipeline
    from keel.planning.plan import plan_of

    space = pipeline.checked(pipeline.stages_of(recipe), recipe, directory, display_of(given))
    report(plan_of(space, None if given.against is None else place(given.against)), given)
