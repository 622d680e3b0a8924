"""What goes out comes in again: store → export → store, whatever was said, in both formats."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as some

from keel import cli
from keel.data.formats import read_comparisons, read_preferences, read_rankings
from keel.data.table import write_table
from keel.errors import UserError
from keel.preferences.aggregate import STEP, majority, to_preferences
from keel.preferences.desk import Desk
from keel.preferences.exporting import (
    PREFERENCES,
    RANKINGS,
    RAW,
    preference_rows,
    pseudonyms,
    ranking_rows,
    rankings,
    raw_rows,
)
from keel.preferences.judgement import Assignment, Judgement, collect
from keel.preferences.leases import Rules, Verdict
from keel.preferences.merging import merge
from keel.preferences.store import PreferenceStore
from keel.preferences.votes_file import read_votes
from keel.preferences.votes_file.history import read_history

from .desk_kit import Office, office
from .tables import item

PEOPLE = ("ada", " bob ", "Zoë 🦊")
BUDGET = settings(
    max_examples=12,
    suppress_health_check=[HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # an example takes too long to look for smaller ones
)
texts = some.text(some.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=12)
times = some.none() | some.floats(0, 4e9)


Said = tuple[Any, ...]


@some.composite
def histories(draw: some.DrawFn) -> list[Said]:
    """Up to three revisions by each of some people about each of some items, of which the third has three answers.

    The fields of judgements, as the checks of types that run while judgements are made draw random numbers.
    """
    said: list[Said] = []
    for id, who in draw(some.lists(some.tuples(some.sampled_from("abc"), some.sampled_from(PEOPLE)), unique=True)):
        shown = tuple(draw(some.permutations(range(3 if id == "c" else 2))))
        for revision in range(1, draw(some.integers(1, 3)) + 1):
            kind = draw(
                some.sampled_from([("comparison", "ranking")[id == "c"], "both_bad", "skip", "flag", "withdrawn"])
            )
            pressed = draw(some.integers(-3, 3)) if kind == "comparison" else None
            order = tuple(draw(some.permutations(shown))) if kind == "ranking" else None
            words, when = draw(some.tuples(texts, texts, texts)), draw(some.tuples(times, times, times))
            note, guideline, reason = words
            said.append((id, who, shown, kind, pressed, note, guideline, *when[:2], revision, order, when[2], reason))
    turns: dict[Said, list[Said]] = {}
    for one in said:
        turns.setdefault(one[:2], []).append(one)
    # the histories are mixed, each in its own order
    return [turns[one[:2]].pop(0) for one in draw(some.permutations(said))]


def filled(place: str | Path, history: list[Judgement], excluded: tuple[str, ...] = ()) -> PreferenceStore:
    store = PreferenceStore.open(place)
    store.add_items([item("a"), item("b", "[1, 2]", "null"), item("c", "x", "y", "z")])
    for who in PEOPLE:
        store.add_annotator(who)
    store.assign(
        {(one.item, one.annotator): Assignment(one.item, one.annotator, one.shown) for one in history}.values()
    )
    for one in history:
        store.record(one)
    for who in excluded:
        Office(store, Rules(), 0).people.set_state(who, "excluded", "eve", "")
    return store


@BUDGET
@given(histories(), some.sets(some.sampled_from(PEOPLE), max_size=1), some.sampled_from((".jsonl", ".parquet")))
def test_a_store_comes_back_from_its_export(drawn: list[Said], excluded: set[str], suffix: str) -> None:
    """History and what counts of it, twice over: the second time nothing is new."""
    history = [Judgement(*one) for one in drawn]
    with TemporaryDirectory() as folder, filled(f"{folder}/one.db", history, tuple(excluded)) as store:
        if not history:
            assert raw_rows(store) == []
            return
        write_table(Path(folder, f"out{suffix}"), raw_rows(store), RAW)
        found = read_history(Path(folder, f"out{suffix}"))
        with PreferenceStore.open(f"{folder}/two.db") as other:
            for new in (len(history), 0):
                assert merge(other.database, found).judgements == new
                assert other.history() == store.history() == history
                assert other.judgements() == store.judgements()
                assert other.counted() == store.counted()
            judged = {one.item for one in history}
            assert {one.id: one for one in other.items()} == {one.id: one for one in store.items() if one.id in judged}
            assert set(other.annotators().values()) == {"imported"}


@BUDGET
@given(histories())
def test_both_formats_hold_the_same(drawn: list[Said]) -> None:
    history = [Judgement(*one) for one in drawn]
    with TemporaryDirectory() as folder, filled(f"{folder}/one.db", history) as store:
        rows = raw_rows(store)
        for suffix in (".jsonl", ".parquet"):
            write_table(Path(folder, f"out{suffix}"), rows, RAW)
        lines = Path(folder, "out.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
        assert [json.loads(line) for line in lines] == pq.read_table(Path(folder, "out.parquet")).to_pylist() == rows


def mixed(place: str) -> Office:
    """Ordinary items, a gold one and repeats, judged at the desk by ada, bob and eve, of whom eve is excluded."""
    made = Office(PreferenceStore.open(place), Rules(gold_share=0.2, repeat_share=0.4, repeat_after=1), 3)
    made.hire("ada", "bob", "eve")
    made.stock("a", "b", "c", "d", "e", "f", wanted=3)
    made.store.add_items([item("known")])
    made.desk.enqueue_gold(item("known"), -1)
    chance = Random(1)
    for _ in range(30):
        for who in ("ada", "bob", "eve"):
            for served in made.desk.serve(who):
                made.clock.now += 7.25
                made.desk.submit(who, served.token, Verdict(pressed=chance.randint(-3, 3), note=f"by {who}"), "1")
    made.people.set_state("eve", "excluded", "bob", "spam")
    return made


def test_gold_repeats_and_the_excluded_stay_what_they_are(places: Callable[[], str], tmp_path: Path) -> None:
    made = mixed(places())
    with made.store as store, PreferenceStore.open(places()) as other:
        purposes = {row["item"]: row["purpose"] for row in raw_rows(store)}
        assert set(purposes.values()) == {"ordinary", "gold", "repeat"}
        rows = [row for row in raw_rows(store) if row["purpose"] == "ordinary"]
        assert all(row["selection"] == "random" and 0 < row["propensity"] <= 1 for row in rows)
        write_table(tmp_path / "out.parquet", raw_rows(store), RAW)
        merged = merge(other.database, read_history(tmp_path / "out.parquet"))
        assert other.history() == store.history()
        assert other.counted() == store.counted()
        assert {row["item"]: row["purpose"] for row in raw_rows(other)} == purposes
        counted = {(said.item, said.annotator) for said in other.counted()}
        assert {who for _, who in counted} == {"ada", "bob"}
        assert {purposes[id] for id, _ in counted} == {"ordinary"}
        # people are at work there by the gold items, so the ordinary ones wait for them
        assert merged.waiting == sum(purpose == "ordinary" for purpose in purposes.values())


def test_a_database_is_read_as_its_export_is(tmp_path: Path) -> None:
    """What excluded people say, and what is said of gold items and repeats, is no vote in either."""
    made = mixed(str(tmp_path / "votes.db"))
    with made.store as store:
        write_table(tmp_path / "out.jsonl", raw_rows(store), RAW)
        named, aliases = raw_rows(store), pseudonyms(store)
        write_table(tmp_path / "hidden.jsonl", raw_rows(store, aliases), RAW)
        assert len(store.counted()) < len(store.judgements())
        expected = tuple(store.counted())
    read = read_votes(tmp_path / "votes.db")
    assert read.judgements == read_votes(tmp_path / "out.jsonl").judgements == expected
    hidden = read_votes(tmp_path / "hidden.jsonl").judgements
    assert aliases == {"ada": "annotator-1", "bob": "annotator-2", "eve": "annotator-3"}
    assert hidden == tuple(replace(said, annotator=aliases[said.annotator]) for said in expected)
    texts = [json.dumps({**row, "note": ""}) for row in raw_rows_of(tmp_path / "hidden.jsonl")]
    assert not any(f"{who}" in text for who in ("ada", "bob", "eve") for text in texts)
    assert len(texts) == len(named)


def raw_rows_of(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_only_checks_are_no_votes(tmp_path: Path) -> None:
    with office(str(tmp_path / "v.db")) as made:
        made.hire("ada")
        made.store.add_items([item("known")])
        made.desk.enqueue_gold(item("known"), 1)
        desk = Desk(made.database, Rules(gold_share=1.0))
        (served,) = desk.serve("ada")
        desk.submit("ada", served.token, Verdict(pressed=2))
    with pytest.raises(UserError, match=r"v\.db: the 1 judgements so far are by excluded people, or of gold items"):
        read_votes(tmp_path / "v.db")


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_preferences_are_read_back_as_they_were(suffix: str, tmp_path: Path) -> None:
    made = mixed(str(tmp_path / "votes.db"))
    with made.store as store:
        for ties in ("keep", "drop"):
            wanted = to_preferences(store.items(), majority(collect(store.counted())), ties, STEP)  # type: ignore[arg-type]
            write_table(tmp_path / f"pairs{suffix}", preference_rows(wanted), PREFERENCES)
            back = read_preferences(tmp_path / f"pairs{suffix}")
            assert list(back) == [replace(one, votes=()) for one in wanted]
            assert (back.dropped, back.notes, back.unused) == ((), (), ())


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_rankings_are_read_back_best_first(suffix: str, tmp_path: Path) -> None:
    history = [
        Judgement("c", "ada", (2, 0, 1), "ranking", order=(1, 2, 0)),
        Judgement("c", " bob ", (0, 1, 2), "ranking", order=(0, 1, 2)),
        Judgement("a", "ada", (0, 1), "comparison", 2),
    ]
    with filled(tmp_path / "v.db", history) as store:
        ranked = rankings(store.items(), store.counted())
    assert [[one[0].content for one in each.completions] for each in ranked] == [["y", "z", "x"], ["x", "y", "z"]]
    write_table(tmp_path / f"r{suffix}", ranking_rows(ranked), RANKINGS)
    assert list(read_rankings(tmp_path / f"r{suffix}")) == list(read_comparisons(tmp_path / f"r{suffix}")) == ranked


def test_the_commands_take_a_database_wherever_it_is(
    places: Callable[[], str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two, out = places(), places(), str(tmp_path / "raw.parquet")
    mixed(one).store.close()
    assert cli.run(["labels", "export", one, "--what", "raw", "--out", out]) == 0
    assert cli.run(["labels", "import", out, "--to", two, "--as", "crowd"]) == 0
    with PreferenceStore.open(one) as store, PreferenceStore.open(two) as other:
        assert other.history() == [replace(said, item=f"crowd:{said.item}") for said in store.history()]
        assert other.counted() == [replace(said, item=f"crowd:{said.item}") for said in store.counted()]
    assert capsys.readouterr().err == ""
