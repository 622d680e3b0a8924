"""YAML text → plain values, each with the line it came from.

YAML 1.2's rules for scalars, so that `lr: 1e-5` is a number and `country: no` is text; a key given twice is an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from keel.errors import UserError

Trail = tuple[str | int, ...]
"""Keys and list positions from the root to a value: ("ppo", "reward", 0, "weight")."""

_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]{1,400}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_TAGS = frozenset(
    f"tag:yaml.org,2002:{kind}"
    for kind in ("null", "bool", "int", "float", "str", "timestamp", "map", "seq", "value", "merge")
)
_MOST_VALUES = 10_000


@dataclass(frozen=True)
class Source:
    """Values, and where each stands, as people say it ("recipe.yaml:12", "--rl.kl.coef")."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: Mapping[Trail, str] = field(default_factory=dict)

    def origin(self, path: Trail) -> str | None:
        """Where the value stands, or the innermost thing around it that was written down."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.origins:
                return self.origins[path[:length]]
        return None

    def says(self, path: Trail) -> bool:
        """Whether there is a value in this place."""
        found: Any = self.values
        for key in path:
            among = isinstance(found, list | tuple) and isinstance(key, int) and key < len(found)
            if not (among or (isinstance(found, Mapping) and key in found)):
                return False
            found = found[key]
        return True

    def renamed(self, names: Mapping[str, str]) -> Source:
        """A copy whose outermost keys have other names; UserError where a key is there under both."""
        values, origins = dict(self.values), dict(self.origins)
        for old, new in names.items():
            if old not in values:
                continue
            if new in values:
                place = self.origin((old,))
                raise UserError(f"{f'{place}: ' if place else ''}{old} is another name of {new}; keep one of the two")
            values = {new if key == old else key: value for key, value in values.items()}
            origins = {(new, *trail[1:]) if trail[:1] == (old,) else trail: at for trail, at in origins.items()}
        return Source(values, origins)

    def overridden(self, dotted: str, value: Any, origin: str) -> Source:
        """A copy in which the field named "rl.kl.coef" has this value, said at `origin`."""
        path = tuple(dotted.split("."))
        values = _with(self.values, path, value)
        kept = {key: place for key, place in self.origins.items() if key[: len(path)] != path}
        return Source(values, {**kept, path: origin})


def parse(text: str, name: str) -> Source:
    """Reads a YAML mapping; UserError names `name` and the line of what is wrong."""
    origins: dict[Trail, str] = {}
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        value = None if node is None else _value(node, (), name, origins)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{name}:{mark.line + 1}" if mark else name
        raise UserError(f"{place}: not valid YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise UserError(f"{name}: not valid YAML: {' '.join(str(error).split())}") from None
    except ValueError as error:  # PyYAML takes "\U00110000" for a character
        raise UserError(f"{name}: not valid YAML: an escape or a version in it is out of range ({error})") from None
    except RecursionError:
        raise UserError(f"{name}: nested too deeply for a recipe") from None
    if value is None:
        raise UserError(f"{name}: the recipe is empty; `keel init DIR` writes one to start from")
    if not isinstance(value, dict):
        raise UserError(f"{name}:1: a recipe is made of `key: value` lines, found {described(value)}")
    return Source(value, origins)


def scalar(text: str) -> Any:
    """One plain YAML 1.2 scalar: null, true, 3, 1e-5 or text."""
    if _NULL.fullmatch(text):
        return None
    if _BOOL.fullmatch(text):
        return text.lower() == "true"
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text) or _SPECIAL.fullmatch(text):
        return float(re.sub(r"\.(?=[inIN])", "", text))
    return text


def inline(text: str, name: str) -> Any:
    """A value as one writes it in YAML on one line: 0.02, null, [a, b], {prompt: question}."""
    if text[:1] not in "[{\"'" or not text:
        return scalar(text)
    values = parse(f"value: {text}", name).values
    if len(values) > 1:
        raise UserError(f"{name}: one value was asked for, found more in {described(text)}")
    return values["value"]


def described(value: Any) -> str:
    """A value as it is shown in an error: what it is, and what kind."""
    match value:
        case None:
            return "nothing (null)"
        case bool():
            return f"{str(value).lower()} (a yes/no)"
        case int():
            return f"{short(repr(value))} (a whole number)"
        case float():
            return f"{value!r} (a number)"
        case str():
            return f'"{short(value)}" (text)'
        case list() | tuple():
            return f"a list of {len(value)}"
        case _:
            return "a section" if isinstance(value, Mapping) else type(value).__name__


def short(text: str) -> str:
    """The text, or as much of its beginning as an error has room for."""
    return text if len(text) <= 60 else text[:59] + "…"


def _value(node: yaml.Node, path: Trail, name: str, origins: dict[Trail, str], open_: tuple[int, ...] = ()) -> Any:
    origins[path] = f"{name}:{node.start_mark.line + 1}"
    if id(node) in open_ or len(origins) > _MOST_VALUES:
        raise UserError(f"{origins[path]}: aliases that contain themselves or grow without end are not a recipe")
    if node.tag not in _TAGS:
        raise UserError(f"{origins[path]}: a recipe has no tags, found {node.tag}")
    inside = (*open_, id(node))
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, path, name, origins, inside)
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, (*path, i), name, origins, inside) for i, item in enumerate(node.value)]
    if isinstance(node, yaml.ScalarNode) and node.style is None:  # plain text: quoted scalars are always strings
        return scalar(str(node.value))
    return str(node.value)


def _mapping(
    node: yaml.MappingNode, path: Trail, name: str, origins: dict[Trail, str], inside: tuple[int, ...]
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = f"{name}:{key_node.start_mark.line + 1}"
        if not isinstance(key_node, yaml.ScalarNode):
            raise UserError(f"{line}: a key must be plain text")
        key = str(key_node.value)
        where = ".".join(map(str, (*path, key)))
        if key in found:
            raise UserError(f"{line}: {where} is given twice; keep one of them")
        found[key] = _value(value_node, (*path, key), name, origins, inside)
        origins[(*path, key)] = line
    return found


def _with(values: Mapping[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    head, rest = path[0], path[1:]
    if not rest:
        return {**values, head: value}
    inner = values.get(head)
    return {**values, head: _with(inner if isinstance(inner, Mapping) else {}, rest, value)}
