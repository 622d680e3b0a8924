"""Votes in every form that people keep them in: one small crowd, written in each of them, is the same crowd."""

import csv
import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from keel.data.place import DATABASE
from keel.errors import UserError
from keel.preferences.judgement import Judgement, collect
from keel.preferences.merging import merge
from keel.preferences.store import PreferenceStore
from keel.preferences.votes_file import Named, parse_meaning, read_votes
from keel.preferences.votes_file.history import read_history

from .tables import PANDALM

Row = Mapping[str, Any]

# item, prompt, first, second, who said what
CROWD = [
    ("1", "Why?", "Because.", "No.", {"annotator1": 1, "annotator2": 2, "annotator3": 0}),
    ("2", "How?", "Thus.", "So.", {"annotator1": 2, "annotator2": 2}),
    ("3", "Who?", "Me.", "You.", {"annotator1": 0, "annotator3": 1}),
]
STRENGTH = {0: 0, 1: -1, 2: 1}
SAID = {(item, who): STRENGTH[cell] for item, *_, cells in CROWD for who, cell in cells.items()}


def wide() -> list[Row]:
    people = ("annotator1", "annotator2", "annotator3")
    return [
        {"id": item, "prompt": prompt, "response1": first, "response2": second}
        | {who: cells.get(who) for who in people}
        for item, prompt, first, second, cells in CROWD
    ]


def long() -> list[Row]:
    return [
        {"item": item, "prompt": prompt, "first": first, "second": second, "annotator": who, "label": cell}
        for item, prompt, first, second, cells in CROWD
        for who, cell in cells.items()
    ]


def nested() -> list[Row]:
    word = {0: "equal", 1: "a1", 2: "a2"}
    return [
        {"pair": item, "question": prompt, "a": first, "b": second}
        | {"votes": [{"annotator": who, "choice": word[cell], "seconds": 3.5} for who, cell in cells.items()]}
        for item, prompt, first, second, cells in CROWD
    ]


def raw() -> list[Row]:
    return [
        {"item": item, "annotator": who, "shown": [1, 0], "kind": "comparison", "pressed": -STRENGTH[cell]}
        | {"revision": 1, "served": 10.0, "submitted": 13.5, "prompt": prompt, "answers": [first, second]}
        for item, prompt, first, second, cells in CROWD
        for who, cell in cells.items()
    ]


def write(path: Path, rows: Sequence[Row]) -> Path:
    """As the suffix says."""
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(lines.encode()))
    elif path.suffix == ".jsonl":
        path.write_text(lines, encoding="utf-8")
    elif path.suffix == ".json":
        path.write_text(json.dumps(list(rows)), encoding="utf-8")
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), path)
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, list(rows[0]))
            table.writeheader()
            for row in rows:
                table.writerow({k: json.dumps(v) if isinstance(v, list) else v for k, v in row.items()})
    return path


def said_in(judgements: Sequence[Judgement]) -> dict[tuple[str, str], int]:
    return {(said.item, said.annotator): said.strength for said in judgements}


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".parquet", ".jsonl.gz"])
@pytest.mark.parametrize(
    ("form", "rows"),
    [("wide", wide), ("long", long), ("nested", nested), ("judgements", raw)],
    ids=lambda x: getattr(x, "__name__", x),
)
def test_one_crowd_in_every_form_and_format(form: str, rows: Any, suffix: str, tmp_path: Path) -> None:
    found = read_votes(write(tmp_path / f"votes{suffix}", rows()))
    assert (found.form, found.texts, found.sides) == (form, True, form == "judgements")
    assert said_in(found.judgements) == SAID
    assert [item.id for item in found.items] == ["1", "2", "3"]
    for item, (_, prompt, *answers, _) in zip(found.items, CROWD, strict=True):
        assert [turn.content for turn in item.prompt] == [prompt]
        assert [answer.messages[0].content for answer in item.answers] == answers
    expected = {"wide": None, "long": None, "nested": 3.5, "judgements": 3.5}[form]
    assert found.seconds == (expected,) * len(SAID)


def test_a_database_and_the_folder_of_a_run(tmp_path: Path) -> None:
    labels = read_history(
        write(tmp_path / "t.jsonl", [{"idx": r["id"], "instruction": "", "input": "", **r} for r in wide()]), PANDALM
    )
    with PreferenceStore.open(tmp_path / DATABASE) as store:
        merge(store.database, labels)
    for place in (tmp_path / DATABASE, tmp_path):
        found = read_votes(place)
        assert found.form == "database"
        assert {(item.removeprefix("t:"), who): s for (item, who), s in said_in(found.judgements).items()} == SAID
    with pytest.raises(UserError, match="needs no names of columns"):
        read_votes(tmp_path, Named(id="x"))


def test_columns_and_verdicts_of_the_users_own(tmp_path: Path) -> None:
    rows = [{"nr": 7, "ask": "Q", "more": "", "x": "a", "y": "b", "kim": "links", "lee": "rechts"}]
    values = {"links": parse_meaning("-2"), "rechts": parse_meaning("second"), "egal": parse_meaning("tie")}
    named = Named(("ask", "more"), "x", "y", ("kim", "lee"), "nr", values=values)
    found = read_votes(write(tmp_path / "v.csv", rows), named)
    assert said_in(found.judgements) == {("7", "kim"): -2, ("7", "lee"): 1}
    assert found.items[0].prompt[0].content == "Q"


def test_sides_are_those_of_the_file(tmp_path: Path) -> None:
    """`left` names the answer on the left, `side` says where the first stood; left and right are places."""
    rows = [
        {"item": 1, "annotator": "kim", "label": "first", "left": "second"},
        {"item": 2, "annotator": "kim", "label": "left", "left": "second"},
        {"item": 3, "annotator": "kim", "label": "right", "left": "first"},
        {"item": 4, "annotator": "kim", "label": "tie", "left": "first"},
    ]
    votes = collect(read_votes(write(tmp_path / "v.jsonl", rows)).judgements)
    assert list(zip(votes.strength.tolist(), votes.side.tolist(), strict=True)) == [(-1, -1), (1, -1), (1, 1), (0, 1)]
    sided = [{**row, "side": {"first": "left", "second": "right"}[row["left"]]} for row in rows]
    again = read_votes(write(tmp_path / "w.jsonl", [{k: v for k, v in row.items() if k != "left"} for row in sided]))
    assert again.sides
    assert [(said.strength, said.shown) for said in again.judgements] == [
        (-1, (1, 0)), (1, (1, 0)), (1, (0, 1)), (0, (0, 1)),
    ]  # fmt: skip


def test_verdicts_that_compare_nothing_are_counted(tmp_path: Path) -> None:
    rows = [{"item": i, "annotator": "kim", "label": w} for i, w in enumerate(["first", "both_bad", "Skip", "flag"])]
    assert collect(read_votes(write(tmp_path / "v.jsonl", rows)).judgements).declined == {
        "both_bad": 1, "skip": 1, "flag": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("cells", "strengths"),
    [
        ((0, 1, 2), (0, -1, 1)),
        ((1, 2, 1), (-1, 1, -1)),
        ((-3, 0, 2), (-3, 0, 2)),
        (("A", "tie", "B"), (-1, 0, 1)),
        (("model_a", "model_b", "a1"), (-1, 1, -1)),
        ((1.0, "2", "+2", "1.0"), (-1, 1, 1, -1)),
    ],
)
def test_what_verdicts_mean_by_themselves(cells: Sequence[object], strengths: Sequence[int], tmp_path: Path) -> None:
    rows = [{"item": number, "annotator": "kim", "label": cell} for number, cell in enumerate(cells)]
    found = read_votes(write(tmp_path / "v.jsonl", rows))
    assert [said.strength for said in found.judgements] == list(strengths)


def test_numbers_are_not_guessed(tmp_path: Path) -> None:
    """0 and 1 mean the first and the second as often as a tie and the first, unless the answers are called 1 and 2."""
    rows = [{"item": number, "annotator": "kim", "label": number} for number in (0, 1)]
    with pytest.raises(UserError, match=r"v\.jsonl:1: the verdicts '0', '1' may mean .* --values 0=tie"):
        read_votes(write(tmp_path / "v.jsonl", rows))
    told = read_votes(tmp_path / "v.jsonl", Named(values={"0": -1, "1": 1}))
    assert [said.strength for said in told.judgements] == [-1, 1]
    named = [{**row, "response1": "x", "response2": "y"} for row in rows]
    assert [said.strength for said in read_votes(write(tmp_path / "w.jsonl", named)).judgements] == [0, -1]


def test_the_last_revision_counts_and_an_undone_one_does_not(tmp_path: Path) -> None:
    base = {"item": "1", "annotator": "kim", "shown": "0 1", "note": "", "kind": "comparison", "extra": "x"}
    rows = [
        {**base, "pressed": -3, "revision": 1},
        {**base, "pressed": 2, "revision": 2},
        {**base, "item": "2", "pressed": 1, "revision": 1},
        {**base, "item": "2", "kind": "withdrawn", "pressed": "", "revision": 2},
        {**base, "item": "3", "kind": "skip", "pressed": "", "revision": 1},
    ]
    found = read_votes(write(tmp_path / "v.csv", rows))
    assert [(said.item, said.kind, said.pressed) for said in found.judgements] == [
        ("1", "comparison", 2), ("3", "skip", None),
    ]  # fmt: skip
    assert not found.texts
    assert len({answer.messages for item in found.items for answer in item.answers}) == 4  # each like no other


def test_rankings_of_several_answers(tmp_path: Path) -> None:
    row = {"item": "1", "annotator": "kim", "shown": [2, 0, 1], "kind": "ranking", "pressed": None, "order": [0, 2, 1]}
    found = read_votes(write(tmp_path / "v.jsonl", [{**row, "revision": 1}]))
    votes = collect(found.judgements)
    said = {(pair.first, pair.second): strength for pair, strength in zip(votes.pairs, votes.strength, strict=True)}
    assert said == {(0, 1): -1, (0, 2): -1, (1, 2): 1}
    assert len(found.items[0].answers) == 3


def test_a_row_per_vote_without_ids_is_told_apart_by_its_texts(tmp_path: Path) -> None:
    rows = [{name: value for name, value in row.items() if name != "item"} for row in long()]
    found = read_votes(write(tmp_path / "v.jsonl", rows))
    assert (len(found.items), len(found.judgements)) == (3, 7)


GOOD = {"item": 1, "annotator": "kim", "label": "first"}
RAW = {"item": "1", "annotator": "kim", "shown": [0, 1], "kind": "comparison", "pressed": 1, "revision": 1}


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([GOOD, GOOD], r"v.jsonl:2: 'kim' has judged item '1' already \(.*v.jsonl:1\); keep one of the two votes."),
        ([GOOD, {**GOOD, "item": 2, "label": "perhaps"}], r"v.jsonl:2: the verdict 'perhaps' has no known meaning"),
        ([GOOD, {"item": 2, "annotator": "kim"}], r"v.jsonl:2: there is no 'label'; there are 'item', 'annotator'."),
        ([GOOD, {**GOOD, "item": ""}], r"v.jsonl:2: 'item' is empty; say which item the row is about."),
        ([GOOD, {**GOOD, "annotator": None}], r"v.jsonl:2: 'annotator' is empty beside a verdict; say who gave it."),
        ([GOOD, {**GOOD, "label": ["first"]}], r"v.jsonl:2: 'label' holds a list where a text or number is needed"),
        ([{**GOOD, "left": "middle"}], r"v.jsonl:1: the verdict 'middle' has no known meaning"),
        ([{**GOOD, "side": "up"}], r"v.jsonl:1: 'side' holds 'up'; write where the first answer stood, left or right."),
        ([{**GOOD, "seconds": -1}], r"v.jsonl:1: 'seconds' holds '-1' where a number of seconds is needed; correct"),
        ([{**GOOD, "label": ""}], r"v.jsonl: holds no vote in 1 rows; give a file in which somebody has judged."),
        ([{"text": "hello"}], r"v.jsonl:1: the votes cannot be found among the columns 'text'; name the"),
        ([{"annotator": "kim", "label": "a"}], r"v.jsonl:1: no column of .* says which item a vote is about"),
        ([{"id": 1, "rater1": "a"}, {"id": 1, "rater1": "b"}], r"v.jsonl:2: item '1' stands in .*:1 already;.*--id -"),
        ([{"id": 1, "votes": [{"annotator": "kim"}]}], r"v.jsonl:1: a vote in 'votes': there is no 'label' among"),
        ([{**GOOD, "first": "x", "second": "y"}, {**GOOD, "annotator": "lee", "first": "z", "second": "y"}],
         r"v.jsonl:2: item '1' has other texts than in .*v.jsonl:1; name another column of ids with --id."),
        ([{**GOOD, "first": None, "second": "y"}], r"v.jsonl:1: column 'first' holds null where a text is needed"),
        ([RAW, RAW], r"v.jsonl:2: revision 1 of 'kim' on item '1' stands in .*v.jsonl:1 already; keep one of them."),
        ([{**RAW, "kind": "guess"}], r"v.jsonl:1: kind 'guess' is none of 'comparison'"),
        ([{**RAW, "pressed": None}], r"v.jsonl:1: is no judgement \(item 1: kind 'comparison' with pressed None\)"),
        ([{**RAW, "pressed": "far"}], r"v.jsonl:1: 'pressed' holds 'far' where a number is needed; correct the row."),
        ([{**RAW, "shown": [1, 1]}], r"v.jsonl:1: 'shown' should be two different answers, as in \[0, 1\]"),
        ([{**RAW, "annotator": ""}], r"v.jsonl:1: 'item' or 'annotator' is empty; say who judged what."),
        ([{**RAW, "answers": ["one"]}], r"v.jsonl:1: 'answers' should be a list of 2 or more; correct the row."),
    ],
)  # fmt: skip
def test_one_sentence_with_place_and_remedy(rows: list[Row], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=sentence):
        read_votes(write(tmp_path / "v.jsonl", rows))


@pytest.mark.parametrize(
    ("named", "sentence"),
    [
        (Named(id="itm"), r"there is no column 'itm' \(did you mean 'item'\?\); the columns are"),
        (Named(label="lable"), r"there is no column 'lable' \(did you mean 'label'\?\)"),
        (Named(annotators=("kim",)), r"there is no column 'kim'"),
        (Named(first="item"), r"one answer's column is named and the other's is not; give both --first and --second."),
        (Named(votes="label"), r"column 'label' holds no list of votes in any row; name the column that does."),
        (Named(values={"second": 1}), r"the verdict 'first' has no known meaning; give it a meaning beside those of"),
    ],
)
def test_names_that_are_wrong(named: Named, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=sentence):
        read_votes(write(tmp_path / "v.jsonl", [GOOD]), named)


def test_files_that_are_none(tmp_path: Path) -> None:
    whole = gzip.compress(json.dumps(GOOD).encode() * 100)
    (tmp_path / "cut.jsonl.gz").write_bytes(whole[:-20])
    with pytest.raises(UserError, match=r"cut\.jsonl\.gz: is no whole gzip file \(.*\); pack or fetch it again"):
        read_votes(tmp_path / "cut.jsonl.gz")
    (tmp_path / "plain.jsonl.gz").write_text(json.dumps(GOOD))
    with pytest.raises(UserError, match=r"plain\.jsonl\.gz: is no whole gzip file"):
        read_votes(tmp_path / "plain.jsonl.gz")
    (tmp_path / "x.db").write_bytes(b"SQLite format 3\x00" + b"\x01" * 200)
    with pytest.raises(UserError, match=r"x\.db: cannot be read"):
        read_votes(tmp_path / "x.db")
    with PreferenceStore.open(tmp_path / "none.db"):
        pass
    with pytest.raises(UserError, match=r"none\.db: nobody has judged anything yet"):
        read_votes(tmp_path / "none.db")
    with pytest.raises(UserError, match="is no meaning of a verdict"):
        parse_meaning("4")
