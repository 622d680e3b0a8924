"""The preflight of a stage, and that of a whole recipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch

from keel.config import ONLINE
from keel.diagnostics.findings import Finding
from keel.errors import UserError
from keel.preflight import dpo, evaluation, practice, preferences, reward, sft
from keel.preflight.example import Example
from keel.preflight.memory import Need, memory, room
from keel.preflight.sample import Start
from keel.preflight.table import Checked, Preflight, sorted_by_severity
from keel.stages.workspace import StageName, Workspace

_STAGES: Mapping[StageName, Callable[[Workspace, Start], Iterator[Finding | Example]]] = {
    "sft": sft.checks,
    "preferences": preferences.checks,
    "reward": reward.checks,
    **dict.fromkeys(ONLINE, practice.checks),
    "dpo": dpo.checks,
    "evaluation": evaluation.checks,
}


def preflight(space: Workspace, stage: StageName) -> Preflight:
    """What can be known to be wrong with a stage before its step 1, with the models that are there by then.

    Where the model that it will start from is not there yet, the one that this is trained from stands in, and what only
    the other can tell is said to be open. Reads samples only, writes nothing, and leaves the process's random numbers
    as they were. Raises UserError where the stage itself would, for what keeps it from starting at all.
    """
    start = Start.of(space, stage)
    return _preflight(space, stage, start, Need(space, start.path))


def check(space: Workspace) -> Checked:
    """The preflight of every stage of the workspace, in order, before any of them has run."""
    need = Need(space, Start.of(space, space.recipe.method).path)
    return Checked(
        tuple(_preflight(space, stage, Start.of(space, stage), need) for stage in _STAGES if stage in space.stages)
    )


def _preflight(space: Workspace, stage: StageName, start: Start, need: Need) -> Preflight:
    with torch.random.fork_rng(devices=[space.device] if space.device.type == "cuda" else []):
        found = list(_STAGES[stage](space, start))
        findings = [one for one in found if isinstance(one, Finding)]
        if stage != "preferences" or space.task is not None:  # what people have judged is only read
            findings.append(_memory(space, stage, need))
    example = next((one for one in found if isinstance(one, Example)), None)
    return Preflight(stage, sorted_by_severity(findings), example)


def _memory(space: Workspace, stage: StageName, need: Need) -> Finding:
    try:
        size = need.of(stage)
    except UserError as error:  # what keeps batches from being made is a finding of its own elsewhere
        return Finding("Memory", "amber", f"It cannot be estimated: {error}", "Mend that first, then check again.")
    return memory(size, room(space.device), need.passes)
