"""A recipe as YAML, with what each key means beside it."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Collection, Iterator
from functools import reduce
from typing import Any

import yaml
from pydantic.fields import FieldInfo

from keel.config.methods import PRESETS, choices_of
from keel.config.recipe import Recipe
from keel.config.section import Section, description, inner_section
from keel.config.source import scalar

_WIDTH = 112
_PLAIN = re.compile(r"[A-Za-z_./]([A-Za-z0-9_./ -]*[A-Za-z0-9_./-])?")


CHOICES: tuple[str, ...] = tuple(
    sorted({f"rl.{name}" for preset in PRESETS.values() for name in choices_of(preset.choices)})
)
"""What makes one online method another: with these written down, a recipe could not be given another method."""


def dump_recipe(recipe: Recipe, *, commented: bool = True, left_to_method: bool = False) -> str:
    """YAML that `load_recipe` reads back to an equal recipe.

    With comments, each key has its description above it; a description that came before (every stage has an optimizer)
    is not repeated. `left_to_method`: choices that are the method's own are comments too, so that the recipe can be
    given another method.
    """
    head = ["# A Keel recipe: `keel run FILE` runs it. A key that you delete keeps its default."] if commented else []
    said: set[tuple[str, str]] | None = set() if commented else None
    own = Recipe.model_validate({"method": recipe.method})
    free = {name for name in CHOICES if left_to_method and _at(recipe, name) == _at(own, name)}
    return "\n".join([*head, *_lines(recipe, "", said, free)]) + "\n"


def _at(recipe: Recipe, dotted: str) -> Any:
    return reduce(getattr, dotted.split("."), recipe)


def _lines(section: Section, path: str, said: set[tuple[str, str]] | None, free: Collection[str]) -> Iterator[str]:
    indent = "  " * path.count(".")
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if said is not None:
            yield from _comment(name, field, indent, said)
        if isinstance(value, Section):
            yield f"{indent}{name}:"
            yield from _lines(value, f"{path}{name}.", said, free)
        else:
            mark = "# " if f"{path}{name}" in free else ""
            yield f"{indent}{mark}{name}: {inline_yaml(value)}"


def _comment(name: str, field: FieldInfo, indent: str, said: set[tuple[str, str]]) -> Iterator[str]:
    if inner_section(field) and not indent:
        yield ""
    note = description(field)
    if (name, note) not in said:
        said.add((name, note))
        yield from (f"{indent}# {line}" for line in textwrap.wrap(note, _WIDTH - len(indent), break_on_hyphens=False))


def inline_yaml(value: Any) -> str:
    """One value on one line, as YAML 1.2 (and 1.1: a number such as 3e-06 gets the dot that 1.1 asks for)."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return repr(value) if "." in repr(value) else repr(value).replace("e", ".0e")
    if isinstance(value, int):
        return repr(value)
    if isinstance(value, Section):
        return inline_yaml(dict(value))
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(inline_yaml, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_text(str(key))}: {inline_yaml(item)}' for key, item in value.items())}}}"
    return _text(str(value))


def _text(text: str) -> str:
    """Text as YAML, quoted unless it is plain enough to be read as nothing else."""
    if _PLAIN.fullmatch(text) and isinstance(scalar(text), str):
        return text
    return yaml.safe_dump(text, default_style='"', width=10**9, allow_unicode=True).strip()
