"""From trees to the packed forests of one optimizer step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import device as Device  # noqa: N812

from keel.data.forest import Forest, Layout, Tree, grow, plan


@dataclass(frozen=True)
class MicroBatch:
    """One forest and the places that its trees have in the batch."""

    places: tuple[int, ...]
    forest: Forest


def micro_batches(trees: Sequence[Tree], budget: int, layout: Layout, device: Device) -> Iterator[MicroBatch]:
    """The batch as forests of at most `budget` tokens, on `device`; together they hold every tree once."""
    for places in plan(trees, budget):
        yield MicroBatch(tuple(places), grow([trees[place] for place in places], layout).to(device))


def trained_tokens(trees: Sequence[Tree]) -> int:
    """How many tokens of the batch carry a loss: the denominator of a token mean."""
    return sum(sum(branch.mask) for tree in trees for branch in tree.branches)
