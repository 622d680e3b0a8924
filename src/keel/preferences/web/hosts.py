"""The names that the server answers to.

A page from elsewhere may have its own name point to this machine (DNS rebinding), and would then be of one origin with
us. It cannot make the browser send another name than its own, so a name that is not ours is refused.
"""

import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from keel.preferences.web.refusals import Refusal, as_json

_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:\d+)?")
_LOCAL = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Hosts:
    """`names` in lower case, and whether any address in numbers will do (no foreign page has one for its name)."""

    names: frozenset[str] = field(default_factory=lambda: frozenset(_LOCAL))
    numbers: bool = False

    @classmethod
    def of(cls, bound: str, address: str | None = None, more: Iterable[str] = ()) -> "Hosts":
        """For a server that is bound to this host, and known to others by this address (a URL)."""
        names = {*_LOCAL, *(name.lower() for name in more)}
        if address is not None and (name := urlsplit(address).hostname):
            names.add(name)
        if is_local(bound):
            return cls(frozenset(names))
        own = socket.gethostname().lower()
        return cls(frozenset(names | {bound.lower(), own, f"{own}.local", socket.getfqdn().lower()}), numbers=True)

    def know(self, header: str) -> bool:
        """Whether this `Host` header names us."""
        found = _HOST.fullmatch(header)
        if found is None:
            return False
        name = found[1].strip("[]").lower()
        return name in self.names or (self.numbers and _is_number(name))


class HostCheck:
    """Refuses requests to other names, with 400."""

    def __init__(self, app: ASGIApp, hosts: Hosts) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            named = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
            if len(named) != 1 or not self._hosts.know(named[0]):
                refusal = Refusal(400, "this server does not answer to that name; use the address that it printed.")
                await as_json(refusal)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def is_local(host: str) -> bool:
    """Whether only this machine can reach a server that is bound to this host."""
    if host.lower() == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _is_number(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
