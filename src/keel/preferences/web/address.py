"""Where a server of a database is found by other commands: a file beside the database."""

import json
from pathlib import Path
from urllib.parse import urlsplit

from keel.errors import UserError

SUFFIX = ".address.json"


def remember(database: Path, address: str) -> None:
    """Writes down the address of the server of this SQLite file."""
    _file(database).write_text(json.dumps({"address": address}) + "\n", encoding="utf-8")


def remembered(database: Path) -> str | None:
    """The address of the last server of this SQLite file; None where none is known."""
    try:
        known = json.loads(_file(database).read_text(encoding="utf-8"))
        return check(known["address"])
    except (OSError, ValueError, KeyError, TypeError, UserError):
        return None


def check(address: str) -> str:
    """The address without what comes after the host and port. Raises UserError where it is none."""
    try:
        parts = urlsplit(address)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        known = False
    if not known or parts.username is not None or parts.path.strip("/") or parts.query or parts.fragment:
        raise UserError(f"--address {address}: is no address of a server, as https://label.example.org is.")
    return f"{parts.scheme}://{parts.netloc}".lower()


def _file(database: Path) -> Path:
    return database.with_name(f"{database.stem}{SUFFIX}")
