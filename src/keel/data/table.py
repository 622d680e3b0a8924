"""Rows to a file: JSON lines or Parquet, by its suffix; whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped, unused-ignore]
import pyarrow.parquet as pq  # type: ignore[import-untyped, unused-ignore]

from keel.data.place import place
from keel.data.write import reason, write_text
from keel.errors import UserError

SUFFIXES = (".jsonl", ".parquet")


def table_place(written: str) -> Path:
    """Where a table is to be written. UserError for a folder, and for a suffix that is neither."""
    path = place(written)
    if path.is_dir():
        raise UserError(f"{path} is a folder; name the file to write.")
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"{path}: the suffix says how to write it; let it end in {' or '.join(SUFFIXES)}.")
    return path


def write_table(path: Path, rows: Sequence[Mapping[str, Any]], schema: pa.Schema | None = None) -> None:
    """One line or row each, all with the same columns. UserError where the disk refuses.

    `schema` gives Parquet's columns their types, which are else guessed, so that an empty one has none.
    """
    if path.suffix.lower() == ".jsonl":
        lines = (json.dumps(dict(row), ensure_ascii=False, allow_nan=False) for row in rows)
        write_text(path, "".join(f"{line}\n" for line in lines))
        return
    draft = path.with_name(f".{path.name}.draft")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist([dict(row) for row in rows], schema=schema), draft)
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise UserError(f"{path} cannot be written ({reason(error)}); free space or choose another place") from error
