"""Attention over blocks against attention written out over all rows at once."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from keel.data.forest import Forest, Tree, grow
from keel.models.attention import attend

from .small import random_trees


def shown_to(forest: Forest, trees: Sequence[Tree]) -> list[list[int]]:
    """The rows that each row sees, from the trees and from where the forest says that branches end."""
    positions = forest.positions.tolist()
    rows = len(positions)
    first = [row for row in range(rows) if row == 0 or positions[row] != positions[row - 1] + 1]
    segment = {row: range(start, row + 1) for start, end in pairwise([*first, rows]) for row in range(start, end)}
    trunks = iter([row for row in first if positions[row] == 0])  # shared ones stand before all branches
    ends = iter(forest.ends.tolist())
    shown = [list(segment[row]) for row in range(rows)]
    for tree in trees:
        shared = len(tree.branches) > 1 and len(tree.trunk) > 0
        start = next(trunks) if shared else 0
        for branch in tree.branches:
            end = next(ends)
            if shared:
                for row in range(end + 1 - len(branch.tokens), end + 1):
                    shown[row] = [*range(start, start + len(tree.trunk)), *shown[row]]
    return shown


def written_out(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    forest: Forest,
    trees: Sequence[Tree],
    scale: float,
    softcap: float | None,
    window: int | None,
) -> Tensor:
    """[H, T, D], [G, T, D], [G, T, E] → [T, H, E], from a mask over all pairs of rows."""
    rows = len(forest.tokens)
    positions = forest.positions.tolist()
    mask = torch.zeros(rows, rows, dtype=torch.bool)
    for row, others in enumerate(shown_to(forest, trees)):
        mask[row, [one for one in others if window is None or positions[row] - positions[one] < window]] = True
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
        trees = random_trees(random.Random(seed))
        forest = grow(trees)
        rows = len(forest.tokens)
        shapes = ((4, rows, 6), (4 // groups, rows, 6), (4 // groups, rows, width))
        inputs = [torch.randn(s, dtype=torch.float64, generator=draw).requires_grad_() for s in shapes]
        ours = attend(*inputs, forest.blocks, 0.7, softcap, window)
        theirs = written_out(*inputs, forest, trees, 0.7, softcap, window)
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


def test_filler_gives_and_takes_nothing() -> None:
    draw = torch.Generator().manual_seed(0)
    trees = random_trees(random.Random(0), 20)
    forest = grow(trees)
    real, rows = int(forest.ends[-1]) + 1, len(forest.tokens)
    assert 256 < real < rows
    inputs = [torch.randn(2, rows, 6, dtype=torch.float64, generator=draw).requires_grad_() for _ in range(3)]
    ours = attend(*inputs, forest.blocks, 0.7, None, None)
    theirs = written_out(*inputs, forest, trees, 0.7, None, None)
    torch.testing.assert_close(ours[:real], theirs[:real], rtol=0, atol=1e-12)
    assert not ours[real:].any()
    weights = torch.randn(ours.shape, dtype=torch.float64, generator=draw)
    mine = torch.autograd.grad((ours * weights).sum(), inputs)
    other = torch.autograd.grad((theirs * weights)[:real].sum(), inputs)
    for one, expected in zip(mine, other, strict=True):
        torch.testing.assert_close(one, expected, rtol=0, atol=1e-12)
