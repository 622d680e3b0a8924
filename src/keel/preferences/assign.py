"""Who judges what, and on which sides: a deterministic plan."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from keel.preferences.judgement import Assignment, Item


@dataclass(frozen=True)
class Overlap:
    """A share of the items (0…1) is judged by `k` annotators each, every other item by one."""

    share: float = 0.2
    k: int = 3

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1 or self.k < 1:
            raise ValueError(f"overlap of {self.k} annotators on a share of {self.share}: need k ≥ 1 and 0 ≤ share ≤ 1")


def plan(items: Sequence[Item], annotators: Sequence[str], overlap: Overlap, seed: int) -> list[Assignment]:
    """Exactly `overlap.k` annotators for round(share·N) of the items, one for the others, never the same one twice.

    Loads differ by one at most. The plan depends on the seed and on the *set* of items, not on their order; sides
    depend on (seed, item, annotator) alone.
    """
    if len(set(annotators)) != len(annotators):
        raise ValueError("an annotator is named twice")
    if len(annotators) < (overlap.k if overlap.share > 0 else 1):
        raise ValueError(f"{overlap.k} different annotators per item need more than {len(annotators)} of them")
    names = sorted(annotators)
    deal = seeded(seed, "plan")
    order = sorted(items, key=lambda item: item.id)
    shared = _shared(order, overlap, deal)
    load = np.zeros(len(names), dtype=np.int64)
    planned = []
    for row, item in enumerate(order):
        least_loaded = np.lexsort((deal.random(len(names)), load))
        chosen = least_loaded[: overlap.k if row in shared else 1]
        load[chosen] += 1
        planned += [Assignment(item.id, names[who], sides(item, names[who], seed)) for who in chosen]
    return planned


def wanted(items: Sequence[Item], overlap: Overlap, seed: int) -> dict[str, int]:
    """How many people are to judge each item, by its id: on the items that `plan` would share, `overlap.k`."""
    order = sorted(items, key=lambda item: item.id)
    shared = _shared(order, overlap, seeded(seed, "plan"))
    return {item.id: overlap.k if row in shared else 1 for row, item in enumerate(order)}


def _shared(order: Sequence[Item], overlap: Overlap, deal: np.random.Generator) -> set[int]:
    """The rows of the items that several people judge."""
    return set(deal.permutation(len(order))[: round(overlap.share * len(order))].tolist())


def sides(item: Item, annotator: str, seed: int) -> tuple[int, int]:
    """Two different answers of the item, left then right, each ordered pair equally likely."""
    left, right = seeded(seed, "sides", item.id, annotator).permutation(len(item.answers))[:2]
    return int(left), int(right)


def seeded(seed: int, *names: str) -> np.random.Generator:
    """A generator that depends on the seed and the names alone, so that no order of events can matter."""
    words = "".join(f"{len(name)}:{name}" for name in (str(seed), *names))
    return np.random.default_rng(np.frombuffer(hashlib.sha256(words.encode()).digest(), dtype=np.uint32))
