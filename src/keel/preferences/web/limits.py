"""How often one sender may ask, and how much one request may hold."""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from keel.preferences.web.refusals import Refusal, as_json, too_often

_REMEMBERED = 10_000
LONGEST_BODY = 64 * 1024
LONGEST_GUIDELINES = 1024 * 1024


@dataclass(frozen=True)
class Rate:
    """`burst` requests at once, and `per_second` more each second."""

    burst: float | int
    per_second: float | int

    def __post_init__(self) -> None:
        if self.burst < 1 or self.per_second <= 0:
            raise ValueError(f"{self}: need burst ≥ 1 and per_second > 0")


@dataclass(frozen=True)
class Rates:
    """Signing in, for each address; judgements (and undoing them) and everything else, for each person."""

    sign_in: Rate = Rate(40, 0.5)
    judge: Rate = Rate(30, 2)
    ask: Rate = Rate(120, 10)


class Limiter:
    """A bucket of tokens for each key, `burst` at most, filled again at `per_second`."""

    def __init__(self, rate: Rate, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: dict[str, tuple[float, float]] = {}

    def wait(self, key: str) -> float:
        """Takes a token: 0 where there was one, else the seconds until there is."""
        now = self._clock()
        with self._lock:
            if len(self._buckets) > _REMEMBERED:
                self._forget(now)
            tokens = self._tokens(key, now)
            granted = tokens >= 1
            self._buckets[key] = (tokens - 1 if granted else tokens, now)
        return 0.0 if granted else (1 - tokens) / self._rate.per_second

    def admit(self, key: str) -> None:
        """Takes a token; refuses with 429 where there is none."""
        if wait := self.wait(key):
            raise too_often(wait)

    def _tokens(self, key: str, now: float) -> float:
        tokens, at = self._buckets.get(key, (self._rate.burst, now))
        return float(min(self._rate.burst, tokens + (now - at) * self._rate.per_second))

    def _forget(self, now: float) -> None:
        """Drops the buckets that are full again; where none is, the oldest tenth."""
        kept = {key: state for key, state in self._buckets.items() if self._tokens(key, now) < self._rate.burst}
        if len(kept) > _REMEMBERED:
            oldest = sorted(kept, key=lambda key: kept[key][1])[: math.ceil(len(kept) / 10)]
            for key in oldest:
                del kept[key]
        self._buckets = kept


def sender(host: str | None) -> str:
    """The key of an address: of IPv6 the first half, as everybody has 2⁶⁴ of the others."""
    try:
        address = ip_address(host or "")
    except ValueError:
        return host or "?"
    if isinstance(address, IPv6Address) and address.ipv4_mapped is None:
        return str(IPv6Address(int(address) >> 64 << 64))
    return str(address)


class BodyLimit:
    """Refuses bodies that are longer than `longest(path)` bytes, with 413."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = LONGEST_GUIDELINES if scope["path"].startswith("/api/guidelines") else LONGEST_BODY
        announced = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if not announced.isdigit() or int(announced) > limit:
            await as_json(Refusal(413, _too_long(limit)))(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise HTTPException(413, _too_long(limit))
            return message

        await self._app(scope, counted, send)


def _too_long(limit: int) -> str:
    return f"a request holds at most {limit // 1024} KiB."
