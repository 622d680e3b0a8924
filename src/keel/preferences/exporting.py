"""What a database holds, as rows for files: every judgement, the pairs with their texts, or training data.

`RAW`, `AGGREGATED`, `PREFERENCES`, `RANKINGS` and `COMPARISONS` give the columns and their types. A conversation is a
list of {role, content}; times are seconds since the epoch; null is what is not known, or does not apply.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped, unused-ignore]
from sqlalchemy import Connection, select

from keel.preferences import schema
from keel.preferences.aggregate import Aggregate
from keel.preferences.judgement import Item, Judgement
from keel.preferences.rows import items_of, judgements_of
from keel.preferences.store import PreferenceStore
from keel.types import Conversation, Preference, Ranking

_TURNS = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
_WHOLE, _REAL, _TEXT = pa.int64(), pa.float64(), pa.string()

RAW = pa.schema(
    [
        *((name, _TEXT) for name in ("item", "annotator", "role", "state")),
        ("shown", pa.list_(_WHOLE)), ("kind", _TEXT), ("pressed", _WHOLE), ("order", pa.list_(_WHOLE)),
        ("revision", _WHOLE), ("note", _TEXT), ("reason", _TEXT), ("guideline", _TEXT),
        *((name, _REAL) for name in ("served", "seen", "submitted")),
        ("purpose", _TEXT), ("expected", _WHOLE), ("repeats", _TEXT), ("selection", _TEXT), ("propensity", _REAL),
        ("prompt", _TURNS), ("answers", pa.list_(_TURNS)),
        ("models", pa.list_(_TEXT)), ("versions", pa.list_(_WHOLE)),
    ]
)  # fmt: skip
"""A revision of a judgement; `keel.preferences.votes_file` reads it back."""

AGGREGATED = pa.schema(
    [
        ("item", _TEXT), ("first", _WHOLE), ("second", _WHOLE), ("probability", _REAL), ("tied", pa.bool_()),
        *((name, _WHOLE) for name in ("votes", "votes_first", "votes_tie", "votes_second")),
        ("annotators", pa.list_(_TEXT)), ("strength", _REAL),
        ("prompt", _TURNS), ("first_answer", _TURNS), ("second_answer", _TURNS),
        *((f"{place}_model", _TEXT) for place in ("first", "second")),
        *((f"{place}_version", _WHOLE) for place in ("first", "second")),
    ]
)  # fmt: skip
"""A pair of answers: P(the first is better), who said so, and the mean strength, −3 first … +3 second."""

PREFERENCES = pa.schema(
    [
        ("prompt", _TURNS), ("chosen", _TURNS), ("rejected", _TURNS), ("probability", _REAL), ("margin", _REAL),
    ]
)  # fmt: skip
"""As `keel.data.formats.read_preferences` reads it; `margin` in units of reward."""

RANKINGS = pa.schema([("prompt", _TURNS), ("completions", pa.list_(_TURNS))])
"""As `read_rankings` reads it: best first."""

COMPARISONS = pa.schema([*PREFERENCES, RANKINGS.field("completions")])
"""As `read_comparisons` reads it: preferences and rankings, row by row."""

Row = dict[str, Any]
Aliases = Mapping[str, str]


@dataclass(frozen=True)
class _About:
    """What the database says beside the judgements, by name or id."""

    items: Mapping[str, Item]
    annotators: Mapping[str, Any]
    queue: Mapping[str, Any]


def pseudonyms(store: PreferenceStore) -> dict[str, str]:
    """annotator-1, annotator-2, … in the order of arrival: the same person has the same one in every export."""
    return {name: f"annotator-{number}" for number, name in enumerate(store.annotators(), start=1)}


def raw_rows(store: PreferenceStore, aliases: Aliases | None = None) -> list[Row]:
    """`RAW`: every revision that was ever recorded, in the order of submission; whoever is excluded is marked.

    `aliases` are written in place of the annotators' names, which the ids of repeats hold too; notes stay as they are.
    """
    with store.database.read() as connection:
        history, about = judgements_of(connection, None), _about(connection)
    return [_raw(said, about, aliases or {}) for said in history]


def aggregated_rows(
    items: Sequence[Item], found: Aggregate, pairs: Iterable[Mapping[str, Any]], aliases: Aliases | None = None
) -> list[Row]:
    """`AGGREGATED`: `pairs` are the rows of the votes' pairs, in their order, to which who voted and the texts come."""
    votes, known = found.votes, {item.id: item for item in items}
    voters: list[list[str]] = [[] for _ in votes.pairs]
    for pair, annotator in zip(votes.pair.tolist(), votes.annotator.tolist(), strict=True):
        name = votes.annotators[annotator]
        voters[pair].append((aliases or {}).get(name, name))
    size = np.bincount(votes.pair, minlength=len(votes.pairs))
    strength = np.bincount(votes.pair, weights=votes.strength, minlength=len(votes.pairs)) / size
    rows = []
    for pair, row, names, mean in zip(votes.pairs, pairs, voters, strength.tolist(), strict=True):
        item = known[pair.item]
        new: Row = {**row, "annotators": names, "strength": mean, "prompt": turns(item.prompt)}
        answers = {"first": item.answers[pair.first], "second": item.answers[pair.second]}
        new |= {f"{place}_answer": turns(answer.messages) for place, answer in answers.items()}
        new |= {f"{place}_model": answer.model for place, answer in answers.items()}
        rows.append(new | {f"{place}_version": answer.version for place, answer in answers.items()})
    return rows


def preference_rows(preferences: Iterable[Preference]) -> list[Row]:
    """`PREFERENCES`: without the votes behind them, which training on probabilities does not need."""
    return [
        {
            "prompt": turns(each.prompt),
            "chosen": turns(each.chosen),
            "rejected": turns(each.rejected),
            "probability": each.probability,
            "margin": each.margin,
        }
        for each in preferences
    ]


def rankings(items: Sequence[Item], judgements: Iterable[Judgement]) -> list[Ranking]:
    """Each ranking by itself, its answers from best to worst, in the order of the judgements."""
    known = {item.id: item for item in items}
    return [
        Ranking(known[said.item].prompt, tuple(known[said.item].answers[place].messages for place in said.order))
        for said in judgements
        if said.order is not None
    ]


def ranking_rows(ranked: Iterable[Ranking]) -> list[Row]:
    """`RANKINGS`."""
    return [{"prompt": turns(each.prompt), "completions": [turns(one) for one in each.completions]} for each in ranked]


def turns(conversation: Conversation) -> list[dict[str, str]]:
    """A conversation as lists of messages are usually written."""
    return [{"role": message.role, "content": message.content} for message in conversation]


def _about(connection: Connection) -> _About:
    return _About(
        {item.id: item for item in items_of(connection, None)},
        {row.name: row for row in connection.execute(select(schema.annotators))},
        {row.item: row for row in connection.execute(select(schema.queue))},
    )


def _raw(said: Judgement, about: _About, aliases: Aliases) -> Row:
    item, who, queued = about.items[said.item], about.annotators[said.annotator], about.queue.get(said.item)
    name, id = aliases.get(said.annotator, said.annotator), said.item
    if aliases and queued is not None and queued.purpose == "repeat":
        id = f"{queued.repeats}~{name}"  # the id that `queue.repeat` makes, which holds the name
    return {
        "item": id,
        "annotator": name,
        "role": who.role,
        "state": who.state,
        "shown": list(said.shown),
        "kind": said.kind,
        "pressed": said.pressed,
        "order": None if said.order is None else list(said.order),
        "revision": said.revision,
        "note": said.note,
        "reason": said.reason,
        "guideline": said.guideline,
        "served": said.served,
        "seen": said.seen,
        "submitted": said.submitted,
        "purpose": "ordinary" if queued is None else queued.purpose,
        "expected": None if queued is None else queued.expected,
        "repeats": None if queued is None else queued.repeats,
        "selection": None if queued is None else queued.selection,
        "propensity": None if queued is None else queued.propensity,
        "prompt": turns(item.prompt),
        "answers": [turns(answer.messages) for answer in item.answers],
        "models": [answer.model for answer in item.answers],
        "versions": [answer.version for answer in item.answers],
    }
