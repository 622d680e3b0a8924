"""Keel's side of every workload, on a very small model."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.versus_trl import ours
from benchmarks.versus_trl.inputs import Inputs
from benchmarks.versus_trl.workloads import NEW_TOKENS, WORKLOADS, Workload


def shrunk(workload: Workload) -> Workload:
    """Two prompts, demonstrations or pairs to a step."""
    return replace(workload, batch=2 * min(workload.samples, 2), samples=min(workload.samples, 2))


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda row: row.name)
def test_a_step_runs_and_counts_its_tokens(workload: Workload, inputs: Inputs) -> None:
    small = shrunk(workload)
    laps = ours.run(small, inputs, "dot", 1)
    assert len(laps) == 1
    assert laps[0].seconds > 0
    assert laps[0].flops > 0
    assert (laps[0].decoded > 0) == (workload.kind in ("generate", "grpo", "ppo"))
    match workload.kind:
        case "sft":
            expected = sum(len(row.tokens) for row in inputs.demonstrations()[:2])
        case "reward" | "dpo":
            pairs = inputs.pairs(workload.data)[:2]
            expected = sum(2 * len(row.prompt) + len(row.chosen) + len(row.rejected) for row in pairs)
        case _:
            expected = small.batch * NEW_TOKENS
    if workload.endings == "none":
        assert laps[0].tokens == expected
    else:
        assert small.batch <= laps[0].tokens < expected


def test_steps_take_the_rows_in_the_order_of_the_data(inputs: Inputs) -> None:
    rows = inputs.demonstrations()
    laps = ours.run(replace(WORKLOADS[3], batch=2), inputs, "dot", 3)
    assert [lap.tokens for lap in laps] == [sum(len(row.tokens) for row in rows[i : i + 2]) for i in (0, 2, 4)]
    items = ours.arranged([["a", "b"], ["c", "d"]], 0)
    order = next(iter(ours.visits(4, 4, 1, None, 0)))
    assert [items[place] for place in order] == ["a", "b", "c", "d"]


def test_too_few_rows_are_an_error(inputs: Inputs) -> None:
    with pytest.raises(ValueError, match="but the data has 8"):
        ours.run(replace(WORKLOADS[3], batch=8), inputs, "dot", 2)
