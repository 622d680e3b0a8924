"""The smoke recipe in a terminal of 80 columns, and piped: nothing is wider, and a file gets words only."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.cells import cell_len

SMOKE = str(Path(__file__).parents[1] / "recipes" / "smoke.yaml")
FEW = ("--threads", "1", "--rl.limit", "64", "--rl.sampling.max_tokens", "16")
COLUMNS = 80
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
KEEL = [sys.executable, "-c", "from keel.cli import main; main()"]


def in_terminal(*argv: str) -> str:
    """What a terminal receives, with all that steers it."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
    kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    process = subprocess.Popen(
        [*KEEL, *argv], stdin=theirs, stdout=theirs, stderr=theirs, env=kept | {"TERM": "xterm-256color"}
    )
    os.close(theirs)
    received = b"".join(_all(ours))
    os.close(ours)
    assert process.wait() == 0, received.decode()
    return received.decode()


def _all(source: int) -> Iterator[bytes]:
    while True:
        try:
            got = os.read(source, 65536)
        except OSError:  # how the end of a terminal is told
            return
        if not got:
            return
        yield got


def piped(*argv: str) -> str:
    done = subprocess.run([*KEEL, *argv], capture_output=True, text=True, check=True, env=dict(os.environ))
    assert done.stderr == ""
    return done.stdout


def too_wide(received: str) -> list[str]:
    """Lines that the terminal would have to wrap."""
    return [line for line in re.split(r"[\r\n]+", CONTROL.sub("", received)) if cell_len(line) > COLUMNS]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("terminal") / "run"


@pytest.fixture(scope="module")
def live(run: Path) -> str:
    return in_terminal("run", SMOKE, "--dir", str(run), *FEW)


def test_a_run_is_no_wider_than_its_terminal(live: str) -> None:
    assert too_wide(live) == []
    assert "\x1b[?25l" in live  # a bar that is redrawn in place
    assert re.search(r"PPO.*━", CONTROL.sub("", live), re.IGNORECASE)
    assert "…" not in live  # nothing is cut off


def test_a_check_is_no_wider_than_its_terminal(tmp_path: Path) -> None:
    said = in_terminal("check", SMOKE, "--dir", str(tmp_path / "run"), *FEW)
    assert too_wide(said) == []
    assert "\x1b[32mok" in said


def test_reports_are_no_wider_than_their_terminal(live: str, run: Path, tmp_path: Path) -> None:
    again = shutil.copytree(run, tmp_path / "again")
    for argv in (["report", str(run)], ["report", str(run), str(again), "--out", str(tmp_path / "both.html")]):
        assert [line for line in too_wide(in_terminal(*argv)) if str(tmp_path) not in line] == []


def test_a_file_gets_words_only(tmp_path: Path) -> None:
    said = piped("run", SMOKE, "--dir", str(tmp_path / "run"), *FEW)
    assert re.findall(r"[\x00-\x09\x0b-\x1f\x7f]|━", said) == []
    began, _, story = said.partition("WHAT HAPPENED")
    assert len(began.splitlines()) < 50
    assert len(story.splitlines()) < 80
    checked = piped("check", SMOKE, "--dir", str(tmp_path / "other"), *FEW)
    assert re.findall(r"[\x00-\x09\x0b-\x1f\x7f]", checked) == []
