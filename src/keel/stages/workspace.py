"""What every stage works with: the recipe, the folder, the device, and where the stages before left their models."""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any

import torch

from keel.boards import Title, boards_of, require
from keel.config import EMBEDDED, Recipe
from keel.config.section import leaves
from keel.data.chat import Chat
from keel.data.write import write_json
from keel.display import Display
from keel.errors import UserError
from keel.models.load import load_tokenizer
from keel.models.passes import Passes
from keel.stages.lineage import StageName as StageName
from keel.stages.lineage import go_on
from keel.stages.sources import Sources
from keel.tasks.task import Task
from keel.tasks.town_desk.task import TownDesk
from keel.training.checkpoint import Checkpoints, Pace
from keel.training.randomness import seed_process
from keel.training.records import Record
from keel.training.state import Part

Facts = dict[str, Any]
"""What a stage reports of itself: names and JSON values."""


@dataclass(frozen=True)
class Workspace:
    """A recipe at work in a folder.

    `supervised` is the model that preferences, reward model and policy start from: the one that this run trains, or the
    recipe's own. `stages` are those that are to run; `reports` collects what each finished one says of itself. `keys`
    say what a stage is made from (`keel.stages.lineage`), `earlier` how many seconds earlier processes spent on it.
    """

    recipe: Recipe
    directory: Path
    display: Display
    device: torch.device
    dtype: torch.dtype
    task: Task | None
    supervised: Path
    stages: frozenset[StageName]
    sources: Sources
    reports: dict[str, Facts] = field(default_factory=dict)
    keys: dict[StageName, str] = field(default_factory=dict)
    earlier: dict[StageName, float] = field(default_factory=dict)

    @property
    def base(self) -> Path:
        """The model that the recipe starts from."""
        return base_of(self.recipe)

    @property
    def passes(self) -> Passes:
        """How the recipe's models are run over forests."""
        return Passes(self.dtype, self.recipe.model.recompute)

    def model(self, stage: StageName) -> Path:
        """Where a stage leaves its model."""
        return self.directory / stage / "model"

    @property
    def policy(self) -> Path:
        """Where the recipe's method leaves its policy."""
        return self.model(self.recipe.method)

    def name(self, path: Path) -> str:
        """A path as reports call it: from the run's folder where it lies in there."""
        return str(path.relative_to(self.directory) if path.is_relative_to(self.directory) else path)

    def chat(self, path: Path) -> Chat:
        """The tokenizer of a model with the recipe's template and length limit."""
        template = self.recipe.model.template
        tokenizer = load_tokenizer(path, None if template == "auto" else template)
        return Chat(tokenizer, self.recipe.model.max_length)

    @contextmanager
    def stage(self, name: StageName, total: int | None) -> Iterator[Facts]:
        """Shows a stage as it goes, and files its report with `seconds` and `peak_mb` once it is done.

        A number that is not finite becomes null, as JSON has no word for it.
        """
        start = time.monotonic()
        facts: Facts = {}
        seed_process(self.recipe.seed, name)
        with self.display.stage(name, total):
            yield facts
        facts["seconds"] = round(self.earlier.get(name, 0.0) + time.monotonic() - start, 2)
        facts["peak_mb"] = round(peak_mb())
        facts |= {name: None for name, fact in facts.items() if isinstance(fact, float) and not math.isfinite(fact)}
        write_json(self.directory / name / "report.json", facts)
        self.reports[name] = facts

    def record(self, name: StageName) -> Record:
        """What a stage writes down while it runs."""
        folder = self.directory / name
        title = Title(self.recipe.log.project, f"{self.directory.name}-{name}", _settings(self.recipe))
        boards = boards_of(self.recipe.log.to, self.directory, folder, title, self.display.note)
        return Record(folder, self.display, boards)

    @contextmanager
    def checkpoints(self, name: StageName, parts: Mapping[str, Part] | None = None) -> Iterator[Checkpoints]:
        """Where a stage's loop keeps its progress; `parts` are kept beside the loop's own."""
        pace = Pace(60 * self.recipe.checkpoints.minutes, self.recipe.checkpoints.keep)
        folder = self.directory / name
        key = self.keys.get(name, "")

        def resumed(step: int) -> None:
            go_on(folder, step)
            self.display.resumed(step)

        with Checkpoints(folder / "checkpoints", key, pace, parts or {}, self.display.note, resumed) as kept:
            yield kept
        self.earlier[name] = kept.seconds


def _settings(recipe: Recipe) -> dict[str, Any]:
    """The fields of a recipe by their dotted names, as JSON values."""
    whole = recipe.model_dump(mode="json")
    return {name: reduce(lambda section, key: section[key], name.split("."), whole) for name, _ in leaves(Recipe)}


def base_of(recipe: Recipe) -> Path:
    """The model that a recipe starts from."""
    return TownDesk().base() if recipe.model.path == EMBEDDED else Path(recipe.model.path)


def open_workspace(
    recipe: Recipe, directory: Path, display: Display, supervised: Path, stages: Iterable[StageName]
) -> Workspace:
    """Settle device, number format and threads; nothing is written. UserError for a device or board that is missing."""
    require(recipe.log.to)
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    device = device_of(recipe.device)
    task = TownDesk() if recipe.task else None
    dtype, sources = dtype_of(recipe.dtype, device), Sources(display.note)
    if recipe.dtype == "auto" and dtype != torch.float32:
        where = "processor" if device.type == "cpu" else "GPU"
        display.note(f"products in bfloat16, which this {where} has; --dtype float32 for full precision")
    return Workspace(recipe, directory, display, device, dtype, task, supervised, frozenset(stages), sources)


def device_of(wanted: str) -> torch.device:
    """The device that a recipe asks for; UserError for one that is not there.

    "auto" takes no Apple GPU: the sampler draws in float64, which those do not have.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return torch.device("cuda" if there["cuda"] else "cpu")
    if not there.get(wanted, False):
        raise UserError(f"device: this machine has no {wanted}; use --device auto or cpu")
    return torch.device(wanted)


def dtype_of(wanted: str, device: torch.device) -> torch.dtype:
    """The number format of matrix products: bfloat16 is chosen by itself where the processor is known to have it."""
    if wanted == "auto":
        return torch.bfloat16 if _multiplies_bfloat16(device) else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[wanted]


def _multiplies_bfloat16(device: torch.device) -> bool:
    """Whether matrix products in bfloat16 are instructions of the processor; elsewhere they are slower than fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        # a torch that cannot tell knows of none
        able: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        return bool(able.get("avx512_bf16") or able.get("amx_bf16") or able.get("bf16"))
    return False


def peak_mb() -> float:
    """The most memory that this process has held so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
