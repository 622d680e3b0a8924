"""`keel labels import`: labels made elsewhere come into a preference database."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from keel.commands.arguments import Arguments
from keel.commands.label.place import at
from keel.commands.labels.shown import counted
from keel.commands.labels.source import add_source, named_of
from keel.errors import UserError

if TYPE_CHECKING:
    from keel.preferences.merging import Merged
    from keel.preferences.votes_file.history import History


def import_(argv: Sequence[str]) -> None:
    """keel labels import FILE --to PLACE [--as NAME] [--k N] [--json] ..."""
    arguments = Arguments(
        "labels import",
        "Bring labels that were made elsewhere into a preference database: all of a file or nothing, and the same file "
        "again changes nothing. `keel label PLACE` lets people go on with the items.",
        "keel labels import votes.csv --to team.labels.db",
    )
    add_source(arguments, databases=False)
    arguments.add_argument(
        "--to", metavar="PLACE", required=True, help="database, made if missing; a run's folder; or a postgresql URL"
    )
    add = arguments.add_argument
    add("--as", dest="called", metavar="NAME", help="begins the items' ids, instead of the file's name")
    add("--k", type=int, metavar="N", help="people who are to judge each new item here too, besides those in the file")
    add("--json", action="store_true", help="print the counts as one JSON object, and nothing else")
    given = arguments.read(argv)
    if given.k is not None and given.k < 1:
        raise UserError(f"--k {given.k}: somebody has to judge each item; give 1 or more")
    where = at(given.to)

    from keel.preferences.votes_file.history import read_history

    history = read_history(given.file, named_of(given), given.called)

    from keel.preferences.database import Database
    from keel.preferences.merging import merge

    with Database.open(where.url_or_path) as database:
        merged = merge(database, history, given.k)
        name = given.to if where.path is not None else database.where  # without a password
    if given.json:
        print(json.dumps(as_json(history, merged), indent=2, ensure_ascii=False))
    else:
        show(history, merged, name)


def as_json(history: History, merged: Merged) -> dict[str, object]:
    """How much the file holds, and how much of it was new."""
    return {
        "file": history.source,
        "form": history.form,
        "items": len(history.items),
        "judgements": len(history.judgements),
        "annotators": len({said.annotator for said in history.judgements}),
        "new_items": merged.items,
        "new_judgements": merged.judgements,
        "new_annotators": merged.annotators,
        "waiting": merged.waiting,
        "seconds_left_out": history.undated,
    }


def show(history: History, merged: Merged, where: str) -> None:
    """The same for people, and how to go on."""
    items, judgements = counted(len(history.items), "item"), counted(len(history.judgements), "judgement")
    new = f"{counted(merged.items, 'item')} and {counted(merged.judgements, 'judgement')}"
    anything = merged.items or merged.judgements
    print(f"{history.source}: {items} and {judgements}; new: {new if anything else 'nothing'}")
    if history.undated:
        print(f"left out: seconds without a date, of {counted(history.undated, 'vote')}")
    if merged.waiting:
        print(f"waiting for people from now on: {counted(merged.waiting, 'item')}")
    print(f"\nTo let people go on with them:\n\n  keel label {shlex.quote(where)}")
