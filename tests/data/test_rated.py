"""Single answers, each good or bad, from every shape of row that is accepted, and the sentence for every other one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from keel.data.formats import are_rated, read_rated
from keel.errors import UserError
from keel.types import Conversation, Message, Rated


def written(folder: Path, content: Sequence[dict[str, Any]], name: str = "rows.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in content), encoding="utf-8")
    return path


def user(text: str) -> Conversation:
    return (Message("user", text),)


def assistant(text: str) -> Conversation:
    return (Message("assistant", text),)


HI = {"prompt": "Hi", "completion": "Ho"}
TURNS = {"prompt": [{"role": "user", "content": "Hi"}], "completion": [{"role": "assistant", "content": "Ho"}]}


@pytest.mark.parametrize(
    ("label", "good"),
    [
        (True, True), (False, False), (1, True), (0, False), (1.0, True), (0.0, False),
        ("true", True), ("False", False), ("1", True), ("0", False), (" TRUE ", True),
    ],
)  # fmt: skip
def test_what_a_label_may_be(label: Any, good: bool, tmp_path: Path) -> None:
    rows = read_rated(written(tmp_path, [HI | {"label": label}]))
    assert rows.items == (Rated(user("Hi"), assistant("Ho"), good),)
    assert (rows.read, rows.dropped, rows.notes, rows.unused) == (1, (), (), ())


@pytest.mark.parametrize(
    "row",
    [
        HI,
        TURNS,
        {"prompt": "Hi", "response": "Ho"},
        {"instruction": "Hi", "output": "Ho"},
        {"question": "Hi", "answer": "Ho"},
    ],
)
def test_where_prompt_and_answer_may_stand(row: dict[str, Any], tmp_path: Path) -> None:
    path = written(tmp_path, [row | {"label": True, "source": "web"}])
    assert are_rated(path)
    rows = read_rated(path)
    assert rows.items == (Rated(user("Hi"), assistant("Ho"), True),)
    assert rows.unused == ("source",)


def test_names_of_ones_own(tmp_path: Path) -> None:
    path = written(tmp_path, [{"q": "Hi", "a": "Ho", "thumb": 0}])
    columns = {"prompt": "q", "completion": "a", "label": "thumb"}
    assert are_rated(path, columns)
    assert not are_rated(path)
    assert read_rated(path, columns).items == (Rated(user("Hi"), assistant("Ho"), False),)
    with pytest.raises(UserError, match="has no column 'thumbs'"):
        are_rated(path, {"label": "thumbs"})
    with pytest.raises(UserError, match="'chosen' is no column of this kind"):
        read_rated(path, columns | {"chosen": "a"})


def test_a_table_of_cells(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("prompt,completion,label\nHi,Ho,True\nHa,He,0\n", encoding="utf-8")
    assert are_rated(path)
    assert [row.desirable for row in read_rated(path)] == [True, False]


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        (HI | {"label": "maybe"}, "'label' should be true or false, not 'maybe'; correct the row."),
        (HI | {"label": 0.5}, "'label' should be true or false, not '0.5'"),
        (HI | {"label": -1}, "'label' should be true or false, not '-1'"),
        (HI | {"label": [True]}, "'label' should be a text or a number, not a list"),
        (HI | {"label": None}, r"a rated answer needs 'prompt', 'completion' and 'label'; .*\(null: 'label'\)"),
        (HI | {"label": ""}, "a rated answer needs"),
        (HI, "a rated answer needs"),
        (HI | {"lable": True}, "did you mean 'label'"),
        ({"prompt": "Hi", "label": True}, "a rated answer needs"),
        ({"completion": "Ho", "label": True}, "a rated answer needs"),
        ({"prompt": "Hi", "completion": 5.5e400, "label": 1}, "should be a text"),
    ],
)
def test_a_row_of_the_wrong_shape(row: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    path = written(tmp_path, [HI | {"label": True}, row])
    with pytest.raises(UserError, match=sentence) as caught:
        read_rated(path)
    assert str(caught.value).startswith(f"{path}:2: ")
    assert "\n" not in str(caught.value)


def test_what_is_dropped_and_what_is_only_noted(tmp_path: Path) -> None:
    empty = {"prompt": " ", "completion": "Ho", "label": True}
    silent = {"prompt": "Hi", "completion": " ", "label": False}
    rows = read_rated(written(tmp_path, [empty, silent]))
    assert rows.items == (Rated(user("Hi"), assistant(" "), False),)
    assert [one.reason for one in rows.dropped] == ["empty prompt"]
    assert [one.reason for one in rows.notes] == ["empty answer among those rated"]
    with pytest.raises(UserError, match="no row is left of 1"):
        read_rated(written(tmp_path, [empty]))


@pytest.mark.parametrize(
    ("row", "single"),
    [
        (HI | {"label": True}, True),
        (HI, True),  # the label is forgotten, which reading says
        ({"prompt": "Hi", "label": True}, True),
        ({"prompt": "Hi", "chosen": "a", "rejected": "b"}, False),
        ({"prompt": "Hi", "chosen": "a", "rejected": "b", "label": 1}, False),
        ({"prompt": "Hi", "completions": ["a", "b"]}, False),
        ({"prompt": "Hi", "responses": ["a", "b"], "answer": "a"}, False),
        (HI | {"label": None}, True),
        ({"prompt": "Hi"}, False),
    ],
)
def test_pairs_are_told_from_single_answers(row: dict[str, Any], single: bool, tmp_path: Path) -> None:
    """By the first row."""
    path = written(tmp_path, [row, HI | {"label": True, "chosen": "a"}])
    assert are_rated(path) is single


def test_no_rows(tmp_path: Path) -> None:
    for read in (are_rated, read_rated):
        with pytest.raises(UserError, match="the file is empty"):
            read(written(tmp_path, []))
