"""How much there is to judge, and how much has been judged: what the command line says of a database."""

from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import and_, func, select

from keel.preferences import schema
from keel.preferences.counts import to_come
from keel.preferences.database import Database
from keel.preferences.judgement import COUNTED, PROGRAMS

_queue, _assigned, _who = schema.queue.c, schema.assignments.c, schema.annotators.c


@dataclass(frozen=True)
class Stock:
    """`items` are queued, `done` of them have all judgements that are wanted; `missing` judgements are still to come,
    and `judgements` by people have been made, gold items and repeats included."""

    items: int
    done: int
    missing: int
    judgements: int

    def __str__(self) -> str:
        return f"{self.done} of {self.items} items are done; {self.missing} judgements are still wanted."

    def to_json(self) -> dict[str, Any]:
        """Names and JSON values."""
        return asdict(self)


def stock(database: Database) -> Stock:
    """Of one database."""
    ordinary = and_(_queue.purpose == "ordinary", _queue.aside.is_(False))
    people = and_(_who.name == _assigned.annotator, _who.role.not_in(PROGRAMS))
    judged = (
        select(func.count())
        .select_from(schema.assignments.join(schema.annotators, people))
        .where(_assigned.said.in_(COUNTED))
    )
    items = select(func.count()).select_from(schema.queue).where(ordinary)
    queries = (items, items.where(_queue.done.is_(True)), judged)
    with database.read() as connection:
        queued, done, judgements = (int(connection.execute(query).scalar_one()) for query in queries)
        return Stock(queued, done, to_come(connection), judgements)


def nothing_is_queued(database: Database) -> bool:
    """Whether nobody has been asked about anything yet."""
    with database.read() as connection:
        return connection.execute(select(_queue.item).limit(1)).first() is None
