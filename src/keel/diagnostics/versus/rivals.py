"""Runs that are compared, each under a letter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keel.config import Recipe
from keel.config.dump import inline_yaml
from keel.config.source import parse
from keel.diagnostics.checks import checks
from keel.diagnostics.findings import Finding
from keel.diagnostics.geometry import RUNS
from keel.diagnostics.recorded import Recorded, read_run
from keel.errors import UserError
from keel.summary import Summary

MOST = len(RUNS)
"""As many runs as there are lines that can be told apart in one picture."""


@dataclass(frozen=True, eq=False)
class Rival:
    """A run with its letter, its name beside the others, its recipe by dotted names, and what was found about it."""

    letter: str
    name: str
    run: Recorded
    settings: Mapping[str, str]
    checks: tuple[Finding, ...]

    @property
    def summary(self) -> Summary:
        return self.run.summary

    def facts(self, stage: str) -> Mapping[str, Any]:
        """What a stage says of itself; empty where the run did not have it."""
        return self.summary.stages.get(stage, {})

    def held(self, stage: str, name: str) -> str | None:
        """The fingerprint of what a stage read under this name; None where that is not recorded."""
        origin = self.run.origins.get(stage)
        found = origin.inputs.get(name) if origin is not None else None
        return None if found is None else found.fingerprint

    @property
    def base(self) -> str | None:
        """The fingerprint of the model that the recipe starts from."""
        return self.held("evaluation", "base") or self.held("sft", "model")

    @property
    def judge(self) -> str | None:
        """Who judged: the same text, the same judge. None where nobody did, or it is not recorded who."""
        match self.summary.judge:
            case "gold":
                return f"gold {self.settings.get('task')}"
            case "reward":
                return self.held("evaluation", "reward")
            case None:
                return None


def read_rivals(directories: Sequence[Path]) -> list[Rival]:
    """The runs in these folders, A first. UserError where one is unfinished, damaged or named twice; for too many."""
    if not 2 <= len(directories) <= MOST:
        raise UserError(
            f"{len(directories)} runs were named, and from 2 to {MOST} can be told apart in one picture; name fewer"
            if len(directories) > MOST
            else "a comparison needs two runs or more; name their folders"
        )
    resolved = [directory.resolve() for directory in directories]
    for place, path in enumerate(resolved):
        if path in resolved[:place]:
            raise UserError(f"{directories[place]} is named twice; name each run once")
    names = apart(resolved)
    return [_rival(tone[-1], name, directory) for tone, name, directory in zip(RUNS, names, directories, strict=False)]


def apart(paths: Sequence[Path]) -> list[str]:
    """The last parts of each path, as many as tell it from the others."""
    depth = max(len(path.parts) for path in paths)
    for count in range(1, depth):
        names = [str(Path(*path.parts[-count:])) for path in paths]
        if len(set(names)) == len(paths):
            return names
    return [str(path) for path in paths]


def _rival(letter: str, name: str, directory: Path) -> Rival:
    run = read_run(directory)
    written = parse(run.recipe, str(directory / "resolved.yaml")).renamed(Recipe.other_names)
    settings = dict(_flat("", written.values))
    return Rival(letter, name, run, {key: value for key, value in settings.items() if key != "dir"}, tuple(checks(run)))


def _flat(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}" if name else key, inner)
    else:
        yield name, inline_yaml(value)
