"""A process that shows things on one board: `python -m tests.boards.child REQUEST`, where REQUEST is JSON:

    {"board": NAME, "home": DIR, "calls": [["begin", 0], ["numbers", 1, {"loss": 0.5}], ["end"]]}

Beside the calls of a Board there are ["wait", SECONDS], ["fail"] (an error in the middle of the stage, which ends the
board as `Record` does) and ["kill"]. Whatever names a machine other than this one is refused and counted. The answer,
on the last line: {"notes": […], "asked": [names of machines], "drew": whether random numbers were used up}.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from keel.boards import Board, Title, boards_of

SETTINGS = {"seed": 0, "rl.kl.coef": 0.05, "sft.columns": {}, "model.path": "embedded", "ppo.betas": [0.9, 0.999]}


def main() -> None:
    request = json.loads(sys.argv[1])
    notes: list[str] = []
    asked = guarded()
    home = Path(request["home"])
    title = Title("a project", "demo-ppo", SETTINGS)
    (board,) = boards_of([request["board"]], home, home / "ppo", title, notes.append)
    assert isinstance(board, Board)
    before = drawn()
    try:
        for name, *given in request["calls"]:
            call(board, name, *given)
    except RuntimeError as error:
        assert str(error) == "the stage fails"  # noqa: PT017
        board.end()
    print("\n" + json.dumps({"notes": notes, "asked": asked, "drew": drawn() != before}))


def call(board: Board, name: str, *given: Any) -> None:
    match name:
        case "wait":
            time.sleep(given[0])
        case "fail":
            raise RuntimeError("the stage fails")
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case _:
            getattr(board, name)(*given)


def drawn() -> str:
    """Where the random numbers of the process have come to."""
    return repr((random.getstate(), np.random.get_state()))


def guarded() -> list[str]:
    """Names of other machines that were looked up or called, from here on; each is refused."""
    asked: list[str] = []
    look_up, connect = socket.getaddrinfo, socket.socket.connect

    def own(host: Any) -> bool:
        return str(host) in ("localhost", "127.0.0.1", "::1", "None")

    def looking_up(host: Any, *rest: Any, **more: Any) -> Any:
        if own(host):
            return look_up(host, *rest, **more)
        asked.append(str(host))
        raise OSError("no network in this test")

    def connecting(self: socket.socket, address: Any) -> None:
        if isinstance(address, tuple) and not own(address[0]):
            asked.append(str(address[0]))
            raise OSError("no network in this test")
        connect(self, address)

    socket.getaddrinfo = looking_up
    socket.socket.connect = connecting  # type: ignore[method-assign, assignment]
    return asked


if __name__ == "__main__":
    main()
