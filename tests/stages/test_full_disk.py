"""A disk that is full: one sentence, nothing lost, and with more space the same command goes on to the same bytes.

The disk is a small tmpfs; where this process may not mount one, the tests say so.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .test_resume import STAGES, Runner, place, pytestmark, runner, same, whole

__all__ = ["place", "pytestmark", "runner", "whole"]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """An empty tmpfs, which `resize` makes larger or smaller."""
    path = tmp_path / "disk"
    path.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(path)], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip(f"this process may not mount a tmpfs: {made.stderr.strip()}")
    yield path
    subprocess.run(["umount", str(path)], check=True)


def resize(disk: Path, size: int) -> None:
    """So many kB."""
    subprocess.run(["mount", "-o", f"remount,size={size}k", str(disk)], check=True)


@pytest.mark.parametrize("stage", STAGES)
def test_a_full_disk_is_one_sentence_and_loses_nothing(
    stage: str, runner: Runner, place: Path, whole: dict[str, tuple[Path, float]], disk: Path
) -> None:
    """The disk is filled by the run itself, again and again, with a little more space each time."""
    log = place / "log"
    log.unlink(missing_ok=True)
    ended, size, refused = {"status": 2}, 8, 0
    while ended["status"] == 2:
        resize(disk, size)
        log.write_text("")
        ended = runner.run(stage, place, disk / "run")
        said = log.read_text(encoding="utf-8")
        assert "Traceback" not in said
        if ended["status"] == 2:
            refused += 1
            (sentence,) = [line for line in said.splitlines() if line.startswith("keel: error: ")]
            assert str(disk) in sentence
            reason = sentence.replace(str(disk), "")  # the folder of the test is called after it
            assert "No space left on device" in reason or "full" in reason, sentence
        size = size * 5 // 4 + 4
    assert ended["status"] == 0, said
    assert refused >= 5, "the disk was hardly ever full"
    same(disk / "run", whole[stage][0], stage)
