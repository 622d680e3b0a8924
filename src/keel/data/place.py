"""A path as somebody wrote it: a mistake may be too long for a file name, or name the home of nobody."""

from __future__ import annotations

from pathlib import Path

from keel.data.nearest import did_you_mean
from keel.errors import UserError

DATABASE = "preferences.db"
"""What a run calls the database of its preferences, in its folder."""


def place(written: str | Path) -> Path:
    """The path, its ~ resolved, of which it can be asked whether it is there.

    UserError for what no file can be called, and for what lies where this user may not look.
    """
    if not str(written).strip():
        raise UserError("an empty text was given where a path should stand; give the path.")
    try:
        path = Path(written).expanduser()
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return path
    except RuntimeError:
        raise UserError(f"{short(written)}: there is no such home folder; give the path without ~.") from None
    except (OSError, ValueError) as error:  # a ValueError where there is a NUL in it
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{short(written)}: cannot be looked up ({reason}); give the path of what is there.") from None
    return path


def neighbour(path: Path, *others: str) -> str:
    """ " (did you mean 'x'?)" for what lies beside the path, or is among the others, and is spelt most like it."""
    try:
        beside = [entry.name for entry in path.parent.iterdir() if entry.name != path.name]
    except OSError:
        beside = []
    return did_you_mean(path.name, (*others, *beside))


def unreadable(error: OSError | UnicodeDecodeError) -> str:
    """Why a text file cannot be read, in a few words."""
    return (error.strerror or str(error)) if isinstance(error, OSError) else "it is not UTF-8"


def short(text: str | Path, limit: int = 60) -> str:
    """The text, or as much of its beginning as an error has room for."""
    whole = str(text)
    return whole if len(whole) <= limit else whole[: limit - 1] + "…"
