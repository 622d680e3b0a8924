"""How fast the labelling server answers: simulated annotators at once, over HTTP, against a real server process.

    python -m benchmarks.labelling_http [--annotators 50] [--seconds 20] [--think 1.0] [--database URL] [--postgres]

Each annotator asks for items, thinks for a while (exponential, `--think` seconds on average), and hands in a judgement;
the reply brings the next items. `paced` is that; in `saturated` nobody thinks, which no crowd does: it shows the
throughput, and the latency is then what Little's law makes of it, annotators / throughput. The server is one process
with one worker. Without `--database`, which keeps what it gets, it is SQLite in a temporary folder; `--postgres` starts
a PostgreSQL server for the purpose. Latency is what the client waits for, from sending the request to having the whole
reply. Leaves labelling_http.json in `--out`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import platform
import random
import socket
import ssl
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.labelling import databases
from keel.preferences.database import Database
from keel.preferences.desk import Desk
from keel.preferences.judgement import Answer, Item
from keel.preferences.people import People
from keel.preferences.store import PreferenceStore
from keel.preferences.web.app import create_app
from keel.preferences.web.hosts import Hosts
from keel.preferences.web.limits import Rate, Rates
from keel.preferences.web.serving import serve
from keel.preferences.web.site import Settings
from keel.types import Message

_OFTEN = Rate(1e6, 1e6)
_WORDS = "the meeting of the council is on friday at three in the park bring a plate and a friend".split()
_ITEMS_PER_SECOND = 400


@dataclass(frozen=True)
class Measured:
    """Milliseconds of POST /api/judgements (the reply holds the next items) and of the first POST /api/next."""

    database: str
    mode: str
    annotators: int
    think: float
    seconds: float
    judgements: int
    per_second: float
    p50: float
    p95: float
    p99: float
    slowest: float
    next_p95: float


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--annotators", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--think", type=float, default=1.0)
    parser.add_argument("--database", metavar="URL")
    parser.add_argument("--postgres", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    given = parser.parse_args()
    names = [*([] if given.database else ["sqlite"]), *(["postgresql"] if given.postgres else [])]
    found = []
    with databases(names) as fresh:
        if given.database:
            fresh["url"] = partial(str, given.database)
        for name, place in fresh.items():
            for mode, think in (("paced", given.think), ("saturated", 0.0)):
                found.append(measure(name, place(), mode, given.annotators, given.seconds, think))
                print(_line(found[-1]), flush=True)
    given.out.mkdir(parents=True, exist_ok=True)
    facts = {"machine": platform.processor() or platform.machine(), "cores": multiprocessing.cpu_count()}
    path = given.out / "labelling_http.json"
    path.write_text(json.dumps({**facts, "results": [asdict(one) for one in found]}, indent=2) + "\n", encoding="utf-8")


def measure(name: str, place: str, mode: str, annotators: int, seconds: float, think: float) -> Measured:
    """One crowd at one database."""
    tokens = _prepare(place, annotators, int(seconds * _ITEMS_PER_SECOND))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(place, port), daemon=True)
    process.start()
    try:
        address = f"http://127.0.0.1:{port}"
        _wait(address)
        judged, asked, took = asyncio.run(_crowd(address, tokens, seconds, think))
    finally:
        process.terminate()
        process.join(20)
    times = np.array(judged) * 1000
    p50, p95, p99 = (float(value) for value in np.quantile(times, [0.5, 0.95, 0.99]))
    next_p95 = float(np.quantile(np.array(asked) * 1000, 0.95))
    numbers = (len(times), len(times) / took, p50, p95, p99, float(times.max()), next_p95)
    return Measured(name, mode, annotators, think, took, *numbers)


def _prepare(place: str, annotators: int, items: int) -> list[str]:
    """A queue that will not run out, and a token for everybody."""
    chance = random.Random(0)

    def text(words: int) -> tuple[Message, ...]:
        return (Message("assistant", " ".join(chance.choices(_WORDS, k=words))),)

    made = [
        Item(f"item-{n}", (Message("user", f"{n}: {' '.join(chance.choices(_WORDS, k=30))}"),),
             (Answer(text(60)), Answer(text(60))))
        for n in range(items)
    ]  # fmt: skip
    with PreferenceStore.open(place) as store:
        people = People(store.database)
        store.add_items(made)
        Desk(store.database).enqueue(made, 3)
        names = [f"annotator-{number}" for number in range(annotators)]
        for name in names:
            people.invite(name, "annotator")
        return [people.issue(name, "label") for name in names]


def _serve(place: str, port: int) -> None:
    """The server process."""
    listener = socket.create_server(("127.0.0.1", port), backlog=512)
    address = f"http://127.0.0.1:{port}"
    with Database.open(place) as database:
        settings = Settings(address, Hosts(), port, rates=Rates(_OFTEN, _OFTEN, _OFTEN))
        serve(create_app(database, settings), listener, None, False, lambda: None)


def _wait(address: str) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            httpx.get(f"{address}/sign-in")
            return
        except httpx.TransportError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


async def _crowd(
    address: str, tokens: list[str], seconds: float, think: float
) -> tuple[list[float], list[float], float]:
    """Seconds of every judgement and of every first request for items, and for how long the crowd was at it."""
    judged: list[float] = []
    asked: list[float] = []
    shared = ssl.create_default_context()  # one for all: making one takes longer than a request
    clients = [
        httpx.AsyncClient(base_url=address, headers={"Authorization": f"Bearer {token}"}, timeout=60, verify=shared)
        for token in tokens
    ]
    began = time.monotonic()
    await asyncio.gather(*(_annotator(client, began + seconds, think, judged, asked) for client in clients))
    return judged, asked, time.monotonic() - began


async def _annotator(
    client: httpx.AsyncClient, end: float, think: float, judged: list[float], asked: list[float]
) -> None:
    chance = random.Random(client.headers["Authorization"])

    async def call(path: str, body: dict[str, Any], times: list[float]) -> Any:
        began = time.perf_counter()
        reply = await client.post(path, json=body)
        times.append(time.perf_counter() - began)
        if reply.status_code != 200:
            raise RuntimeError(f"{path}: {reply.status_code} {reply.text}")
        return reply.json()

    async with client:
        await asyncio.sleep(chance.random() * think)
        held = (await call("/api/next", {"count": 2}, asked))["items"]
        while time.monotonic() < end and held:
            if think:
                await asyncio.sleep(chance.expovariate(1 / think))
            body = {"token": held[0]["token"], "guideline": 1, "pressed": chance.randint(-3, 3), "looked": think}
            held = (await call("/api/judgements", {**body, "ahead": 1}, judged))["next"]


def _line(one: Measured) -> str:
    return (
        f"{one.database:12}{one.mode:12}{one.annotators} annotators  {one.per_second:7.1f} judgements/s   "
        f"p50 {one.p50:6.1f}  p95 {one.p95:6.1f}  p99 {one.p99:6.1f}  slowest {one.slowest:6.0f} ms   "
        f"first next p95 {one.next_p95:6.1f} ms"
    )


if __name__ == "__main__":
    main()
