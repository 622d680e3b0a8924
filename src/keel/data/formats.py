"""What users have, read into Keel's nouns; nothing is lost without being counted.

| function | a row holds |
| --- | --- |
| `read_demonstrations` | `messages`; or `prompt` and `completion` (or `response`, `output`, `answer`) |
| `read_preferences` | `prompt`, `chosen`, `rejected`; or `chosen` and `rejected`, conversations that begin alike |
| | optional: `probability` that the chosen is preferred, in [0, 1]; `margin`, in units of reward |
| `read_rankings` | `prompt` and `completions` (or `responses`), best first |
| | or in any order with `ranks` (1 = best) or `scores` (more = better) |
| `read_comparisons` | a preference or a ranking, row by row |
| `read_rated` | `prompt`, `completion` (or `response`, `output`, `answer`), and `label`: true or 1 for a good answer |
| `read_prompts` | `prompt`, or `messages` (a closing assistant's turn is cut off); optional `id` |
| | every column that is not used goes to `Prompt.columns` |

`prompt` may everywhere be `instruction` (with `input`) or `question`, with a `system` column beside it, and `messages`
may be called `conversations` or `conversation`; the first name that a row fills counts. `keel.data.conversation` says
which forms a conversation may have.

A row of the wrong shape is an error that names file and line. A row of the right shape that teaches nothing is
dropped and counted in `Rows.dropped`: an empty prompt; a demonstration with an empty answer; two identical answers; two
conversations that do not part at an assistant's turn; a ranking with fewer than two distinct levels. Counted in
`Rows.notes`, but kept: an empty answer that people compared with another; a ranking with ties, where only the first
answer of each level stays, since the others have no order; a number where a text should be.
"""

from __future__ import annotations

import itertools
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from keel.data.conversation import CONVERSATIONS, PROMPTS, answer, conversation, prompt
from keel.data.nearest import did_you_mean
from keel.data.place import short
from keel.data.read import quoted, records
from keel.data.row import Row
from keel.errors import UserError, one_line
from keel.types import Conversation, Demonstration, Preference, Prompt, Ranking, Rated

T = TypeVar("T")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Remark:
    """Something about one row that the user should be able to find again."""

    where: str
    reason: str
    after: int = field(default=0, compare=False)
    """How many rows before it were of use."""


@dataclass(frozen=True)
class Rows(Generic[T]):
    """What a source held. `read` rows = len(items) + len(dropped); `unused` are columns that nothing looked at."""

    items: tuple[T, ...]
    source: str
    read: int
    dropped: tuple[Remark, ...]
    notes: tuple[Remark, ...]
    unused: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[T]:
        return iter(self.items)

    @classmethod
    def made(cls, items: Sequence[T], source: str) -> Rows[T]:
        """Rows that were not read but made, all of them of use."""
        return cls(tuple(items), source, len(items), (), (), ())

    def first(self, limit: int | None) -> Rows[T]:
        """At most `limit` items (None: all of them); those after them count as not read."""
        items = self.items[:limit]
        met = self.dropped if limit is None else tuple(one for one in self.dropped if one.after < limit)
        return replace(self, items=items, dropped=met, read=len(items) + len(met))

    def summary(self) -> str:
        """One sentence: rows read, rows dropped and why (with the first place of each reason), columns not used."""
        parts = [f"{self.source}: {self.read} rows read, {len(self.items)} kept"]
        parts += [f"dropped {text}" for text in _tally(self.dropped)]
        parts += _tally(self.notes)
        if self.unused:
            parts.append(f"columns not used: {', '.join(self.unused)}")
        return one_line("; ".join(parts) + ".")


@dataclass(frozen=True)
class _Drop:
    reason: str


def read_demonstrations(source: str | Path, columns: Mapping[str, str] | None = None) -> Rows[Demonstration]:
    """Conversations to imitate. `columns` maps Keel's names to the data's, e.g. {"prompt": "query"}.

    Every assistant's turn of a demonstration is to be learnt, also one that stands in the prompt.
    Raises UserError, with file and line, for what cannot be read.
    """
    return _rows(source, columns, _demonstration, (*_PROMPT, *CONVERSATIONS, *_SAID))


def read_preferences(source: str | Path, columns: Mapping[str, str] | None = None) -> Rows[Preference]:
    """Pairs of answers, the better one named `chosen`. See `read_demonstrations` for `columns` and errors."""
    return _rows(source, columns, _preference, (*_PROMPT, *_PAIR))


def read_rankings(source: str | Path, columns: Mapping[str, str] | None = None) -> Rows[Ranking]:
    """K ≥ 2 answers to a prompt, put best first. See `read_demonstrations` for `columns` and errors."""
    return _rows(source, columns, _ranking, (*_PROMPT, *_RANKED))


def read_comparisons(source: str | Path, columns: Mapping[str, str] | None = None) -> Rows[Preference | Ranking]:
    """Pairs and rankings, each row as it is. See `read_demonstrations` for `columns` and errors."""
    return _rows(source, columns, _comparison, (*_PROMPT, *_PAIR, *_RANKED))


def read_rated(source: str | Path, columns: Mapping[str, str] | None = None) -> Rows[Rated]:
    """Single answers, each good or bad, as KTO learns from. See `read_demonstrations` for `columns` and errors."""
    return _rows(source, columns, _rated, (*_PROMPT, *_SAID, "label"))


def are_rated(source: str | Path, columns: Mapping[str, str] | None = None) -> bool:
    """Whether the first row holds a single answer or a label, and none that are compared with one another.

    Errors as in `read_demonstrations`.
    """
    first = next(iter(records(source)), None)
    if first is None:
        return False
    row = Row(first, dict(columns or {}))
    compared = any(row.has(name) for name in ("chosen", "rejected", "completions", "responses"))
    return not compared and any(row.has(name) for name in (*_SAID, "label"))


def read_prompts(source: str | Path, columns: Mapping[str, str] | None = None) -> Rows[Prompt]:
    """Questions without answers. `Prompt.id` is the `id` column, or the row's number counted from 0.

    See `read_demonstrations` for `columns` and errors; two rows with the same id are an error too.
    """
    number = itertools.count()
    places: dict[str, str] = {}
    known = (*_PROMPT, *CONVERSATIONS, "id")
    return _rows(source, columns, lambda row: _prompt(row, next(number), places), known)


_PROMPT = (*PROMPTS, "input", "system")
_SAID = ("completion", "response", "output", "answer")
_LABELS = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
_PAIR = ("chosen", "rejected", "probability", "margin")
_RANKED = ("completions", "responses", "ranks", "scores")
_SHAPES_OF_PAIRS = ("'prompt', 'chosen' and 'rejected'", "'chosen' and 'rejected' that begin alike")
_SHAPE_OF_RANKINGS = "'prompt' and 'completions' (with 'ranks' or 'scores' unless best first)"


def _rows(
    source: str | Path,
    columns: Mapping[str, str] | None,
    convert: Callable[[Row], T | _Drop],
    known: tuple[str, ...],
) -> Rows[T]:
    mapping = dict(columns or {})
    for name in mapping:
        if name not in known:
            raise UserError(
                f"columns: '{name}' is no column of this kind{did_you_mean(name, known)}; use {quoted(known)}."
            )
    items: list[T] = []
    dropped: list[Remark] = []
    notes: list[Remark] = []
    unused: dict[str, None] = {}
    used: set[str] = set()
    for record in records(source):
        row = Row(record, mapping)
        made = convert(row)
        if isinstance(made, _Drop):
            dropped.append(Remark(row.where, made.reason, len(items)))
        else:
            items.append(made)
        notes += [Remark(row.where, note) for note in row.notes]
        unused.update(dict.fromkeys(row.rest()))
        used |= row.used
    found = len(items) + len(dropped)
    rows = Rows(
        tuple(items), str(source), found, tuple(dropped), tuple(notes), tuple(n for n in unused if n not in used)
    )
    if not items:
        raise UserError(f"{source}: no row is left of {found} (dropped {', '.join(_tally(dropped))}); give other data.")
    _log.log(logging.WARNING if dropped or notes else logging.INFO, rows.summary())
    return rows


def _tally(remarks: tuple[Remark, ...] | list[Remark]) -> list[str]:
    first = {remark.reason: remark.where for remark in reversed(remarks)}
    counts = Counter(remark.reason for remark in remarks)
    return [f"{count} × {reason} (first at {first[reason]})" for reason, count in counts.items()]


def _demonstration(row: Row) -> Demonstration | _Drop:
    name = next((name for name in CONVERSATIONS if row.has(name)), None)
    if name is not None:
        turns = conversation(row, name)
        first = next((turn.role for turn in turns if turn.role != "system"), "system")
        if all(turn.role != "assistant" for turn in turns):
            raise row.error(f"'{row.column(name)}' has no assistant's turn; a demonstration should show an answer.")
        if first == "assistant":
            return _Drop("conversation that begins with the assistant")
    else:
        asked = prompt(row)
        said = next((name for name in _SAID if row.has(name)), None)
        if asked is None or said is None:
            raise row.unlike(
                "a demonstration",
                ("'messages'", "'prompt' and 'completion'", "'instruction' and 'output'", "'question' and 'answer'"),
            )
        if _blank(asked):
            return _Drop("empty prompt")
        turns = asked + answer(row, row.take(said), said, asked)
    if _unsaid(turns):
        return _Drop("empty answer")
    return Demonstration(turns)


def _preference(row: Row) -> Preference | _Drop:
    asked = prompt(row)
    if not (row.has("chosen") and row.has("rejected")):
        raise row.unlike("a preference", _SHAPES_OF_PAIRS)
    if asked is None:
        parted = _part(conversation(row, "chosen"), conversation(row, "rejected"))
        if isinstance(parted, _Drop):
            return parted
        asked, chosen, rejected = parted
    else:
        chosen = answer(row, row.take("chosen"), "chosen", asked)
        rejected = answer(row, row.take("rejected"), "rejected", asked)
    probability = row.number("probability", 0.0, 1.0) if row.filled("probability") else 1.0
    margin = row.number("margin") if row.filled("margin") else 0.0
    if margin < 0:
        raise row.error(f"'{row.column('margin')}' is below 0, so the rejected answer is the better one; swap the two.")
    if _blank(asked):
        return _Drop("empty prompt")
    if chosen == rejected:
        return _Drop("identical answers")
    if _unsaid(chosen) or _unsaid(rejected):
        row.notes.append("empty answer among those compared")
    return Preference(asked, chosen, rejected, probability, margin)


def _comparison(row: Row) -> Preference | Ranking | _Drop:
    if row.has("chosen") or row.has("rejected"):
        return _preference(row)
    if row.has("completions") or row.has("responses"):
        return _ranking(row)
    raise row.unlike("a preference or a ranking", (*_SHAPES_OF_PAIRS, _SHAPE_OF_RANKINGS))


def _rated(row: Row) -> Rated | _Drop:
    asked = prompt(row)
    said = next((name for name in _SAID if row.has(name)), None)
    if asked is None or said is None or not row.filled("label"):
        raise row.unlike("a rated answer", ("'prompt', 'completion' and 'label'",))
    label = row.label("label").strip().lower()
    if label not in _LABELS:
        raise row.error(f"'{row.column('label')}' should be true or false, not {short(label)!r}; correct the row.")
    if _blank(asked):
        return _Drop("empty prompt")
    found = answer(row, row.take(said), said, asked)
    if _unsaid(found):
        row.notes.append("empty answer among those rated")
    return Rated(asked, found, _LABELS[label])


def _part(chosen: Conversation, rejected: Conversation) -> tuple[Conversation, Conversation, Conversation] | _Drop:
    """Two conversations that begin alike → what they share, and how each goes on."""
    if chosen == rejected:
        return _Drop("identical answers")
    shared = 0
    while shared < min(len(chosen), len(rejected)) - 1 and chosen[shared] == rejected[shared]:
        shared += 1
    if shared == 0 or not chosen[shared].role == rejected[shared].role == "assistant":
        return _Drop("two conversations that do not part at an assistant's turn")
    return chosen[:shared], chosen[shared:], rejected[shared:]


def _ranking(row: Row) -> Ranking | _Drop:
    asked = prompt(row)
    name = next((name for name in ("completions", "responses") if row.has(name)), None)
    if asked is None or name is None:
        raise row.unlike("a ranking", (_SHAPE_OF_RANKINGS,))
    answers = [answer(row, value, name, asked) for value in row.values(name)]
    if row.filled("ranks") and row.filled("scores"):
        raise row.error("has both 'ranks' and 'scores'; keep one of them.")
    levels: tuple[float, ...] = tuple(range(len(answers)))
    if row.filled("ranks"):
        levels = row.numbers("ranks")
    elif row.filled("scores"):
        levels = tuple(-score for score in row.numbers("scores"))
    if len(levels) != len(answers):
        raise row.error(f"has {len(answers)} answers and {len(levels)} ranks or scores; there should be one for each.")
    if _blank(asked):
        return _Drop("empty prompt")
    if any(_unsaid(one) for one in answers):
        row.notes.append("empty answer among those compared")
    # Of each level its first answer, best level first; a repeated answer keeps its best place.
    distinct = tuple(dict.fromkeys(answers[levels.index(level)] for level in sorted(set(levels))))
    if len(distinct) < 2:
        return _Drop("ranking with fewer than two distinct levels")
    row.notes += ["answer left out that ties with another"] * (len(answers) - len(distinct))
    return Ranking(asked, distinct)


def _prompt(row: Row, number: int, places: dict[str, str]) -> Prompt | _Drop:
    """`places` collects where each id stands."""
    asked = prompt(row)
    kept: dict[str, Any] = {}
    if asked is None:
        name = next((name for name in CONVERSATIONS if row.has(name)), None)
        if name is None:
            raise row.unlike("a prompt", ("'prompt'", "'instruction'", "'question'", "'messages'"))
        whole = conversation(row, name)
        asked = whole
        while asked and asked[-1].role == "assistant":
            asked = asked[:-1]
        if asked != whole:
            row.notes.append("closing answer cut off")
            kept[row.column(name)] = row.take(name)
    if _blank(asked):
        return _Drop("empty prompt")
    label = row.label("id") if row.filled("id") else str(number)
    if label in places:
        raise row.error(f"has the id '{short(label)}', which {places[label]} has too; ids should be unique.")
    places[label] = row.where
    columns = row.rest() | kept
    row.used.update(columns)
    return Prompt(label, asked, columns)


def _blank(turns: Conversation) -> bool:
    return not any(turn.content.strip() for turn in turns if turn.role != "system")


def _unsaid(turns: Conversation) -> bool:
    return any(turn.role == "assistant" and not turn.content.strip() for turn in turns)
