"""`keel init`: a commented recipe to start from."""

from __future__ import annotations

import json
from collections.abc import Sequence

from keel.commands.recipes import RecipeArguments, free_of_files, own, recipe_of, shipped
from keel.config import dump_recipe
from keel.data.place import place
from keel.data.write import write_text
from keel.errors import UserError


def init(argv: Sequence[str]) -> None:
    """keel init DIR [--model PATH] [--FIELD VALUE ...] [--json]"""
    arguments = RecipeArguments(
        "init",
        "Write DIR/recipe.yaml: every field with its meaning. Without --model it is the recipe of `keel demo`; with "
        "it, one for your own model and data with the defaults of the papers. Fields can be set as in `keel run`.",
        "keel init mine --model ./base --sft.data notes.jsonl",
        shown=(),
        short={"model": "model.path"},
    )
    arguments.add_argument("dir_", metavar="DIR", help="folder to write recipe.yaml into; made if need be")
    given = arguments.read(argv)
    recipe = recipe_of(given, own() if "model.path" in vars(given) else shipped("town_desk"))
    path = free_of_files(place(given.dir_)) / "recipe.yaml"
    if path.exists():
        raise UserError(f"{path} exists already; choose another folder or remove it")
    write_text(path, dump_recipe(recipe, left_to_method=True))
    print(json.dumps({"recipe": str(path)}) if given.json else f"wrote {path}; `keel run {path}` runs it")
