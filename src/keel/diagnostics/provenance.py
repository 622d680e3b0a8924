"""What a stage left beside its results: what it was made from, and what was found before its first step.

Runs of earlier versions have neither file, so that one which is not there means nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from keel.errors import UserError
from keel.summary import STAGES

Read = TypeVar("Read")
_Level = Literal["ok", "amber", "red"]


@dataclass(frozen=True)
class Source:
    """Something that a stage read: where it came from, and the fingerprint of what it held."""

    source: str
    fingerprint: str


@dataclass(frozen=True)
class Resumed:
    """A process went on with a stage that had been stopped: when, and after how many steps."""

    at: datetime
    step: int


@dataclass(frozen=True)
class Origin:
    """What a stage was made from and what it made, fingerprints by name; `outputs` is empty while it is being made.

    `resumed` holds each time that it was gone on with, in order.
    """

    inputs: Mapping[str, Source]
    outputs: Mapping[str, str]
    versions: Mapping[str, str]
    resumed: tuple[Resumed, ...] = ()


@dataclass(frozen=True)
class Precheck:
    """What one check found before step 1 of a stage."""

    stage: str
    check: str
    verdict: Literal["ok", "amber", "red"]
    message: str
    remedy: str


@dataclass(frozen=True)
class Stale:
    """A stage that was made from something of an earlier stage that is no longer there: `source` names it."""

    stage: str
    source: str


def read_origins(directory: Path, stages: Collection[str]) -> dict[str, Origin]:
    """By stage, in order, where a stage left lineage.json. UserError where that is damaged."""
    found = {name: _read(directory / name / "lineage.json", _origin) for name in STAGES if name in stages}
    return {name: origin for name, origin in found.items() if origin is not None}


def read_prechecks(directory: Path, stages: Collection[str]) -> tuple[Precheck, ...]:
    """Of all stages, in order, where a stage left preflight.json. UserError where that is damaged."""
    found = [_read(directory / name / "preflight.json", _prechecks) for name in STAGES if name in stages]
    return tuple(one for checks in found if checks is not None for one in checks)


def maker(source: str) -> tuple[str, str] | None:
    """The stage and the name of its output, for a source within the run's own folder; None for any other."""
    if source == "preferences":
        return "preferences", "preferences"
    stage, _, rest = source.partition("/")
    return (stage, "model") if stage in STAGES and rest == "model" else None


def stale(origins: Mapping[str, Origin]) -> Iterator[Stale]:
    """Stages that follow from what an earlier stage has made anew since."""
    for stage, origin in origins.items():
        for one in origin.inputs.values():
            made = maker(one.source)
            now = origins[made[0]].outputs.get(made[1]) if made is not None and made[0] in origins else None
            if now is not None and now != one.fingerprint:
                yield Stale(stage, one.source)


def interruptions(origins: Mapping[str, Origin]) -> str:
    """What was stopped on the way and gone on with, in a few words; empty where nothing was."""
    found = []
    for stage, origin in origins.items():
        if origin.resumed:
            last, times = origin.resumed[-1], len(origin.resumed)
            often = f"{times} times, last " if times > 1 else ""
            found.append(f"{STAGES[stage]} {often}after step {last.step:,} ({last.at:%Y-%m-%d %H:%M} {last.at:%Z})")
    return "; ".join(found)


def _read(path: Path, read: Callable[[Any], Read]) -> Read | None:
    try:
        return read(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); run the stage again") from None
    except KeyError as error:
        raise UserError(f"{path}: {error} is missing; run the stage again") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is damaged ({error}); run the stage again") from None


def _origin(content: Any) -> Origin:
    inputs = content["made"]["inputs"].items()
    return Origin(
        {str(name): Source(str(one["source"]), str(one["fingerprint"])) for name, one in inputs},
        {str(name): str(made) for name, made in content["outputs"].items()},
        {str(name): str(version) for name, version in content["versions"].items()},
        tuple(Resumed(datetime.fromisoformat(one["at"]), int(one["step"])) for one in content.get("resumed", ())),
    )


def _prechecks(content: Any) -> list[Precheck]:
    return [
        Precheck(
            _known(one["stage"], STAGES, "stage"),
            str(one["check"]),
            _verdict(one["verdict"]),
            str(one["message"]),
            str(one["remedy"]),
        )
        for one in content["findings"]
    ]


def _verdict(said: Any) -> _Level:
    level: _Level = _known(said, get_args(_Level), "verdict")  # type: ignore[assignment]
    return level


def _known(said: Any, among: Collection[str], what: str) -> str:
    if said not in among:
        raise ValueError(f"there is no {what} {said!r}")
    return str(said)
