"""`keel labels aggregate`: one probability per pair of answers, one reliability per annotator."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from keel.commands.arguments import Arguments
from keel.commands.labels.shown import cell, name, number, paragraph, table, votes_counted
from keel.commands.labels.source import add_source, read_source

if TYPE_CHECKING:
    from keel.preferences.aggregate import Aggregate
    from keel.preferences.votes_file import VotesFile

METHODS = {
    "majority": "the share of an annotator's votes that equal the majority of the others",
    "mean": "1 minus the mean distance of an annotator's votes from the mean of the others",
    "dawid-skene": "the probability that an annotator says the true verdict; a spam score of 0 is somebody who does "
    "not read, whatever is pressed, and 1 somebody who always knows",
    "bradley-terry": "the probability η that an annotator means what is pressed, and not the opposite (without "
    "evidence: 10 in 11)",
}
"""What reliability is, by each of them."""
_SHOWN = 20


def aggregate(argv: Sequence[str]) -> None:
    """keel labels aggregate FILE [--method M] [--out FILE] [--json] ..."""
    arguments = Arguments(
        "labels aggregate",
        "Bring several votes together: the probability that the first answer is better, for each pair, and how "
        "reliable each annotator is.",
        "keel labels aggregate votes.csv --method dawid-skene --out pairs.jsonl",
    )
    add_source(arguments)
    arguments.add_argument(
        "--method", choices=tuple(METHODS), default="majority", help="[default: majority]", metavar="M"
    )
    arguments.add_argument("--out", metavar="FILE", help="write the pairs as .jsonl or .parquet")
    arguments.add_argument("--json", action="store_true", help="print the result as one JSON object, and nothing else")
    given = arguments.read(argv)

    from keel.data.table import table_place, write_table
    from keel.preferences.judgement import collect
    from keel.preferences.methods import aggregated

    out = None if given.out is None else table_place(given.out)
    source = read_source(given)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = aggregated(source.items, collect(source.judgements), given.method)
    notes = list(dict.fromkeys(str(each.message) for each in caught))
    if out is not None:
        write_table(out, pairs_of(found))
    if given.json:
        print(json.dumps(as_json(source, found, given.method, notes), indent=2, ensure_ascii=False, allow_nan=False))
    else:
        show(source, found, given.method, notes)
        if out is not None:
            print(f"\nwrote {len(found.votes.pairs):,} pairs to {out}")


def pairs_of(found: Aggregate) -> list[dict[str, Any]]:
    """A row per pair: the item, its two answers' positions, P(the first is better), and how many said what."""
    rows = zip(found.votes.pairs, found.probability.tolist(), found.votes.counts().tolist(), found.tied, strict=True)
    return [
        {
            "item": pair.item,
            "first": pair.first,
            "second": pair.second,
            "probability": probability,
            "tied": bool(tied),
            "votes": sum(counts),
            "votes_first": counts[0],
            "votes_tie": counts[1],
            "votes_second": counts[2],
        }
        for pair, probability, counts, tied in rows
    ]


def annotators_of(found: Aggregate) -> list[dict[str, Any]]:
    """A row per annotator, in the order of their first vote; null where the votes tell nothing.

    `spam_score` by Dawid–Skene; `bias`, by Bradley–Terry, is the lean to the left in log-odds.
    """
    import numpy as np

    from keel.preferences.crowd_bradley_terry import CrowdBradleyTerry
    from keel.preferences.dawid_skene import DawidSkene

    people = found.votes.annotators
    columns = {
        "votes": np.bincount(found.votes.annotator, minlength=len(people)).tolist(),
        "reliability": [number(value) for value in found.reliability.tolist()],
    }
    if isinstance(found, DawidSkene):
        columns["spam_score"] = [number(value) for value in found.spam_score().tolist()]
    if isinstance(found, CrowdBradleyTerry):
        columns["bias"] = found.bias.tolist()
    return [
        {"annotator": who, **{what: values[place] for what, values in columns.items()}}
        for place, who in enumerate(people)
    ]


def as_json(source: VotesFile, found: Aggregate, method: str, notes: Sequence[str]) -> dict[str, Any]:
    """Everything for programs."""
    from keel.preferences.crowd_bradley_terry import CrowdBradleyTerry

    result: dict[str, Any] = {
        "file": source.source,
        "form": source.form,
        "method": method,
        "sides": "recorded" if source.sides else "assumed",
        "texts": source.texts,
        "declined": dict(found.votes.declined),
        "notes": list(notes),
        "items": pairs_of(found),
        "annotators": annotators_of(found),
    }
    if isinstance(found, CrowdBradleyTerry):
        result |= {"tie_width": found.tie_width, "components": found.components}
    return result


def show(source: VotesFile, found: Aggregate, method: str, notes: Sequence[str]) -> None:
    """Sentences, then the annotators with most votes and the pairs with most disagreement."""
    paragraph(in_words(source, found, method, notes))
    people = sorted(annotators_of(found), key=lambda row: -row["votes"])
    extra = [column for column in ("spam_score", "bias") if people and column in people[0]]
    table(
        "Annotators with most votes" if len(people) > _SHOWN else "Annotators",
        ("annotator", "votes", "reliability", *(column.replace("_", " ") for column in extra)),
        [
            (name(row["annotator"]), f"{row['votes']:,}", *(_cell(row[column]) for column in ("reliability", *extra)))
            for row in people[:_SHOWN]
        ],
    )
    if len(people) > _SHOWN:
        print(f"and {len(people) - _SHOWN:,} more; --json lists them all.")
    pairs = sorted(pairs_of(found), key=lambda row: (_agreeing(row), abs(row["probability"] - 0.5)))
    table(
        "Pairs with most disagreement" if len(pairs) > _SHOWN else "Pairs",
        ("item", "first is better", "first", "tie", "second"),
        [
            (
                _pair(row),
                cell(row["probability"]),
                *(str(row[f"votes_{said}"]) for said in ("first", "tie", "second")),
            )
            for row in pairs[:_SHOWN]
        ],
    )
    if len(pairs) > _SHOWN:
        print(f"and {len(pairs) - _SHOWN:,} more; --json lists them all, --out FILE writes them.")


def in_words(source: VotesFile, found: Aggregate, method: str, notes: Sequence[str]) -> str:
    """What came out, and what reliability means by this method."""
    votes, neither = found.votes, int(found.tied.sum())
    first = int(((found.probability > 0.5) & ~found.tied).sum())
    said = [
        f"{votes_counted(votes)}: the first answer is ahead in {first:,}, the second in "
        f"{len(votes.pairs) - first - neither:,}, neither in {neither:,}.",
        f"Reliability is {METHODS[method]}.",
    ]
    if method == "bradley-terry":
        towards = "the left" if source.sides else "the first answer, as the file does not say which stood on the left"
        said.append(f"Bias is the lean towards {towards}, in log-odds.")
        if not source.texts:
            said.append("The file holds no texts, so every answer counts as one of its own.")
    return " ".join([*said, *(f"Note: {note.rstrip('.')}." for note in notes)])


def _agreeing(row: dict[str, Any]) -> float:
    """The share of two votes on the pair that agree; 1 where there is one vote."""
    counts = [row[f"votes_{said}"] for said in ("first", "tie", "second")]
    return sum(n * (n - 1) for n in counts) / (row["votes"] * (row["votes"] - 1)) if row["votes"] > 1 else 1.0


def _cell(value: float | None) -> str:
    return "–" if value is None else cell(value)


def _pair(row: dict[str, Any]) -> str:
    several = (row["first"], row["second"]) != (0, 1)
    return name(row["item"]) + (f", answers {row['first']} and {row['second']}" if several else "")
