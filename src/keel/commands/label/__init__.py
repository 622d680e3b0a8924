"""`keel label`: the labelling server, and the people who may come to it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

_PEOPLE = ("invite", "token", "revoke", "people")
"""First words that do not name a run or a database; a folder of such a name is ./invite."""


def label(argv: Sequence[str]) -> int | None:
    """keel label RUN|DATABASE|--from FILE …; keel label invite|token|revoke|people …"""
    if argv and argv[0] in _PEOPLE:
        people = import_module("keel.commands.label.people")
        getattr(people, argv[0])(argv[1:])
        return None
    status: int | None = import_module("keel.commands.label.serve").serve(argv)
    return status
