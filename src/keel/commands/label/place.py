"""Which database a command is about."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from keel.data.place import DATABASE, neighbour, place
from keel.errors import UserError

BESIDE_A_FILE = ".labels.db"


@dataclass(frozen=True)
class Place:
    """A database: a file (None for one at a URL), and how it is written on a command line."""

    written: str
    path: Path | None

    @property
    def url_or_path(self) -> str | Path:
        """As `Database.open` takes it."""
        return self.written if self.path is None else self.path


def at(written: str) -> Place:
    """The place as somebody wrote it, there or not: a URL, a run's folder, or a file."""
    if "://" in written:
        return Place(written, None)
    path = place(written)
    return Place(written, path / DATABASE if path.is_dir() else path)


def existing(written: str) -> Place:
    """The same; UserError where it is not there."""
    found = at(written)
    if found.path is not None and not found.path.is_file():
        if place(written).is_dir():
            raise UserError(
                f"{written}: this folder holds no {DATABASE}, so there is nothing to label yet; give a run that has "
                "gathered answers, or start with --from FILE."
            )
        raise UserError(
            f"{written}: no such run or database{neighbour(found.path)}; give one that is there, or begin one with "
            "`keel label --from FILE`."
        )
    return found


def beside(source: str) -> Place:
    """The database of a data file: data.jsonl has data.labels.db."""
    path = place(source)
    name = path.name.removesuffix(".gz")
    stem = Path(name).stem if not path.is_dir() else name
    file = path.with_name(f"{stem}{BESIDE_A_FILE}")
    return Place(str(file), file)


def only_one_here() -> Place:
    """The one database of the current folder; UserError where there is none, or several."""
    here = sorted(path for path in Path().iterdir() if path.name == DATABASE or path.name.endswith(BESIDE_A_FILE))
    if len(here) != 1:
        found = ", ".join(path.name for path in here) or "none"
        raise UserError(f"which labels are meant (in this folder: {found})? Say so with --of RUN or --of DATABASE.")
    return Place(str(here[0]), here[0])
