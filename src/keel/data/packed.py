"""Files that gzip has packed: `votes.jsonl.gz` is read as `votes.jsonl` would be."""

from __future__ import annotations

import gzip
import io
import zlib
from pathlib import Path

DAMAGED = (gzip.BadGzipFile, EOFError, zlib.error)
"""What reading a packed file raises where it is cut off or is none."""


def kind_of(path: Path) -> str:
    """The suffix that says how to read the file, in lower case; Parquet packs by itself and is left as it is."""
    packed = path.suffix.lower() == ".gz" and path.with_suffix("").suffix.lower() != ".parquet"
    return (path.with_suffix("") if packed else path).suffix.lower()


def opened(path: Path) -> gzip.GzipFile | io.BufferedReader:
    """The bytes that were packed, or those of a plain file. Reading may raise OSError and what `DAMAGED` names."""
    return gzip.GzipFile(path) if path.suffix.lower() == ".gz" else path.open("rb")


def content(path: Path) -> bytes:
    """All of them."""
    with opened(path) as file:
        return file.read()
