"""The rows hold what was asked for."""

from __future__ import annotations

import pytest

from benchmarks.versus_trl.__main__ import asked
from benchmarks.versus_trl.environments import ALLOCATOR, WAIT, ours, peers
from benchmarks.versus_trl.workloads import WORKLOADS, find
from keel.cli import ENVIRONMENT

TARGETS = {
    "generate": (3, 3),
    "generate-ends": (4, 4),
    "generate-groups": (3.5, 3.5),
    "sft": (2.5, 2),
    "reward": (2.5, 2),
    "dpo": (2.5, 2),
    "reward-human": (3, 2.5),
    "dpo-human": (3, 2.5),
    "grpo-1": (3, 3),
    "grpo-4": (3, 3),
    "ppo-separate": (2, 2),
    "ppo-shared": (4, 4),
}


def test_each_workload_has_its_ratios() -> None:
    assert {row.name: (row.target("tiny", "trl"), row.target("small", "trl")) for row in WORKLOADS} == TARGETS
    assert {row.name: row.memory for row in WORKLOADS} == dict.fromkeys(TARGETS, 0.5) | {"ppo-shared": 0.2}
    assert find("generate").target("small", "vllm") == 1.5
    with pytest.raises(ValueError, match="no ratio to vLLM"):
        find("sft").target("small", "vllm")


def test_batches_and_epochs_are_those_of_the_peer() -> None:
    assert {row.name: row.batch for row in WORKLOADS if row.kind in ("sft", "reward", "dpo")} == dict.fromkeys(
        ("sft", "reward", "reward-human", "dpo", "dpo-human"), 16
    )
    online = [row for row in WORKLOADS if row.kind in ("generate", "grpo", "ppo")]
    assert {row.batch for row in online} == {64}
    assert {row.name: row.epochs for row in online if row.epochs > 1} == {
        "grpo-4": 4,
        "ppo-separate": 4,
        "ppo-shared": 4,
    }
    assert {row.name: row.rows(3) for row in online if row.samples == 8} == dict.fromkeys(
        ("generate-groups", "grpo-1", "grpo-4"), 24
    )
    assert all(row.batch % micro == 0 for row in WORKLOADS for micro in row.micros)


def test_workloads_are_found_by_name() -> None:
    assert asked([]) == list(WORKLOADS)
    assert [row.name for row in asked(["sft", "dpo"])] == ["sft", "dpo"]
    with pytest.raises(ValueError, match="no workload is called 'sfft'"):
        find("sfft")


def test_the_peer_gets_the_allocator_and_ours_what_the_command_line_sets() -> None:
    given = {"PATH": "p", "GLIBC_TUNABLES": "mine", WAIT: "ACTIVE", "GOMP_SPINCOUNT": "7"}
    assert peers(given, "").items() >= ALLOCATOR.items()
    assert WAIT not in peers(given, "")
    assert peers(given, "PASSIVE")[WAIT] == "PASSIVE"
    assert "GLIBC_TUNABLES" not in ours(given)
    assert "GOMP_SPINCOUNT" not in peers(given, "")
    assert ours(given)["GOMP_SPINCOUNT"] == "7"
    assert ours({}).items() >= ENVIRONMENT.items()
