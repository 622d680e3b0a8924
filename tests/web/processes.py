"""`keel label` as people start it: a process of its own, on a port of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx


class Serving:
    """`keel label … --json`, from when it answers until it is stopped."""

    def __init__(self, *arguments: str, folder: Path) -> None:
        command = [sys.executable, "-m", "keel", "label", *arguments, "--json", "--no-browser"]
        self._log = (folder / "server.log").open("a+b")
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=self._log, cwd=folder, env={**os.environ, "NO_COLOR": "1"}
        )
        self.facts = self._read()
        self.address: str = self.facts["address"]

    def _read(self) -> dict[str, Any]:
        """What it prints once it answers."""
        assert self.process.stdout is not None
        text = b""
        while line := self.process.stdout.readline():
            text += line
            if line == b"}\n":
                found: dict[str, Any] = json.loads(text)
                return found
        self.process.wait()
        raise AssertionError(f"the server ended with {self.process.returncode}: {self.said()}")

    def __enter__(self) -> Serving:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop(signal.SIGKILL)

    def said(self) -> str:
        """Everything on stderr so far."""
        self._log.flush()
        self._log.seek(0)
        return self._log.read().decode()

    def stop(self, number: signal.Signals) -> int:
        """Ends the process and returns its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(timeout=30)
        finally:
            if self.process.stdout is not None:
                self.process.stdout.close()
            if not self._log.closed and number == signal.SIGKILL:
                self._log.close()

    @contextmanager
    def browser(self) -> Iterator[httpx.Client]:
        """Signed in with the link that was printed."""
        with httpx.Client(base_url=self.address, timeout=30) as client:
            page = client.post("/in", data={"secret": self.facts["link"].rsplit("/", 1)[1]})
            assert page.status_code == 303, page.text
            client.headers["X-CSRF-Token"] = client.get("/api/me").json()["csrf"]
            yield client
