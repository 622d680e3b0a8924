"""`keel loop`: round after round with the new policy's own answers."""

from __future__ import annotations

from collections.abc import Sequence

from keel.commands.recipes import RUN, RecipeArguments, directory_after, display_of, recipe_of, report, written
from keel.errors import UserError

_ROUNDS = 2


def loop(argv: Sequence[str]) -> None:
    """keel loop RECIPE [--rounds N] [--dir DIR] [--FIELD VALUE ...] [--json]"""
    arguments = RecipeArguments(
        "loop",
        "Run a recipe again and again: from the second round on, the answers that are compared are those of the policy "
        "of the round before, and the reward model learns from the judgements of all rounds.",
        "keel loop mine/recipe.yaml --rounds 3 --dir runs/mine",
        shown=RUN,
    )
    arguments.add_argument("recipe", metavar="RECIPE", help="the YAML file")
    arguments.add_argument("--rounds", type=int, default=_ROUNDS, metavar="N", help=f"how many; {_ROUNDS} unless given")
    given = arguments.read(argv)
    if given.rounds < 1:
        raise UserError(f"--rounds {given.rounds}: there is at least one")
    recipe = recipe_of(given, written(given.recipe))

    from keel import rounds

    report(rounds.loop(recipe, given.rounds, directory_after(recipe, given.recipe), display_of(given)), given)
