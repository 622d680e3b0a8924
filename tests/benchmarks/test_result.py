"""Medians, ratios and the table, by hand."""

from __future__ import annotations

import json
import mmap
from pathlib import Path

import pytest

from benchmarks.versus_trl.limits import Limits
from benchmarks.versus_trl.measure import Lap, Measurement, Memory, Stopwatch
from benchmarks.versus_trl.result import compare, fraction_of_limit, table
from benchmarks.versus_trl.settings import Best, Choice, best, choices, find, remembered
from benchmarks.versus_trl.workloads import find as workload

LIMITS = Limits("small", 64, {"fp32": 100.0, "bf16": 200.0}, {"fp32": 10.0, "bf16": 20.0})


def measured(seconds: float, tokens: int = 100, peak: float = 50.0, flops: float = 0.0) -> Measurement:
    return Measurement("sft", "small", "ours", {}, (Lap(seconds, tokens, flops),), peak, {})


def test_a_rate_is_all_tokens_over_all_seconds() -> None:
    laps = (Lap(1.0, 100), Lap(3.0, 100))
    assert Measurement("sft", "tiny", "ours", {}, laps, 0.0).tokens_per_s == 50


def test_a_measurement_survives_its_line_and_what_was_printed_before_it() -> None:
    found = measured(2.0)
    again = Measurement.read(f"a warning\n{found.line()}\n")
    assert again.tokens_per_s == found.tokens_per_s
    assert again.peak_mb == found.peak_mb
    with pytest.raises(ValueError, match="no measurement"):
        Measurement.read("killed")


def test_the_ratio_is_the_median_of_the_pairs_not_the_ratio_of_medians() -> None:
    pairs = [
        (measured(1.0), measured(2.0, peak=200)),  # 2
        (measured(4.0), measured(4.0, peak=100)),  # 1, while the machine was slow
        (measured(2.0), measured(10.0, peak=150)),  # 5
    ]
    row = compare(workload("sft"), pairs, LIMITS, 80.0, "trl", {})
    assert (row.ratio, row.ratio_low, row.ratio_high) == (2, 1, 5)
    assert (row.ours_tokens_per_s, row.peer_tokens_per_s) == (50, 25)
    assert (row.ours_peak_mb, row.peer_peak_mb, row.peer_least_mb) == (50, 150, 80)
    assert row.memory_ratio == pytest.approx(1 / 3, abs=1e-3)
    assert row.target == 2
    assert row.pairs == 3


def test_the_fraction_of_the_limit_takes_the_better_number_format() -> None:
    assert (LIMITS.gflops, LIMITS.floor_ms) == (200, 10)
    assert fraction_of_limit(measured(4.0, flops=200e9), LIMITS) == pytest.approx(0.25)
    decoding = Measurement("generate", "small", "ours", {}, (Lap(1.0, 0, 0.0, 640),), 0.0)
    assert fraction_of_limit(decoding, LIMITS) == pytest.approx(0.1)


def test_a_result_is_one_object_with_the_keys_that_are_asked_for(tmp_path: Path) -> None:
    row = compare(workload("sft"), [(measured(1.0), measured(3.0))], LIMITS, 50.0, "trl", {})
    written = json.loads(row.write(tmp_path).read_text(encoding="utf-8"))
    asked = "workload model ours_tokens_per_s peer_tokens_per_s ratio ours_peak_mb peer_peak_mb memory_ratio"
    assert {*asked.split(), "fraction_of_limit", "setting"} <= written.keys()
    assert (tmp_path / "sft-small.json").is_file()


def test_the_table_marks_what_falls_short() -> None:
    row = compare(workload("sft"), [(measured(1.0), measured(1.5))], LIMITS, 50.0, "trl", {})
    line = table([row]).splitlines()[-1]
    assert "**1.50** ✗ (1.50–1.50) | 2 |" in line
    assert "**1.00** ✗ | 0.5 |" in line
    assert len({line.count("|") for line in table([row, row]).splitlines()}) == 1


def test_the_peer_gets_its_fastest_setting_and_among_equals_the_smallest() -> None:
    fast, close, slow = Choice("fp32", 16), Choice("bf16", 16), Choice("fp32", 4)
    tried = {fast: measured(1.0, peak=90), close: measured(1.04, peak=60), slow: measured(2.0, peak=30)}
    assert best(tried) == Best(close, 30)
    with pytest.raises(ValueError, match="none of its settings"):
        best({})


def test_every_setting_is_tried_once_then_the_best_with_spinning_threads() -> None:
    tried: list[Choice] = []

    def attempt(choice: Choice) -> Measurement | None:
        tried.append(choice)
        return None if choice.dtype == "bf16" else measured(choice.micro * (1.0 if choice.wait else 0.5))

    assert find(workload("sft"), attempt).choice == Choice("fp32", 4, wait="")
    assert [(one.dtype, one.micro) for one in tried] == [(d, m) for d in ("fp32", "bf16") for m in (16, 8, 4)] + [
        ("fp32", 4)
    ]
    assert {one.lora for one in choices(workload("ppo-shared"))} == {True, False}


def test_a_best_setting_is_looked_for_once(tmp_path: Path) -> None:
    looks: list[int] = []

    def look() -> Best:
        looks.append(1)
        return Best(Choice("bf16", 8), 12.0)

    path = tmp_path / "deep" / "settings.json"
    assert remembered(path, "here", look) == remembered(path, "here", look) == Best(Choice("bf16", 8), 12.0)
    assert len(looks) == 1
    remembered(path, "another machine", look)
    assert len(looks) == 2


def test_laps_follow_each_other_and_memory_is_counted_from_its_start() -> None:
    watch = Stopwatch()
    watch.start()
    watch.lap(3)
    watch.start()  # already running
    watch.lap(4)
    assert [lap.tokens for lap in watch.laps] == [3, 4]
    assert all(0 <= lap.seconds < 1 for lap in watch.laps)
    memory = Memory()
    with mmap.mmap(-1, 64 * 2**20) as block:  # pages that the process has not held before, whatever its allocator keeps
        block.write(b"x" * len(block))
        assert 60 < memory.peak_mb() < 200
    assert memory.peak_mb() > 60
