"""What made what: the data, models and labels that each stage of a run follows from, and what came of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from keel.config import PRESETS
from keel.diagnostics.provenance import Origin, Source, maker, stale
from keel.diagnostics.recorded import Recorded
from keel.summary import STAGES

_DIGITS = 8
_MODELS = {"model": "base model", "base": "base model", "reward": "reward model"}


@dataclass(frozen=True)
class Held:
    """Something that was read or made: what it is, where it came from, its fingerprint whole and short.

    `stale` where it has been made anew since.
    """

    name: str
    origin: str
    fingerprint: str
    stale: bool = False

    @property
    def short(self) -> str:
        return short(self.fingerprint)


@dataclass(frozen=True)
class Making:
    """A stage with what it was made from and what it made; `versions` are those that differ from the run's own."""

    stage: str
    inputs: tuple[Held, ...]
    outputs: tuple[Held, ...]
    versions: tuple[str, ...]


def making(run: Recorded) -> list[Making]:
    """Every stage that left word of it, in order."""
    outdated = {(one.stage, one.source) for one in stale(run.origins)}
    return [
        Making(
            STAGES[stage],
            tuple(
                Held(_called(name, one), _from(one), one.fingerprint, (stage, one.source) in outdated)
                for name, one in origin.inputs.items()
            ),
            tuple(Held(_result(stage, name), f"{stage}/{name}", made) for name, made in origin.outputs.items()),
            _versions(origin, run.summary.versions),
        )
        for stage, origin in run.origins.items()
    ]


def short(fingerprint: str) -> str:
    """The first digits of a fingerprint; what is none (a path where nothing was to be read) stays as it is."""
    return fingerprint[:_DIGITS] if re.fullmatch("[0-9a-f]{64}", fingerprint) else fingerprint


def _called(name: str, one: Source) -> str:
    """A model that stages start from is the base, unless SFT has made it."""
    return "SFT model" if name == "model" and maker(one.source) is not None else _MODELS.get(name, name)


def _from(one: Source) -> str:
    made = maker(one.source)
    return one.source if made is None else f"made by {STAGES[made[0]]}"


def _result(stage: str, name: str) -> str:
    models: dict[str, str] = {"sft": "SFT model", "reward": "reward model"}
    models |= dict.fromkeys(PRESETS, "policy")
    return models.get(stage, name) if name == "model" else {"answers.jsonl": "answers"}.get(name, name)


def _versions(origin: Origin, own: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(
        f"{name} {version} (the run ended with {own[name]})"
        for name, version in origin.versions.items()
        if own.get(name, version) != version
    )
