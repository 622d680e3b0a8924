"""Between the nouns and the rows of the tables: items with their answers, judgements, places."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, and_, bindparam, exists, literal, select
from sqlalchemy.sql.expression import Select

from keel.preferences import schema
from keel.preferences.judgement import Answer, Item, Judgement
from keel.types import Conversation, Message

_said, _later = schema.judgements.c, schema.judgements.alias().c
STANDING = and_(
    _said.kind != "withdrawn",
    ~exists().where(
        _later.item == _said.item, _later.annotator == _said.annotator, _later.supersedes == _said.revision
    ),
)
"""Of a judgement: that its annotator says so now."""

_KEYS = 500  # keys in one IN (…): under every database's limit


def chunks(keys: Iterable[str] | None) -> Iterator[list[str] | None]:
    """The keys in lists that fit into one statement; None, for all rows, as it is."""
    if keys is None:
        yield None
        return
    unique = sorted(set(keys))
    for start in range(0, len(unique), _KEYS):
        yield unique[start : start + _KEYS]


def storable(text: str) -> bool:
    """Whether every database can hold the text: PostgreSQL takes no NUL, and half a surrogate pair is no UTF-8."""
    return not any(letter == "\0" or "\ud800" <= letter <= "\udfff" for letter in text)


def turns(messages: Conversation) -> list[list[str]]:
    """A conversation as JSON."""
    return [[message.role, message.content] for message in messages]


def conversation(rows: list[list[str]]) -> Conversation:
    """The other way."""
    return tuple(Message(role, content) for role, content in rows)


def places(shown: Sequence[int]) -> str:
    """Answers by position, in the order in which they stand: "1 0"."""
    return " ".join(map(str, shown))


def positions(text: str) -> tuple[int, ...]:
    """The other way."""
    return tuple(map(int, text.split()))


def items_of(connection: Connection, ids: Sequence[str] | None) -> list[Item]:
    """All items, or those of `ids` that are known, in the order of arrival."""
    items, answers = schema.items, schema.answers
    prompts: list[Any] = []
    completions: dict[str, list[Answer]] = {}
    for some in chunks(ids):
        prompts += connection.execute(select(items).where(literal(True) if some is None else items.c.id.in_(some)))
        rows = connection.execute(
            select(answers)
            .where(literal(True) if some is None else answers.c.item.in_(some))
            .order_by(answers.c.position)
        )
        for row in rows:
            answer = Answer(conversation(row.messages), row.model, row.version)
            completions.setdefault(row.item, []).append(answer)
    prompts.sort(key=lambda row: row.number)
    return [Item(row.id, conversation(row.prompt), tuple(completions[row.id])) for row in prompts]


_ITEM = (
    select(schema.items.c.prompt, schema.answers.c.messages, schema.answers.c.model, schema.answers.c.version)
    .join(schema.answers, schema.answers.c.item == schema.items.c.id)
    .where(schema.items.c.id == bindparam("id"))
    .order_by(schema.answers.c.position)
)


def item_of(connection: Connection, id: str) -> Item:
    """The item of this id, which the store holds."""
    rows = connection.execute(_ITEM, {"id": id}).all()
    answers = tuple(Answer(conversation(row.messages), row.model, row.version) for row in rows)
    return Item(id, conversation(rows[0].prompt), answers)


def item_rows(item: Item) -> list[dict[str, Any]]:
    """The rows of an item's answers."""
    return [
        {
            "item": item.id,
            "position": position,
            "messages": turns(answer.messages),
            "model": answer.model,
            "version": answer.version,
        }
        for position, answer in enumerate(item.answers)
    ]


def judgements_of(connection: Connection, items: Iterable[str] | None) -> list[Judgement]:
    """Every revision, of all items or of some, in the order of submission."""
    said = schema.judgements
    rows: list[Any] = []
    for some in chunks(items):
        rows += connection.execute(select(said).where(literal(True) if some is None else said.c.item.in_(some)))
    return [judgement(row) for row in sorted(rows, key=lambda row: row.number)]


def standing() -> Select[Any]:
    """What every annotator now says: the rows that no later revision supersedes, without the withdrawn, in order."""
    return select(schema.judgements).where(STANDING).order_by(_said.number)


def row(judgement: Judgement) -> dict[str, Any]:
    """A judgement as a row."""
    return {
        "item": judgement.item,
        "annotator": judgement.annotator,
        "shown": places(judgement.shown),
        "revision": judgement.revision,
        "supersedes": judgement.revision - 1 or None,
        "kind": judgement.kind,
        "pressed": judgement.pressed,
        "order": None if judgement.order is None else places(judgement.order),
        "note": judgement.note,
        "reason": judgement.reason,
        "guideline": judgement.guideline,
        "served": judgement.served,
        "seen": judgement.seen,
        "submitted": judgement.submitted,
    }


def judgement(row: Any) -> Judgement:
    """The other way."""
    return Judgement(
        item=row.item,
        annotator=row.annotator,
        shown=positions(row.shown),
        kind=row.kind,
        pressed=row.pressed,
        note=row.note,
        guideline=row.guideline,
        served=row.served,
        submitted=row.submitted,
        revision=row.revision,
        order=None if row.order is None else positions(row.order),
        seen=row.seen,
        reason=row.reason,
    )
