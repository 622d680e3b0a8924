"""What every stage works with: the recipe, the folder, the device, and where the stages before left their models."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from keel.config import EMBEDDED, Recipe
from keel.data.chat import Chat
from keel.display import Display
from keel.errors import UserError
from keel.models.load import load_tokenizer
from keel.models.passes import Passes
from keel.stages.sources import Sources
from keel.tasks.task import Task
from keel.tasks.town_desk.task import TownDesk

StageName = Literal["sft", "preferences", "reward", "ppo", "evaluation"]
Facts = dict[str, Any]
"""What a stage reports of itself: names and JSON values."""


@dataclass(frozen=True)
class Workspace:
    """A recipe at work in a folder.

    `supervised` is the model that preferences, reward model and PPO start from: the one that this run trains, or the
    recipe's own. `stages` are those that are to run; `reports` collects what each finished one says of itself.
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
        """Shows a stage as it goes, and files its report with `seconds` and `peak_mb` once it is done."""
        start = time.monotonic()
        facts: Facts = {}
        with self.display.stage(name, total):
            yield facts
        facts["seconds"] = round(time.monotonic() - start, 2)
        facts["peak_mb"] = round(peak_mb())
        write_json(self.directory / name / "report.json", facts)
        self.reports[name] = facts


def base_of(recipe: Recipe) -> Path:
    """The model that a recipe starts from."""
    return TownDesk().base() if recipe.model.path == EMBEDDED else Path(recipe.model.path)


def open_workspace(
    recipe: Recipe, directory: Path, display: Display, supervised: Path, stages: Iterable[StageName]
) -> Workspace:
    """Settle device, number format and threads; nothing is written. UserError for a device that is not there."""
    if recipe.threads:
        torch.set_num_threads(recipe.threads)
    device = device_of(recipe.device)
    task = TownDesk() if recipe.task else None
    dtype, sources = dtype_of(recipe.dtype, device), Sources(display.note)
    if recipe.dtype == "auto" and dtype != torch.float32:
        display.note("matrix products in bfloat16, which this processor has; --dtype float32 for full precision")
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


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """The whole file or none of it."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, content: str) -> None:
    """The whole file or none of it, in a folder that is made if need be. UserError where the disk refuses."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(content, encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise UserError(f"{path} cannot be written ({error.strerror}); free space or choose another --dir") from error
