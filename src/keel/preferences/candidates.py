"""What people are to compare, from a file: a prompt and two or more answers in each row.

    prompt, chosen, rejected            or chosen and rejected, conversations that begin alike
    prompt, answers                     a list; also called completions, responses or outputs
    prompt, response1, response2, …     also response_1, response_a, answer1, completion1, output1, …

`prompt` may be whatever `keel.data.formats` understands: a text or a conversation, `instruction` and `input`,
`question`, with a `system` column beside it. An item's id is made from its content, so that the same file again means
the same items, wherever its rows stand.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from keel.data.conversation import answer, prompt
from keel.data.formats import read_preferences
from keel.data.read import quoted, records
from keel.data.row import Row
from keel.errors import UserError
from keel.preferences.judgement import Answer, Item
from keel.preferences.rows import turns
from keel.types import Conversation

LISTS = ("answers", "completions", "responses", "outputs")
_NUMBERED = re.compile(r"(answer|completion|response|output)[_-]?([1-9]\d?|[a-h])")


@dataclass(frozen=True)
class Candidates:
    """The items of a file, and how many rows were left out: the same again, or answers that do not differ."""

    items: tuple[Item, ...]
    repeated: int
    alike: int

    def __str__(self) -> str:
        words = [f"{len(self.items)} items"]
        if self.repeated:
            words.append(f"{self.repeated} rows left out that say the same as one before")
        if self.alike:
            words.append(f"{self.alike} rows left out whose answers do not differ")
        return "; ".join(words)


def read_candidates(source: str | Path) -> Candidates:
    """The items in whatever `keel.data.read.records` can read. Raises UserError, with file and line."""
    first = next(iter(records(source)), None)
    if first is not None and ("chosen" in first.fields or "rejected" in first.fields):
        return read_pairs(source)
    made = [_item(Row(record, {})) for record in records(source)]
    found = [item for item in made if item is not None]
    return _candidates(source, found, len(made) - len(found))


def read_pairs(source: str | Path) -> Candidates:
    """The items in a file of preferences, the first answer of each the chosen one. Raises UserError likewise."""
    rows = read_preferences(source)
    found = [item_of(pair.prompt, (pair.chosen, pair.rejected)) for pair in rows]
    return _candidates(source, found, len(rows.dropped))


def _candidates(source: str | Path, found: Sequence[Item], alike: int) -> Candidates:
    items = {item.id: item for item in found}
    if not items:
        raise UserError(f"{source}: no row has two answers that differ; give other data.")
    return Candidates(tuple(items.values()), len(found) - len(items), alike)


def item_of(asked: Conversation, answers: Sequence[Conversation]) -> Item:
    """An item whose id is made from its content."""
    content = json.dumps([turns(asked), [turns(one) for one in answers]], ensure_ascii=False)
    digest = hashlib.sha256(content.encode()).hexdigest()[:20]
    return Item(digest, asked, tuple(Answer(one) for one in answers))


def _item(row: Row) -> Item | None:
    asked = prompt(row)
    name = next((name for name in LISTS if row.has(name)), None)
    if asked is None:
        raise row.unlike("an item to label", _SHAPES)
    if name is not None:
        answers = [answer(row, value, name, asked) for value in row.values(name)]
    else:
        columns = _numbered(row)
        answers = [answer(row, row.take(column), column, asked) for column in columns]
    different = list(dict.fromkeys(answers))
    return item_of(asked, different) if len(different) > 1 else None


_SHAPES = ("'prompt' and 'answers'", "'prompt', 'response1' and 'response2'", "'prompt', 'chosen' and 'rejected'")


def _numbered(row: Row) -> list[str]:
    """The columns of the answers, in order; an answer that is missing (null) is left out."""
    found = [(match[1], match[2], name) for name in row.rest() if (match := _NUMBERED.fullmatch(name.lower()))]
    kinds = {kind for kind, _, _ in found}
    if len(found) < 2 or len(kinds) > 1:
        if len(kinds) > 1:
            raise row.error(f"has answers under several names ({quoted([name for *_, name in found])}); keep one kind.")
        raise row.unlike("an item to label", _SHAPES)
    order = sorted(found, key=lambda one: (len(one[1]), one[1]))
    return [name for _, _, name in order if row.has(name)]
