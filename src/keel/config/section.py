"""What every section of a recipe is: frozen, strict, and complete as soon as it exists."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import reduce
from types import UnionType
from typing import Annotated, Any, ClassVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

_WORD = 2**63  # no count reaches it, and the libraries below take no more
Count = Annotated[int, Field(ge=1, lt=_WORD)]
Several = Annotated[int, Field(ge=2, lt=_WORD)]
Whole = Annotated[int, Field(ge=0, lt=_WORD)]
Place = Annotated[str, Field(min_length=1)]
NoPlace = Annotated[str | None, Field(min_length=1)]
Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(ge=0, lt=1)]


class Section(BaseModel):
    """A group of recipe fields, each described by the docstring below it.

    Strict: "3" is no number and true is no 1; a whole number is accepted where a fraction is meant. A key that is not
    a field is an error. A section given in part keeps the default of *its place* for the rest: `Recipe.sft.optimizer`
    and `Recipe.rl.optimizer` are both `Optimizer`, with learning rates of their own.
    """

    other_names: ClassVar[Mapping[str, str]] = {}
    """Further names of sections within this one, as people may write them."""

    @classmethod
    def own_name(cls, dotted: str) -> str:
        """The dotted name with its first part as this section calls it."""
        first, dot, rest = dotted.partition(".")
        return f"{cls.other_names.get(first, first)}{dot}{rest}"

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    def refuse(self, wrong: bool, sentence: str, key: str) -> None:
        """Raises where something is wrong: a sentence with {key}, the dotted name of a field of this section."""
        if wrong:
            found = reduce(getattr, key.split("."), self)
            raise PydanticCustomError("keel", sentence, {"key": key, "found": found})

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        completed: dict[Any, Any] = dict(given)
        for name, field in cls.model_fields.items():
            if name in completed:
                completed[name] = _complete_value(field.default, completed[name])
        return completed


def _complete_value(default: Any, value: Any) -> Any:
    """`value` with lists as tuples (YAML has no tuples) and, for a section, with what it leaves out filled in."""
    if isinstance(default, Section) and value is None:  # `rl:` with every line below it commented out
        return default
    if isinstance(default, Section) and isinstance(value, Mapping):
        filled: dict[Any, Any] = dict(default)
        filled.update({key: _complete_value(filled.get(key), inner) for key, inner in value.items()})
        return filled
    return _tuples(value)


def _tuples(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return tuple(_tuples(item) for item in value)
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return value


def leaves(section: type[Section], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every field that is no section itself, with its dotted path, in the order of the file."""
    for name, field in section.model_fields.items():
        inner = inner_section(field)
        if inner is None:
            yield prefix + name, field
        else:
            yield from leaves(inner, f"{prefix}{name}.")


def inner_section(field: FieldInfo) -> type[Section] | None:
    """The section that a field holds, or None for a plain value."""
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, Section) else None


def accepts(field: FieldInfo, kind: type) -> bool:
    """Whether `kind` is the field's type or one of the alternatives in its union."""
    union = get_origin(field.annotation) in (Union, UnionType)
    return kind in (get_args(field.annotation) if union else (field.annotation,))


def description(field: FieldInfo) -> str:
    """What the field means, on one line; a section's is its class's docstring."""
    inner = inner_section(field)
    return " ".join((field.description or (inner.__doc__ if inner else None) or "").split())
