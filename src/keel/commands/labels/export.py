"""`keel labels export`: what a database holds, as a file of judgements, of pairs, or of training data."""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keel.commands.arguments import Arguments
from keel.commands.label.place import existing
from keel.commands.labels.aggregate import METHODS, pairs_of
from keel.commands.labels.shown import counted
from keel.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa  # type: ignore[import-untyped, unused-ignore]

    from keel.preferences.aggregate import Aggregate
    from keel.preferences.judgement import Item, Judgement

WHAT = {
    "raw": "every judgement with all of its revisions",
    "aggregated": "each pair of answers once, with what all said of it",
    "preferences": "what a reward model trains on",
}
_NOUNS = {"raw": "revision", "aggregated": "pair"}


@dataclass(frozen=True)
class _Export:
    """Rows, the columns' types, how many of what there are, and what is to be said beside."""

    rows: list[dict[str, Any]]
    schema: pa.Schema
    counts: dict[str, Any]
    notes: list[str] = field(default_factory=list)


def export(argv: Sequence[str]) -> None:
    """keel labels export PLACE [--what W] [--out FILE] [--json] ..."""
    given = _arguments().read(argv)
    _check(given)
    where = existing(given.place).url_or_path

    from keel.data.table import table_place, write_table

    out = None if given.out is None else table_place(given.out)
    made = _raw(given, where) if given.what == "raw" else _counted(given, where)
    if out is None:
        _print(made)
        return
    write_table(out, made.rows, made.schema)
    if given.json:
        facts = {"what": given.what, "out": str(out), "rows": len(made.rows), **made.counts, "notes": made.notes}
        print(json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        _show(given, made, out)


def _arguments() -> Arguments:
    arguments = Arguments(
        "labels export",
        "Write what a preference database holds: " + "; ".join(f"{name}, {what}" for name, what in WHAT.items()) + ". "
        "Without --out the rows go to standard output, as JSON lines.",
        "keel labels export runs/mine --out pairs.jsonl",
    )
    add = arguments.add_argument
    add("place", metavar="PLACE", help="folder of a run, a preference database, or a postgresql URL")
    what = f"{', '.join(WHAT)} [default: preferences]"
    add("--what", choices=tuple(WHAT), default="preferences", metavar="W", help=what)
    add("--method", choices=tuple(METHODS), metavar="M", help=f"{', '.join(METHODS)} [default: majority]")
    add("--ties", choices=("keep", "drop"), metavar="T", help="pairs without a winner: keep (as even), drop [keep]")
    add("--rankings", action="store_true", help="what was ranked as prompt and completions, best first, each by itself")
    add("--no_names", action="store_true", help="annotator-1, annotator-2, … in place of names; notes stay as they are")
    add("--out", metavar="FILE", help="where to: .jsonl or .parquet")
    add("--json", action="store_true", help="print how much was written as one JSON object, and nothing else")
    return arguments


def _check(given: argparse.Namespace) -> None:
    if given.what != "preferences" and (given.ties is not None or given.rankings):
        raise UserError(f"--ties and --rankings are about preferences; leave them out of --what {given.what}")
    if given.what == "raw" and given.method is not None:
        raise UserError("--what raw has every judgement as it was made; leave --method out")
    if given.json and given.out is None:
        raise UserError("--json prints how much was written, so the rows need a file; name it with --out")


def _raw(given: argparse.Namespace, where: str | Path) -> _Export:
    from keel.preferences.exporting import RAW, pseudonyms, raw_rows
    from keel.preferences.store import PreferenceStore

    with PreferenceStore.open(where) as store:
        rows, name = raw_rows(store, pseudonyms(store) if given.no_names else None), store.database.where
    if not rows:
        raise UserError(f"{name}: nobody has judged anything yet; come back when somebody has.")
    excluded = {row["annotator"] for row in rows if row["state"] == "excluded"}
    counts = {
        "items": len({row["item"] for row in rows}),
        "annotators": len({row["annotator"] for row in rows}),
        "excluded": len(excluded),
    }
    return _Export(rows, RAW, counts)


def _counted(given: argparse.Namespace, where: str | Path) -> _Export:
    """Pairs or training data: of what counts, as the votes are read everywhere else."""
    from keel.preferences.exporting import AGGREGATED, aggregated_rows, pseudonyms
    from keel.preferences.judgement import collect
    from keel.preferences.methods import aggregated
    from keel.preferences.store import PreferenceStore
    from keel.preferences.votes_file import read_votes

    source = read_votes(where)
    with PreferenceStore.open(where) as store:
        aliases = pseudonyms(store) if given.no_names else None
        left_out = len(store.judgements()) - len(source.judgements)
    apart = [said for said in source.judgements if given.rankings and said.kind == "ranking"]
    votes = collect([said for said in source.judgements if not (given.rankings and said.kind == "ranking")])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = aggregated(source.items, votes, given.method or "majority") if votes.pairs else None
    notes = list(dict.fromkeys(str(each.message) for each in caught))
    counts: dict[str, Any] = {
        "items": len({said.item for said in source.judgements}),
        "annotators": len({said.annotator for said in source.judgements}),
        "method": given.method or "majority",
        "declined": dict(votes.declined),
        "not_counted": max(0, left_out),
    }
    if given.what == "aggregated":
        rows = [] if found is None else aggregated_rows(source.items, found, pairs_of(found), aliases)
        made = _Export(rows, AGGREGATED, counts, notes)
    else:
        made = _training(given, source.items, found, apart, counts, notes)
    if not made.rows:
        raise UserError(f"{source.source}: {_why_nothing(counts)}")
    return made


def _training(
    given: argparse.Namespace,
    items: Sequence[Item],
    found: Aggregate | None,
    apart: Sequence[Judgement],
    counts: dict[str, Any],
    notes: list[str],
) -> _Export:
    """Preferences, and with --rankings what was ranked beside them."""
    from keel.preferences import exporting
    from keel.preferences.aggregate import STEP, to_preferences

    preferences = [] if found is None else to_preferences(items, found, given.ties or "keep", STEP)
    ranked = exporting.rankings(items, apart)
    rows = exporting.preference_rows(preferences) + exporting.ranking_rows(ranked)
    counts |= {"preferences": len(preferences), "ties": 0 if found is None else int(found.tied.sum())}
    schema = exporting.PREFERENCES
    if given.rankings:
        counts["rankings"] = len(ranked)
    if ranked:
        schema = exporting.COMPARISONS if preferences else exporting.RANKINGS
    return _Export(rows, schema, counts, notes)


def _why_nothing(counts: dict[str, Any]) -> str:
    if counts.get("ties"):
        return "no pair has a winner; leave --ties drop out."
    return "nobody has compared two answers yet; come back when somebody has."


def _print(made: _Export) -> None:
    """The rows alone, for a pipe; notes go beside it."""
    for note in made.notes:
        print(f"keel: note: {note}", file=sys.stderr)
    plain = (sys.stdout.encoding or "").lower().replace("-", "") != "utf8"
    for row in made.rows:
        print(json.dumps(row, ensure_ascii=plain, allow_nan=False))


def _show(given: argparse.Namespace, made: _Export, out: Path) -> None:
    counts = made.counts
    people, items = counted(counts["annotators"], "annotator"), counted(counts["items"], "item")
    said = counted(len(made.rows), _NOUNS.get(given.what, "row"))
    print(f"wrote {said} to {out}: {people}, {items}")
    if counts.get("excluded"):
        print(f"{counted(counts['excluded'], 'annotator')} excluded, which the column state says")
    if counts.get("not_counted"):
        left_out = counted(counts["not_counted"], "judgement")
        print(f"left out: {left_out} by excluded people, or of gold items and repeats")
    declined = ", ".join(f"{count:,} × {kind.replace('_', ' ')}" for kind, count in counts.get("declined", {}).items())
    if declined:
        print(f"compare nothing, and are in no row: {declined}")
    if counts.get("ties"):
        print(f"{counted(counts['ties'], 'tie')}, {'dropped' if given.ties == 'drop' else 'kept as even'}")
    for note in made.notes:
        print(f"note: {note}")
    if given.what == "preferences":
        print(f"\nTo train on them:\n\n  keel reward --model PATH --data {out}")
