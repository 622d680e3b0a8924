"""Every field of a recipe as a flag, `--rl.kl.coef 0.02`, its value written as in the file."""

from __future__ import annotations

import argparse
from collections.abc import Collection, Mapping
from functools import reduce
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from keel.config.dump import inline_yaml
from keel.config.section import Section, accepts, description, inner_section, leaves
from keel.config.source import Source, inline

_LONGEST = 50  # of the words that a flag takes, before its description has to list them


class Flags:
    """The flags of one kind of section: of a whole `Recipe`, or of a part such as `Sampling`."""

    def __init__(self, kind: type[Section], default: Section | None = None) -> None:
        self._kind = kind
        self._default = kind() if default is None else default
        self._fields = dict(leaves(kind))

    def add(
        self, parser: argparse.ArgumentParser, title: str, shown: Collection[str], short: Mapping[str, str]
    ) -> None:
        """Adds a flag for each field; those of the outermost section stand in help under `title`.

        Help lists the fields in `shown`, by their outermost name ("model", "seed") or their own ("dpo.beta"); the
        others work too. `short` maps a further name to a field: {"model": "model.path"} makes --model mean
        --model.path.
        """
        usual = parser.add_argument_group("usual fields")
        for name, dotted in short.items():
            self._add(usual, name, dotted, f"{self._help(dotted)} Short for --{dotted}.")
        group, section = parser.add_argument_group(title), ""
        for dotted in self._fields:
            visible = dotted.partition(".")[0] in shown or dotted in shown
            if dotted.rpartition(".")[0] != section:
                section = dotted.rpartition(".")[0]
                told = section.partition(".")[0] in shown or any(one.rpartition(".")[0] == section for one in shown)
                group = parser.add_argument_group(section, self._about(section) if told else None)
            hidden = not visible or dotted in short.values()
            self._add(group, dotted, dotted, argparse.SUPPRESS if hidden else self._help(dotted))
            for other, name in self._kind.other_names.items():
                if dotted.startswith(f"{name}."):
                    self._add(group, f"{other}{dotted.removeprefix(name)}", dotted, argparse.SUPPRESS)

    def names_entry(self, name: str) -> bool:
        """Whether a flag names an entry of a mapping, as --sft.columns.prompt does."""
        parent = self._kind.own_name(name.rpartition(".")[0])
        return parent in self._fields and get_origin(self._fields[parent].annotation) is dict

    def apply(self, given: Mapping[str, Any], source: Source) -> Source:
        """The values of `source`, with every flag that was given (dotted name → text) in its place."""
        for given_name, text in given.items():
            dotted = self._kind.own_name(given_name)
            if dotted in self._fields or self.names_entry(dotted):
                source = source.overridden(dotted, self._value(dotted, text), f"--{dotted}")
        return source

    def _value(self, dotted: str, text: str) -> Any:
        field = self._fields.get(dotted)
        if field is None:  # an entry of a mapping: text, or what else its values are
            values = get_args(self._fields[dotted.rpartition(".")[0]].annotation)[1]
            return text if values is str else inline(text, f"--{dotted}")
        if accepts(field, str):  # text needs no quotes, even where it looks like a number
            return None if text == "null" and accepts(field, NoneType) else text
        if get_origin(field.annotation) is tuple and not text.startswith("["):
            return [inline(item.strip(), f"--{dotted}") for item in text.split(",") if item.strip()]
        return inline(text, f"--{dotted}")

    def _add(self, group: argparse._ArgumentGroup, name: str, dotted: str, text: str) -> None:
        metavar = _metavar(self._fields[dotted].annotation)
        group.add_argument(f"--{name}", dest=dotted, default=argparse.SUPPRESS, metavar=metavar, help=text)

    def _help(self, dotted: str) -> str:
        default: object = reduce(getattr, dotted.split("."), self._default)
        shown = f" [default: {inline_yaml(default)}]" if default not in (None, (), {}) else ""
        return f"{description(self._fields[dotted])}{shown}".replace("%", "%%")

    def _about(self, section: str) -> str:
        kind: Any = self._kind
        for name in section.split("."):
            kind = inner_section(kind.model_fields[name])
        return " ".join(kind.__doc__.split())


def _metavar(kind: Any) -> str:
    """What to write after the flag: the words of a Literal, else what kind of value."""
    names: Mapping[object, str] = {int: "N", float: "X", str: "TEXT", tuple: "A,B,…", dict: "{OURS: YOURS}"}
    if get_origin(kind) in (Union, UnionType):
        return "|".join("null" if part is NoneType else _metavar(part) for part in get_args(kind))
    if get_origin(kind) is Annotated:
        return _metavar(get_args(kind)[0])
    if get_origin(kind) is Literal:
        words = "|".join(map(str, get_args(kind)))
        return words if len(words) <= _LONGEST else "NAME"
    return names.get(get_origin(kind) or kind, "VALUE")
