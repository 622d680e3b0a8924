"""Data files: rows come back as they were written and are all accounted for, or one sentence says what is wrong."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keel.data.formats import (
    Rows,
    read_comparisons,
    read_demonstrations,
    read_preferences,
    read_prompts,
    read_rankings,
)
from keel.errors import UserError
from keel.preferences.votes_file.history import History, read_history
from keel.preferences.votes_file.words import cell_text
from keel.types import Conversation, Demonstration, Preference, Prompt, Ranking
from preferences.tables import PANDALM

from . import files
from .budget import cases

READERS: dict[str, tuple[Callable[..., Rows[Any]], files.Kind]] = {
    "demonstrations": (read_demonstrations, files.demonstrations),
    "preferences": (read_preferences, files.preferences),
    "rankings": (read_rankings, files.rankings),
    "comparisons": (read_comparisons, files.Kind(files.preferences.good | files.rankings.good, files.rankings.names)),
    "prompts": (read_prompts, files.prompts),
}
LABELS = (*PANDALM.prompt, str(PANDALM.first), str(PANDALM.second))
PICKLE = b"cos\nsystem\n(S'false'\ntR."
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
LONGEST = 2000
"""Characters of a sentence, the path in it left out."""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


def sentence(error: UserError, path: Path) -> str:
    """What was said, which must be one line that names the file."""
    said = str(error)
    assert not UNPRINTABLE.search(said), said
    assert said.startswith(str(path)), said
    assert 20 < len(said.replace(str(path), "")) < LONGEST, said
    assert said.endswith(".")
    return said


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def conversations(item: Any) -> list[Conversation]:
    match item:
        case Demonstration(messages):
            return [messages]
        case Preference(prompt, chosen, rejected):
            return [prompt, chosen, rejected]
        case Ranking(prompt, completions):
            return [prompt, *completions]
        case Prompt(_, messages):
            return [messages]
    raise AssertionError(item)


def check_kept(item: Any) -> None:
    """What no kept row may lack."""
    for turns in conversations(item):
        assert turns
        for turn in turns:
            assert turn.role in ("system", "user", "assistant", "tool")
            turn.content.encode()  # raises for what no file could hold
    asked, *answers = conversations(item)
    assert any(turn.content.strip() for turn in asked if turn.role != "system")
    match item:
        case Demonstration():
            assert all(turn.content.strip() for turn in asked if turn.role == "assistant")
            assert any(turn.role == "assistant" for turn in asked)
        case Preference():
            assert item.chosen != item.rejected
            assert 0 <= item.probability <= 1
            assert 0 <= item.margin < float("inf")
        case Ranking():
            assert len(set(answers)) == len(answers) >= 2
        case Prompt():
            item.id.encode()
    assert all(turns[0].role == "assistant" for turns in answers)


def check_rows(rows: Rows[Any], found: list[files.Row]) -> None:
    """Every row that the file has was read, and what is kept stands in one of them, to the letter."""
    assert rows.read == len(rows.items) + len(rows.dropped) == len(found)
    assert "\n" not in rows.summary()
    lost = {remark.where for remark in rows.dropped}
    assert len(lost) == len(rows.dropped)
    told = [files.tellings(row) for row in found]
    place = 0
    for item in rows.items:
        check_kept(item)
        texts = {turn.content for turns in conversations(item) for turn in turns}
        while not texts <= told[place]:  # it was dropped, unless no later row holds the texts either
            place += 1
            assert place < len(told), texts
        place += 1


def reread(path: Path) -> list[files.Row] | None:
    """The rows of a text file, by the plainest means; None where there are none to be had."""
    try:
        if path.suffix == ".parquet":
            return list(pq.read_table(path).to_pylist())
        text = path.read_bytes().decode("utf-8-sig")
        match path.suffix.lower():
            case ".jsonl" | ".ndjson":
                rows = [json.loads(line) for line in text.split("\n") if line.strip()]
            case ".json":
                whole = json.loads(text)
                if isinstance(whole, dict):
                    (whole,) = [value for value in whole.values() if isinstance(value, list)]
                rows = list(whole)
            case ".csv":
                rows = [dict(zip(*both, strict=True)) for both in _table(text)]
            case _:
                return None
    except (ValueError, RecursionError, OSError, csv.Error):
        return None
    return rows if all(isinstance(row, dict) for row in rows) else None


def _table(text: str) -> Iterator[tuple[list[str], list[str]]]:
    csv.field_size_limit(10**9)
    header, *body = csv.reader(io.StringIO(text, newline=""))
    return ((header, cells) for cells in body if cells)


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("format", files.WRITERS)
@cases(30)
@given(data=st.data())
def test_rows_with_something_wrong(name: str, format: str, folder: Path, data: st.DataObject) -> None:
    read, kind = READERS[name]
    suffix, write = files.WRITERS[format]
    rows = data.draw(files.rows(kind))
    path = written(folder / f"data{suffix}", write(rows))
    try:
        found = read(path)
    except UserError as error:
        sentence(error, path)
        return
    check_rows(found, reread(path) or rows)


@pytest.mark.parametrize("name", READERS)
@cases(120)
@given(data=st.data())
def test_damaged_files(name: str, folder: Path, data: st.DataObject) -> None:
    read, kind = READERS[name]
    suffix, write = files.WRITERS[data.draw(st.sampled_from([one for one in files.WRITERS if one != "parquet"]))]
    suffix = data.draw(st.just(suffix) | st.sampled_from(files.SUFFIXES))
    path = written(folder / f"data{suffix}", data.draw(files.damaged(write(data.draw(files.rows(kind))))))
    try:
        found = read(path)
    except UserError as error:
        sentence(error, path)
        return
    again = reread(path)
    assert again is not None
    check_rows(found, again)


@pytest.mark.parametrize("name", READERS)
@cases(25)
@given(data=st.data())
def test_damaged_parquet(name: str, folder: Path, data: st.DataObject) -> None:
    read, kind = READERS[name]
    path = written(folder / "data.parquet", data.draw(files.damaged(files.parquet(data.draw(files.rows(kind))))))
    try:
        found = read(path)
    except UserError as error:
        sentence(error, path)
        return
    for item in found:
        check_kept(item)


@cases(150)
@given(data=st.data())
def test_labels(folder: Path, data: st.DataObject) -> None:
    suffix, write = files.WRITERS[data.draw(st.sampled_from(list(files.WRITERS)))]
    rows = data.draw(files.rows(files.labels))
    for number, row in enumerate(rows):
        row.setdefault("idx", number)
    whole = write(rows)
    path = written(folder / f"data{suffix}", whole if suffix == ".parquet" else data.draw(files.damaged(whole)))
    try:
        found = read_history(path, PANDALM)
    except UserError as error:
        sentence(error, path)
        return
    check_labels(found, reread(path) or rows)


def check_labels(found: History, rows: list[files.Row]) -> None:
    assert len(found.items) == len(rows) == len({item.id for item in found.items})
    votes = [row[name] for row in rows for name in PANDALM.annotators]
    assert len(found.judgements) == sum(cell_text(vote) != "" for vote in votes)
    for item, row in zip(found.items, rows, strict=True):
        texts = [row[name] if isinstance(row[name], str) else json.dumps(row[name]) for name in LABELS]
        assert item.prompt[0].content == "\n\n".join(text for text in texts[:2] if text)
        assert [answer.messages[0].content for answer in item.answers] == texts[2:]
        assert all("nan" not in text.lower() for name, text in zip(LABELS, texts, strict=True) if text != row[name])
        "".join(texts).encode()


# Where the data should be


NOWHERE = (
    "",
    " ",
    "nowhere.jsonl",
    "nowhere/data.jsonl",
    "~nobody-of-this-name/data.jsonl",
    "a" * 300 + ".jsonl",
    "Write a note about the bake sale. " * 20,
    "b/" * 3000 + "c.json",
    "loop.jsonl",
    "dangling.csv",
    "good.jsonl/more.jsonl",
    "a\x00b.jsonl",
    "x\ny.parquet",
    "\udcff.jsonl",
    "data.pkl",
    "no-suffix",
    "datasets:",
    "datasets:good.jsonl",
    "datasets:saved",
    "saved",
    "links",
    "empty",
    "pipe.jsonl",
    "hidden",
    "\x1b[31m.csv",
    "-",
    "*.jsonl",
    "http://x/y.jsonl",
)


@pytest.fixture(scope="module")
def odd(folder: Path) -> Path:
    """A folder with every kind of thing that a path may lead to."""
    odd = folder / "odd"
    for name in ("links", "empty", "saved", "hidden/.git", "looped"):
        (odd / name).mkdir(parents=True)
    row = b'{"prompt": "Hi"}\n'
    written(odd / "good.jsonl", row)
    written(odd / "hidden" / ".git" / "a.jsonl", row)
    written(odd / "looped" / "a.jsonl", row)
    (odd / "looped" / "again").symlink_to(odd / "looped")
    (odd / "loop.jsonl").symlink_to(odd / "loop.jsonl")
    (odd / "dangling.csv").symlink_to(odd / "nowhere.csv")
    (odd / "links" / "gone.parquet").symlink_to(odd / "nowhere.parquet")
    written(odd / "links" / "here.jsonl", row)
    written(odd / "data.pkl", PICKLE)
    written(odd / "saved" / "state.json", b"[]")
    written(odd / "saved" / "dataset_info.json", b"{")
    os.mkfifo(odd / "pipe.jsonl")
    return odd


@pytest.mark.parametrize("name", NOWHERE)
def test_what_is_no_data(name: str, odd: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: Any) -> None:
        raise ConnectionError("there is no network here")

    monkeypatch.chdir(odd)
    monkeypatch.setattr(datasets, "load_dataset_builder", unreachable)
    with pytest.raises(UserError) as caught:
        read_prompts(name)
    said = str(caught.value)
    assert not UNPRINTABLE.search(said)
    assert 20 < len(said) < LONGEST
    assert said.endswith(".")


def test_a_folder_that_links_to_itself_is_read_once(odd: Path) -> None:
    assert len(read_prompts(odd / "looped")) == 1


@pytest.fixture(scope="module")
def saved(folder: Path) -> Path:
    """As `Dataset.save_to_disk` leaves it."""
    datasets.disable_progress_bars()
    table = datasets.Dataset.from_list([{"prompt": text, "level": {"a": [1]}} for text in ("one", "two", "three")])
    table.save_to_disk(str(folder / "whole"))
    return folder / "whole"


@cases(25)
@given(data=st.data())
def test_damaged_saved_data_sets(saved: Path, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory(dir=saved.parent) as copy:
        path = Path(copy) / "saved"
        shutil.copytree(saved, path)
        file = data.draw(st.sampled_from(sorted(path.iterdir())))
        if data.draw(st.booleans()):
            written(file, data.draw(files.damaged(file.read_bytes())))
        else:
            told = json.loads(file.read_text()) if file.suffix == ".json" else {}
            name = data.draw(st.sampled_from([*told, "_data_files", "features"]))
            written(
                file, json.dumps(data.draw(files.junk | st.builds(lambda one: told | {name: one}, files.junk))).encode()
            )
        try:
            found = read_prompts(path)
        except UserError as error:
            sentence(error, path)
            return
        assert 0 < len(found) <= 3
