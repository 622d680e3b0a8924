"""People judge: the run serves the labelling page, says where it is, and waits until enough judgements are in."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from keel.config import Preferences as Settings
from keel.data.place import DATABASE, place, unreadable
from keel.errors import UserError
from keel.preferences.assign import Overlap, wanted
from keel.preferences.desk import Desk
from keel.preferences.guidelines import Guidelines
from keel.preferences.judgement import Item
from keel.preferences.people import People
from keel.preferences.store import PreferenceStore
from keel.preferences.web.address import remember
from keel.preferences.web.app import create_app
from keel.preferences.web.hosts import Hosts, is_local
from keel.preferences.web.serving import address_of, in_background, listen
from keel.preferences.web.site import PORT
from keel.preferences.web.site import Settings as Serving
from keel.stages.workspace import Facts, Workspace

_PAUSE = 1.0  # seconds from one look at the database to the next
_SOMEBODY = "you"


def check_serving(settings: Settings) -> None:
    """UserError where the page would be served to other machines, or the guidelines cannot be read."""
    if not is_local(settings.people.host):
        raise UserError(
            f"preferences.people.host {settings.people.host}: a run serves this machine alone; use 127.0.0.1, and let "
            "others in with `keel label RUN --host …`, which has TLS"
        )
    _guidelines(settings)


def ask_people(space: Workspace, store: PreferenceStore, items: Sequence[Item]) -> Facts:
    """Put the items before people, and wait. Returns how many judgements were wanted and how many came.

    Overlap is as with simulated annotators: a share of the items goes to several people, every other item to one.
    """
    settings = space.recipe.preferences
    desk = Desk(store.database, seed=space.recipe.seed)
    text = _guidelines(settings)
    if text is not None:
        Guidelines(store.database).publish(text)
    counts = wanted(items, Overlap(settings.overlap, settings.votes), space.recipe.seed)
    desk.enqueue(items, counts, settings.people.ranked)
    total = sum(counts.values())
    listener = listen(settings.people.host, settings.people.port, PORT)
    address = address_of(listener, None)
    remember(space.directory / DATABASE, address)  # for `keel label invite`
    hosts = Hosts.of(settings.people.host, address)
    app = create_app(store.database, Serving(address, hosts, listener.getsockname()[1], seed=space.recipe.seed))
    link = f"{address}/in/{People(store.database).invite(_SOMEBODY, 'admin')}"
    with in_background(app, listener):
        space.display.note(
            f"{total} judgements are wanted. This link signs you in, once:\n\n  {link}\n\nOthers come in by "
            f"`keel label invite NAME --of {space.directory}`. Ctrl-C ends; the same command goes on."
        )
        left = _wait(desk, total, settings.people.enough, space.display.step)
    return {"wanted": total, "missing": left}


def _wait(desk: Desk, total: int, enough: float, step: Callable[[int, dict[str, float]], None]) -> int:
    """Until no more than the rest is missing; returns how many are."""
    shown = -1
    while True:
        missing = desk.waiting()
        if total - missing != shown:
            shown = total - missing
            step(shown, {})
        if missing <= (1 - enough) * total:
            return missing
        time.sleep(_PAUSE)


def _guidelines(settings: Settings) -> str | None:
    if settings.people.guidelines is None:
        return None
    path: Path = place(settings.people.guidelines)
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"preferences.people.guidelines {path}: cannot be read ({unreadable(error)}); give a text file"
        ) from None
