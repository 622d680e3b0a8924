"""Whether a stage fits into the machine's memory: its weights and passes beside what is free."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path

import torch

from keel.config import Recipe
from keel.diagnostics.findings import Finding, level
from keel.models.load import configuration
from keel.planning.hops import Hop, hops_of
from keel.planning.memory import Model, parts_of
from keel.planning.probe import Models, Probe
from keel.stages.cast import adapter_of
from keel.stages.workspace import StageName, Workspace

AMBER, RED = 0.8, 1.0
"""Shares of the room; plans came out up to 20 % below what runs then held (docs/performance.md)."""
BARE = 512 * 2**20
"""Bytes that the process holds without any model, by measurement."""
MEASURED = 100_000_000
"""Weights of the largest model whose passes are measured here: of a larger one that takes too long for a check."""
ROWS = 128
"""Rows of each data set that batches are made of."""


def memory(need: int, room: int | None, passes: bool) -> Finding:
    """Bytes that a stage needs beside those that there are (None: not known); `passes` says whether they are in it."""
    counted = "" if passes else ", passes not counted"
    if room is None:
        return Finding("Memory", "ok", f"Needs {_gib(need)}{counted}; what is free is not known.", "")
    verdict = level(need / room, AMBER, RED)
    due = "" if verdict == "ok" else f" (a look is due from {AMBER:.0%} of it, alarm from {RED:.0%})"
    return Finding(
        "Memory",
        verdict,
        f"Needs {_gib(need)} of {_gib(room)}{counted}{due}.",
        "Lower micro_tokens of the stage or set model.recompute: true; model.tuning: lora with model.layout: shared "
        "takes about a quarter for online training. `keel plan` says what each role holds.",
    )


def room(device: torch.device, proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Bytes on this device that are free or held by this process; None where the system does not say.

    Where the control group of a container allows less than the machine has, that counts; file cache that it would give
    up (inactive_file) is free.
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0]) + int(torch.cuda.memory_reserved(device))
    if device.type != "cpu":
        return None
    meminfo = proc / "meminfo"
    if not meminfo.is_file():
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")  # all there is, as what is free is not said
    lines = (line.split() for line in meminfo.read_text(encoding="ascii").splitlines())
    free = {words[0]: int(words[1]) * 1024 for words in lines}["MemAvailable:"]
    own = int((proc / "self" / "statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    most, held, kinds = (cgroup / name for name in ("memory.max", "memory.current", "memory.stat"))
    if most.is_file() and (limit := most.read_text(encoding="ascii").strip()) != "max":
        cache = dict(line.split() for line in kinds.read_text(encoding="ascii").splitlines())["inactive_file"]
        free = min(free, int(limit) - int(held.read_text(encoding="ascii")) + int(cache))
    return max(free, 0) + own


class Need:
    """What the stages of a recipe need, in bytes; `start` is a model of the shape that they train."""

    def __init__(self, space: Workspace, start: Path) -> None:
        self._space = replace(space, recipe=_fewer(space.recipe), supervised=start)
        self._start = start
        self._model = Model.of(configuration(start), adapter_of(space.recipe.model))

    @property
    def passes(self) -> bool:
        """Whether passes are measured, or only weights, gradients, optimizers and sampling are counted."""
        return self._model.total <= MEASURED

    def of(self, stage: StageName) -> int:
        """Of one stage at its peak, with the process itself. Raises UserError as the stage itself does."""
        recipe = self._space.recipe
        alone = replace(self._space, stages=frozenset({stage}))
        hops = [hop for hop in hops_of(alone).hops if hop.stage == stage]
        budget = {"sft": recipe.sft, "reward": recipe.reward, "dpo": recipe.dpo}.get(stage, recipe.rl).micro_tokens
        held = {hop.name: self._held(hop, budget) for hop in hops if hop.kind.startswith("learn")}
        parts = parts_of(stage, alone, self._model, hops, held)
        on_device = sum(part.size for part in parts)
        return on_device + (BARE if self._space.device.type == "cpu" else 0)

    def _held(self, hop: Hop, budget: int | None) -> float:
        return self._probe.held(hop, budget) if self.passes else 0.0

    @cached_property
    def _probe(self) -> Probe:
        space, recipe = self._space, self._space.recipe
        lora = adapter_of(recipe.model) if recipe.model.tuning == "lora" else None
        tokenizer = space.chat(self._start).tokenizer
        made = partial(Models, tokenizer=tokenizer, lora=lora, passes=space.passes, device=space.device)
        return Probe(configuration(self._start), made)


def _fewer(recipe: Recipe) -> Recipe:
    """The recipe on few rows: a pass is no larger for many."""
    limited = {
        name: section.model_copy(update={"limit": min(section.limit or ROWS, ROWS)})
        for name, section in (("sft", recipe.sft), ("reward", recipe.reward), ("rl", recipe.rl), ("dpo", recipe.dpo))
    }
    counted = {
        name: section.model_copy(update={"count": min(section.count, ROWS)})
        for name, section in (("preferences", recipe.preferences), ("evaluation", recipe.evaluation))
    }
    return recipe.model_copy(update={**limited, **counted})


def _gib(size: int) -> str:
    return f"{size / 2**30:,.1f} GiB"
