"""Every planned mistake of `tests/mutate.py` still has exactly one place to be made in."""

from __future__ import annotations

import pytest

from mutate import PACKAGE, Folder
from mutation import Mutation

FOLDERS = [Folder("maths"), Folder("training")]


@pytest.mark.parametrize(
    ("folder", "mutation"),
    [(folder.name, mutation) for folder in FOLDERS for mutation in folder.mutations],
    ids=lambda given: given if isinstance(given, str) else f"{given.function}: {given.what}",
)
def test_a_mutation_has_one_place(folder: str, mutation: Mutation) -> None:
    source = (PACKAGE / folder / f"{mutation.module}.py").read_text(encoding="utf-8")
    assert source.count(mutation.old) == 1
    assert mutation.new != mutation.old
