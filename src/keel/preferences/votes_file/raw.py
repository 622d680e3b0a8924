"""Keel's own export of judgements: a row per revision, under the names of `keel.preferences.judgement.Judgement`.

Columns that are no field of a judgement are left alone, but for

    prompt, answers     the texts of the item: a text or a conversation, and a list of these
    models, versions    who wrote the answers: lists, null where unknown
    state               of the annotator: what the excluded say does not count
    purpose             of the item: what is said of gold items and repeats does not count either
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any, get_args

from keel.data.place import short
from keel.data.read import Record, Value, kind, quoted
from keel.data.row import unpacked
from keel.errors import UserError
from keel.preferences.judgement import Answer, Item, Judgement, Kind
from keel.preferences.votes_file.words import cell_text
from keel.types import Conversation, Message

_LISTS = ("shown", "order")
_WHOLE = ("pressed", "revision")
_TIMES = ("served", "submitted", "seen", "focused")


def revisions(rows: Sequence[Record]) -> list[tuple[Judgement, Record]]:
    """Every row as a judgement, in order of the rows. UserError with the line where one is none, or comes twice."""
    known: dict[tuple[str, str, int], str] = {}
    found = []
    for row in rows:
        said = _judgement(row)
        revision = (said.item, said.annotator, said.revision)
        if revision in known:
            raise UserError(
                f"{row.where}: revision {said.revision} of '{short(said.annotator)}' on item '{short(said.item)}' "
                f"stands in {known[revision]} already; keep one of them."
            )
        known[revision] = row.where
        found.append((said, row))
    return found


def latest(rows: Sequence[Record]) -> list[Judgement]:
    """What everybody now says and what counts: each one's highest revision of each item, without the withdrawn.

    In the order of the rows; UserError as `revisions`.
    """
    newest: dict[tuple[str, str], Judgement] = {}
    for said, row in revisions(rows):
        if row.fields.get("state") == "excluded" or row.fields.get("purpose") in ("gold", "repeat"):
            continue
        before = newest.get((said.item, said.annotator))
        if before is None or before.revision < said.revision:
            newest.pop((said.item, said.annotator), None)  # so that it stands where it was last said
            newest[said.item, said.annotator] = said
    return [said for said in newest.values() if said.kind != "withdrawn"]


def items_of(rows: Sequence[Record], judgements: Sequence[Judgement]) -> tuple[list[Item], bool]:
    """The items that were judged, and whether all their texts are known; an unknown text is like no other."""
    positions: dict[str, int] = {}
    for said in judgements:
        positions[said.item] = max(positions.get(said.item, 1), *said.shown)
    texts = {_letters(row.fields.get("item")): row for row in rows if row.fields.get("answers") not in (None, "")}
    items = []
    for id, highest in positions.items():
        if id in texts:
            items.append(Item(id, _prompt(texts[id]), _answers(texts[id], highest)))
        else:
            alone = (Answer((Message("assistant", f"{id}, answer {place}"),)) for place in range(highest + 1))
            items.append(Item(id, (Message("user", id),), tuple(alone)))
    return items, all(id in texts for id in positions)


def _prompt(row: Record) -> Conversation:
    return _turns(row.fields.get("prompt") or "", "user", row.where)


def _answers(row: Record, highest: int) -> tuple[Answer, ...]:
    """The answers of an item, of which the one at position `highest` was judged, and who wrote them."""
    texts = unpacked(row.fields["answers"])
    if not isinstance(texts, list) or len(texts) <= highest:
        raise UserError(f"{row.where}: 'answers' should be a list of {highest + 1} or more; correct the row.")
    models, versions = (_beside(row, name, len(texts)) for name in ("models", "versions"))
    return tuple(
        Answer(
            _turns(text, "assistant", row.where),
            _letters(model),
            _whole(version, "versions", row.where),
        )
        for text, model, version in zip(texts, models, versions, strict=True)
    )


def _beside(row: Record, name: str, count: int) -> list[Value]:
    """A list with something for each answer, or nothing for any."""
    found = unpacked(row.fields.get(name))
    if found in (None, "", []):
        return [None] * count
    if not isinstance(found, list) or len(found) != count:
        raise UserError(f"{row.where}: '{name}' should be a list of {count}, as 'answers' is; correct the row.")
    return found


def _judgement(row: Record) -> Judgement:
    names = {field.name for field in fields(Judgement)}
    given: dict[str, Any] = {}
    for name in names & row.fields.keys():
        value = row.fields[name]
        if name in _LISTS:
            given[name] = _whole_numbers(value, name, row.where)
        elif name in _WHOLE:
            given[name] = _whole(value, name, row.where)
        elif name in _TIMES:
            given[name] = _number(value, name, row.where)
        else:
            given[name] = _letters(value)
    given = {name: value for name, value in given.items() if value is not None}
    if given.get("kind") not in get_args(Kind):
        raise UserError(
            f"{row.where}: kind '{short(given.get('kind', ''))}' is none of {quoted(get_args(Kind))}; correct the row."
        )
    if not all(given.get(name, "").strip() for name in ("item", "annotator")):
        raise UserError(f"{row.where}: 'item' or 'annotator' is empty; say who judged what.")
    if len(given.get("shown", ())) < 2 or len(set(given["shown"])) < len(given["shown"]) or min(given["shown"]) < 0:
        raise UserError(f"{row.where}: 'shown' should be two different answers, as in [0, 1]; correct the row.")
    try:
        return Judgement(**given)
    except (ValueError, TypeError) as error:
        raise UserError(f"{row.where}: is no judgement ({error}); correct the row.") from None


def _letters(value: Value) -> str:
    """A name or note, to the letter; a number, of which a table writer may have made one, as text."""
    return value if isinstance(value, str) else cell_text(value)


def _whole_numbers(value: Value, name: str, where: str) -> tuple[int, ...] | None:
    """[0, 1], as a list or as text ("[0, 1]", "0 1")."""
    if value in (None, ""):
        return None
    found = unpacked(value)
    parts = found.split() if isinstance(found, str) else found
    if not isinstance(parts, list):
        raise UserError(f"{where}: '{name}' should be a list of numbers, not {kind(value)}; correct the row.")
    numbers = [_whole(part, name, where) for part in parts]
    return tuple(number for number in numbers if number is not None)


def _whole(value: Value, name: str, where: str) -> int | None:
    """A whole number; None for an empty cell."""
    number = _number(value, name, where)
    if number is not None and not number.is_integer():
        raise _no_number(value, name, where)
    return None if number is None else int(number)


def _number(value: Value, name: str, where: str) -> float | None:
    text = cell_text(value)
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise _no_number(value, name, where)
    return number


def _no_number(value: Value, name: str, where: str) -> UserError:
    return UserError(f"{where}: '{name}' holds '{short(cell_text(value))}' where a number is needed; correct the row.")


def _turns(value: Value, role: str, where: str) -> Conversation:
    """A text, or a list of objects with role and content."""
    found = unpacked(value)
    if isinstance(found, str):
        return (Message(role, found),)
    if isinstance(found, list) and all(isinstance(turn, Mapping) for turn in found):
        turns = [(turn.get("role", role), turn.get("content")) for turn in found]
        if turns and all(isinstance(each, str) for turn in turns for each in turn):
            return tuple(Message(who, content) for who, content in turns)
    raise UserError(
        f"{where}: a prompt or answer should be a text or a list of turns, not {kind(value)}; correct the row."
    )
