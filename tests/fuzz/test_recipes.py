"""Recipes and flags: a recipe that survives being written down, or one sentence; only what was understood runs."""

from __future__ import annotations

import contextlib
import io
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import keel
from keel import cli
from keel.config import Recipe, dump_recipe, load_recipe
from keel.errors import UserError

from . import recipes
from .budget import cases

LONGEST = 1000


class Finished:
    """What a pipeline gives back."""

    def to_json(self) -> dict[str, Any]:
        return {}


class Pipeline(ModuleType):
    """Stands in for keel.pipeline, and remembers the recipes that it was to run."""

    def __init__(self) -> None:
        super().__init__("keel.pipeline")
        self.started: list[Recipe] = []

    def run(self, recipe: Recipe, directory: Path, display: Any) -> Finished:
        self.started.append(recipe)
        return Finished()


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> Iterator[Pipeline]:
    """A pipeline that trains nothing, and an empty folder to be in."""
    fake = Pipeline()
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(folder):
        patch.setitem(sys.modules, "keel.pipeline", fake)
        patch.setattr(keel, "pipeline", fake, raising=False)
        yield fake


def check_sentence(said: str, quoted: int = 0, names: str = "") -> None:
    """One line that is no longer than it need be and `names` something; `quoted` characters are the user's own."""
    assert not re.search(r"[\x00-\x1f\x7f\u2028\u2029\ud800-\udfff]", said), said
    assert 20 < len(said) < LONGEST + quoted, said
    assert "Traceback" not in said
    assert names in said


def check_recipe(recipe: Recipe, folder: Path) -> None:
    """What is understood is written down as it was understood."""
    again = folder / "again.yaml"
    again.write_text(dump_recipe(recipe, commented=False), encoding="utf-8")
    assert load_recipe(again) == recipe


def says(argv: list[str]) -> tuple[int, str, str]:
    """Status, standard output and error of a command line."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = cli.run(argv)
        except SystemExit as stopped:  # --help
            status = int(str(stopped.code))
    return status, out.getvalue(), err.getvalue()


def check_refusal(status: int, out: str, err: str, argv: list[str]) -> None:
    assert status == 2
    assert out == ""
    assert err.startswith("keel: error: ")
    assert err.endswith("\n")
    check_sentence(err.removeprefix("keel: error: ")[:-1], 6 * len("".join(argv)))


@cases(120)
@given(recipes.recipes)
def test_recipe_files(folder: Path, text: bytes) -> None:
    path = folder / "mine.yaml"
    path.write_bytes(text)
    try:
        recipe = load_recipe(path)
    except UserError as error:
        check_sentence(str(error), names=str(path))
        return
    check_recipe(recipe, folder)


@cases(120)
@given(st.dictionaries(recipes.names, recipes.trees | recipes.values, max_size=2))
def test_overrides(folder: Path, overrides: Mapping[str, Any]) -> None:
    try:
        recipe = load_recipe(None, overrides)
    except UserError as error:
        check_sentence(str(error))
        return
    check_recipe(recipe, folder)


@cases(60)
@given(recipes.recipes, recipes.flags)
def test_run(pipeline: Pipeline, folder: Path, text: bytes, flags: list[str]) -> None:
    (folder / "mine.yaml").write_bytes(text)
    pipeline.started.clear()
    status, out, err = says(["run", "mine.yaml", *flags])
    if status == 0 and out.startswith("usage: "):
        return
    if status == 0:
        (recipe,) = pipeline.started
        check_recipe(recipe, folder)
    else:
        check_refusal(status, out, err, flags)
        assert not pipeline.started
    assert {path.name for path in folder.iterdir()} <= {"mine.yaml", "again.yaml"}


@cases(150)
@given(
    recipes.flags,
    st.sampled_from(("new", "new/er", "", "a" * 300, "mine.yaml", "mine.yaml/x", "\udcff", "~nobody-of-this-name")),
)
def test_init(pipeline: Pipeline, folder: Path, flags: list[str], name: str) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as inside, contextlib.chdir(inside):
        Path("mine.yaml").write_text("")
        status, out, err = says(["init", name, *flags])
        made = {path for path in Path().rglob("*") if path.name != "mine.yaml"}
        if status == 0 and out.startswith("usage: "):
            return
        if status == 0:
            check_recipe(load_recipe(Path(name, "recipe.yaml")), folder)
        else:
            check_refusal(status, out, err, flags)
            assert not made


@cases(150)
@given(
    st.sampled_from([one.name for one in cli.COMMANDS]) | recipes.values,
    st.lists(recipes.values, max_size=2),
    recipes.flags,
)
@example("chat", ["a" * 300], [])
def test_command_lines(pipeline: Pipeline, folder: Path, command: str, words: list[str], flags: list[str]) -> None:
    """Of commands that lack what they need, or name what there is not."""
    if command in ("demo", "init", "help", "-h"):
        words = [*words, "--no-such-flag"]
    argv = [command, *words, *flags]
    status, out, err = says(argv)
    if status == 0:
        assert out.startswith(("usage: ", "Align ", "keel "))
    else:
        check_refusal(status, out, err, argv)
