"""`keel labels export` and `keel labels import`, as they are called."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from keel import cli
from keel.data.formats import read_comparisons, read_preferences
from keel.preferences.aggregate import STEP, to_preferences
from keel.preferences.dawid_skene import dawid_skene
from keel.preferences.desk import Desk
from keel.preferences.judgement import Assignment, Judgement, collect
from keel.preferences.leases import Verdict
from keel.preferences.people import People
from keel.preferences.store import PreferenceStore
from tests.preferences.tables import item
from tests.preferences.test_labels_files import SAID, long, nested, raw, wide, write

PAGE = (Path(__file__).parents[1] / "docs" / "annotators.md").read_text(encoding="utf-8")
SECTION = PAGE[PAGE.index("## Labels in and out") :].partition("\n## ")[0]
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", SECTION, re.DOTALL) for line in block.splitlines()]
DATA = Path(__file__).parents[2] / "shared" / "data"
VERDICTS = {
    "ada": [-3, 1, 0, 2, -1, 1], "bob": [-2, 1, 0, -1, -1, 3], "cyd": [-1, 2, 1, 2, None, 1], "eve": [3, 3, 3, 3, 3, 3],
}  # fmt: skip


def fill(place: Path) -> None:
    """Six pairs judged by four people, of whom eve is excluded; ada has thought again, and undone her last word."""
    with PreferenceStore.open(place) as store:
        store.add_items([item(str(number)) for number in range(6)])
        for who, pressed in VERDICTS.items():
            store.add_annotator(who)
            store.assign(Assignment(str(n), who, (n % 2, 1 - n % 2)) for n in range(6))
            for n, button in enumerate(pressed):
                kind: Any = "skip" if button is None else "comparison"
                store.record(Judgement(str(n), who, (n % 2, 1 - n % 2), kind, button, served=10.0, submitted=12.5 + n))
        first, *_, last = (said for said in store.judgements() if said.annotator == "ada")
        store.record(first.edit(-2, note="second thoughts", submitted=99.0))
        store.record(last.withdraw(100.0))
        People(store.database).set_state("eve", "excluded", "bob", "always 3")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run, a database beside it, and a table of votes."""
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    fill(tmp_path / "runs" / "mine" / "preferences.db")
    fill(tmp_path / "team.labels.db")
    write(tmp_path / "votes.csv", long())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ran(capsys: pytest.CaptureFixture[str], line: str) -> str:
    """What a command line that must succeed prints."""
    status = cli.run(["labels", *shlex.split(line)])
    out, err = capsys.readouterr()
    assert (status, err) == (0, "")
    return out


def refused(capsys: pytest.CaptureFixture[str], line: str) -> str:
    status = cli.run(["labels", *shlex.split(line)])
    out, err = capsys.readouterr()
    assert (status, out, err.count("\n")) == (2, "", 1)
    return err.removeprefix("keel: error: ").strip()


def state(place: str | Path) -> list[Any]:
    with PreferenceStore.open(place) as store:
        return [
            store.items(),
            store.history(),
            store.annotators(),
            store.assignments(),
            People(store.database).states(),
        ]


def test_the_commands_of_the_page(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(COMMANDS) >= 6
    for line in COMMANDS:
        assert line.startswith("keel labels ")
        ran(capsys, line.removeprefix("keel labels "))
    assert {path.name for path in folder.glob("[!.]*")} >= {
        "pairs.jsonl",
        "pairs.parquet",
        "judgements.jsonl",
        "copy.labels.db",
    }
    # every column of the exports is named there, but for those of a judgement, the texts, and who wrote them
    for name in ("pairs.parquet", "judgements.jsonl"):
        rows = pq.read_table(name).to_pylist() if name.endswith("parquet") else lines(Path(name))
        others = {"item", "first", "second", "annotator", "kind", "order", "revision", "note", "reason", "guideline"}
        others |= {"served", "seen", "submitted", "answers"}
        others |= {f"{place}_{what}" for place in ("first", "second") for what in ("answer", "model", "version")}
        named = rows[0].keys() - others
        assert len(named) >= 8
        assert [column for column in named if f"`{column}`" not in SECTION] == []


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("flags", ["", "--no-names"])
def test_an_export_has_the_agreement_of_its_database(
    flags: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ran(capsys, f"export team.labels.db --what raw --out raw.parquet {flags}")
    found = [
        json.loads(ran(capsys, f"{command} {source} --json"))
        for source in ("team.labels.db", "raw.parquet")
        for command in ("agreement", "aggregate --method dawid-skene")
    ]
    names = {"eve": None, "ada": "annotator-1", "bob": "annotator-2", "cyd": "annotator-3"} if flags else {}
    for database, file in (found[0::2], found[1::2]):
        expected = json.dumps({**database, "file": "raw.parquet", "form": "judgements"})
        for name, alias in names.items():
            expected = expected.replace(f'"{name}"', f'"{alias}"')
        assert file == json.loads(expected)
    assert found[0]["annotators"] == 3
    assert found[0]["votes"] == 16  # 3 · 6, without the one that was skipped and the one that was undone


def test_preferences_are_those_that_a_run_would_train_on(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with PreferenceStore.open("team.labels.db") as store:
        wanted = to_preferences(store.items(), dawid_skene(collect(store.counted())), "drop", STEP)
    for out in ("pairs.jsonl", "pairs.parquet"):
        told = json.loads(ran(capsys, f"export team.labels.db --method dawid-skene --ties drop --out {out} --json"))
        assert (told["rows"], told["preferences"], told["annotators"]) == (len(wanted), len(wanted), 3)
        assert (told["not_counted"], told["declined"], told["method"]) == (6, {"skip": 1}, "dawid-skene")
        back = list(read_preferences(out))
        assert [(one.prompt, one.chosen, one.rejected, one.probability, one.margin) for one in back] == [
            (one.prompt, one.chosen, one.rejected, one.probability, one.margin) for one in wanted
        ]
    page = ran(capsys, "export team.labels.db --out pairs.jsonl")
    assert "wrote 6 rows to pairs.jsonl: 3 annotators, 6 items" in page
    assert "left out: 6 judgements by excluded people, or of gold items and repeats" in page
    assert "keel reward --model PATH --data pairs.jsonl" in page
    printed = ran(capsys, "export team.labels.db")
    assert printed == Path("pairs.jsonl").read_text(encoding="utf-8")


def test_a_pair_by_hand(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Item 3 stood with its second answer on the left: ada and cyd pressed 2, bob −1."""
    for out in ("pairs.jsonl", "pairs.parquet"):
        ran(capsys, f"export team.labels.db --what aggregated --method mean --out {out}")
    assert lines(Path("pairs.jsonl")) == pq.read_table("pairs.parquet").to_pylist()
    (row,) = [row for row in lines(Path("pairs.jsonl")) if row["item"] == "3"]
    turn = {"role": "assistant", "content": "3 one"}
    assert row == {
        "item": "3", "first": 0, "second": 1, "probability": pytest.approx(2 / 3), "tied": False,
        "votes": 3, "votes_first": 2, "votes_tie": 0, "votes_second": 1,
        "annotators": ["ada", "bob", "cyd"], "strength": pytest.approx((-2 + 1 - 2) / 3),
        "prompt": [{"role": "user", "content": "prompt of 3"}],
        "first_answer": [turn], "second_answer": [{**turn, "content": "3 two"}],
        "first_model": "model", "second_model": "model", "first_version": 3, "second_version": 3,
    }  # fmt: skip


def test_rankings_beside_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with PreferenceStore.open(tmp_path / "v.db") as store:
        store.add_items([item("two"), item("three", "x", "y", "z")])
        store.add_annotator("ada")
        store.assign([Assignment("two", "ada", (0, 1)), Assignment("three", "ada", (2, 1, 0))])
        store.record(
            Judgement("two", "ada", (0, 1), "comparison", -3),
            Judgement("three", "ada", (2, 1, 0), "ranking", order=(1, 0, 2)),
        )
    for out in (tmp_path / "c.jsonl", tmp_path / "c.parquet"):
        told = json.loads(ran(capsys, f"export {tmp_path}/v.db --rankings --out {out} --json"))
        assert (told["rows"], told["preferences"], told["rankings"]) == (2, 1, 1)
        pair, ranking = read_comparisons(out)
        assert (pair.margin, pair.chosen[0].content) == (1.0, "two one")  # type: ignore[union-attr]
        assert [one[0].content for one in ranking.completions] == ["y", "x", "z"]  # type: ignore[union-attr]
    assert (
        json.loads(ran(capsys, f"export {tmp_path}/v.db --out {out} --json"))["rows"] == 4
    )  # three pairs of a ranking


def forms() -> Iterator[tuple[str, list[Any]]]:
    yield from (("wide", wide()), ("long", long()), ("nested", nested()), ("judgements", raw()))


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".csv", ".parquet"])
def test_labels_of_every_form_come_in_once(suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for form, rows in forms():
        file, place = write(tmp_path / f"{form}{suffix}", rows), tmp_path / f"{form}.db"
        told = json.loads(ran(capsys, f"import {file} --to {place} --json"))
        assert (told["form"], told["items"], told["judgements"]) == (form, 3, len(SAID))
        assert (told["new_items"], told["new_judgements"], told["new_annotators"]) == (3, len(SAID), 3)
        assert told["seconds_left_out"] == (len(SAID) if form == "nested" else 0)
        before = state(place)
        again = json.loads(ran(capsys, f"import {file} --to {place} --json"))
        assert (again["new_items"], again["new_judgements"], again["new_annotators"]) == (0, 0, 0)
        assert state(place) == before
        assert "new: nothing\n" in ran(capsys, f"import {file} --to {place}")
        with PreferenceStore.open(place) as store:
            called = "" if form == "judgements" else f"{form}:"
            assert {(s.item.removeprefix(called), s.annotator): s.strength for s in store.counted()} == SAID
            assert [one.prompt[0].content for one in store.items()] == ["Why?", "How?", "Who?"]
            assert set(store.annotators().values()) == {"imported"}


def test_a_file_that_has_grown_adds_what_is_new(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = raw()
    for count, new in ((2, "new: 1 item and 2 judgements"), (6, "new: 2 items and 4 judgements")):
        write(tmp_path / "v.jsonl", rows[:count])
        assert new in ran(capsys, f"import {tmp_path}/v.jsonl --to {tmp_path}/v.db --as crowd")
    assert {said.item for said in state(tmp_path / "v.db")[1]} == {"crowd:1", "crowd:2", "crowd:3"}


def test_a_database_takes_its_own_export_as_nothing_new(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ran(capsys, "export team.labels.db --what raw --out raw.jsonl")
    before = state("team.labels.db")
    assert "new: nothing\n" in ran(capsys, "import raw.jsonl --to team.labels.db")
    assert state("team.labels.db") == before


def test_who_is_excluded_later_is_so_in_the_copy_too(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for who, counted in (("eve", {"ada", "bob", "cyd"}), ("cyd", {"ada", "bob"})):
        with PreferenceStore.open("team.labels.db") as store:
            People(store.database).set_state(who, "excluded", "bob", "")
        ran(capsys, "export team.labels.db --what raw --out raw.jsonl")
        ran(capsys, "import raw.jsonl --to copy.db")
        with PreferenceStore.open("copy.db") as store:
            assert {said.annotator for said in store.counted()} == counted


def test_items_without_a_vote_come_in_and_people_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [*wide(), {**wide()[0], "id": "4", "annotator1": None, "annotator2": None, "annotator3": None}]
    write(tmp_path / "v.jsonl", rows)
    page = ran(capsys, f"import {tmp_path}/v.jsonl --to {tmp_path}/v.db --k 2")
    assert "4 items and 7 judgements; new: 4 items and 7 judgements\n" in page
    assert "waiting for people from now on: 4 items\n" in page
    assert f"keel label {tmp_path}/v.db" in page
    with PreferenceStore.open(tmp_path / "v.db") as store:
        desk = Desk(store.database)
        assert desk.waiting() == 8
        store.add_annotator("ada")
        (served,) = desk.serve("ada")
        desk.submit("ada", served.token, Verdict(pressed=1))
        assert desk.waiting() == 7
        assert len(store.counted()) == len(SAID) + 1


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"pressed": 3}, "is in the database already, otherwise; nothing there is ever changed"),
        ({"answers": ["other", "texts"]}, "is in the database already with other texts; give the file's items a name"),
        ({"revision": 3}, "revision 2 of 'annotator1' on item '3' is missing; give the whole history."),
        ({"annotator": "ada"}, "'ada' is annotator in this database, so labels cannot come in under that name"),
        ({"note": "\0"}, "a name or note holds a character that is no text"),
        ({"prompt": [{"role": "ghost", "content": ""}]}, "the role 'ghost' is none of"),
        ({"answers": ["a"]}, "'answers' should be a list of 2 or more"),
        ({"answers": None}, "an item has no texts, and votes are kept beside them"),
        ({"models": ["m"]}, "'models' should be a list of 2, as 'answers' is"),
        ({"state": "gone"}, "state 'gone' is none of 'active', 'paused', 'excluded'"),
        ({"purpose": "gold"}, "a gold item's 'expected' should be -1, 0 or 1"),
        ({"item": "5", "purpose": "repeat", "repeats": "4"}, "item '5' repeats '4', which is not there"),
    ],
)  # fmt: skip
def test_one_sentence_and_nothing_half_imported(
    change: dict[str, Any], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The last row of the file is wrong, or not as the database has it; before it there is a new item."""
    rows = [{**raw()[0], "item": "new"}, {**next(row for row in raw() if row["item"] == "3"), **change}]
    write(tmp_path / "known.jsonl", raw())
    ran(capsys, f"import {tmp_path}/known.jsonl --to {tmp_path}/v.db")
    with PreferenceStore.open(tmp_path / "v.db") as store:
        store.add_annotator("ada")
    before = state(tmp_path / "v.db")
    write(tmp_path / "bad.jsonl", rows)
    assert sentence in refused(capsys, f"import {tmp_path}/bad.jsonl --to {tmp_path}/v.db")
    assert state(tmp_path / "v.db") == before


def test_refusals(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no such run or database" in refused(capsys, "export nowhere.db")
    assert "this folder holds no preferences.db" in refused(capsys, "export runs")
    assert not Path("nowhere.db").exists()
    assert "leave --method out" in refused(capsys, "export team.labels.db --what raw --method mean")
    assert "about preferences" in refused(capsys, "export team.labels.db --what aggregated --ties drop")
    assert "name it with --out" in refused(capsys, "export team.labels.db --json")
    assert "let it end in .jsonl or .parquet" in refused(capsys, "export team.labels.db --out pairs.csv")
    assert "invalid choice" in refused(capsys, "export team.labels.db --what all")
    with PreferenceStore.open("none.db"):
        pass
    for what in ("raw", "preferences"):
        assert "nobody has judged anything yet" in refused(capsys, f"export none.db --what {what}")
    assert "required" in refused(capsys, "import votes.csv")
    assert "somebody has to judge" in refused(capsys, "import votes.csv --to new.db --k 0")
    assert "write a file with `keel labels export" in refused(capsys, "import team.labels.db --to new.db")
    assert "--as: '' is no name" in refused(capsys, "import votes.csv --to new.db --as ''")
    Path("bare.csv").write_text("item,annotator,label\n1,kim,a\n", encoding="utf-8")
    assert "the answers of the items cannot be found" in refused(capsys, "import bare.csv --to new.db")
    assert "does not exist; create it first" in refused(capsys, "import votes.csv --to nowhere/new.db")
    assert not Path("new.db").exists()


@pytest.mark.skipif(
    not (DATA / "pandalm-testset-v1.json").is_file(), reason="shared/data/pandalm-testset-v1.json is not here"
)
def test_pandalm_goes_through_a_database(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In, out as raw, and measured there: the published κ still."""
    told = json.loads(ran(capsys, f"import {DATA}/pandalm-testset-v1.json --to {tmp_path}/p.db --json"))
    assert (told["new_items"], told["new_judgements"], told["new_annotators"]) == (999, 2997, 3)
    ran(capsys, f"export {tmp_path}/p.db --what raw --out {tmp_path}/p.jsonl")
    found = json.loads(ran(capsys, f"agreement {tmp_path}/p.jsonl --json --resamples 20"))
    assert sorted(round(each["value"], 3) for each in found["cohen_pairs"]) == [0.852, 0.862, 0.879]
    assert (round(found["fleiss"]["value"], 3), round(found["unanimous"]["value"], 3)) == (0.864, 0.880)
