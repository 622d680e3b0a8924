"""People at the desk, many at once, none of whom behaves well; and what must be true when they have gone.

    python -m tests.preferences.crowd URL_OR_PATH --people 24 --items 2000 --wanted 3

runs one crowd in threads of this process, and says how many judgements came of it.
"""

import argparse
import json
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from sqlalchemy import text

from keel.preferences.desk import Desk
from keel.preferences.judgement import COUNTED
from keel.preferences.leases import LeaseLostError, NotWelcomeError, Receipt, Rules, Served, Verdict
from keel.preferences.people import People
from keel.preferences.store import PreferenceStore

from .desk_kit import Office, audit
from .tables import item

LEASE = 0.25  # seconds; so short that a busy machine loses some by itself
RULES = Rules(lease_seconds=LEASE, selection="bald", random_share=0.3)
Said = tuple[str, str, int, str]


@dataclass
class Annotator:
    """Serves, dawdles, submits twice, undoes, skips, runs away; writes down every success that it was told of."""

    name: str
    desk: Desk
    random: Random
    log: Path | None = None
    said: list[Said] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)

    def work(self, until: float) -> None:
        """Until the database has had nothing to give for a while. `until`: seconds of `time.monotonic`, at most."""
        idle_since = time.monotonic()
        while time.monotonic() < until:
            try:
                served = self.desk.serve(self.name, self.random.choice((1, 1, 2)))
            except NotWelcomeError:
                self.refused["paused"] += 1
                time.sleep(0.02)
                continue
            if served:
                idle_since = time.monotonic()
                for each in served:
                    self.judge(each)
            elif time.monotonic() - idle_since > 6 * LEASE:
                return
            else:
                time.sleep(0.02)

    def judge(self, served: Served) -> None:
        mood = self.random.random()
        if mood < 0.03:
            return  # gone without a word
        if mood < 0.06:
            self.desk.release(self.name, served.token)
            return
        if mood < 0.10:
            time.sleep(LEASE * self.random.choice((0.5, 1.2)))
        elif mood < 0.20:
            self.attempt(lambda: self.desk.heartbeat(self.name, served.token))
        decline = self.random.random() < 0.06
        verdict = Verdict(decline="skip") if decline else Verdict(pressed=self.random.randint(-3, 3), note=self.name)
        if self.submit(served.token, verdict):
            if mood > 0.9:
                self.submit_again(served.token, verdict)
            if mood > 0.95:
                self.undo()

    def attempt(self, call: object) -> bool:
        try:
            call()  # type: ignore[operator]
        except (LeaseLostError, NotWelcomeError) as error:
            self.refused[type(error).__name__] += 1
            return False
        return True

    def submit(self, token: str, verdict: Verdict) -> bool:
        receipts: list[Receipt] = []
        if not self.attempt(lambda: receipts.append(self.desk.submit(self.name, token, verdict))):
            return False
        assert not receipts[0].repeated
        judgement = receipts[0].judgement
        self.note((judgement.item, judgement.annotator, judgement.revision, judgement.kind))
        return True

    def submit_again(self, token: str, verdict: Verdict) -> None:
        assert self.desk.submit(self.name, token, verdict).repeated
        other = Verdict(decline="flag", reason="another page")
        assert not self.attempt(lambda: self.desk.submit(self.name, token, other))

    def undo(self) -> None:
        undone: list[Served | None] = []
        if self.attempt(lambda: undone.append(self.desk.undo(self.name))) and undone[0] is not None:
            shown = undone[0].shown
            self.note((shown.assignment.item, self.name, shown.revision - 1, "withdrawn"))

    def note(self, said: Said) -> None:
        self.said.append(said)
        if self.log is not None:
            with self.log.open("a") as file:
                file.write(json.dumps(said) + "\n")


@dataclass
class Crowd:
    """A database with items, and the people who are to judge them."""

    place: str
    people: Sequence[str]
    items: int
    wanted: int

    def prepare(self) -> None:
        with PreferenceStore.open(self.place) as store:
            items = [item(f"i{number:05d}") for number in range(self.items)]
            store.add_items(items)
            for name in self.people:
                store.add_annotator(name)
            hot = {each.id: float(number % 3) for number, each in enumerate(items)}
            Desk(store.database, RULES).enqueue(items, self.wanted, priority=hot)

    def threads(self, seed: int, until: float, logs: Path | None = None, names: Sequence[str] = ()) -> list[Said]:
        """Each person in a thread of their own; what they were told is recorded."""
        with PreferenceStore.open(self.place) as store:
            desk = Desk(store.database, RULES, chance=Random(seed))
            annotators = [
                Annotator(name, desk, Random(f"{seed} {name}"), logs and logs / name) for name in names or self.people
            ]
            failures: list[BaseException] = []

            def work(annotator: Annotator) -> None:
                try:
                    annotator.work(until)
                except BaseException as error:
                    failures.append(error)
                    raise

            running = [threading.Thread(target=work, args=(annotator,)) for annotator in annotators]
            reviewer = threading.Thread(target=review, args=(People(store.database), self.people, running, seed))
            for thread in (*running, reviewer):
                thread.start()
            for thread in (*running, reviewer):
                thread.join()
            if failures:
                raise failures[0]
            return [said for annotator in annotators for said in annotator.said]

    def check(self, told: Sequence[Said], unheard: int = 0) -> int:
        """Nothing lost, nothing doubled, no item above what was wanted, none below that could be filled.

        `unheard`: judgements that may be recorded though nobody was told, as their process was killed. Returns the
        number of all judgements.
        """
        with PreferenceStore.open(self.place) as store:
            history = [(said.item, said.annotator, said.revision, said.kind) for said in store.history()]
            assert len(history) == len(set(history))
            lost = set(told) - set(history)
            assert not lost
            assert len(told) == len(set(told))
            assert len(history) - len(told) <= unheard
            office = Office(store, RULES, 0)
            office.clock.now = time.time() + 2 * LEASE
            audit(office)
            said = {(each.item, each.annotator): each.kind for each in store.judgements()}
            people = len(self.people)
            for id in office.queue():
                counted = sum(said.get((id, name)) in COUNTED for name in self.people)
                declined = sum(said.get((id, name)) in ("skip", "flag") for name in self.people)
                assert counted == min(self.wanted, people - declined), id
            return len(history)


def review(people: People, names: Sequence[str], running: Sequence[threading.Thread], seed: int) -> None:
    """Pauses somebody now and then, and lets them go on; everybody may in the end."""
    random = Random(seed)
    while any(thread.is_alive() for thread in running):
        name = random.choice(names)
        people.set_state(name, "paused", "rita", "a break")
        time.sleep(0.03)
        people.set_state(name, "active", "rita", "go on")
        time.sleep(0.2)


def deadlocks(store: PreferenceStore) -> int:
    """Of the whole PostgreSQL database, since it was made."""
    with store.database.read() as connection:
        asked = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        return int(connection.execute(text(asked)).scalar_one())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("place")
    parser.add_argument("--people", type=int, default=8)
    parser.add_argument("--items", type=int, default=100)
    parser.add_argument("--wanted", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--logs", type=Path)
    parser.add_argument("--names", nargs="*", default=[])
    given = parser.parse_args()
    people = [f"p{number:02d}" for number in range(given.people)]
    crowd, began = Crowd(given.place, people, given.items, given.wanted), time.monotonic()
    if not given.names:
        crowd.prepare()
    told = crowd.threads(given.seed, began + given.seconds, given.logs, given.names)
    if not given.names:
        count, seconds = crowd.check(told), time.monotonic() - began
        sys.stdout.write(f"{count} judgements by {len(people)} people in {seconds:.1f} s; all checks hold\n")


if __name__ == "__main__":
    main()
