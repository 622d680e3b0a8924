"""What a stage needs, by arithmetic and by measurement, against what there is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from keel.config import Recipe
from keel.display import SilentDisplay
from keel.pipeline import checked, stages_of
from keel.planning.hops import hops_of
from keel.preflight import memory as module
from keel.preflight.memory import BARE, Need, memory, room
from keel.stages.workspace import Workspace
from stages.small import language_model, own_data, recipe

GIB = 2**30


@pytest.mark.parametrize(
    ("need", "there", "verdict"), [(79, 100, "ok"), (80, 100, "amber"), (99, 100, "amber"), (100, 100, "red")]
)
def test_thresholds(need: int, there: int, verdict: str) -> None:
    found = memory(need * GIB, there * GIB, passes=True)
    assert found.verdict == verdict
    assert f"{need}.0 GiB of {there}.0 GiB" in found.message
    assert "passes not counted" in memory(need * GIB, there * GIB, passes=False).message


def test_a_machine_that_does_not_say_what_is_free() -> None:
    found = memory(GIB, None, passes=True)
    assert (found.verdict, "not known" in found.message) == ("ok", True)
    assert room(torch.device("mps")) is None


def machine(folder: Path, free_kib: int, pages: int) -> Path:
    (folder / "self").mkdir(parents=True)
    (folder / "meminfo").write_text(f"MemTotal: 999 kB\nMemAvailable:   {free_kib} kB\n", encoding="ascii")
    (folder / "self" / "statm").write_text(f"900 {pages} 7 1 0 5 0\n", encoding="ascii")
    return folder


def test_room_is_what_is_free_and_what_is_ours(tmp_path: Path) -> None:
    page, cpu = os.sysconf("SC_PAGE_SIZE"), torch.device("cpu")
    proc, group = machine(tmp_path / "proc", 5000, 3), tmp_path / "group"
    assert room(cpu, proc, group) == 5000 * 1024 + 3 * page
    group.mkdir()
    (group / "memory.current").write_text("1000000\n", encoding="ascii")
    (group / "memory.stat").write_text("anon 700000\nfile 300000\ninactive_file 0\n", encoding="ascii")
    (group / "memory.max").write_text("max\n", encoding="ascii")
    assert room(cpu, proc, group) == 5000 * 1024 + 3 * page
    (group / "memory.max").write_text("3000000\n", encoding="ascii")
    assert room(cpu, proc, group) == 2000000 + 3 * page
    (group / "memory.stat").write_text("anon 700000\nfile 300000\ninactive_file 200000\n", encoding="ascii")
    assert room(cpu, proc, group) == 2200000 + 3 * page  # file cache that would be given up is free
    (group / "memory.max").write_text("500000\n", encoding="ascii")
    assert room(cpu, proc, group) == 3 * page


def test_room_of_this_machine() -> None:
    there = room(torch.device("cpu"))
    assert there is not None
    assert 2**26 < there < 2**50


@pytest.fixture
def own(tmp_path: Path) -> Recipe:
    return recipe(language_model(tmp_path / "base"), own_data(tmp_path / "data"))


def space_of(settings: Recipe, folder: Path) -> Workspace:
    return checked(stages_of(settings), settings, folder / "run", SilentDisplay())


def test_what_stages_need(own: Recipe, tmp_path: Path) -> None:
    """SFT: 16 bytes a weight, the process, and a pass; PPO four roles, so more."""
    space = space_of(own, tmp_path)
    need = Need(space, space.base)
    weights = AutoModelForCausalLM.from_pretrained(space.base).num_parameters()
    assert need.of("sft") > BARE + 16 * weights
    assert need.of("ppo") > BARE + 36 * weights
    assert need.of("ppo") > need.of("sft")


def test_passes_of_a_large_model_are_not_measured(own: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MEASURED", 10)
    space = space_of(own, tmp_path)
    need = Need(space, space.base)
    weights = AutoModelForCausalLM.from_pretrained(space.base).num_parameters()
    assert not need.passes
    assert need.of("sft") == BARE + 16 * weights


def test_a_pass_is_that_of_the_run(own: Recipe, tmp_path: Path) -> None:
    """Longer rows in one pass need more."""
    given = own.model_dump()
    given["sft"]["batch_size"] = 1
    small = space_of(Recipe.model_validate(given), tmp_path)
    large = space_of(own, tmp_path)
    sizes = [max(hop.tokens for hop in hops_of(space).hops if hop.stage == "sft") for space in (small, large)]
    assert sizes[0] < sizes[1]
    assert Need(small, small.base).of("sft") < Need(large, large.base).of("sft")
