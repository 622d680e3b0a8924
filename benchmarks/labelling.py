"""How fast the desk serves and takes in: simulated annotators at once, without HTTP between (labelling_http has it).

    python -m benchmarks.labelling [--annotators 50] [--seconds 20] [--think 1.0] [--items 10000] [--only sqlite]

Every annotator has a thread; each serves itself an item, thinks (exponential, `--think` seconds on average), submits.
`paced` is that; in `saturated` nobody thinks, which no crowd does: it shows the throughput, and latencies are then
what Little's law makes of it, annotators / throughput. `alone` is one annotator who has judged 3000 of the items
already. Latency is that of one call, to when it is on disk; `both` is submit and the serve that follows it: what
somebody waits for between two items. Leaves labelling.json in `--out`.
"""

import argparse
import json
import os
import platform
import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from sqlalchemy import insert, text, update

from keel.preferences import schema
from keel.preferences.desk import Desk
from keel.preferences.judgement import Answer, Item
from keel.preferences.leases import Verdict
from keel.preferences.store import PreferenceStore
from keel.types import Message

_WANTED = 3
_JUDGED = 3000
_PERCENT = (50, 95, 99)


@dataclass(frozen=True)
class Measured:
    """Judgements per second; per call the 50th, 95th and 99th percentile of its latency, in milliseconds."""

    database: str
    mode: str
    annotators: int
    judgements: int
    per_second: float
    serve: tuple[float, ...]
    submit: tuple[float, ...]
    both: tuple[float, ...]


class Times:
    """Seconds that calls took; `both` is a submit and the serve after it, by the same annotator."""

    def __init__(self) -> None:
        self.serve: list[float] = []
        self.submit: list[float] = []
        self.both: list[float] = []

    def measured(self, database: str, mode: str, annotators: int, seconds: float) -> Measured:
        """What was measured, as a row of the table."""

        def ms(times: list[float]) -> tuple[float, ...]:
            return tuple(float(each) * 1000 for each in np.percentile(times, _PERCENT))

        count = len(self.submit)
        return Measured(
            database, mode, annotators, count, count / seconds, ms(self.serve), ms(self.submit), ms(self.both)
        )


def main() -> None:
    """Measures, prints a table, and writes it down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--annotators", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--think", type=float, default=1.0)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--only", choices=("sqlite", "postgresql"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    given = parser.parse_args()
    names = ("serve", "submit", "both")
    head = "".join(f"{f'{name} p{percent}':>12}" for name in names for percent in _PERCENT)
    print(f"{'database':12}{'mode':11}{'people':>7}{'per second':>11}{head}", flush=True)
    found = []
    with databases((given.only,) if given.only else ("sqlite", "postgresql")) as fresh:
        for database, new in fresh.items():
            for mode, people, think in (
                ("alone", 1, 0.0),
                ("paced", given.annotators, given.think),
                ("saturated", given.annotators, 0.0),
            ):
                with PreferenceStore.open(new()) as store:
                    prepare(store, given.items, people, _JUDGED if mode == "alone" else 0)
                    one = measure(store, database, mode, people, given.seconds, think)
                found.append(one)
                times = "".join(f"{each:12.1f}" for name in names for each in getattr(one, name))
                print(f"{database:12}{mode:11}{people:>7}{one.per_second:>11.1f}{times}", flush=True)
    given.out.mkdir(parents=True, exist_ok=True)
    facts = {"machine": platform.processor() or platform.machine(), "cores": os.cpu_count(), "items": given.items}
    path = given.out / "labelling.json"
    path.write_text(json.dumps({**facts, "results": [asdict(one) for one in found]}, indent=2) + "\n", encoding="utf-8")


@contextmanager
def databases(names: Sequence[str]) -> Iterator[dict[str, Callable[[], str]]]:
    """By name, how to get a place for a new database. PostgreSQL is started for the purpose."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        numbers = iter(range(1000))
        fresh: dict[str, Callable[[], str]] = {}
        if "sqlite" in names:
            fresh["sqlite"] = lambda: str(folder / f"{next(numbers)}.db")
        if "postgresql" in names:
            from tests.preferences.postgres import Server, binaries

            programs = binaries()
            if programs is None:
                raise SystemExit("PostgreSQL is not installed; measure SQLite alone")
            fresh["postgresql"] = stack.enter_context(Server(programs)).fresh
        yield fresh


def prepare(store: PreferenceStore, items: int, people: int, judged: int = 0) -> None:
    """A queue, and annotators p0, p1, … of whom the first has judged the first so many items."""
    made = [
        Item(
            f"item-{number:06d}",
            (Message("user", f"Facts: {number}. Write a short note for parents."),),
            tuple(Answer((Message("assistant", f"A note of some length, {side} {number}. " * 4),)) for side in "ab"),
        )
        for number in range(items)
    ]
    store.add_items(made)
    for number in range(people):
        store.add_annotator(f"p{number}")
    Desk(store.database).enqueue(made, _WANTED)
    with store.database.write() as connection:
        for start in range(0, judged, 500):
            ids = [item.id for item in made[start : min(start + 500, judged)]]
            mine = [{"item": id, "annotator": "p0", "shown": "0 1"} for id in ids]
            connection.execute(insert(schema.assignments), [{**each, "said": "comparison"} for each in mine])
            said = {"revision": 1, "kind": "comparison", "pressed": 1, "note": "", "reason": "", "guideline": ""}
            connection.execute(insert(schema.judgements), [{**each, **said} for each in mine])
            entered = update(schema.queue).where(schema.queue.c.item.in_(ids)).values(entered=float(start))
            connection.execute(entered)
    with store.database.read() as connection:
        engine, postgres = connection.engine, connection.dialect.name == "postgresql"
    if postgres:  # what the server does by itself within a minute or two
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))


def measure(store: PreferenceStore, database: str, mode: str, people: int, seconds: float, think: float) -> Measured:
    """One crowd at one desk for so many seconds, of which the first tenth is not measured."""
    desk, times, began = Desk(store.database), Times(), time.perf_counter()
    end, warm = began + seconds * 1.1, began + seconds * 0.1
    crowd = [
        threading.Thread(target=_annotator, args=(desk, f"p{number}", times, warm, end, think))
        for number in range(people)
    ]
    for each in crowd:
        each.start()
    for each in crowd:
        each.join()
    return times.measured(database, mode, people, seconds)


def _annotator(desk: Desk, name: str, times: Times, warm: float, end: float, think: float) -> None:
    chance = random.Random(name)
    time.sleep(chance.random() * think)
    (served,) = desk.serve(name)
    while True:
        if think:
            time.sleep(chance.expovariate(1 / think))
        began = time.perf_counter()
        if began > end:
            return
        desk.submit(name, served.token, Verdict(pressed=chance.randint(-3, 3)), guideline="1")
        submitted = time.perf_counter()
        (served,) = desk.serve(name)
        done = time.perf_counter()
        if began > warm:
            times.submit.append(submitted - began)
            times.serve.append(done - submitted)
            times.both.append(done - began)


if __name__ == "__main__":
    main()
