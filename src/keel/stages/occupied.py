"""One process at a time in a run's folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from keel.errors import UserError


@contextmanager
def occupied(directory: Path) -> Iterator[None]:
    """The folder is this process's until the context ends, or the process does, however that comes.

    UserError where another process is at work there, or the system cannot tell. (On Windows, which has no such locks,
    nothing is held.)
    """
    if sys.platform == "win32":
        yield
        return
    import fcntl

    handle = None
    try:
        try:
            handle = os.open(directory, os.O_RDONLY)
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"another run is at work in {directory}; wait for its end, or choose another --dir"
            ) from None
        except OSError as error:
            raise UserError(f"{directory} cannot be locked ({error.strerror}); choose another --dir") from None
        yield
    finally:
        if handle is not None:
            os.close(handle)
