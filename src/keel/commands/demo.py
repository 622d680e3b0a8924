"""`keel demo`: the whole pipeline on the built-in task."""

from __future__ import annotations

from collections.abc import Sequence

from keel.commands.recipes import RUN, RecipeArguments, directory_of, display_of, recipe_of, report, shipped


def demo(argv: Sequence[str]) -> None:
    """keel demo [--dir DIR] [--FIELD VALUE ...] [--json]"""
    arguments = RecipeArguments(
        "demo",
        "Town Desk: a small model learns to write notices, simulated annotators compare them, and PPO makes it "
        "better. A few minutes on two CPU cores. Other fields of the recipe are flags too: see `keel run --help`.",
        "keel demo --dir runs/demo --seed 1",
        shown=RUN,
    )
    given = arguments.read(argv)
    recipe = recipe_of(given, shipped("town_desk"))
    directory = directory_of(recipe, "demo")

    from keel import pipeline

    report(pipeline.run(recipe, directory, display_of(given)), given)
