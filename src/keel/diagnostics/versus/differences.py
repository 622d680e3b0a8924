"""What differs between runs: fields of their recipes, and by fingerprint what they read and what they made."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from keel.diagnostics.making import Held, making
from keel.diagnostics.provenance import maker
from keel.diagnostics.versus.rivals import Rival
from keel.summary import STAGES


@dataclass(frozen=True)
class Setting:
    """A field that is not the same in all runs; None in a run whose recipe does not have it."""

    name: str
    values: tuple[str | None, ...]


@dataclass(frozen=True)
class Ingredient:
    """Something that stages read or made, in every run; None in a run that does not say so.

    `words` say in which runs it is the same.
    """

    name: str
    stages: tuple[str, ...]
    held: tuple[Held | None, ...]
    words: str

    @property
    def same(self) -> bool:
        """Whether it is known to be the same in all runs."""
        return len({None if one is None else one.fingerprint for one in self.held}) == 1 and self.held[0] is not None


def settings_apart(rivals: Sequence[Rival]) -> list[Setting]:
    """The fields that differ, in the order of the recipe."""
    names = dict.fromkeys(name for one in rivals for name in one.settings)
    found = [Setting(name, tuple(one.settings.get(name) for one in rivals)) for name in names]
    return [one for one in found if len(set(one.values)) > 1]


def inputs(rivals: Sequence[Rival]) -> list[Ingredient]:
    """What came into the runs from outside: data, prompts, models, functions. What several stages read is one row."""
    rows: dict[tuple[str, tuple[str | None, ...]], list[tuple[str, tuple[Held | None, ...]]]] = {}
    for stage in STAGES:
        for name in _names(rivals, stage):
            held = tuple(_read(one, stage, name) for one in rivals)
            if any(one is not None for one in held):
                called = next(one.name for one in held if one is not None)
                marks = tuple(None if one is None else one.fingerprint for one in held)
                rows.setdefault((called, marks), []).append((STAGES[stage], held))
    return [
        Ingredient(called, tuple(stage for stage, _ in found), found[0][1], in_words(rivals, marks))
        for (called, marks), found in rows.items()
    ]


def results(rivals: Sequence[Rival]) -> list[Ingredient]:
    """What the stages made of it."""
    made = [{(step.stage, held.name): held for step in making(one.run) for held in step.outputs} for one in rivals]
    keys = dict.fromkeys(key for stage in STAGES.values() for found in made for key in found if key[0] == stage)
    return [_result(rivals, key, [found.get(key) for found in made]) for key in keys]


def in_words(rivals: Sequence[Rival], marks: Sequence[str | None]) -> str:
    """In which runs something is the same: "the same in all", "another in each", "A and C the same, B another"."""
    known = [(one.letter, mark) for one, mark in zip(rivals, marks, strict=True) if mark is not None]
    unknown = [one.letter for one, mark in zip(rivals, marks, strict=True) if mark is None]
    groups: dict[str | None, list[str]] = {}
    for letter, mark in known:
        groups.setdefault(mark, []).append(letter)
    together = [f"{listed(letters)} the same" for letters in groups.values() if len(letters) > 1]
    alone = [letter for letters in groups.values() if len(letters) == 1 for letter in letters]
    if len(groups) == 1 and not unknown:
        return "the same in all"
    if len(alone) == len(rivals):
        return "another in each"
    said = [
        *together,
        *([f"{listed(alone)} {'another' if len(alone) == 1 else 'others'}"] if together and alone else []),
    ]
    if not together and len(alone) > 1:
        said.append(f"another in each of {listed(alone)}")
    if unknown:
        said.append(f"not recorded in {listed(unknown)}")
    return ", ".join(said)


def between(pairs: Iterable[tuple[str, str]], first: str, then: str) -> str:
    """`C shares no prompt with A and B, D none with A`: what is so between two, said once for each second of them."""
    by: dict[str, list[str]] = {}
    for one, other in pairs:
        by.setdefault(other, []).append(one)
    said = [f"{other} {then if place else first} {listed(ones)}" for place, (other, ones) in enumerate(by.items())]
    return ", ".join(said)


def listed(words: Iterable[str]) -> str:
    """`A`, `A and B`, `A, B and C`."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def _names(rivals: Sequence[Rival], stage: str) -> list[str]:
    """Inputs of a stage that some run did not make itself."""
    origins = [one.run.origins[stage] for one in rivals if stage in one.run.origins]
    names = dict.fromkeys(name for origin in origins for name in origin.inputs)
    return [
        name
        for name in names
        if any(name in origin.inputs and maker(origin.inputs[name].source) is None for origin in origins)
    ]


def _read(rival: Rival, stage: str, name: str) -> Held | None:
    origin = rival.run.origins.get(stage)
    if origin is None or name not in origin.inputs:
        return None
    step = next(step for step in making(rival.run) if step.stage == STAGES[stage])
    return step.inputs[list(origin.inputs).index(name)]


def _result(rivals: Sequence[Rival], key: tuple[str, str], held: Sequence[Held | None]) -> Ingredient:
    marks = [None if one is None else one.fingerprint for one in held]
    return Ingredient(key[1], (key[0],), tuple(held), in_words(rivals, marks))
