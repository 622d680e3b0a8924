"""Progress of a stage that outlives the process: a killed run goes on as if nothing had happened.

A checkpoint is a folder <stage>/checkpoints/<steps done>:

    tensors-<n>.safetensors   every tensor of every part, under <part>/<name>, some hundred MB to a file
    state.json                steps done, the numbers of every part, what the stage is made from, and sha256 of all

It is filled under another name and then renamed, so a folder with the name of a step is whole, unless the disk spoils
it, which the sums tell.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from keel.data.write import put, reason, sync
from keel.errors import Stopped, UserError
from keel.training.randomness import Randomness
from keel.training.state import Part, State
from keel.training.stopping import Stopping

_STATE = "state.json"
_DRAFT = ".draft"
_SHARD = 2**28
"""Bytes of tensors in one file: while it is written, the library holds a copy of them."""


@runtime_checkable
class Keeper(Protocol):
    """What a training loop asks of whoever keeps its progress."""

    def resume(self, parts: Mapping[str, Part]) -> int:
        """The steps that were done before, with every part as it was after them; 0, and nothing changed, for none."""

    def after(self, step: int) -> None:
        """`step` steps are done. Raises `Stopped` where the user wants to stop, with the progress kept."""


class Forgetful:
    """Keeps nothing."""

    def resume(self, parts: Mapping[str, Part]) -> int:
        return 0

    def after(self, step: int) -> None: ...


FORGETFUL = Forgetful()


@dataclass(frozen=True)
class Pace:
    """A checkpoint every so many seconds (0: after every step), and how many are kept, the newest."""

    seconds: float
    keep: int


class Checkpoints:
    """The checkpoints of one stage, in `directory`; a context that must surround the loop.

    Within it Ctrl-C and SIGTERM wait for the end of the step, write a checkpoint and raise `Stopped`. `key` says what
    the stage is made from: checkpoints with another key are not ours. `parts` are kept beside those of the loop. `note`
    is told what the user should know; `resumed` from which step on the stage goes on. `seconds` counts the time that
    the stage took up to the checkpoint that it went on from.
    """

    def __init__(
        self,
        directory: Path,
        key: str,
        pace: Pace,
        parts: Mapping[str, Part],
        note: Callable[[str], None],
        resumed: Callable[[int], None],
    ) -> None:
        self.directory = directory
        self.seconds = 0.0
        self._key, self._pace = key, pace
        self._parts: dict[str, Part] = {"random": Randomness(), **parts}
        self._note, self._resumed = note, resumed
        self._stopping = Stopping(note)
        self._began = self._written = time.monotonic()
        self._step = 0

    def __enter__(self) -> Checkpoints:
        self._stopping.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._stopping.__exit__()
        if kind is None and self._stopping.asked is not None:
            self._stop()

    def resume(self, parts: Mapping[str, Part]) -> int:
        """From the newest checkpoint that is whole; what is wrong with newer ones is said."""
        self._parts |= parts
        before = {name: part.state() for name, part in self._parts.items()}
        shutil.rmtree(self.directory / _DRAFT, ignore_errors=True)  # of a process that was killed in the middle of one
        for folder in reversed(steps_in(self.directory)):
            try:
                body = read_state(folder)
                if body["key"] != self._key:
                    continue
                self._restore(body, read_tensors(folder, body["files"]))
            except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
                self._note(f"the checkpoint {folder} is damaged ({error}), so an earlier state is used")
                continue
            self._step = int(folder.name)
            self._note(f"going on after step {self._step}")
            self._resumed(self._step)
            return self._step
        for name, part in self._parts.items():  # one that could not be used may have been taken in part
            part.restore(before[name])
        return 0

    def after(self, step: int) -> None:
        """Writes a checkpoint where one is due, or where the user wants to stop."""
        self._step = step
        if self._stopping.asked is not None:
            self._stop()
        if time.monotonic() - self._written >= self._pace.seconds:
            self.write()

    def write(self) -> None:
        """Write a checkpoint of the steps done so far, then remove those that are too many.

        UserError, with those before it kept, where the disk refuses.
        """
        draft, folder = self.directory / _DRAFT, self.directory / f"{self._step:08d}"
        try:
            states = {name: part.state() for name, part in self._parts.items()}
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir(parents=True)
            body = {
                "step": self._step,
                "key": self._key,
                "seconds": self.seconds + time.monotonic() - self._began,
                "files": _write_tensors(draft, states),
                "numbers": {name: dict(state.numbers) for name, state in states.items()},
            }
            put(draft / _STATE, json.dumps({"sha256": _sum(body), "body": body}).encode())
            sync(draft)
            shutil.rmtree(folder, ignore_errors=True)  # one of this step that was damaged
            draft.replace(folder)
            sync(self.directory)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(draft, ignore_errors=True)
            kept = self._reached()
            before = f"that of step {int(kept[-1].name)} is kept" if kept else "there is none before it"
            raise UserError(
                f"the checkpoint {folder} cannot be written ({reason(error)}); {before}: free space, then give the "
                "same command again"
            ) from None
        newest = self._reached()[-self._pace.keep :]
        for old in steps_in(self.directory):
            if old not in newest:
                shutil.rmtree(old, ignore_errors=True)
        self._written = time.monotonic()

    def _reached(self) -> list[Path]:
        """The checkpoints up to the step that is done; later ones are damaged, or the stage had gone on from them."""
        return [folder for folder in steps_in(self.directory) if int(folder.name) <= self._step]

    def _stop(self) -> None:
        self.write()
        assert self._stopping.asked is not None
        raise Stopped(self._step, self._stopping.asked)

    def _restore(self, body: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        states: dict[str, State] = {}
        for name in self._parts:
            own = {key.removeprefix(f"{name}/"): one for key, one in tensors.items() if key.startswith(f"{name}/")}
            states[name] = State(body["numbers"][name], own)
        # Files first: they may have been cut short since, and weights are not taken back.
        for name in sorted(states, key=lambda name: bool(states[name].tensors)):
            self._parts[name].restore(states[name])
        self.seconds = float(body["seconds"])


def steps_in(directory: Path) -> list[Path]:
    """The folders of checkpoints, oldest first."""
    return sorted(path for path in directory.glob("[0-9]*") if path.is_dir() and path.name.isdigit())


def discard(directory: Path) -> None:
    """Remove the checkpoints of a stage that is done."""
    shutil.rmtree(directory, ignore_errors=True)


def newest_of(directory: Path, key: str) -> int | None:
    """The step of the newest checkpoint that names this key, whole or not; None where there is none."""
    for folder in reversed(steps_in(directory)):
        try:
            body = json.loads((folder / _STATE).read_text(encoding="utf-8"))["body"]
            if body["key"] == key:
                return int(folder.name)
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def read_state(folder: Path) -> Mapping[str, Any]:
    """What state.json says. ValueError where it, or a file that it names, is not as it was written."""
    whole = json.loads((folder / _STATE).read_text(encoding="utf-8"))
    body: Mapping[str, Any] = whole["body"]
    if whole["sha256"] != _sum(body):
        raise ValueError(f"{_STATE} is not as it was written")
    for name, known in body["files"].items():
        with (folder / name).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != known:
                raise ValueError(f"{name} is not as it was written")
    return body


def read_tensors(folder: Path, names: Mapping[str, str]) -> dict[str, Tensor]:
    """All tensors of a checkpoint, on the CPU."""
    found: dict[str, Tensor] = {}
    for name in names:
        found |= load_file(folder / name)
    return found


def _write_tensors(folder: Path, states: Mapping[str, State]) -> dict[str, str]:
    """The sha256 of each file that was written."""
    sums: dict[str, str] = {}
    for place, shard in enumerate(_shards(states)):
        path = folder / f"tensors-{place:05d}.safetensors"
        save_file(shard, path)
        with path.open("rb+") as file:
            os.fsync(file.fileno())
            sums[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return sums


def _shards(states: Mapping[str, State]) -> Iterator[dict[str, Tensor]]:
    shard: dict[str, Tensor] = {}
    size = 0
    for part, state in states.items():
        for name, tensor in state.tensors.items():
            if shard and size + tensor.nbytes > _SHARD:
                yield shard
                shard, size = {}, 0
            shard[f"{part}/{name}"] = tensor.detach().cpu().contiguous()
            size += tensor.nbytes
    if shard:
        yield shard


def _sum(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
