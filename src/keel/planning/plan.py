"""The plan of a run: memory by role and time by hop, before it is launched."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from keel.display import duration
from keel.models.adapters import Lora
from keel.models.load import configuration
from keel.planning.hops import Hop, hops_of
from keel.planning.memory import Model, Part, parts_of
from keel.planning.probe import Models, Probe
from keel.stages.cast import adapter_of
from keel.stages.workspace import StageName, Workspace, peak_mb
from keel.summary import STAGES


@dataclass(frozen=True)
class Timed:
    """A hop and its seconds in all."""

    hop: Hop
    seconds: float


@dataclass(frozen=True)
class Stage:
    """One stage: its hops, and what it holds at its peak."""

    name: StageName
    hops: tuple[Timed, ...]
    parts: tuple[Part, ...]

    @property
    def seconds(self) -> float:
        """All hops."""
        return sum(one.seconds for one in self.hops)

    @property
    def size(self) -> int:
        """All parts, in bytes."""
        return sum(part.size for part in self.parts)


@dataclass(frozen=True)
class Plan:
    """What a run is expected to take. `process` is what the process holds without any model, in MiB.

    `measured` are seconds and peak of the stages of a finished run, where one is compared.
    """

    stages: tuple[Stage, ...]
    process: float
    assumed: str
    measured: dict[StageName, tuple[float, float]]

    def peak_mb(self, place: int) -> float:
        """Expected peak of the process by the end of a stage: memory that was held once is not given back."""
        return self.process + max(stage.size for stage in self.stages[: place + 1]) / 2**20

    def to_json(self) -> dict[str, Any]:
        """For scripts: seconds and MiB, and those of a finished run beside them."""
        stages = {}
        for place, stage in enumerate(self.stages):
            seconds, peak = self.measured.get(stage.name, (None, None))
            stages[stage.name] = {
                "seconds": round(stage.seconds, 2),
                "peak_mb": round(self.peak_mb(place)),
                "measured_seconds": seconds,
                "measured_peak_mb": peak,
                "hops": {one.hop.name: round(one.seconds, 2) for one in stage.hops},
                "memory_mb": {f"{part.role}: {part.what}": round(part.size / 2**20, 1) for part in stage.parts},
            }
        return {
            "seconds": round(sum(stage.seconds for stage in self.stages), 2),
            "peak_mb": round(self.peak_mb(len(self.stages) - 1)),
            "answers": self.assumed,
            "stages": stages,
        }

    def __str__(self) -> str:
        lines: list[str] = []
        for place, stage in enumerate(self.stages):
            said = f"{STAGES[stage.name]}: {duration(stage.seconds)}, {self.peak_mb(place):,.0f} MiB"
            if stage.name in self.measured:
                seconds, peak = self.measured[stage.name]
                said += f"   (measured: {duration(seconds)}, {peak:,.0f} MiB)"
            lines += [said, ""]
            lines += [
                f"  {one.hop.name:36}{duration(one.seconds):>12}   {one.hop.times:,.0f} × {one.hop.tokens:,} tokens"
                for one in stage.hops
            ]
            lines += [f"  {f'{part.role}: {part.what}':46}{part.size / 2**20:>10,.0f} MiB" for part in stage.parts]
            lines += [f"  {'process without models':46}{self.process:>10,.0f} MiB", ""]
        total = sum(stage.seconds for stage in self.stages)
        lines.append(f"In all {duration(total)}, at most {self.peak_mb(len(self.stages) - 1):,.0f} MiB.")
        lines.append(f"Answers count {self.assumed}.")
        return "\n".join(lines)


def plan_of(space: Workspace, against: Path | None) -> Plan:
    """Times a shortened model of the recipe's shape, on batches of the recipe's data; nothing is written."""
    process = peak_mb()
    recipe = space.recipe
    run = hops_of(space)
    start = space.base if "sft" in space.stages else space.supervised
    config = configuration(start)
    lora = adapter_of(recipe.model)
    tuned: Lora | None = lora if recipe.model.tuning == "lora" else None
    made = partial(Models, tokenizer=space.chat(start).tokenizer, lora=tuned, passes=space.passes, device=space.device)
    probe = Probe(config, made)
    model = Model.of(config, lora)
    stages: list[Stage] = []
    for name in dict.fromkeys(hop.stage for hop in run.hops):
        hops = [hop for hop in run.hops if hop.stage == name]
        budget = {"sft": recipe.sft, "reward": recipe.reward, "dpo": recipe.dpo}.get(name, recipe.rl).micro_tokens
        costs = {hop.name: probe.cost(hop, budget) for hop in hops}
        timed = tuple(Timed(hop, costs[hop.name].seconds * hop.times) for hop in hops)
        held = {hop.name: costs[hop.name].held for hop in hops}
        stages.append(Stage(name, timed, tuple(parts_of(name, space, model, hops, held))))
    return Plan(tuple(stages), process, run.assumed, _measured(against, stages))


def _measured(directory: Path | None, stages: Sequence[Stage]) -> dict[StageName, tuple[float, float]]:
    if directory is None:
        return {}
    found: dict[StageName, tuple[float, float]] = {}
    for stage in stages:
        path = directory / stage.name / "report.json"
        if path.is_file():
            facts = json.loads(path.read_text(encoding="utf-8"))
            found[stage.name] = float(facts["seconds"]), float(facts["peak_mb"])
    return found
