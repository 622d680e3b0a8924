"""`read_history`: labels made elsewhere, whole and fit to be kept in a preference database.

Of a table of votes: its items, those without a vote too, and a first revision for each vote. Of Keel's own export:
every revision, who is excluded, and which items have known answers or repeat others. Items must have their texts.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from keel.data.place import short
from keel.data.read import Record, quoted, records
from keel.errors import UserError
from keel.preferences.judgement import Item, Judgement
from keel.preferences.people import State
from keel.preferences.rows import storable
from keel.preferences.votes_file import raw
from keel.preferences.votes_file.columns import Layout, Named, TableForm, layout
from keel.preferences.votes_file.read import database_at, votes_in
from keel.preferences.votes_file.tables import items_of, table_of
from keel.preferences.votes_file.words import cell_text
from keel.types import Conversation

_LONGEST = 200  # characters of an id or a name: PostgreSQL indexes no long ones
_LARGEST = 2**31 - 1
_STATES: tuple[State, ...] = get_args(State)
_ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True)
class Check:
    """What an item is for beside training: a known answer (−1 first, 0 tie, +1 second), or a repeat of another item
    for one annotator."""

    purpose: Literal["gold", "repeat"]
    expected: int | None
    repeats: str | None
    reserved: str | None


@dataclass(frozen=True, eq=False)
class History:
    """What a file holds: items in the order of the rows, all revisions so that each comes after the one before it,
    the states of annotators as far as it says, the items that are checks, and how many votes state seconds without a
    date, which a database cannot hold."""

    source: str
    form: TableForm
    items: tuple[Item, ...]
    judgements: tuple[Judgement, ...]
    states: Mapping[str, State]
    checks: Mapping[str, Check]
    undated: int


def read_history(source: str | Path, named: Named | None = None, called: str | None = None) -> History:
    """The labels in whatever `read_votes` can read, but for databases.

    `called` begins the ids of the items, before a colon. None: the file's name does, as a table's ids are numbers of
    rows as often as not; those of Keel's own export stay as they are. Raises UserError, in one sentence with the place,
    where texts are missing, something is no vote, or a database could not hold it.
    """
    named = named or Named()
    if database_at(source) is not None:
        raise UserError(f"{source}: is a preference database; write a file with `keel labels export --what raw` first.")
    if called is not None and not (called.strip() and called.isprintable() and len(called) <= _LONGEST // 2):
        raise UserError(f"--as: '{short(called)}' is no name; give 1 to {_LONGEST // 2} printable characters.")
    rows = list(records(source))
    columns = layout(rows, named)
    if columns.form == "judgements":
        found = _from_export(source, rows)
        found = found if called is None else _renamed(found, called)
    else:
        found = _renamed(_from_table(source, rows, columns, named), called or _stem(source))
    _check_storable(found)
    return found


def _from_table(source: str | Path, rows: Sequence[Record], columns: Layout, named: Named) -> History:
    table = table_of(rows, columns)
    if columns.first is None or columns.second is None or not columns.prompt:
        missing = "prompt" if columns.first else "answers"
        raise UserError(
            f"{source}: the {missing} of the items cannot be found among the columns {quoted(rows[0].fields)}, and "
            "votes are kept beside the texts; name the columns with --prompt, --first and --second."
        )
    judgements = votes_in(table, columns, named)
    if not judgements:
        raise UserError(f"{source}: holds no vote in {len(rows)} rows; give a file in which somebody has judged.")
    undated = sum(cell.seconds is not None for cell in table.cells)
    return History(str(source), columns.form, tuple(items_of(table.texts)), tuple(judgements), {}, {}, undated)


def _from_export(source: str | Path, rows: Sequence[Record]) -> History:
    found = raw.revisions(rows)
    judgements = [said for said, _ in found]
    _check_histories(found)
    _check_texts(found)
    items, texts = raw.items_of(rows, judgements)
    if not texts:
        raise UserError(
            f"{source}: an item has no texts, and votes are kept beside them; give an export with the columns 'prompt' "
            "and 'answers' filled."
        )
    states: dict[str, State] = {}
    checks: dict[str, Check] = {}
    for said, row in found:
        if state := _state(row):
            states[said.annotator] = state
        check = _check(said, row)
        if check is not None and checks.setdefault(said.item, check) != check and check.purpose == "gold":
            raise UserError(f"{row.where}: item '{short(said.item)}' has another known answer before; keep one.")
    return History(str(source), "judgements", tuple(items), tuple(_in_turn(judgements)), states, checks, 0)


def _state(row: Record) -> State | None:
    """Whether the annotator of a row may go on; None where it does not say."""
    text = cell_text(row.fields.get("state"))
    state = next((one for one in _STATES if one == text), None)
    if text and state is None:
        raise UserError(f"{row.where}: state '{short(text)}' is none of {quoted(_STATES)}; correct the row.")
    return state


def _check(said: Judgement, row: Record) -> Check | None:
    """What the row says that the item is for; None for an ordinary one."""
    purpose, repeats = cell_text(row.fields.get("purpose")), row.fields.get("repeats")
    if purpose in ("", "ordinary"):
        return None
    if purpose == "gold":
        expected = cell_text(row.fields.get("expected"))
        if expected not in ("-1", "0", "1"):
            raise UserError(f"{row.where}: a gold item's 'expected' should be -1, 0 or 1; correct the row.")
        return Check("gold", int(expected), None, None)
    if purpose == "repeat" and isinstance(repeats, str) and repeats not in ("", said.item):
        return Check("repeat", None, repeats, said.annotator)
    raise UserError(
        f"{row.where}: 'purpose' should be ordinary, gold, or repeat with the item that it 'repeats'; correct the row."
    )


def _check_histories(found: Sequence[tuple[Judgement, Record]]) -> None:
    """UserError where a revision is missing, or the answers change places between two."""
    stood: dict[tuple[str, str], tuple[int, ...]] = {}
    known = {(said.item, said.annotator, said.revision) for said, _ in found}
    for said, row in found:
        if said.revision > 1 and (said.item, said.annotator, said.revision - 1) not in known:
            raise UserError(
                f"{row.where}: revision {said.revision - 1} of '{short(said.annotator)}' on item '{short(said.item)}' "
                "is missing; give the whole history."
            )
        if stood.setdefault((said.item, said.annotator), said.shown) != said.shown:
            raise UserError(
                f"{row.where}: the answers of item '{short(said.item)}' stood in other places for "
                f"'{short(said.annotator)}' before; correct 'shown'."
            )


def _check_texts(found: Sequence[tuple[Judgement, Record]]) -> None:
    """UserError where two rows give an item different texts, or writers."""
    seen: dict[str, tuple[object, str]] = {}
    for said, row in found:
        texts = tuple(row.fields.get(name) for name in ("prompt", "answers", "models", "versions"))
        before, where = seen.setdefault(said.item, (texts, row.where))
        if before != texts:
            raise UserError(f"{row.where}: item '{short(said.item)}' has other texts than in {where}; correct the row.")


def _in_turn(judgements: Sequence[Judgement]) -> list[Judgement]:
    """Each history in order of its revisions, in the places that the rows gave it."""
    turns: dict[tuple[str, str], list[Judgement]] = {}
    for said in judgements:
        turns.setdefault((said.item, said.annotator), []).append(said)
    for history in turns.values():
        history.sort(key=lambda said: -said.revision)
    return [turns[said.item, said.annotator].pop() for said in judgements]


def _renamed(found: History, called: str) -> History:
    """The same with ids that begin with a name; a long id becomes a digest."""

    def name(id: str) -> str:
        known = id if len(id) <= _LONGEST // 2 else hashlib.sha256(id.encode(errors="surrogatepass")).hexdigest()[:20]
        return f"{called}:{known}"

    return replace(
        found,
        items=tuple(replace(item, id=name(item.id)) for item in found.items),
        judgements=tuple(replace(said, item=name(said.item)) for said in found.judgements),
        checks={
            name(id): replace(check, repeats=check.repeats and name(check.repeats))
            for id, check in found.checks.items()
        },
    )


def _stem(source: str | Path) -> str:
    """votes of votes.jsonl.gz, as no other file beside it is likely to be called."""
    path = Path(str(source).removeprefix("datasets:")).resolve()
    name = path.name.removesuffix(".gz")
    return (name if path.is_dir() else Path(name).stem)[: _LONGEST // 2] or "labels"


def _check_storable(found: History) -> None:
    """UserError for what a database could not hold, or what could not be read back as training data."""
    for item in found.items:
        at = f"{found.source}: item '{short(item.id)}'"
        if item.prompt[-1].role == "assistant" or any(one.messages[0].role != "assistant" for one in item.answers):
            raise UserError(
                f"{at}: a prompt ends before the assistant's turn, and an answer begins with it; mend that."
            )
        for one in (item.prompt, *(answer.messages for answer in item.answers)):
            _check_turns(one, at)
        for answer in item.answers:
            if not storable(answer.model) or abs(answer.version or 0) > _LARGEST:
                raise UserError(f"{at}: 'models' or 'versions' holds what no database can; correct it.")
    for said in found.judgements:
        at = f"{found.source}: '{short(said.annotator)}' on item '{short(said.item)}'"
        if max(len(said.item), len(said.annotator)) > _LONGEST:
            raise UserError(f"{at}: an id or a name is longer than {_LONGEST} characters; shorten it.")
        if not all(map(storable, (said.item, said.annotator, said.note, said.reason, said.guideline))):
            raise UserError(f"{at}: a name or note holds a character that is no text (a NUL, or half one); remove it.")


def _check_turns(turns: Conversation, at: str) -> None:
    for turn in turns:
        if turn.role not in _ROLES:
            raise UserError(f"{at}: the role '{short(turn.role)}' is none of {quoted(_ROLES)}; correct it.")
        if not storable(turn.content):
            raise UserError(f"{at}: holds a character that is no text (a NUL, or half a character); remove it.")
