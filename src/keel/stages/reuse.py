"""What is to be done about each stage of a folder that may have been worked in before."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from keel.errors import UserError
from keel.stages.lineage import Lineage, Made
from keel.stages.workspace import Facts, StageName
from keel.summary import STAGES
from keel.training.checkpoint import newest_of, steps_in

REPORT = "report.json"
CHECKPOINTS = "checkpoints"
REPLACED = "replaced"


@dataclass(frozen=True)
class Decision:
    """Keep a finished stage, go on with one that was stopped, make it anew, or make it for the first time.

    `reasons` say why it is made anew, each in a few words.
    """

    stage: StageName
    action: Literal["keep", "go on", "make anew", "make"]
    reasons: Sequence[str] = ()

    def sentence(self) -> str:
        """For the user, of a stage that is kept or made anew."""
        if self.action == "keep":
            return f"{STAGES[self.stage]}: finished before and unchanged, so it is kept"
        return f"{STAGES[self.stage]}: made anew, because {'; '.join(self.reasons)}"


def holds_work(folder: Path) -> bool:
    """Whether a stage has left something there that took its time: a result, or checkpoints."""
    return (folder / REPORT).is_file() or bool(steps_in(folder / CHECKPOINTS))


def decide(folder: Path, made: Made, outputs: Mapping[str, str]) -> Decision:
    """By what the stage's folder holds: `made` is what it would be made from now, `outputs` what is there of it."""
    lineage, reported = Lineage.read(folder), (folder / REPORT).is_file()
    reasons: list[str] = []
    if lineage is not None:
        reasons = list(made.since(lineage.made))
        reasons += [
            f"{folder.name}/{name} is not as it was written" if name in outputs else f"{folder.name}/{name} is gone"
            for name, known in lineage.outputs.items()
            if outputs.get(name) != known
        ]
        if reported and lineage.outputs and not reasons:
            return Decision(made.stage, "keep")
    elif holds_work(folder):
        reasons = ["it does not say what it was made from"]
    if newest_of(folder / CHECKPOINTS, made.key) is not None:
        return Decision(made.stage, "go on")
    if reasons and holds_work(folder):
        return Decision(made.stage, "make anew", reasons)
    return Decision(made.stage, "make")


def put_aside(directory: Path, stage: StageName, beside: Sequence[Path] = ()) -> Path:
    """Move what a stage left into DIR/replaced, so that nothing that was learnt is lost; returns where it is.

    `beside` are files of the stage's that lie elsewhere. UserError where something cannot be moved.
    """
    place = directory / REPLACED
    number = 1
    while (place / f"{stage}-{number}").exists():
        number += 1
    target = place / f"{stage}-{number}"
    try:
        place.mkdir(exist_ok=True)
        for file in beside:  # into its folder first: a process that is killed here leaves one thing to move
            if file.exists():
                file.rename(directory / stage / file.name)
        (directory / stage).rename(target)
    except OSError as error:
        raise UserError(f"{directory / stage} cannot be moved to {target} ({error.strerror}); move it away") from None
    return target


def report_of(directory: Path, stage: StageName) -> Facts:
    """What an earlier run of a stage in this folder said of itself; nothing where there was none."""
    path = directory / stage / REPORT
    if not path.is_file():
        return {}
    try:
        facts: Facts = json.loads(path.read_text(encoding="utf-8"))
        return {**facts, "seconds": float(facts["seconds"]), "peak_mb": float(facts["peak_mb"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}); remove the file, and the stage is made anew") from error
