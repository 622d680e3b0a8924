"""Files and folders that are there whole or not at all, whenever the process dies or the power fails.

Each is filled under the name .NAME.draft beside its place, and then renamed. A draft that a killed process left is
replaced by the next.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from keel.errors import UserError


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """See `write_text`."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, content: str) -> None:
    """A file, in a folder that is made if need be. UserError where the disk refuses."""
    draft = path.with_name(f".{path.name}.draft")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        put(draft, content.encode())
        draft.replace(path)
        sync(path.parent)
    except OSError as error:
        with suppress(OSError):  # the folder may be the one that is no folder
            draft.unlink()
        raise _refused(path, error) from error


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill; it takes the name `path`, in place of what had it, when the block ends without an error.

    UserError where the disk refuses, with what had the name before still there.
    """
    draft, old = (path.with_name(f".{path.name}.{word}") for word in ("draft", "old"))
    try:
        if old.exists() and not path.exists():  # a process was killed between the two renamings below
            old.replace(path)
        _remove(draft, old)
        draft.mkdir(parents=True)
        yield draft
        for each in (*draft.rglob("*"), draft):
            sync(each)
        if path.exists():
            path.replace(old)
        draft.replace(path)
        sync(path.parent)
    except (OSError, SafetensorError) as error:
        raise _refused(path, error) from error
    finally:
        _remove(draft, *([old] if path.exists() else []))


def put(path: Path, content: bytes) -> None:
    """A file with this content, which outlives a power cut from here on. OSError."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync(path: Path) -> None:
    """What a file, or the names in a folder, outlive a power cut from here on, where the system can promise that."""
    if os.name == "posix":
        try:
            handle = os.open(path, os.O_RDONLY)
        except PermissionError:  # a folder that may be written into, but not listed
            return
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def append(file: FileIO, content: bytes) -> None:
    """All of the content at the end of a file without a buffer, so that nothing is left to fail later. OSError."""
    left = memoryview(content)
    while left:
        left = left[file.write(left) :]


def reason(error: Exception) -> str:
    """Why a file could not be written, as short as the system says it."""
    return (isinstance(error, OSError) and error.strerror) or str(error)


def _refused(path: Path, error: Exception) -> UserError:
    return UserError(f"{path} cannot be written ({reason(error)}); free space or choose another place")


def _remove(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
