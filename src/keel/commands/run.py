"""`keel run`: every stage of a recipe."""

from __future__ import annotations

from collections.abc import Sequence

from keel.commands.recipes import EVERYTHING, RecipeArguments, directory_after, display_of, recipe_of, report, written


def run(argv: Sequence[str]) -> None:
    """keel run RECIPE [--dir DIR] [--FIELD VALUE ...] [--json]"""
    arguments = RecipeArguments(
        "run",
        "Run every stage of a recipe: fine-tuning, preferences, reward model, PPO, evaluation, report. "
        "Every field of the recipe is a flag, its value written as in the file.",
        "keel run mine/recipe.yaml --dir runs/mine --rl.kl.coef 0.02",
        shown=EVERYTHING,
    )
    arguments.add_argument("recipe", metavar="RECIPE", help="the YAML file")
    given = arguments.read(argv)
    recipe = recipe_of(given, written(given.recipe))
    directory = directory_after(recipe, given.recipe)

    from keel import pipeline

    report(pipeline.run(recipe, directory, display_of(given)), given)
