"""Attention over blocks against attention written out over all rows at once."""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor

from keel.data.forest import Forest, grow
from keel.models.attention import attend

from .small import random_trees


def written_out(
    query: Tensor, key: Tensor, value: Tensor, forest: Forest, scale: float, softcap: float | None, window: int | None
) -> Tensor:
    """[H, T, D], [G, T, D], [G, T, E] → [T, H, E], from a mask over all pairs of rows."""
    rows = len(forest.tokens)
    mask = torch.zeros(rows, rows, dtype=torch.bool)
    first = 0
    positions = forest.positions.tolist()
    starts = [row for row in range(rows) if row == 0 or positions[row] != positions[row - 1] + 1]
    trunk: range | None = None
    for start, end in zip(starts, [*starts[1:], rows], strict=True):
        before = positions[start]
        if before == 0:
            trunk = range(start, end)
        assert trunk is not None
        for row in range(start, end):
            shown = [*(trunk[:before] if before else ()), *range(start, row + 1)]
            shown = [other for other in shown if window is None or positions[row] - positions[other] < window]
            mask[row, shown] = True
        first = end
    assert first == rows
    groups = query.shape[0] // key.shape[0]
    scores = torch.einsum("htd,hsd->hts", query, key.repeat_interleave(groups, 0)) * scale
    if softcap is not None:
        scores = softcap * (scores / softcap).tanh()
    weights = scores.masked_fill(~mask, -torch.inf).softmax(-1)
    return torch.einsum("hts,hse->the", weights, value.repeat_interleave(groups, 0))


@pytest.mark.parametrize("width", [5, 6])  # of values: at 6, that of queries, processors have a way of their own
@pytest.mark.parametrize("window", [None, 1, 4])
@pytest.mark.parametrize("softcap", [None, 1.5])
@pytest.mark.parametrize("groups", [1, 2])
def test_attention_and_its_gradients(
    groups: int,
    softcap: float | None,
    window: int | None,
    width: int,
) -> None:
    draw = torch.Generator().manual_seed(0)
    for seed in range(3):
        forest = grow(random_trees(random.Random(seed)))
        rows = len(forest.tokens)
        shapes = ((4, rows, 6), (4 // groups, rows, 6), (4 // groups, rows, width))
        inputs = [torch.randn(s, dtype=torch.float64, generator=draw).requires_grad_() for s in shapes]
        ours = attend(*inputs, forest.blocks, 0.7, softcap, window)
        theirs = written_out(*inputs, forest, 0.7, softcap, window)
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
        weights = torch.randn(ours.shape, dtype=torch.float64, generator=draw)
        for mine, other in zip(
            torch.autograd.grad((ours * weights).sum(), inputs),
            torch.autograd.grad((theirs * weights).sum(), inputs),
            strict=True,
        ):
            torch.testing.assert_close(mine, other, rtol=0, atol=1e-12)


def test_values_in_half_precision_beside_wider_queries() -> None:
    """As a layer brings them: O comes as the values do, and the gradients of queries and keys hardly rounded."""
    draw = torch.Generator().manual_seed(0)
    forest = grow(random_trees(random.Random(0)))
    q, k, v = (torch.randn(4, len(forest.tokens), 8, generator=draw) for _ in range(3))
    v = v.bfloat16().float()
    found = []
    for values in (v.bfloat16(), v):
        given = [q.clone().requires_grad_(), k.clone().requires_grad_(), values.clone().requires_grad_()]
        ours = attend(given[0], given[1], given[2], forest.blocks, 0.3, None, None)
        assert ours.dtype == values.dtype
        found.append(torch.autograd.grad(ours.float().sum(), given))
    for half, exact in zip(*found, strict=True):
        torch.testing.assert_close(half.float(), exact, rtol=2**-8, atol=1e-5)


def test_half_precision_comes_back_as_it_went_in_and_is_computed_wider() -> None:
    draw = torch.Generator().manual_seed(0)
    forest = grow(random_trees(random.Random(0)))
    exact = [torch.randn(2, len(forest.tokens), 8, generator=draw).bfloat16() for _ in range(3)]
    ours = attend(*exact, forest.blocks, 0.3, None, None)
    wide = attend(*(each.float() for each in exact), forest.blocks, 0.3, None, None)
    assert ours.dtype == torch.bfloat16
    assert torch.equal(ours, wide.bfloat16())
