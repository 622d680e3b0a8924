"""The file of votes on a command line: its place, the names of its columns, and what the verdicts mean."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from keel.commands.arguments import Arguments
from keel.errors import UserError

if TYPE_CHECKING:
    from keel.preferences.votes_file import Meaning, Named, VotesFile


def add_source(arguments: Arguments, databases: bool = True) -> None:
    """FILE, and the flags that name its columns as `preferences.labels` of a recipe does."""
    files = "JSONL, JSON, CSV or Parquet (also .gz), "
    more = "a folder of these, a preference database, or a run's folder" if databases else "or a folder of these"
    arguments.add_argument("file", metavar="FILE", help=files + more)
    group = arguments.add_argument_group("columns", "found by their usual names unless they are named")
    group.add_argument("--id", metavar="COL", help="tells the items apart; '-' counts the rows")
    group.add_argument("--prompt", metavar="A,B", help="texts that make the prompt")
    group.add_argument("--first", metavar="COL", help="one answer")
    group.add_argument("--second", metavar="COL", help="the other answer")
    group.add_argument("--annotators", metavar="A,B,C", help="verdicts, a column for each person (a row per item)")
    group.add_argument("--votes", metavar="COL", help="lists of votes (a row per item)")
    group.add_argument("--annotator", metavar="COL", help="who voted (a row per vote, or within a vote)")
    group.add_argument("--label", metavar="COL", help="the verdict (likewise)")
    group.add_argument("--left", metavar="COL", help="which answer stood on the left, first or second (likewise)")
    group.add_argument(
        "--values",
        metavar="A=B,...",
        help="what verdicts mean, as in 0=tie,1=first,2=second; also left, right, both_bad, skip, flag, and -3 (first "
        "is much better) to 3",
    )


def named_of(given: argparse.Namespace) -> Named:
    """What the command line says of columns and verdicts."""
    from keel.preferences.votes_file import Named

    return Named(
        prompt=_names(given.prompt),
        first=given.first,
        second=given.second,
        annotators=_names(given.annotators),
        id=given.id,
        annotator=given.annotator,
        label=given.label,
        votes=given.votes,
        left=given.left,
        values=None if given.values is None else _meanings(given.values),
    )


def read_source(given: argparse.Namespace) -> VotesFile:
    """The votes that the command line names."""
    from keel.preferences.votes_file import read_votes

    return read_votes(given.file, named_of(given))


def _names(listed: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in (listed or "").split(",") if name.strip())


def _meanings(listed: str) -> dict[str, Meaning]:
    from keel.preferences.votes_file import parse_meaning

    found: dict[str, Meaning] = {}
    for part in listed.split(","):
        cell, equals, meaning = part.rpartition("=")
        if not equals or not cell.strip():
            raise UserError(f"--values: '{part}' is no pair of verdict and meaning; write 0=tie,1=first,2=second.")
        if cell.strip() in found:
            raise UserError(f"--values: '{cell.strip()}' is given twice; keep one of its meanings.")
        found[cell.strip()] = parse_meaning(meaning)
    return found
