"""What a file, a folder or a data set holds, as one number: two that are the same hold the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from keel.errors import UserError


def of_file(path: Path) -> str:
    """sha256 of the content, hexadecimal. UserError where it cannot be read."""
    try:
        found = path.stat()
        return _digest(path.resolve(), found.st_ino, found.st_size, found.st_mtime_ns)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from None


@lru_cache(maxsize=4096)
def _digest(path: Path, *_: int) -> str:
    """Read once while number, size and time of the file stay: several stages read one model."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def of_folder(path: Path) -> str:
    """sha256 over names and contents of all files in the folder and below; hidden ones do not count."""
    total = hashlib.sha256()
    for file in sorted(path.rglob("*")):
        name = file.relative_to(path)
        if file.is_file() and not any(part.startswith(".") for part in name.parts):
            total.update(f"{name.as_posix()} {of_file(file)}\n".encode())
    return total.hexdigest()


def of_rows(rows: Iterable[object]) -> str:
    """sha256 over rows as they were read, in their order: renaming a file or a column changes nothing."""
    total = hashlib.sha256()
    for row in rows:
        total.update(f"{row!r}\n".encode("utf-8", "surrogatepass"))
    return total.hexdigest()
