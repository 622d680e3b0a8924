"""The `datasets` library: folders that it saved, and data sets that it knows by name.

Only builders that read plain tables are let through, so that nothing is unpickled.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped, unused-ignore]

from keel.data.nearest import did_you_mean
from keel.data.place import place
from keel.errors import UserError

_SPEC = re.compile(r"(?P<name>[^#]+?)(#(?P<config>[^:]+))?(:(?P<split>\w[\w.+-]*(\[[^\]]*\])?))?")
_PLAIN_BUILDERS = ("json", "csv", "parquet", "arrow", "text")

# How `datasets` fails on files that are damaged or were written by something else.
_REFUSALS = (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError, pa.ArrowException)


def is_saved(folder: Path) -> bool:
    """Whether `Dataset.save_to_disk` or `DatasetDict.save_to_disk` wrote this folder."""
    return (folder / "dataset_dict.json").is_file() or (
        (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()
    )


def rows(spec: str, before: str) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """(label, index from 0, fields) of each row of `NAME[#CONFIG][:SPLIT]`; `before` opens an error's sentence."""
    match = _SPEC.fullmatch(spec)
    if match is None:
        raise UserError(f"datasets:{spec}: is no data set's name; write datasets:NAME, or datasets:NAME#CONFIG:SPLIT.")
    name, config, split = match["name"], match["config"], match["split"]
    local = place(name)
    table = _saved(local, split) if is_saved(local) else _named(name, config, split, before)
    label = f"{name}:{split}" if split else name
    index = -1
    try:
        for index, fields in enumerate(table):
            yield label, index, dict(fields)
    except (*_REFUSALS, ImportError) as error:  # ImportError: pictures and sounds need libraries of their own
        raise UserError(f"{label}, row {index + 1}: cannot be read ({_line(error)}); leave the column out.") from None


def _saved(folder: Path, split: str | None) -> Any:
    import datasets  # costs more than a second; only those who name a data set wait for it

    try:
        loaded = datasets.load_from_disk(str(folder))
    except _REFUSALS as error:
        raise UserError(f"{folder}: cannot be loaded as a saved data set ({_line(error)}); save it again.") from None
    if isinstance(loaded, datasets.DatasetDict):
        return _split(loaded, split, str(folder))
    if split is not None:
        raise UserError(f"{folder}: the saved data set has no splits; leave out ':{split}'.")
    return loaded


def _named(name: str, config: str | None, split: str | None, before: str) -> Any:
    import datasets

    try:
        builder = datasets.load_dataset_builder(name, config)
        if builder.name not in _PLAIN_BUILDERS:
            raise UserError(
                f"datasets:{name}: is stored as '{builder.name}', which Keel does not open; convert it to Parquet."
            )
        if split is None:
            return _split(datasets.load_dataset(name, config), None, f"datasets:{name}")
        return datasets.load_dataset(name, config, split=split)
    except (*_REFUSALS, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise UserError(
            f"{before}`datasets` cannot load '{name}' ({_line(error)}); check its name, config and split,"
            " or give the path of a file."
        ) from None


def _split(loaded: Any, split: str | None, where: str) -> Any:
    """The split asked for; without one `train`, or the only one there is."""
    names = list(loaded)
    wanted = split or (names[0] if len(names) == 1 else "train")
    if wanted in names:
        return loaded[wanted]
    listed = ", ".join(f"'{name}'" for name in names)
    problem = (
        f"has no split '{split}'{did_you_mean(split, names)}" if split else "has several splits and none is 'train'"
    )
    raise UserError(f"{where}: {problem}; add one of {listed} after a colon.")


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
