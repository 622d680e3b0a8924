"""What `keel sample` and `keel chat` ask for: which model, and how it samples."""

from __future__ import annotations

import argparse
from pathlib import Path

from keel.commands.arguments import Arguments
from keel.config import PRESETS, Sampling
from keel.config.flags import Flags
from keel.config.load import build
from keel.config.source import Source
from keel.data.place import place
from keel.errors import UserError

_FLAGS = Flags(Sampling)


def add_model(arguments: Arguments) -> None:
    """Adds the model and how to read it, and a flag for each field of `Sampling`."""
    arguments.add_argument(
        "model", metavar="MODEL", help="folder of a run (its newest policy, else its SFT model) or model"
    )
    arguments.add_argument("--seed", metavar="N", type=int, default=0, help="every random choice follows from it")
    arguments.add_argument(
        "--template", metavar="T", default="auto", help="auto, plain or a Jinja file, as model.template"
    )
    arguments.add_argument("--device", metavar="D", default="auto", help="auto, cpu, cuda or mps")
    _FLAGS.add(arguments, "sampling", tuple(Sampling.model_fields), {})


def sampling_of(given: argparse.Namespace) -> Sampling:
    """How to sample, as the command line says; UserError for what is no number or out of range."""
    return build(_FLAGS.apply(vars(given), Source()), Sampling)


def find_model(text: str) -> Path:
    """The model that a folder of a run or of a model means. A name that is no folder here is left to the loader."""
    path = place(text)
    policies = [folder for name in PRESETS if (folder := path / name / "model").is_dir()]
    policies.sort(key=lambda folder: folder.stat().st_mtime, reverse=True)
    found = [each for each in (path, *policies, path / "sft" / "model") if (each / "config.json").is_file()]
    if not found and path.exists():
        raise UserError(f"{path} holds no model: give a run with ppo/model or sft/model, or a folder with config.json")
    return found[0] if found else path
