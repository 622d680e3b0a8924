"""Files to records: JSONL, JSON, CSV (also packed, as .gz), Parquet, a folder of these, or a saved or public dataset.

A record is what one row held, with the place to look at when something is wrong with it:
`train.jsonl:7` (line 7), `train.csv:7`, `train.json:7` (lines count from 1), or
`train.parquet, row 6` (rows count from 0, as pandas shows them). Nothing is ever unpickled, and what a format allows
but a row would lose (a key that is given twice) is an error.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pyarrow as pa  # type: ignore[import-untyped, unused-ignore]
import pyarrow.parquet as pq  # type: ignore[import-untyped, unused-ignore]

from keel.data import hub, packed
from keel.data.place import neighbour, place, short
from keel.errors import UserError

Value = object
_BOM = b"\xef\xbb\xbf"
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")
_SPACE = re.compile(r"[ \t\r\n]*")
_HALF = re.compile(r"[\ud800-\udfff]")
_HALF_ESCAPED = re.compile(r"\\u[dD][89a-fA-F]")
_MOST_NAMES = 20
_DATASET_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?(#[\w.-]+)?(:[\w\[\]:%+.-]+)?")


@dataclass(frozen=True)
class Record:
    """One row as it was read, and where it stands."""

    fields: dict[str, Value]
    where: str


def records(source: str | Path) -> Iterator[Record]:
    """Every row of `source`, in order; a folder's files in the order of their names.

    `source` is a file (`.jsonl`, `.ndjson`, `.json`, `.csv`, `.parquet`, `.jsonl.gz`), a folder (all such files in
    it and below it, each folder once; hidden ones and other kinds are left alone), a folder written by
    `Dataset.save_to_disk`, or a dataset's name: `datasets:NAME`, `datasets:NAME:SPLIT`,
    `datasets:NAME#CONFIG:SPLIT`, or the same without `datasets:` where no such path exists.

    Raises UserError, in one sentence with the place, for whatever cannot be read.
    """
    if isinstance(source, str) and source.startswith("datasets:"):
        return _from_dataset(source.removeprefix("datasets:"))
    path = place(source)
    if path.is_dir():
        return _from_dataset(str(path)) if hub.is_saved(path) else _from_folder(path)
    if path.exists():
        return _from_file(path)
    if isinstance(source, str) and _may_be_a_dataset(source, path):
        hint = "" if "/" in source else _neighbour(path)
        return _from_dataset(source, f"no file or folder is called '{source}'{hint}, and ")
    if path.is_symlink():
        raise UserError(f"{source}: is a link that leads to no file; mend it, or give the path of the data itself.")
    raise UserError(f"{source}: no such file or folder{_neighbour(path)}; give the path of a data file that exists.")


def _may_be_a_dataset(source: str, path: Path) -> bool:
    """A name without a data suffix whose folder part is not a folder here: `imdb`, `org/name:test`."""
    in_a_folder_here = "/" in source and path.parent.is_dir()
    like_a_file = re.fullmatch(r"\.[a-z]{2,8}", path.suffix.lower())
    return bool(_DATASET_NAME.fullmatch(source)) and not like_a_file and not in_a_folder_here


def _neighbour(path: Path) -> str:
    if not path.parent.is_dir():
        return f" (the folder {path.parent} does not exist either)"
    return neighbour(path)


def _from_dataset(spec: str, before: str = "") -> Iterator[Record]:
    for label, index, fields in hub.rows(spec, before):
        yield Record(fields, f"{label}, row {index}")


def _from_folder(folder: Path) -> Iterator[Record]:
    try:
        seen = sorted(_below(folder))
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be looked into ({error.strerror}); check its rights.") from None
    files = [path for path in seen if packed.kind_of(path) in _READERS]
    if not files:
        found = ", ".join(sorted({path.suffix or path.name for path in seen})) or "nothing"
        raise UserError(f"{folder}: the folder holds no {_suffixes()} file (found: {found}); point to your data.")
    for path in files:
        yield from _from_file(path)


def _below(folder: Path) -> Iterator[Path]:
    """The files in and below a folder that are not hidden, links that lead nowhere among them; each folder once."""
    known: set[str] = set()
    for at, folders, names in os.walk(folder, onerror=_raise, followlinks=True):
        real = os.path.realpath(at)
        if real in known:  # a link leads back here
            folders.clear()
            continue
        known.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = (Path(at, name) for name in names if not name.startswith("."))
        yield from (path for path in paths if path.is_file() or path.is_symlink())


def _raise(error: OSError) -> NoReturn:
    raise error


def _from_file(path: Path) -> Iterator[Record]:
    reader = _READERS.get(packed.kind_of(path))
    if reader is None:
        raise UserError(
            f"{path}: the suffix '{path.suffix}' is no data format that Keel reads; convert the file to one of"
            f" {_suffixes()}."
        )
    try:
        if path.stat().st_size == 0:
            raise UserError(f"{path}: the file is empty; it should hold one row per example.")
        empty = True
        for record in reader(path):
            empty = False
            yield record
    except packed.DAMAGED as error:
        raise UserError(f"{path}: is no whole gzip file ({error}); pack or fetch it again.") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); check the file and its rights.") from None
    if empty:
        raise UserError(f"{path}: the file holds no rows; it should hold one row per example.")


def _suffixes() -> str:
    return ", ".join(sorted(_READERS))


def _jsonl(path: Path) -> Iterator[Record]:
    # Split at \n only: a JSON string may hold U+2028 and others that str.splitlines would break at.
    with packed.opened(path) as file:
        for number, line in enumerate(file, start=1):
            text = _utf8(path, line, first_line=number)
            if text.strip():
                where = f"{path}:{number}"
                yield Record(_object(_loads(text, where), where), where)


def _json(path: Path) -> Iterator[Record]:
    text = _utf8(path, packed.content(path), first_line=1)
    if not text.strip():
        return
    if text.lstrip().startswith("["):
        for line, value in _items(text, path):
            where = f"{path}:{line}"
            yield Record(_object(value, where), where)
        return
    whole = _loads(text, str(path))
    if not isinstance(whole, dict):
        raise UserError(f"{path}: holds {kind(whole)}; a JSON file should hold a list of objects, one per row.")
    lists = {key: value for key, value in whole.items() if isinstance(value, list)}
    if len(lists) != 1:
        raise UserError(
            f"{path}: holds one object with {len(lists)} lists among its keys ({quoted(whole)}); a JSON file should"
            " hold a list of objects, or one object with one list (for an object per line use the suffix .jsonl)."
        )
    ((key, values),) = lists.items()
    for index, value in enumerate(values):
        where = f"{path}, {key}[{index}]"
        yield Record(_object(value, where), where)


def _items(text: str, path: Path) -> Iterator[tuple[int, Value]]:
    """The elements of a top-level JSON list, each with the line that it begins on."""
    decoder = json.JSONDecoder(object_pairs_hook=_each_once)
    halves = _HALF_ESCAPED.search(text) is not None
    line, counted = 1, 0
    position = _after_space(text, text.index("[") + 1)
    while text[position : position + 1] != "]":
        line, counted = line + text.count("\n", counted, position), position
        try:
            value, position = decoder.raw_decode(text, position)
            if halves:
                _require_characters(value)
        except _LostError as error:
            raise _bad_json(error, f"{path}:{line}") from None
        except (ValueError, RecursionError) as error:
            raise _bad_json(error, str(path)) from None
        yield line, value
        position = _after_space(text, position)
        if text[position : position + 1] == ",":
            position = _after_space(text, position + 1)
            if text[position : position + 1] == "]":
                raise _bad_json(json.JSONDecodeError("Expecting value after ','", text, position), str(path))
        elif text[position : position + 1] != "]":
            raise _bad_json(json.JSONDecodeError("Expecting ',' delimiter", text, position), str(path))
    end = _after_space(text, position + 1)
    if end < len(text):
        raise _bad_json(json.JSONDecodeError("Extra data", text, end), str(path))


def _after_space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _csv(path: Path) -> Iterator[Record]:
    text = _utf8(path, packed.content(path), first_line=1)
    before = csv.field_size_limit(sys.maxsize)  # the standard limit of 128 KiB is less than a long conversation
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        rows = list(_csv_rows(reader, path))
    except csv.Error as error:
        raise UserError(f"{path}:{reader.line_num}: is not valid CSV ({error}); check the double quotes.") from None
    finally:
        csv.field_size_limit(before)
    yield from rows


def _csv_rows(reader: Iterator[list[str]], path: Path) -> Iterator[Record]:
    header = next(reader, [])
    if len(header) == 1 and (other := re.search(r"[;\t]", header[0])):
        raise UserError(f"{path}:1: the cells are separated by {other[0]!r}; save the file with commas.")
    if "" in header or len(set(header)) < len(header):
        raise UserError(f"{path}:1: the header ({quoted(header)}) should name each column once; correct it.")
    start = reader.line_num + 1  # type: ignore[attr-defined]  # csv.reader has no public type
    for cells in reader:
        where, start = f"{path}:{start}", reader.line_num + 1  # type: ignore[attr-defined]
        if not cells:
            continue
        if len(cells) != len(header):
            raise UserError(
                f"{where}: the row has {len(cells)} cells where the header has {len(header)} ({quoted(header)});"
                " put cells that hold commas or line breaks in double quotes."
            )
        yield Record(dict(zip(header, cells, strict=True)), where)


def _parquet(path: Path) -> Iterator[Record]:
    index = 0
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            names = file.schema_arrow.names
            if len(set(names)) < len(names):
                raise UserError(f"{path}: the columns ({quoted(names)}) should have a name each; rename them.")
            for batch in file.iter_batches(batch_size=1024):
                columns = [
                    _values(column, f"{path}: column '{name}'") for name, column in zip(names, batch, strict=True)
                ]
                for cells in zip(*columns, strict=True):
                    yield Record(dict(zip(names, cells, strict=True)), f"{path}, row {index}")
                    index += 1
    except (pa.ArrowException, UnicodeDecodeError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the file system's complaint; Arrow's own about damaged pages have no number
        reason = str(error).splitlines()[0].rstrip(".")
        raise UserError(f"{path}: is not a valid Parquet file ({reason}); write it again.") from None


def _values(column: pa.Array, what: str) -> list[Value]:
    try:
        values: list[Value] = column.to_pylist()
    except (
        pa.ArrowException,
        ValueError,
        OverflowError,
    ) as error:  # a date in the year 36812, a name twice in a struct
        reason = str(error).splitlines()[0].rstrip(".")
        raise UserError(f"{what} holds what cannot be read ({reason}); write it as text, or leave it out.") from None
    return values


_READERS: dict[str, Callable[[Path], Iterator[Record]]] = {
    ".jsonl": _jsonl,
    ".ndjson": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".parquet": _parquet,
}


def _utf8(path: Path, data: bytes, first_line: int) -> str:
    """`data` as text, without a byte-order mark; `first_line` is the line of the file that it begins on."""
    if first_line == 1:
        data = data.removeprefix(_BOM)
        if data.startswith(_UTF16_BOMS):
            raise UserError(f"{path}: is encoded as UTF-16; save the file as UTF-8.")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = first_line + data.count(b"\n", 0, error.start)
        raise UserError(
            f"{path}:{line}: byte 0x{data[error.start]:02x} is not UTF-8; save the file as UTF-8."
        ) from None


def strict_json(text: str) -> Value:
    """The value of a JSON text. ValueError or RecursionError for what is none, or would not be held as it stands."""
    value = json.loads(text, object_pairs_hook=_each_once)
    if _HALF_ESCAPED.search(text):
        _require_characters(value)
    return value


class _LostError(ValueError):
    """JSON that is valid, but of which something would be lost."""


def _each_once(pairs: list[tuple[str, Value]]) -> dict[str, Value]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _LostError(f"'{short(twice)}' is given twice in one object; keep one of them")
    return fields


def _require_characters(value: Value) -> None:
    """_LostError where a text, or a key, is none that a file could hold; without recursion, as values may be deep."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str) and (found := _HALF.search(one)):
            raise _LostError(f"a text holds {found[0]}, half of a character that takes two; write the text anew")
        if isinstance(one, dict):
            waiting += [*one, *one.values()]
        elif isinstance(one, list):
            waiting += one


def _loads(text: str, where: str) -> Value:
    try:
        return strict_json(text)
    except (ValueError, RecursionError) as error:
        raise _bad_json(error, where) from None


def _bad_json(error: Exception, where: str) -> UserError:
    """What is wrong with a JSON text; `where` is the file, or the file and line if the text is that line."""
    if isinstance(error, _LostError):
        return UserError(f"{where}: {error}.")
    if isinstance(error, RecursionError):
        return UserError(f"{where}: is JSON that is nested too deeply; correct it.")
    if not isinstance(error, json.JSONDecodeError):
        return UserError(f"{where}: is JSON that cannot be held ({error}); correct the value.")
    place = where if re.search(r":\d+$", where) else f"{where}:{error.lineno}"
    if error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated string"):
        return UserError(
            f"{place}: the JSON ends in the middle of a value; the file seems to be cut off, write it again."
        )
    if error.msg == "Extra data" and place != where:
        return UserError(
            f"{place}: more follows after the first JSON value; if each line is a row, name the file .jsonl."
        )
    return UserError(f"{place}: is not valid JSON ({error.msg} at column {error.colno}); correct it.")


def _object(value: Value, where: str) -> dict[str, Value]:
    if not isinstance(value, dict):
        raise UserError(f"{where}: a row should be an object with named columns, not {kind(value)}; correct it.")
    return value


def quoted(names: Iterable[str]) -> str:
    """'a', 'b', 'c'; of many or long names what an error has room for."""
    listed = [f"'{short(name)}'" for name in names]
    more = len(listed) - _MOST_NAMES
    return ", ".join(listed[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def kind(value: Value) -> str:
    """What a value is, in the words of JSON."""
    if value is None:
        return "null"
    words = {
        bool: "true or false",
        str: "a text",
        int: "a number",
        float: "a number",
        list: "a list",
        dict: "an object",
    }
    return words.get(type(value), f"a {type(value).__name__}")
