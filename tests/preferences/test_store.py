"""The database: nothing recorded is lost, doubled or changed; kills and several writers included."""

import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.exc import DatabaseError

from keel.errors import UserError
from keel.preferences import schema
from keel.preferences.assign import Overlap, plan
from keel.preferences.desk import Desk
from keel.preferences.guidelines import Guidelines
from keel.preferences.judgement import Assignment, Judgement
from keel.preferences.people import People
from keel.preferences.store import PreferenceStore, StaleJudgementError

from .tables import item


@pytest.fixture
def store(place: str) -> Iterator[PreferenceStore]:
    """Three items; ann has all of them, bob the first."""
    with PreferenceStore.open(place) as store:
        store.add_items([item("x"), item("y"), item("z", "1", "2", "3")])
        store.add_annotator("ann")
        store.add_annotator("bob", "simulated")
        store.assign(
            [
                Assignment("y", "ann", (1, 0)),
                Assignment("x", "ann", (0, 1)),
                Assignment("z", "ann", (2, 1)),
                Assignment("x", "bob", (1, 0)),
            ]
        )
        yield store


def test_what_goes_in_comes_out(store: PreferenceStore) -> None:
    assert store.items() == [item("x"), item("y"), item("z", "1", "2", "3")]
    assert store.annotators() == {"ann": "annotator", "bob": "simulated"}
    assert store.assignments()[2] == Assignment("z", "ann", (2, 1))


def test_ask_follows_the_plan_and_hides_the_author(store: PreferenceStore) -> None:
    asked = store.ask("ann")
    assert [each.assignment.item for each in asked] == ["y", "x", "z"]
    assert [each.answers[0][0].content for each in asked] == ["y two", "x one", "3"]
    assert [each.answers[1][0].content for each in asked] == ["y one", "x two", "2"]
    assert store.ask("ann", limit=1) == asked[:1]
    assert "model" not in repr(asked)


def test_record_then_ask_for_the_next(store: PreferenceStore) -> None:
    store.record(store.ask("ann", 1)[0].press(-2, note="Zürich\n", guideline="v2", served=1.5, submitted=7.25))
    assert [each.assignment.item for each in store.ask("ann")] == ["x", "z"]
    (said,) = store.judgements()
    assert said == Judgement("y", "ann", (1, 0), "comparison", -2, "Zürich\n", "v2", 1.5, 7.25, 1)
    assert said.strength == 2


def test_edit_and_undo_are_revisions(store: PreferenceStore) -> None:
    first = store.ask("ann", 1)[0].press(-2)
    store.record(first)
    store.record(first.edit(1))
    assert [said.pressed for said in store.judgements()] == [1]
    store.record(first.edit(1).withdraw())
    assert store.judgements() == []
    again = store.ask("ann", 1)[0]
    assert (again.assignment.item, again.assignment.shown, again.revision) == ("y", (1, 0), 4)
    store.record(again.decline("both_bad"))
    assert [(said.revision, said.kind) for said in store.history()] == [
        (1, "comparison"),
        (2, "comparison"),
        (3, "withdrawn"),
        (4, "both_bad"),
    ]
    assert [said.kind for said in store.judgements()] == ["both_bad"]


def test_what_counts_for_training(place: str) -> None:
    """Latest revisions that are not withdrawn, by people who are not excluded, on items that are neither gold nor
    repeats."""
    with PreferenceStore.open(place) as store:
        store.add_items([item("gold"), item("x"), item("y")])
        people = ("ann", "bob", "eve")
        for name in people:
            store.add_annotator(name)
        store.add_annotator("program", "simulated")
        desk = Desk(store.database)
        desk.enqueue(store.items()[1:], 4)
        desk.enqueue_gold(store.items()[0], 1)
        with store.database.write() as connection:
            row = {"wanted": 1, "ranked": False, "priority": 0.0, "lot": 0.5, "done": False, "aside": False}
            connection.execute(insert(schema.items), {"id": "x~ann", "prompt": []})
            connection.execute(
                insert(schema.answers),
                [{"item": "x~ann", "position": n, "messages": [], "model": ""} for n in range(2)],
            )
            repeat = {"item": "x~ann", "purpose": "repeat", "repeats": "x", "reserved": "ann"}
            connection.execute(insert(schema.queue), row | repeat)
        store.assign(Assignment(id, name, (0, 1)) for id in ("gold", "x", "y") for name in (*people, "program"))
        store.assign([Assignment("x~ann", "ann", (1, 0))])
        said = {(each.assignment.item, name): each for name in (*people, "program") for each in store.ask(name)}
        store.record(*(each.press(1) for each in said.values()))
        store.record(said["x", "bob"].press(1).edit(-2))
        store.record(said["y", "bob"].press(1).withdraw())
        People(store.database).set_state("eve", "excluded", "reviewer", "left, always")
        People(store.database).set_state("ann", "paused", "reviewer", "slow")
        assert len(store.judgements()) == 12
        assert {(each.item, each.annotator, each.pressed) for each in store.counted()} == {
            ("x", "ann", 1),
            ("y", "ann", 1),
            ("x", "bob", -2),
            ("x", "program", 1),
            ("y", "program", 1),
        }
        numbers = [store.history().index(each) for each in store.counted()]
        assert numbers == sorted(numbers)


def test_a_repeated_submission_changes_nothing(store: PreferenceStore) -> None:
    one, other = (each.press(1, submitted=3.0) for each in store.ask("ann", 2))
    store.record(one)
    store.record(one)
    store.record(one, other)
    assert store.history() == [one, other]


def test_a_second_first_revision_is_stale(store: PreferenceStore) -> None:
    asked = store.ask("ann", 2)
    store.record(asked[0].press(1))
    with pytest.raises(StaleJudgementError, match="item y, annotator ann: revision 1"):
        store.record(asked[1].press(2), asked[0].press(2))
    assert [(said.item, said.pressed) for said in store.history()] == [("y", 1)]  # none of the batch came in


@pytest.mark.parametrize(
    "wrong",
    [
        Judgement("y", "bob", (0, 1), "comparison", 1),  # not assigned
        Judgement("x", "bob", (0, 1), "comparison", 1),  # assigned with the sides swapped
        Judgement("x", "bob", (1, 0), "comparison", 1, revision=2),  # no first revision
        Judgement("?", "bob", (1, 0), "comparison", 1),
    ],
)
def test_what_was_not_asked_cannot_be_answered(store: PreferenceStore, wrong: Judgement) -> None:
    good = store.ask("ann", 1)[0].press(1)
    with pytest.raises(ValueError, match=f"item {wrong.item.replace('?', '.')}, annotator bob"):
        store.record(good, wrong)
    assert store.history() == []


@pytest.mark.parametrize("change", ["UPDATE {} SET {} = NULL", "DELETE FROM {}"])
def test_the_database_itself_refuses_changes(store: PreferenceStore, change: str) -> None:
    store.record(store.ask("ann", 1)[0].press(1))
    Guidelines(store.database).publish("Look.")
    People(store.database).set_state("ann", "paused", "reviewer", "slow")
    for table, column in (("judgements", "pressed"), ("guidelines", "author"), ("events", "why")):
        with pytest.raises(DatabaseError, match=f"{table} are append-only"), store.database.write() as connection:
            connection.execute(text(change.format(table, column)))
    assert [said.pressed for said in store.judgements()] == [1]
    assert Guidelines(store.database).current().text == "Look."
    assert [event.why for event in People(store.database).events()] == ["slow"]


def test_an_annotator_gets_an_item_once(store: PreferenceStore) -> None:
    with pytest.raises(ValueError, match="nothing was assigned"):
        store.assign([Assignment("y", "bob", (0, 1)), Assignment("x", "bob", (0, 1))])
    assert len(store.assignments()) == 4
    with pytest.raises(ValueError, match="nothing was assigned"):
        store.assign([Assignment("y", "bob", (0, 2))])  # y has no third answer
    with pytest.raises(ValueError, match="nothing was assigned"):
        store.assign([Assignment("y", "nobody", (0, 1))])


def test_adding_again_changes_nothing_and_changing_is_refused(store: PreferenceStore) -> None:
    assert store.add_items([item("x"), item("new"), item("new")]) == 1
    with pytest.raises(UserError, match="item x: already in the store"):
        store.add_items([item("newer"), item("x", "other", "texts")])
    with pytest.raises(UserError, match="item n: given twice"):
        store.add_items([item("n"), item("n", "other", "texts")])
    assert [each.id for each in store.items()] == ["x", "y", "z", "new"]
    store.add_annotator("ann")
    with pytest.raises(UserError, match="'ann' is already known as annotator"):
        store.add_annotator("ann", "admin")
    with pytest.raises(UserError, match="without a name"):
        store.add_annotator("")
    with pytest.raises(UserError, match="no annotator is called 'eve'"):
        store.ask("eve", 1)


def test_what_cannot_be_opened_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"folder .*missing does not exist"):
        PreferenceStore.open(tmp_path / "missing" / "preferences.db")
    (tmp_path / "notes.txt").write_text("this is not a database, it is a text " * 99)
    with pytest.raises(UserError, match="cannot be opened as a preference database"):
        PreferenceStore.open(tmp_path / "notes.txt")
    with pytest.raises(UserError, match="use SQLite or PostgreSQL"):
        PreferenceStore.open("nosuch+driver://somewhere/db")
    with pytest.raises(UserError, match="database URL cannot be used"):
        PreferenceStore.open("postgresql+nosuch://somewhere/db")
    with pytest.raises(UserError, match="in memory would be lost"):
        PreferenceStore.open("sqlite://")


def test_sqlite_is_set_up_as_it_must_be(tmp_path: Path) -> None:
    with PreferenceStore.open(tmp_path / "preferences.db") as store, store.database.read() as connection:
        asked = ("journal_mode", "foreign_keys", "synchronous", "busy_timeout")
        found = {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in asked}
    assert found == {"journal_mode": "wal", "foreign_keys": 1, "synchronous": 2, "busy_timeout": 30_000}


def test_six_thousand_judgements_take_seconds_not_minutes(place: str) -> None:
    names = [f"a{number}" for number in range(6)]
    with PreferenceStore.open(place) as store:
        store.add_items([item(f"i{number}") for number in range(2000)])
        for name in names:
            store.add_annotator(name)
        planned = plan(store.items(), names, Overlap(share=1.0, k=3), seed=0)
        store.assign(planned)
        said = [Judgement(each.item, each.annotator, each.shown, "comparison", 1) for each in planned]
        started = time.perf_counter()
        store.record(*said)
        seconds = time.perf_counter() - started
        assert len(store.judgements()) == 6000
        assert seconds < 20


WRITER = """
import sys
from keel.preferences.store import PreferenceStore, StaleJudgementError
path, name, rival = sys.argv[1:]
with PreferenceStore.open(path) as store:
    for shown in store.ask(name):
        store.record(shown.press(1, note=name))
        print(shown.assignment.item, flush=True)
    won = 0
    for shown in store.ask("both"):
        try:
            store.record(shown.press(1, note=rival))
            won += 1
        except StaleJudgementError:
            pass
    print("won", won, flush=True)
"""


def writer(place: str, name: str, rival: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", WRITER, place, name, rival], stdout=subprocess.PIPE, text=True)


def test_several_processes_lose_and_double_nothing(place: str) -> None:
    names, items = ["a", "b", "c"], [item(f"i{n}") for n in range(50)]
    with PreferenceStore.open(place) as store:
        store.add_items(items)
        for name in [*names, "both"]:
            store.add_annotator(name)
        store.assign(Assignment(each.id, name, (0, 1)) for each in items for name in [*names, "both"])
    running = [writer(place, name, rival=name) for name in names]
    outputs = [process.communicate(timeout=120)[0].split() for process in running]
    assert [process.returncode for process in running] == [0] * 3
    with PreferenceStore.open(place) as store:
        history = store.history()
    assert Counter(said.annotator for said in history) == dict.fromkeys([*names, "both"], 50)
    assert all(said.note == said.annotator for said in history if said.annotator != "both")
    # the three raced for the same 50 revisions: each went to one, who was told so
    assert sum(int(words[-1]) for words in outputs) == 50
    assert Counter(said.note for said in history if said.annotator == "both") == Counter(
        {name: int(words[-1]) for name, words in zip(names, outputs, strict=True) if words[-1] != "0"}
    )


def test_a_writer_that_reads_first_waits_for_its_rival(store: PreferenceStore, place: str) -> None:
    """Without a lock from the first read on, it would go on with what is out of date."""
    with PreferenceStore.open(place) as rival, ThreadPoolExecutor(1) as pool:
        with rival.database.write() as connection:
            connection.execute(text("INSERT INTO annotators (name, role) VALUES ('cat', 'annotator')"))
            waiting = pool.submit(store.add_annotator, "cat")
            time.sleep(0.3)
            assert not waiting.done()
        waiting.result(timeout=20)
    assert list(store.annotators()) == ["ann", "bob", "cat"]


def test_a_reader_sees_one_state_and_waits_for_nobody(store: PreferenceStore) -> None:
    names = select(schema.annotators.c.name)
    with store.database.read() as reading:
        before = reading.execute(names).scalars().all()
        store.add_annotator("cat")
        with store.database.write() as writing:
            assert reading.execute(names).scalars().all() == before
            assert writing.execute(names).scalars().all() == [*before, "cat"]


def test_a_transaction_in_itself_is_refused(tmp_path: Path) -> None:
    """On SQLite it would wait for itself."""
    with PreferenceStore.open(tmp_path / "preferences.db") as store:
        with store.database.write(), pytest.raises(RuntimeError, match="within another"):
            store.add_annotator("cat")
        store.add_annotator("dan")
        assert list(store.annotators()) == ["dan"]


@pytest.mark.parametrize("durable", [True, False])
def test_what_must_be_on_disk_is_synced(store: PreferenceStore, durable: bool) -> None:
    with store.database.write(durable=durable) as connection:
        ask = "PRAGMA synchronous" if connection.dialect.name == "sqlite" else "SHOW synchronous_commit"
        found = connection.execute(text(ask)).scalar_one()
    assert found == ((2 if durable else 1) if ask.startswith("PRAGMA") else ("on" if durable else "off"))
    with store.database.write() as connection:  # and nothing of it stays behind
        assert connection.execute(text(ask)).scalar_one() in (2, "on")


def test_a_killed_process_loses_nothing_that_it_recorded(place: str) -> None:
    items = [item(f"i{n}") for n in range(3000)]
    with PreferenceStore.open(place) as store:
        store.add_items(items)
        store.add_annotator("a")
        store.add_annotator("both")
        store.assign(Assignment(each.id, "a", (0, 1)) for each in items)
    process = writer(place, "a", rival="a")
    assert process.stdout is not None
    told = [process.stdout.readline().strip() for _ in range(25)]
    process.send_signal(signal.SIGKILL)
    told += process.stdout.read().split()
    process.wait(timeout=60)
    process.stdout.close()
    assert process.returncode == -signal.SIGKILL
    assert 25 <= len(told) < 3000
    with PreferenceStore.open(place) as store:
        kept = [said.item for said in store.judgements()]
        assert kept[: len(told)] == told
        assert len(kept) - len(told) <= 1  # at most the one that was recorded but not yet announced
        assert store.ask("a", 1)[0].assignment.item == f"i{len(kept)}"
