"""Small stores and votes, written as tables."""

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

from keel.preferences.judgement import Answer, Item, Judgement, Votes, collect
from keel.preferences.votes_file import Named
from keel.types import Message

PANDALM = Named(
    prompt=("instruction", "input"),
    first="response1",
    second="response2",
    annotators=("annotator1", "annotator2", "annotator3"),
    id="idx",
    values={"0": 0, "1": -1, "2": 1},
)
"""The columns of the PandaLM test set: 0 a tie, 1 and 2 the better response."""

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"


def item(id: str, *texts: str, prompt: str | None = None) -> Item:
    answers = texts or (f"{id} one", f"{id} two")
    return Item(
        id,
        (Message("user", f"prompt of {id}" if prompt is None else prompt),),
        tuple(Answer((Message("assistant", text),), "model", 3) for text in answers),
    )


def judgements(table: Sequence[Sequence[int | None]]) -> list[Judgement]:
    """One row per item, one column per annotator, cells −3 first … +3 second, None: not asked."""
    return [
        Judgement(f"i{row}", f"a{column}", (0, 1), "comparison", strength)
        for row, line in enumerate(table)
        for column, strength in enumerate(line)
        if strength is not None
    ]


def votes(table: Sequence[Sequence[int | None]]) -> Votes:
    return collect(judgements(table))


def pairs_on_items(table: Sequence[Sequence[int | None]]) -> list[list[tuple[int, int]]]:
    """Per item, every two cells that are filled."""
    return [list(combinations([cell for cell in line if cell is not None], 2)) for line in table]
