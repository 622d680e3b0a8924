"""A process that runs stages in children of its own, so that tests can kill them: `python runner.py`, then a request
(JSON) per line on its input, answered by a line on its output.

Everything is imported once; a child is a fork that has run no operation of torch before. A request:

    {"stage": "sft", "recipe": FILE, "dir": DIR, "log": FILE, "seconds": S, "once": FILE, "signal": N,
     "fault": [NAME, N]}

After S seconds (null: never), counted from when the file `once` is there (null: from the start), the child gets the
signal. With a fault the child kills itself (SIGKILL) at the N-th call of os.fsync, of Path.replace, of Path.rename, or
half way through the N-th file of tensors (save_file). The answer says how it ended: {"status": exit status or −signal,
"took": seconds, "calls": how often NAME was called where it ended by itself}.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import keel.pipeline
import keel.training.checkpoint
from keel.cli import ending
from keel.config.load import load_recipe
from keel.display import PlainDisplay


def main() -> None:
    """Serves until its input ends."""
    torch.set_num_threads(1)
    keel.pipeline.write_report = lambda directory: directory
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(served(json.loads(line))), flush=True)


def served(request: dict[str, Any]) -> dict[str, Any]:
    """Fork, wait, kill, and say how it ended."""
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        status = 70
        try:
            status = work(request)
        finally:
            os._exit(status)
    ended = 0
    while request["once"] is not None and not ended and not Path(request["once"]).exists():
        time.sleep(0.001)
        ended, status = os.waitpid(child, os.WNOHANG)
    start = time.monotonic() if request["once"] is not None else start
    while request["seconds"] is not None and not ended and time.monotonic() - start < request["seconds"]:
        time.sleep(0.002)
        ended, status = os.waitpid(child, os.WNOHANG)
    if not ended:
        if request["seconds"] is not None:
            os.kill(child, request["signal"])
        _, status = os.waitpid(child, 0)
    calls = Path(f"{request['log']}.calls")
    return {
        "status": os.waitstatus_to_exitcode(status),
        "took": time.monotonic() - start,
        "calls": int(calls.read_text()) if calls.exists() else None,
    }


def work(request: dict[str, Any]) -> int:
    """The child: one stage, as the command line would run it; what it says goes to the log."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with Path(request["log"]).open("a", encoding="utf-8") as log:
        sys.stdout = sys.stderr = log
        calls = [0]
        if request["fault"]:
            plant(*request["fault"], calls)
        recipe = load_recipe(Path(request["recipe"]))
        display = PlainDisplay(lambda text: print(text, flush=True))

        def stage() -> None:
            keel.pipeline.run_stage(request["stage"], recipe, Path(request["dir"]), display)

        status = ending(stage, ["keel", "again"])
        if request["fault"]:
            Path(f"{request['log']}.calls").write_text(str(calls[0]))
        return status


def plant(name: str, at: int, calls: list[int]) -> None:
    """Die at the call of that number (0: never), half way through for files of tensors."""

    def dying(function: Callable[..., Any], half: Callable[..., None]) -> Callable[..., Any]:
        def call(*given: Any) -> Any:
            calls[0] += 1
            if calls[0] == at:
                half(*given)
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*given)

        return call

    def nothing(*_: Any) -> None: ...

    def half_a_file(tensors: Any, path: Path) -> None:
        original(tensors, path)
        os.truncate(path, path.stat().st_size // 2)

    original = keel.training.checkpoint.save_file
    match name:
        case "fsync":
            os.fsync = dying(os.fsync, nothing)
        case "replace":
            Path.replace = dying(Path.replace, nothing)  # type: ignore[method-assign]
        case "rename":
            Path.rename = dying(Path.rename, nothing)  # type: ignore[method-assign]
        case "save_file":
            keel.training.checkpoint.save_file = dying(original, half_a_file)
        case _:
            raise ValueError(f"no fault is called {name}")


if __name__ == "__main__":
    main()
