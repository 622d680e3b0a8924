"""Which column is what: by its usual name, or by what the user says."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from keel.data.nearest import did_you_mean
from keel.data.read import Record, Value, quoted
from keel.data.row import unpacked
from keel.errors import UserError
from keel.preferences.votes_file.words import Meaning

TableForm = Literal["wide", "long", "nested", "judgements"]
COUNTED = "-"
"""As the name of the column of ids: the rows are counted instead."""

_IDS = "item item_id pair pair_id idx id question_id example_id".split()
_PROMPTS = (
    ("prompt",),
    ("instruction", "input"),
    ("instruction",),
    ("question",),
    ("input",),
    ("topic", "stance"),
    ("topic",),
)
_ANSWERS = tuple(
    tuple(pair.split())
    for pair in (
        "first second",
        "response1 response2",
        "response_1 response_2",
        "response_a response_b",
        "answer1 answer2",
        "answer_1 answer_2",
        "answer_a answer_b",
        "output_1 output_2",
        "completion_a completion_b",
        "a b",
    )
)
_ANNOTATORS = "annotator annotator_id worker worker_id rater rater_id labeler labeller judge user".split()
_LABELS = "label choice vote verdict preference winner judgement judgment rating".split()
_LEFT = ("left", "shown_left", "side")
_SECONDS = ("seconds", "time_seconds", "duration", "lead_time")
_VOTES = "votes annotations judgements judgments labels ratings".split()
_PEOPLE = re.compile(r"(?:annotator|rater|worker|judge|labell?er)[ _-]?\d+", re.IGNORECASE)
_RAW = {"item", "annotator", "shown", "kind", "pressed"}


@dataclass(frozen=True)
class Named:
    """What the user calls the columns; None or empty: found by the usual names.

    The texts of the `prompt` columns are joined by a blank line; `first` and `second` hold the answers. `id` tells
    items apart ("-": the row's number does). `annotators` are columns of verdicts, one person each: the form is then
    wide. `annotator` and `label` are columns of a vote, `votes` is the column that holds lists of them, and `left` says
    which answer stood on the left. `values` is what the verdicts mean.
    """

    prompt: tuple[str, ...] = ()
    first: str | None = None
    second: str | None = None
    annotators: tuple[str, ...] = ()
    id: str | None = None
    annotator: str | None = None
    label: str | None = None
    votes: str | None = None
    left: str | None = None
    values: Mapping[str, Meaning] | None = None


@dataclass(frozen=True)
class Layout:
    """The form of a table and its columns; in the nested form `annotator` to `seconds` are names within a vote."""

    form: TableForm
    id: str | None = None
    prompt: tuple[str, ...] = ()
    first: str | None = None
    second: str | None = None
    annotators: tuple[str, ...] = ()
    votes: str | None = None
    annotator: str = ""
    label: str = ""
    left: str | None = None
    seconds: str | None = None


def layout(rows: Sequence[Record], named: Named) -> Layout:
    """The form that the columns are in. UserError where there is none, or a column that was named is missing."""
    names = tuple(dict.fromkeys(name for row in rows for name in row.fields))
    where = rows[0].where
    for name in (*named.prompt, named.first, named.second, *named.annotators, named.votes):
        _require(name, names, where)
    if rows[0].fields.keys() >= _RAW:
        if named != Named():
            raise UserError(f"{where}: is an export of judgements, which needs no names of columns; leave them out.")
        return Layout("judgements")
    people = named.annotators or tuple(name for name in names if _PEOPLE.fullmatch(name))
    holding = named.votes or _first_of((*_VOTES, *names), [name for name in names if _lists_of(rows, name)])
    if holding is not None and not named.annotators:
        vote = next((votes for row in rows if (votes := list_of_votes(row.fields.get(holding)))), None)
        if vote is None:
            raise UserError(
                f"{where}: column '{holding}' holds no list of votes in any row; name the column that does."
            )
        inside = tuple(dict.fromkeys(name for one in vote for name in one))
        within = f"{where}: a vote in '{holding}'"
        return _of_votes("nested", named, inside, within, _item(named, names, where), votes=holding)
    single = (named.annotator or _first_of(_ANNOTATORS, names), named.label or _first_of(_LABELS, names))
    if not named.annotators and (named.annotator or named.label or (None not in single and not people)):
        return _of_votes("long", named, names, where, _item(named, names, where), votes=None)
    if not people:
        raise UserError(
            f"{where}: the votes cannot be found among the columns {quoted(names)}; name the columns of verdicts with "
            "--annotators a,b,c (a row per item), or --id, --annotator and --label (a row per vote)."
        )
    id, prompt, first, second = _item(named, names, where)
    return Layout("wide", id, prompt, first, second, people)


def list_of_votes(value: Value) -> list[dict[str, Value]]:
    """The votes in a cell, which may be JSON text; empty where there are none, or it is something else."""
    found = unpacked(value)
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        return []
    return found


def _of_votes(
    form: Literal["long", "nested"],
    named: Named,
    names: Sequence[str],
    where: str,
    item: tuple[str | None, tuple[str, ...], str | None, str | None],
    votes: str | None,
) -> Layout:
    for name in (named.annotator, named.label, named.left):
        _require(name, names, where)
    annotator, label = named.annotator or _first_of(_ANNOTATORS, names), named.label or _first_of(_LABELS, names)
    for what, column in (("annotator", annotator), ("label", label)):
        if column is None:
            raise UserError(f"{where}: there is no '{what}' among {quoted(names)}; name it with --{what}.")
    id, prompt, first, second = item
    if form == "long" and id is None and named.id != COUNTED and None in (first, second):
        raise UserError(f"{where}: no column of {quoted(names)} says which item a vote is about; name it with --id.")
    return Layout(
        form, id, prompt, first, second, (), votes, str(annotator), str(label),
        named.left or _first_of(_LEFT, names), _first_of(_SECONDS, names),
    )  # fmt: skip


def _item(named: Named, names: Sequence[str], where: str) -> tuple[str | None, tuple[str, ...], str | None, str | None]:
    """The columns of id, prompt, first and second answer; None or empty where there are none."""
    if named.id not in (None, COUNTED):
        _require(named.id, names, where)
    id = None if named.id == COUNTED else named.id or _first_of(_IDS, names)
    prompt = named.prompt or next((usual for usual in _PROMPTS if set(usual) <= set(names)), ())
    usual = next((pair for pair in _ANSWERS if set(pair) <= set(names)), (None, None))
    first, second = (named.first, named.second) if named.first or named.second else usual
    if (first is None) != (second is None):
        raise UserError(
            f"{where}: one answer's column is named and the other's is not; give both --first and --second."
        )
    return id, prompt, first, second


def _lists_of(rows: Iterable[Record], name: str) -> bool:
    """Whether a column holds votes: lists of objects that name an annotator."""
    for row in rows:
        if votes := list_of_votes(row.fields.get(name)):
            return _first_of(_ANNOTATORS, votes[0].keys()) is not None
    return False


def _first_of(wanted: Iterable[str], names: Iterable[str]) -> str | None:
    there = set(names)
    return next((name for name in wanted if name in there), None)


def _require(name: str | None, names: Sequence[str], where: str) -> None:
    if name is not None and name not in names:
        guess = did_you_mean(name, names)
        raise UserError(f"{where}: there is no column '{name}'{guess}; the columns are {quoted(names)}.")
