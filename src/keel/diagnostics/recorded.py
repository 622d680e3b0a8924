"""A finished run, read back from its folder: what the stages wrote down, as numbers that can be drawn and judged."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Bool, Float, Int

from keel.config import ONLINE, PRESETS
from keel.data.place import unreadable
from keel.diagnostics.provenance import Origin, Precheck, read_origins, read_prechecks
from keel.errors import UserError
from keel.summary import Summary
from keel.summary_file import said

Row = TypeVar("Row")
TRAINED = ("sft", "reward", *PRESETS)
"""Stages that write metrics.jsonl."""


@dataclass(frozen=True, eq=False)
class Curve:
    """One metric over a stage. `missing` counts the steps at which it was logged as null: no finite number."""

    steps: Int[np.ndarray, " N"]
    values: Float[np.ndarray, " N"]
    missing: int = 0

    def __len__(self) -> int:
        return len(self.steps)


@dataclass(frozen=True)
class Metrics:
    """The rows of one metrics.jsonl."""

    rows: tuple[Mapping[str, float | None], ...]

    @property
    def names(self) -> list[str]:
        """Every metric that was logged, in order of appearance."""
        return [name for name in dict.fromkeys(name for row in self.rows for name in row) if name != "step"]

    def curve(self, name: str) -> Curve:
        """A metric where it was logged; empty where it never was."""
        there = [row for row in self.rows if name in row]
        found = [(row["step"], row[name]) for row in there if row[name] is not None]
        return Curve(
            np.array([step for step, _ in found], dtype=np.int64),
            np.array([value for _, value in found], dtype=np.float64),
            len(there) - len(found),
        )


@dataclass(frozen=True, eq=False)
class Attempts:
    """The answers that the policy learnt from, N of them. `update` counts from 1; `gold` is nan where there is no such.

    `finished` is false for an answer that was cut off at the token limit; `length` is in tokens.
    """

    update: Int[np.ndarray, " N"]
    reward: Float[np.ndarray, " N"]
    gold: Float[np.ndarray, " N"]
    length: Float[np.ndarray, " N"]
    finished: Bool[np.ndarray, " N"]


@dataclass(frozen=True)
class Answered:
    """One evaluation prompt with each model's answer; `before` and `after` are the judge's scores of SFT and policy.

    `id` tells prompts apart, and is the same for several answers to one.
    """

    id: str
    prompt: str
    base: str | None
    sft: str
    policy: str
    before: float
    after: float

    @property
    def gain(self) -> float:
        return self.after - self.before


@dataclass(frozen=True)
class Recorded:
    """All that a report is made from. Stages that the run did not have are absent from `metrics`, or empty.

    `origins` and `prechecks` hold what stages of this version leave beside their results; see `provenance`.
    """

    summary: Summary
    recipe: str
    metrics: Mapping[str, Metrics]
    attempts: Attempts
    answers: tuple[Answered, ...]
    origins: Mapping[str, Origin] = field(default_factory=dict)
    prechecks: tuple[Precheck, ...] = ()

    @property
    def practice(self) -> Metrics | None:
        """Those of online training, where the policy was made by it."""
        return self.metrics.get(self.summary.method) if self.summary.method in ONLINE else None


def read_run(directory: Path) -> Recorded:
    """The run in a folder. UserError where a file of a stage that the run had is missing or damaged."""
    if not directory.is_dir():
        raise UserError(f"there is no folder {directory}; name the folder of a finished run, such as runs/demo")
    summary = Summary.read(directory / "summary.json")
    stages = summary.stages
    metrics = {
        name: Metrics(tuple(_rows(directory / name / "metrics.jsonl", _metric))) for name in TRAINED if name in stages
    }
    method = summary.method
    practised = method in ONLINE and method in stages
    attempts = list(_rows(directory / method / "rollouts.jsonl", _attempt)) if practised else []
    judged = summary.judge or "reward"
    answers = (
        tuple(_rows(directory / "evaluation" / "answers.jsonl", lambda row: _answered(row, judged, method)))
        if "evaluation" in stages
        else ()
    )
    return Recorded(
        summary,
        _text(directory / "resolved.yaml"),
        metrics,
        _columns(attempts),
        answers,
        read_origins(directory, stages),
        read_prechecks(directory, stages),
    )


def _rows(path: Path, read: Callable[[dict[str, Any]], Row]) -> Iterator[Row]:
    """The lines of a JSONL file, each as `read` makes of it. UserError with the number of the line that is wrong."""
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield _row(line, read, f"{path}, line {number}")
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from None


def _row(line: str, read: Callable[[dict[str, Any]], Row], place: str) -> Row:
    try:
        return read(json.loads(line))
    except KeyError as error:
        raise UserError(f"{place}: {error} is missing; run the stage again") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{place} is damaged ({error}); run the stage again") from None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError | UnicodeDecodeError) -> UserError:
    return UserError(f"{path} cannot be read ({unreadable(error)}), though the run has that stage; run the stage again")


def _metric(row: dict[str, Any]) -> dict[str, float | None]:
    return {"step": float(row["step"])} | {name: _finite(value) for name, value in row.items() if name != "step"}


def _finite(value: Any) -> float | None:
    number = math.nan if value is None else float(value)
    return number if math.isfinite(number) else None


def _attempt(row: dict[str, Any]) -> tuple[int, float, float, float, bool]:
    gold = row["parts"].get("gold")
    return (
        int(row["update"]),
        float(row["reward"]),
        math.nan if gold is None else float(gold),
        float(row["length"]),
        row["stop"] != "length",
    )


def _columns(attempts: list[tuple[int, float, float, float, bool]]) -> Attempts:
    update, reward, gold, length, finished = zip(*attempts, strict=True) if attempts else ((), (), (), (), ())
    return Attempts(
        np.array(update, dtype=np.int64),
        np.array(reward, dtype=np.float64),
        np.array(gold, dtype=np.float64),
        np.array(length, dtype=np.float64),
        np.array(finished, dtype=np.bool_),
    )


def _answered(row: dict[str, Any], judge: str, method: str) -> Answered:
    base = row.get("base")
    return Answered(
        str(row.get("id", row["prompt"])),
        str(row["prompt"]),
        None if base is None else str(base),
        str(row["sft"]),
        str(row[method]),
        float(row[f"{judge}_sft"]),
        float(row[said(f"{judge}_policy", method)]),
    )
