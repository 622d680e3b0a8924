"""Files and folders that are written whole: what is said where the disk refuses, and what a killed process leaves."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from keel.data.write import new_folder, write_text
from keel.errors import UserError


def test_what_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    for path in (tmp_path / "file" / "page.html", tmp_path / ("n" * 250)):
        with pytest.raises(UserError, match="cannot be written"):
            write_text(path, "words")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_had_the_name_outlives_a_kill_and_then_a_full_disk(tmp_path: Path) -> None:
    """The first process died between the two renamings, the second finds no space."""
    old = tmp_path / ".best.old"
    old.mkdir()
    (old / "weights").write_text("so far", encoding="utf-8")

    def full() -> None:
        with new_folder(tmp_path / "best"):
            raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match="No space left"):
        full()
    assert (tmp_path / "best" / "weights").read_text(encoding="utf-8") == "so far"
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="nothing tells the names of open files here")
def test_content_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut must not leave an empty file under the name, nor a model of which the checkpoints are gone."""
    happened: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def synced(handle: int) -> None:
        happened.append(f"sync {Path(f'/proc/self/fd/{handle}').readlink().name}")
        fsync(handle)

    def renamed(path: Path, target: Any) -> Path:
        happened.append(f"name {Path(target).name}")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    write_text(tmp_path / "report.json", "{}")
    assert happened == ["sync .report.json.draft", "name report.json", f"sync {tmp_path.name}"]
    happened.clear()
    with new_folder(tmp_path / "model") as draft:
        (draft / "weights").write_text("w", encoding="utf-8")
    assert happened == ["sync weights", "sync .model.draft", "name model", f"sync {tmp_path.name}"]
