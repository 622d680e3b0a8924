"""From trees to the packed forests of one optimizer step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import device as Device  # noqa: N812

from keel.data.forest import Forest, Layout, Tree, grow, plan


@dataclass(frozen=True)
class MicroBatch:
    """One forest and the places that its trees have in the batch."""

    places: tuple[int, ...]
    forest: Forest


@runtime_checkable
class Reader(Protocol):
    """A role, or the backbone of one: how its forests must be grown, where they must be, and how much it reads at a
    time unless it is told."""

    @property
    def layout(self) -> Layout: ...
    @property
    def device(self) -> Device: ...
    @property
    def pass_tokens(self) -> int: ...


def micro_batches(trees: Sequence[Tree], budget: int | None, reader: Reader) -> Iterator[MicroBatch]:
    """The batch as forests for `reader`, of at most `budget` tokens (None: as many as the reader likes best); together
    they hold every tree once."""
    for places in plan(trees, budget or reader.pass_tokens):
        yield MicroBatch(tuple(places), grow([trees[place] for place in places], reader.layout).to(reader.device))


def trained_tokens(trees: Sequence[Tree]) -> int:
    """How many tokens of the batch carry a loss: the denominator of a token mean."""
    return sum(sum(branch.mask) for tree in trees for branch in tree.branches)
