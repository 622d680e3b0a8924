"""What the commands that run a recipe have in common: reading it, choosing the folder, reporting."""

from __future__ import annotations

import argparse
import json
from collections.abc import Collection, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from keel.commands.arguments import Arguments
from keel.config import Recipe
from keel.config.flags import Flags
from keel.config.load import build, nearest, read
from keel.config.source import Source, parse
from keel.data.place import place
from keel.display import Display, SilentDisplay, for_terminal
from keel.errors import UserError

FLAGS = Flags(Recipe)
EVERYTHING = tuple(Recipe.model_fields)
RUN = ("dir", "seed", "device", "dtype", "threads")
"""Fields that every command which trains shows in its help."""


@runtime_checkable
class Reportable(Protocol):
    """What a run gives back: `str()` is for people, `to_json()` for programs."""

    def to_json(self) -> dict[str, Any]: ...


class RecipeArguments(Arguments):
    """A command line that may set every recipe field."""

    def __init__(
        self,
        command: str,
        about: str,
        example: str,
        shown: Collection[str],
        short: Mapping[str, str] | None = None,
        section: str | None = None,
        flags: Flags = FLAGS,
    ) -> None:
        super().__init__(command, about, example)
        self.usage = f"{example}\n       keel {command} ... [--FIELD VALUE ...] [--json]"
        self.epilog = None
        self.add_argument("--json", action="store_true", help="print the result as one JSON object, and nothing else")
        self._section = command if section is None else section
        self._flags = flags
        self._short = short or {}
        self._shown = shown

    def read(self, argv: Sequence[str]) -> argparse.Namespace:
        """The values of the command line; recipe fields stand under their dotted names."""
        self._flags.add(self, "run", self._shown, self._short)
        for name in {token[2:].partition("=")[0] for token in argv if token.startswith("--")}:
            if self._flags.names_entry(name):
                self.add_argument(f"--{name}", default=argparse.SUPPRESS)
        return super().read(argv)

    def unknown(self, flag: str) -> str:
        """A mistyped flag is first looked for in the command's own section."""
        name = flag.removeprefix("--")
        guess = nearest(f"{self._section}.{name}") or nearest(name)
        return f"there is no flag {flag}" + (f" (did you mean --{guess}?)" if guess else "")


def recipe_of(given: argparse.Namespace, source: Source) -> Recipe:
    """The recipe, with the flags of the command line in place of what the source says."""
    return build(FLAGS.apply(vars(given), source.renamed(Recipe.other_names)), Recipe)


def written(path: str) -> Source:
    """What a recipe file of the user's says."""
    return read(Path(path))


def shipped(name: str) -> Source:
    """What a recipe that comes with Keel says."""
    return parse((files("keel") / "recipes" / f"{name}.yaml").read_text(encoding="utf-8"), f"recipes/{name}.yaml")


def own() -> Source:
    """No recipe at all: the user's own model and data, with the defaults of the papers."""
    return Source({"task": None})


def directory_of(recipe: Recipe, name: str) -> Path:
    """The folder to fill: the recipe's, or runs/NAME."""
    return free_of_files(Path(recipe.dir) if recipe.dir else Path("runs") / name)


def directory_after(recipe: Recipe, file: str) -> Path:
    """The folder to fill: the recipe's, or runs/NAME after its file, or after that one's folder for a recipe.yaml."""
    path = Path(file)
    return directory_of(recipe, path.stem if path.stem != "recipe" else path.resolve().parent.name)


def free_of_files(directory: Path) -> Path:
    """The same path, its ~ resolved; UserError where a file is in the way of making it a folder."""
    folder = place(directory)
    for each in (folder, *folder.parents):
        if each.exists() and not each.is_dir():
            raise UserError(f"{each} is a file, so {folder} cannot be a folder; choose another")
    return folder


def display_of(given: argparse.Namespace) -> Display:
    """Nothing but the JSON with --json, else what suits the terminal."""
    return SilentDisplay() if given.json else for_terminal()


def report(summary: Reportable, given: argparse.Namespace) -> None:
    """Prints the result of a run, for people or as JSON."""
    print(json.dumps(summary.to_json(), indent=2) if given.json else summary)
