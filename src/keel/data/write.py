"""Files and folders that are there whole or not at all, whenever the process dies.

Each is filled under the name .NAME.draft beside its place, and then renamed. A draft that a killed process left is
replaced by the next.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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
        draft.write_text(content, encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise _refused(path, error) from error


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill; it takes the name `path`, in place of what had it, when the block ends without an error.

    UserError where the disk refuses, with what had the name before still there.
    """
    draft, old = (path.with_name(f".{path.name}.{word}") for word in ("draft", "old"))
    try:
        _remove(draft, old)
        draft.mkdir(parents=True)
        yield draft
        if path.exists():
            path.replace(old)
        draft.replace(path)
    except (OSError, SafetensorError) as error:
        raise _refused(path, error) from error
    finally:
        _remove(draft, *([old] if path.exists() else []))


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
