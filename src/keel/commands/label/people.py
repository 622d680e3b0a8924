"""`keel label invite | token | revoke | people`: who may come in."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from keel.commands.arguments import Arguments
from keel.commands.label.place import Place, existing, only_one_here
from keel.errors import UserError

if TYPE_CHECKING:
    from keel.preferences.database import Database


def invite(argv: Sequence[str]) -> None:
    """keel label invite NAME [--role ROLE] [--address URL] [--of RUN|DATABASE] [--json]"""
    arguments = Arguments(
        "label invite",
        "Make a link that lets somebody in once. Their browser then stays signed in for two weeks.",
        "keel label invite ada --role annotator",
    )
    arguments.add_argument("name", metavar="NAME", help="what they are called here")
    arguments.add_argument("--role", choices=("annotator", "reviewer", "admin"), default="annotator", metavar="ROLE",
                           help="annotator (the default), reviewer or admin")  # fmt: skip
    arguments.add_argument("--address", metavar="URL", help="where people find the server, if it does not know itself")
    given, where = _read(arguments, argv)
    address = _address(where, given.address)

    from keel.preferences.people import People

    with _opened(where) as database:
        secret = People(database).invite(given.name, given.role)
    link = f"{address}/in/{secret}"
    words = f"{link}\n\nlets {given.name} in once, as {given.role}, within seven days. Whoever has it can use it."
    _say(given.json, {"name": given.name, "role": given.role, "link": link}, words)


def token(argv: Sequence[str]) -> None:
    """keel label token NAME [--scope SCOPE] [--of RUN|DATABASE] [--json]"""
    arguments = Arguments(
        "label token",
        "Make a token with which a program does what a person may do. It is shown once, and good for a year or until "
        "it is revoked.",
        "keel label token ada --scope label",
    )
    arguments.add_argument("name", metavar="NAME", help="somebody who has been invited")
    arguments.add_argument("--scope", choices=("label", "review", "admin"), default="label", metavar="SCOPE",
                           help="label (the default), review or admin; no more than the role allows")  # fmt: skip
    given, where = _read(arguments, argv)

    from keel.preferences.people import People

    with _opened(where) as database:
        secret = People(database).issue(given.name, given.scope)
    words = f"{secret}\n\nTo be sent as a header:  Authorization: Bearer {secret}"
    _say(given.json, {"name": given.name, "scope": given.scope, "token": secret}, words)


def revoke(argv: Sequence[str]) -> None:
    """keel label revoke NAME [--of RUN|DATABASE] [--json]"""
    arguments = Arguments(
        "label revoke",
        "Take back every link, session and token of somebody, at once. Their judgements stay; invite them again to let "
        "them in.",
        "keel label revoke ada",
    )
    arguments.add_argument("name", metavar="NAME", help="who it is")
    given, where = _read(arguments, argv)

    from keel.preferences.people import People

    with _opened(where) as database:
        people = People(database)
        if given.name not in people.states():
            raise UserError(f"nobody is called {given.name!r}; `keel label people` lists who is.")
        count = people.revoke(given.name, "command line")
    words = f"{count} links, sessions and tokens of {given.name} let nobody in any more"
    _say(given.json, {"name": given.name, "revoked": count}, words)


def people(argv: Sequence[str]) -> None:
    """keel label people [--of RUN|DATABASE] [--json]"""
    arguments = Arguments(
        "label people", "List who is known here, and what they have judged.", "keel label people --of runs/mine"
    )
    given, where = _read(arguments, argv)

    from keel.preferences.web.roll import roll

    with _opened(where) as database:
        known = roll(database)
    if given.json:
        print(json.dumps([one.to_json() for one in known], indent=2))
        return
    rows = [("name", "role", "state", "judgements", "last")]
    for one in known:
        last = "" if one.last is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(one.last))
        rows.append((one.name, one.role, one.state, str(one.judgements), last))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _read(arguments: Arguments, argv: Sequence[str]) -> tuple[argparse.Namespace, Place]:
    """What is given, and the database that it is about: every one of these commands has --of and --json."""
    about = "run or database that it is about; without it, the only one in this folder"
    arguments.add_argument("--of", metavar="PLACE", help=about)
    arguments.add_argument("--json", action="store_true", help="print the result as one JSON object, and nothing else")
    given = arguments.read(argv)
    return given, existing(given.of) if given.of is not None else only_one_here()


def _opened(where: Place) -> Database:
    from keel.preferences.database import Database

    return Database.open(where.url_or_path)


def _say(as_json: bool, facts: dict[str, object], words: str) -> None:
    print(json.dumps(facts, indent=2) if as_json else words)


def _address(where: Place, given: str | None) -> str:
    from keel.preferences.web.address import check, remembered

    if given is not None:
        return check(given)
    known = None if where.path is None else remembered(where.path)
    if known is None:
        raise UserError(
            f"{where.written}: no server is known to have served this; start it with `keel label`, or say where people "
            "find it with --address URL."
        )
    return known
