"""In which order a data set is visited."""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def visits(items: int, batch: int, epochs: int, max_steps: int | None, seed: int) -> Iterator[list[int]]:
    """Index lists, one per optimizer step: every epoch visits each item once, in a seeded order of its own.

    The last batch of an epoch may be smaller. Stops after `epochs`, or after `max_steps` batches if that is sooner.
    """
    step = 0
    for epoch in range(epochs):
        order = list(range(items))
        random.Random(f"{seed} epoch {epoch}").shuffle(order)
        for start in range(0, items, batch):
            if max_steps is not None and step >= max_steps:
                return
            step += 1
            yield order[start : start + batch]


def count_steps(items: int, batch: int, epochs: int, max_steps: int | None) -> int:
    """How many batches `visits` yields."""
    total = epochs * -(-items // batch)
    return total if max_steps is None else min(total, max_steps)


def split(items: Sequence[T], share: float, seed: int, prompt: Callable[[T], Hashable]) -> tuple[list[T], list[T]]:
    """(kept for training, held out): a seeded random share, at least one item in training.

    Items of one prompt stay together, so that nothing is held out of which the like is trained on; where they are many,
    fewer than the share are held out.
    """
    together: dict[Hashable, list[int]] = {}
    for place, item in enumerate(items):
        together.setdefault(prompt(item), []).append(place)
    order = list(together.values())
    random.Random(f"{seed} held out").shuffle(order)
    room = min(round(share * len(items)), len(items) - 1)
    chosen: set[int] = set()
    for places in order:
        if len(chosen) + len(places) <= room:
            chosen.update(places)
    return [items[i] for i in range(len(items)) if i not in chosen], [items[i] for i in sorted(chosen)]
