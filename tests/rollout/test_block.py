"""Memory that comes when it is written to, and goes with its tensor."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
import torch

from keel.rollout.block import block

CPU = torch.device("cpu")
STATM = Path("/proc/self/statm")


@pytest.mark.parametrize("format", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("size", [0, 1, 5000])
def test_it_is_so_many_zeros(size: int, format: torch.dtype) -> None:
    found = block(size, format, CPU)
    assert (found.shape, found.dtype) == ((size,), format)
    assert not found.any()
    found.fill_(3)
    assert bool((found == 3).all())
    assert not block(size, format, CPU).any()


@pytest.mark.skipif(not STATM.exists(), reason="the resident memory is read from /proc")
def test_memory_comes_when_it_is_written_to_and_goes_with_the_tensor() -> None:
    def resident() -> float:
        return int(STATM.read_text().split()[1]) * resource.getpagesize() / 2**20

    before = resident()
    found = block(64 * 2**20, torch.float32, CPU)
    assert resident() - before < 16
    found[: 32 * 2**20] = 1.0
    assert 112 < resident() - before < 160
    part = found[:10]
    del found
    assert resident() - before > 112  # a view keeps all of it
    del part
    assert resident() - before < 16
