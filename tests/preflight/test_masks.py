"""Masks that are empty, or train next to nothing or nearly all, are found."""

from __future__ import annotations

import pytest

from keel.data.forest import Branch, Tree
from keel.preflight.masks import masks


def tree(prompt: int, read: int, trained: int) -> Tree:
    mask = (False,) * read + (True,) * trained
    return Tree((1,) * prompt, (Branch((1,) * len(mask), mask),))


@pytest.mark.parametrize(
    ("trees", "verdicts", "share"),
    [
        ([tree(6, 0, 4)], ["ok", "ok"], "40.0% of 10 tokens"),
        ([tree(6, 0, 4), tree(6, 4, 0)], ["red", "ok"], "20.0% of 20 tokens"),
        ([tree(100, 0, 2)], ["ok", "amber"], "2.0% of 102 tokens"),  # 1.96 %
        ([tree(98, 0, 2)], ["ok", "ok"], "2.0% of 100 tokens"),
        ([tree(2, 0, 98)], ["ok", "ok"], "98.0% of 100 tokens"),
        ([tree(1, 0, 99)], ["ok", "amber"], "99.0% of 100 tokens"),
    ],
)
def test_masks(trees: list[Tree], verdicts: list[str], share: str) -> None:
    found = list(masks(trees))
    assert [one.check for one in found] == ["Masks", "Share trained"]
    assert [one.verdict for one in found] == verdicts
    assert found[1].message.startswith(share)


def test_the_empty_ones_are_counted() -> None:
    found = next(masks([tree(2, 3, 0), tree(2, 0, 3), tree(2, 1, 0)]))
    assert found.message.startswith("2 of 3 answers have no trained token")
    assert list(masks([])) == []
