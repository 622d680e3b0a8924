"""Data files as people have them: good rows with something wrong, in every format, then damaged as bytes."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

Row = dict[str, Any]

ODD = (
    "",
    " ",
    "\n",
    "\x00",
    "a\x00b",
    "\ufeffa",
    "a\u2028b",
    "a\r\nb\rc",
    "\x85",
    '"quoted"',
    "a,b;c\td",
    "é\u0301 \U0001f600",
    "1",
    "1e5",
    "NaN",
    "null",
    "true",
    "[1, 2]",
    '{"a": 1}',
    "=1+1",
    "\x1b[31mred",
    "-",
    "~",
    "Human:",
    "ab\u202ec",
    "x" * 3000,
)
"""Texts that some tool on the way reads as something else."""

texts = st.sampled_from(ODD) | st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
halves = st.sampled_from(("\ud83d", "a\udc80b", "\ud800\ud800"))
"""Half a surrogate pair: JSON can write it, UTF-8 cannot."""
numbers = (
    st.sampled_from((0, -1, 1, 2**63, -(2**63) - 1, 10**30, 0.1, -0.0, 1e308, 5e-324)) | st.integers() | st.floats()
)


roles = st.sampled_from(
    ("user", "assistant", "system", "tool", "User", "gpt", "human", "", "nobody\n", None, 3, ["user"])
)
junk = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
depths = st.sampled_from((3, 50, 400, 900, 960, 990, 3000)).map("@deep{}@".format)
"""Stands for lists in lists in lists, which the standard library can no longer write."""


def message(role: Any, content: Any) -> Row:
    return {"role": role, "content": content}


plain = texts.filter(str.strip)
talks = st.lists(texts, min_size=1, max_size=4).map(
    lambda said: [message(("user", "assistant")[place % 2], text) for place, text in enumerate(said)]
)
parts = st.lists(texts.map(lambda text: {"type": "text", "text": text}) | texts | junk, max_size=3)
odd_talks = st.lists(
    st.builds(message, roles, texts | junk | parts)
    | st.builds(lambda who, said: {"from": who, "value": said}, roles, texts)
    | st.builds(lambda said: message("assistant", said) | {"tool_calls": [1]}, texts)
    | junk,
    max_size=4,
)
transcripts = st.lists(texts, min_size=2, max_size=4).map(
    lambda said: "".join(f"\n\n{('Human', 'Assistant')[place % 2]}: {text}" for place, text in enumerate(said))
)
values = texts | junk | odd_talks | talks | transcripts | talks.map(json.dumps) | depths


@dataclass(frozen=True)
class Kind:
    """A kind of data: good rows, and the columns that its readers look at."""

    good: st.SearchStrategy[Row]
    names: tuple[str, ...]


demonstrations = Kind(
    st.fixed_dictionaries({"prompt": plain, "completion": plain})
    | st.fixed_dictionaries({"instruction": plain, "input": texts, "output": plain, "system": texts})
    | st.fixed_dictionaries({"question": plain, "answer": plain})
    | st.fixed_dictionaries({"messages": talks}),
    ("prompt", "completion", "response", "output", "answer", "messages", "conversations", "instruction", "input",
     "question", "system"),
)  # fmt: skip
preferences = Kind(
    st.fixed_dictionaries(
        {"prompt": plain, "chosen": plain, "rejected": plain},
        optional={"probability": st.floats(0, 1), "margin": st.floats(0, 9)},
    )
    | st.fixed_dictionaries({"chosen": talks, "rejected": talks})
    | st.fixed_dictionaries({"chosen": transcripts, "rejected": transcripts}),
    ("prompt", "chosen", "rejected", "probability", "margin", "question", "system"),
)
rankings = Kind(
    st.lists(plain, min_size=2, max_size=4).flatmap(
        lambda answers: st.fixed_dictionaries(
            {"prompt": plain, "completions": st.just(answers)},
            optional={"scores": st.lists(numbers, min_size=len(answers), max_size=len(answers))},
        )
    ),
    ("prompt", "completions", "responses", "ranks", "scores", "instruction", "input", "system"),
)
prompts = Kind(
    st.fixed_dictionaries({"prompt": plain}, optional={"id": st.integers() | texts, "level": junk})
    | st.fixed_dictionaries({"messages": talks}),
    ("prompt", "messages", "id", "instruction", "input", "question", "system", "level"),
)
labels = Kind(
    st.fixed_dictionaries(
        {
            "instruction": plain,
            "input": texts,
            "response1": plain,
            "response2": plain,
            "annotator1": st.sampled_from((0, 1, 2, "0", "1", "", None)),
            "annotator2": st.sampled_from((0, 1, 2, 2.0)),
        }
    ),
    ("instruction", "input", "response1", "response2", "annotator1", "annotator2", "idx"),
)


@st.composite
def faulty(draw: st.DrawFn, kind: Kind) -> Row:
    """A good row in which up to three things are wrong."""
    row = dict(draw(kind.good))
    for _ in range(draw(st.integers(0, 3))):
        name = draw(st.sampled_from([*row, *kind.names, "extra", "a\nb", ""]))
        match draw(st.sampled_from(("drop", "null", "replace", "replace", "rename", "half"))):
            case "drop":
                row.pop(name, None)
            case "null":
                row[name] = None
            case "replace":
                row[name] = draw(values)
            case "rename":
                row[draw(st.sampled_from((name.upper(), name + " ", name[:-1], draw(texts))))] = row.pop(name, "x")
            case "half":
                row[name] = draw(halves)
    return row


def rows(kind: Kind) -> st.SearchStrategy[list[Row]]:
    """Rows of one file: most of them good, of one shape or of several."""
    return st.lists(kind.good | kind.good | faulty(kind), min_size=1, max_size=4)


# Rows to bytes


def deepened(data: bytes) -> bytes:
    return re.sub(rb'"@deep(\d+)@"', lambda found: b"[" * int(found[1]) + b"]" * int(found[1]), data)


def jsonl(rows: list[Row]) -> bytes:
    return deepened("".join(json.dumps(row) + "\n" for row in rows).encode())


def jsonl_raw(rows: list[Row]) -> bytes:
    """As other programs write it: not escaped, with Windows' line ends and without the last."""
    lines = (json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass") for row in rows)
    return deepened(b"\r\n".join(lines))


def json_list(rows: list[Row]) -> bytes:
    return deepened(json.dumps(rows, indent=1).encode())


def json_object(rows: list[Row]) -> bytes:
    return deepened(json.dumps({"version": "1", "rows": rows}).encode())


def csv_table(rows: list[Row]) -> bytes:
    """Every column that any row has; what is no text goes in as JSON, null as nothing."""
    file = io.StringIO(newline="")
    header = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.writer(file, quoting=csv.QUOTE_ALL)
    writer.writerow(header)
    for row in rows:
        writer.writerow([_cell(row.get(name)) for name in header])
    return deepened(file.getvalue().encode("utf-8", "surrogatepass"))


def _cell(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)


def parquet(rows: list[Row]) -> bytes:
    """What Arrow can hold of the rows: columns that mix kinds go in as JSON, and half a surrogate pair is lost."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    file = pa.BufferOutputStream()
    try:
        pq.write_table(pa.table({name: _column([row.get(name) for row in rows]) for name in names}), file)
    except pa.ArrowNotImplementedError:  # a struct without fields
        file = pa.BufferOutputStream()
        pq.write_table(pa.table({name: _texts([row.get(name) for row in rows]) for name in names}), file)
    return file.getvalue().to_pybytes()


def _column(values: list[Any]) -> pa.Array:
    try:
        return pa.array(values)
    except (pa.ArrowException, UnicodeEncodeError, OverflowError):
        return _texts(values)


def _texts(values: list[Any]) -> pa.Array:
    texts = [None if value is None else value if isinstance(value, str) else json.dumps(value) for value in values]
    return pa.array([None if text is None else text.encode("utf-8", "replace").decode() for text in texts])


WRITERS: dict[str, tuple[str, Callable[[list[Row]], bytes]]] = {
    "jsonl": (".jsonl", jsonl),
    "jsonl raw": (".ndjson", jsonl_raw),
    "json": (".json", json_list),
    "json object": (".json", json_object),
    "csv": (".csv", csv_table),
    "parquet": (".parquet", parquet),
}
SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".parquet", ".JSONL", ".txt", "", ".json.gz", ".pkl")


@st.composite
def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    """The bytes, with up to two of them changed, cut off, doubled, or read under another encoding."""
    for _ in range(draw(st.integers(0, 2))):
        place = draw(st.integers(0, len(data)))
        match draw(st.sampled_from(("cut", "head", "flip", "insert", "double", "encode", "mark", "lines", "key"))):
            case "cut":
                data = data[:place]
            case "head":
                data = data[place:]
            case "flip" if place < len(data):
                data = data[:place] + bytes([data[place] ^ draw(st.integers(1, 255))]) + data[place + 1 :]
            case "insert":
                data = data[:place] + draw(st.sampled_from(FRAGMENTS)) + data[place:]
            case "double":
                data = data[:place] + data
            case "encode":
                data = data.decode("latin-1").encode(
                    draw(st.sampled_from(("utf-16", "utf-16-be", "utf-8-sig", "utf-32")))
                )
            case "mark":
                data = b"\xef\xbb\xbf" + data
            case "lines":
                data = data.replace(b"\n", draw(st.sampled_from((b"\r\n", b"\r", b"\n\n", b"\n\xe2\x80\xa8"))))
            case "key":  # a second key of the name of the first
                data = data.replace(b'", "', b'", "prompt": "again", "', 1)
    return data


FRAGMENTS = (
    b"\x00", b"\xff", b"\xc3", b"\n", b"\r", b'"', b"\\", b"\\ud800", b"{", b"}", b"[", b"]", b",", b"[" * 2000,
    b'{"a":' * 2000, b"9" * 5000, b"1e999", b"NaN", b"-Infinity", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"x" * 200_000,
    b'"prompt": "twice", ', b"PAR1",
)  # fmt: skip


# What a file says, read once more without Keel


def said_in(value: Any) -> Iterator[Any]:
    """Every text, number and truth value in there, keys left out; without recursion, as values may be deep."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            waiting += one.values()
        elif isinstance(one, list | tuple):
            waiting += one
        elif one is not None:
            yield one


def tellings(row: Row) -> set[str]:
    """Every text that a reader may make of the row without changing a letter of it."""
    said: set[str] = set()
    for value in said_in(row):
        if isinstance(value, str):
            said.add(value)
            said |= set(_inside(value))
        elif isinstance(value, bool | int | float) and math.isfinite(value):
            said.add(json.dumps(value))
    for value in list(row.values()):
        for one in _messages(value):
            content = one.get("content", one.get("value"))
            if isinstance(content, list):
                texts = [part.get("text") if isinstance(part, dict) else part for part in content]
                said.add("".join(text for text in texts if isinstance(text, str)))
    heads = {text for name in row for text in said_in(row[name]) if isinstance(text, str)}
    heads |= {json.dumps(value) for value in row.values() if isinstance(value, bool | int | float)}
    return said | {f"{one}\n\n{other}" for one in heads for other in heads if len(one) + len(other) < 9000}


def _messages(value: Any) -> list[Row]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return []
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _inside(text: str) -> Iterator[str]:
    """Texts that stand in a text: the turns of a transcript, or messages that are JSON."""
    yield text.strip()
    yield from (piece.strip() for piece in re.split(r"(?:\A\s*|\n\n)(?:Human|Assistant):", text))
    if text.lstrip().startswith("["):
        try:
            listed = json.loads(text)
        except (ValueError, RecursionError):
            return
        for value in said_in(listed):
            yield value if isinstance(value, str) else json.dumps(value)
        for one in _messages(listed):
            content = one.get("content", one.get("value"))
            if isinstance(content, list):
                texts = [part.get("text") if isinstance(part, dict) else part for part in content]
                yield "".join(text for text in texts if isinstance(text, str))
