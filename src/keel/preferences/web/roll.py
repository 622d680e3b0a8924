"""Everybody who is known, with what they have judged."""

from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import and_, func, select

from keel.preferences import schema
from keel.preferences.database import Database
from keel.preferences.judgement import COUNTED, Role
from keel.preferences.people import State


@dataclass(frozen=True)
class Known:
    """A name; `judgements` count (skips and flags do not); `last` is when one was handed in, epoch seconds."""

    name: str
    role: Role
    state: State
    judgements: int
    last: float | None

    def to_json(self) -> dict[str, Any]:
        """Names and JSON values."""
        return asdict(self)


def roll(database: Database) -> list[Known]:
    """In the order of arrival."""
    who, assigned, said = schema.annotators, schema.assignments.c, schema.judgements.c
    judged = and_(assigned.annotator == who.c.name, assigned.said.in_(COUNTED))
    counted = select(func.count()).select_from(schema.assignments).where(judged).scalar_subquery()
    last = select(func.max(said.submitted)).where(said.annotator == who.c.name).scalar_subquery()
    with database.read() as connection:
        rows = connection.execute(select(who, counted.label("judgements"), last.label("last")).order_by(who.c.number))
        return [Known(row.name, row.role, row.state, row.judgements, row.last) for row in rows]
