"""The database: nothing recorded is lost, doubled or changed; kills and several writers included."""

import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from keel.errors import UserError
from keel.preferences.assign import Overlap, plan
from keel.preferences.judgement import Assignment, Judgement
from keel.preferences.store import PreferenceStore, StaleJudgementError

from .tables import item


@pytest.fixture
def store(tmp_path: Path) -> Iterator[PreferenceStore]:
    """Three items; ann has all of them, bob the first."""
    with PreferenceStore.open(tmp_path / "preferences.db") as store:
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
    assert [each.left[0].content for each in asked] == ["y two", "x one", "3"]
    assert [each.right[0].content for each in asked] == ["y one", "x two", "2"]
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


def test_the_database_itself_refuses_changes(store: PreferenceStore, tmp_path: Path) -> None:
    store.record(store.ask("ann", 1)[0].press(1))
    raw = sqlite3.connect(tmp_path / "preferences.db")
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        raw.execute("UPDATE judgements SET pressed = 3")
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        raw.execute("DELETE FROM judgements")
    raw.close()
    assert [said.pressed for said in store.judgements()] == [1]


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
    with pytest.raises(UserError, match="database URL cannot be used"):
        PreferenceStore.open("nosuch+driver://somewhere/db")


def test_sqlite_is_set_up_as_it_must_be(store: PreferenceStore) -> None:
    with store._engine.connect() as connection:
        asked = ("journal_mode", "foreign_keys", "synchronous", "busy_timeout")
        found = {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in asked}
    assert found == {"journal_mode": "wal", "foreign_keys": 1, "synchronous": 2, "busy_timeout": 30_000}


def test_six_thousand_judgements_in_two_seconds(tmp_path: Path) -> None:
    names = [f"a{number}" for number in range(6)]
    with PreferenceStore.open(tmp_path / "preferences.db") as store:
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
        assert seconds < 2


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


def writer(path: Path, name: str, rival: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", WRITER, str(path), name, rival], stdout=subprocess.PIPE, text=True)


def test_several_processes_lose_and_double_nothing(tmp_path: Path) -> None:
    path, names, items = tmp_path / "preferences.db", ["a", "b", "c"], [item(f"i{n}") for n in range(50)]
    with PreferenceStore.open(path) as store:
        store.add_items(items)
        for name in [*names, "both"]:
            store.add_annotator(name)
        store.assign(Assignment(each.id, name, (0, 1)) for each in items for name in [*names, "both"])
    running = [writer(path, name, rival=name) for name in names]
    outputs = [process.communicate(timeout=120)[0].split() for process in running]
    assert [process.returncode for process in running] == [0] * 3
    with PreferenceStore.open(path) as store:
        history = store.history()
    assert Counter(said.annotator for said in history) == dict.fromkeys([*names, "both"], 50)
    assert all(said.note == said.annotator for said in history if said.annotator != "both")
    # the three raced for the same 50 revisions: each went to one, who was told so
    assert sum(int(words[-1]) for words in outputs) == 50
    assert Counter(said.note for said in history if said.annotator == "both") == Counter(
        {name: int(words[-1]) for name, words in zip(names, outputs, strict=True) if words[-1] != "0"}
    )


def test_a_writer_that_reads_first_waits_for_its_rival(store: PreferenceStore, tmp_path: Path) -> None:
    """Without BEGIN IMMEDIATE it would read, wait, and then be refused because what it read is out of date."""
    rival = sqlite3.connect(tmp_path / "preferences.db", isolation_level=None)
    rival.execute("BEGIN IMMEDIATE")
    rival.execute("INSERT INTO annotators (name, role) VALUES ('cat', 'annotator')")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(store.add_annotator, "cat")
        time.sleep(0.3)
        assert not waiting.done()
        rival.execute("COMMIT")
        waiting.result(timeout=20)
    rival.close()
    assert list(store.annotators()) == ["ann", "bob", "cat"]


def test_a_new_file_can_be_opened_by_several_at_once(tmp_path: Path) -> None:
    script = (
        "import sys; from keel.preferences.store import PreferenceStore as S; S.open(sys.argv[1]).add_annotator('x')"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "preferences.db")]
    running = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait(timeout=60) for process in running] == [0] * 3


def test_a_killed_process_loses_nothing_that_it_recorded(tmp_path: Path) -> None:
    path, items = tmp_path / "preferences.db", [item(f"i{n}") for n in range(3000)]
    with PreferenceStore.open(path) as store:
        store.add_items(items)
        store.add_annotator("a")
        store.add_annotator("both")
        store.assign(Assignment(each.id, "a", (0, 1)) for each in items)
    process = writer(path, "a", rival="a")
    assert process.stdout is not None
    told = [process.stdout.readline().strip() for _ in range(25)]
    process.send_signal(signal.SIGKILL)
    told += process.stdout.read().split()
    process.wait(timeout=60)
    process.stdout.close()
    assert process.returncode == -signal.SIGKILL
    assert 25 <= len(told) < 3000
    with PreferenceStore.open(path) as store:
        kept = [said.item for said in store.judgements()]
        assert kept[: len(told)] == told
        assert len(kept) - len(told) <= 1  # at most the one that was recorded but not yet announced
        assert store.ask("a", 1)[0].assignment.item == f"i{len(kept)}"
