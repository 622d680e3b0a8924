"""A lock whose waiters get it in the order in which they came."""

from collections import deque
from threading import Lock, get_ident


class Turns:
    """A mutual exclusion of threads, first come, first served. Use as a context manager; not to be nested.

    Threads of one process that write to one SQLite file wait here: SQLite itself lets them poll, so that who comes next
    is a matter of luck and some wait for long.
    """

    def __init__(self) -> None:
        self._guard = Lock()
        self._waiting: deque[Lock] = deque()
        self._owner: int | None = None

    def __enter__(self) -> None:
        """Waits for the others. RuntimeError where this thread has the turn already, and would wait for itself."""
        me = get_ident()
        with self._guard:
            if self._owner is None:
                self._owner = me
                return
            if self._owner == me:
                raise RuntimeError("a transaction that writes was begun within another of the same thread")
            called = Lock()
            called.acquire()
            self._waiting.append(called)
        came = False
        try:
            came = called.acquire()
        finally:
            if not came:  # interrupted while it waited
                with self._guard:
                    if called in self._waiting:
                        self._waiting.remove(called)
                    else:
                        self._pass_on()
        self._owner = me

    def __exit__(self, *_: object) -> None:
        with self._guard:
            self._pass_on()

    def _pass_on(self) -> None:
        self._owner = None
        if self._waiting:
            self._owner = -1  # nobody who comes now may go before the one that is called
            self._waiting.popleft().release()
