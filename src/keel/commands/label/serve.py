"""`keel label RUN`: serves the labelling page until Ctrl-C."""

from __future__ import annotations

import argparse
import getpass
import json
import os
import signal
import sys
import threading
import webbrowser
from collections.abc import Sequence
from typing import TYPE_CHECKING

from keel.commands.arguments import Arguments
from keel.commands.label.place import Place, at, beside, existing
from keel.data.place import place, unreadable
from keel.errors import UserError

if TYPE_CHECKING:
    from keel.preferences.database import Database
    from keel.preferences.judgement import Item
    from keel.preferences.web.serving import Tls
    from keel.preferences.web.site import Settings


def serve(argv: Sequence[str]) -> int | None:
    """keel label RUN|DATABASE|--from FILE [--FLAG VALUE ...]"""
    given = _arguments().read(argv)
    where = _where(given)

    from keel.preferences.web.serving import check_exposure

    tls = _tls(given)
    check_exposure(given.host, tls, given.unencrypted_on_this_network, given.address)
    guidelines = None if given.guidelines is None else _text(given.guidelines)
    items, gold = _read(given.source, "--from"), _read(given.gold, "--gold")

    from keel.preferences.database import Database

    with Database.open(where.url_or_path) as database:
        _prepare(database, given, items, gold, guidelines)
        return _run(database, where, given, tls)


def _arguments() -> Arguments:
    arguments = Arguments(
        "label",
        "Let people compare answers in a web page: those of a run, of a database, or of a file. Prints a link that "
        "signs you in, and serves until Ctrl-C; what was judged is on disk at once, and the same command goes on. "
        "`keel label invite NAME` lets others in; `token`, `revoke` and `people` are the other commands about people.",
        "keel label --from pairs.jsonl",
    )
    add = arguments.add_argument
    add("place", nargs="?", metavar="RUN", help="folder of a run, or a database")
    add("--from", dest="source", metavar="FILE", help="prompts with the answers to compare; the database lies beside")
    add("--database", metavar="PLACE", help="where judgements are kept instead: a file, or postgresql+psycopg://…")
    add("--k", type=int, default=1, metavar="N", help="people who are to judge each item, 1 unless given")
    add("--ranked", action="store_true", help="three answers and more are ranked, instead of two of them compared")
    add("--gold", metavar="FILE", help="pairs whose better answer is known: chosen, rejected")
    add("--gold_share", type=float, default=0.05, metavar="P", help="share of what is served that is gold, .05")
    add("--repeat_share", type=float, default=0.0, metavar="P", help="share that one judges again, sides swapped; 0")
    add("--no_pause", action="store_true", help="who misses too many gold items is not paused by the server")
    add("--lease", type=float, default=300.0, metavar="S", help="seconds for which an item waits for its annotator")
    add("--guidelines", metavar="FILE", help="what annotators are told to look at, Markdown")
    add("--name", metavar="NAME", help="your name here, instead of the one on this machine")
    add("--host", default="127.0.0.1", help="127.0.0.1, this machine alone, unless given")
    add("--port", type=int, metavar="N", help="8765, or the next that is free, unless given")
    add("--address", metavar="URL", help="where people find the server, if there is a proxy before it")
    add("--tls_cert", metavar="FILE", help="certificate, PEM, with which other machines may come")
    add("--tls_key", metavar="FILE", help="its private key")
    add("--unencrypted_on_this_network", action="store_true",
        help="let other machines in without TLS: whoever is on the way reads all, and may come in too")  # fmt: skip
    add("--no_browser", action="store_true", help="open no browser")
    add("--json", action="store_true", help="print the address and the link as one JSON object, and nothing else")
    return arguments


def _where(given: argparse.Namespace) -> Place:
    if given.place is None and given.source is None and given.database is None:
        raise UserError("what is to be labelled? Give a run, a database, or --from FILE; see `keel label --help`")
    if given.place is not None and (given.source is not None or given.database is not None):
        raise UserError("a run or database is given twice; with --from, name the database with --database")
    if given.k < 1:
        raise UserError(f"--k {given.k}: somebody has to judge each item; give 1 or more")
    if not 0 <= given.gold_share <= 1 or not 0 <= given.repeat_share <= 1 or not given.lease > 0:
        raise UserError("--gold-share and --repeat-share are shares, 0 to 1, and --lease is above 0")
    if given.database is not None:
        return at(given.database) if given.source is not None else existing(given.database)
    return existing(given.place) if given.place is not None else beside(given.source)


def _tls(given: argparse.Namespace) -> Tls | None:
    from keel.preferences.web.serving import Tls, check_tls

    if (given.tls_cert is None) != (given.tls_key is None):
        raise UserError("--tls-cert and --tls-key go together: the certificate and its private key")
    if given.tls_cert is None:
        return None
    return check_tls(Tls(place(given.tls_cert), place(given.tls_key)))


def _text(written: str) -> str:
    path = place(written)
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{written}: cannot be read ({unreadable(error)}); give a text file.") from None


def _read(source: str | None, flag: str) -> tuple[Item, ...]:
    """The items of a file; what was left out is said."""
    if source is None:
        return ()
    from keel.preferences.candidates import read_candidates, read_pairs

    found = read_pairs(source) if flag == "--gold" else read_candidates(source)
    if found.repeated or found.alike:
        print(f"keel: {flag} {source}: {found}", file=sys.stderr)
    return found.items


def _prepare(
    database: Database, given: argparse.Namespace, items: Sequence[Item], gold: Sequence[Item], guidelines: str | None
) -> None:
    """The queue and the guidelines as the command line says."""
    from keel.preferences.desk import Desk
    from keel.preferences.guidelines import Guidelines
    from keel.preferences.store import PreferenceStore
    from keel.preferences.web.stock import nothing_is_queued

    store, desk = PreferenceStore(database), Desk(database)
    if not items and nothing_is_queued(database):
        items = store.items()  # of a run whose answers only programs have judged
    store.add_items([*items, *gold])
    new = desk.enqueue(items, given.k, given.ranked)
    if items and new < len(items):
        old = len(items) - new
        print(f"keel: {old} items were queued before, and keep the number of people that they had", file=sys.stderr)
    for item in gold:
        desk.enqueue_gold(item, -1)  # the first answer is the chosen one
    if guidelines is not None:
        Guidelines(database).publish(guidelines, None)


def _run(database: Database, where: Place, given: argparse.Namespace, tls: Tls | None) -> int | None:
    from keel.preferences.people import People
    from keel.preferences.web import address as known
    from keel.preferences.web.app import create_app
    from keel.preferences.web.serving import address_of, listen, serve
    from keel.preferences.web.site import PORT
    from keel.preferences.web.stock import stock

    before = stock(database)
    elsewhere = None if given.address is None else known.check(given.address)
    secret = People(database).invite(_you() if given.name is None else given.name, "admin")
    listener = listen(given.host, given.port, PORT)
    address = elsewhere or address_of(listener, tls)
    link = f"{address}/in/{secret}"
    if where.path is not None:
        known.remember(where.path, address)
    app = create_app(database, _settings(given, address, listener.getsockname()[1]))

    def say() -> None:
        if given.json:
            facts = {"database": database.where, "address": address, "link": link, **before.to_json()}
            print(json.dumps(facts, indent=2), flush=True)
            return
        print(f"{before}\nServing at {address}; Ctrl-C ends. This link signs you in, once:\n\n  {link}\n", flush=True)
        if not given.no_browser and sys.stdout.isatty() and _has_screen():
            threading.Thread(target=webbrowser.open, args=(link,), daemon=True).start()

    ended = serve(app, listener, tls, given.address is not None, say)
    if not given.json:
        after = stock(database)
        said = after.judgements - before.judgements
        print(f"\n{said} judgements came in. {after}\nTo go on:\n\n  keel label {where.written}", flush=True)
    return None if ended in (0, signal.SIGINT) else 128 + ended


def _settings(given: argparse.Namespace, address: str, port: int) -> Settings:
    from keel.preferences.leases import Rules
    from keel.preferences.web.hosts import Hosts
    from keel.preferences.web.site import Settings

    rules = Rules(lease_seconds=given.lease, gold_share=given.gold_share, repeat_share=given.repeat_share)
    return Settings(address, Hosts.of(given.host, address), port, rules, pause=not given.no_pause)


def _you() -> str:
    """The name of the person at the machine."""
    try:
        return getpass.getuser() or "you"
    except (OSError, KeyError, ImportError):  # a process without a user's name, as in a container
        return "you"


def _has_screen() -> bool:
    """Whether a browser would have a window; one in the terminal would take it away from us."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
