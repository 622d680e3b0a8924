"""What annotators are told to look at, in versions: every judgement names the one that its annotator had read."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import func, insert, select

from keel.errors import UserError
from keel.preferences import schema
from keel.preferences.database import Database
from keel.preferences.rows import storable

_LONGEST = 100_000

DEFAULT = """\
Which answer would you rather have got, had you written the prompt yourself?

1. **Right before nice.** An answer that says something wrong, or leaves out what was asked for, is worse than a dull
   one.
2. **To the point.** Longer is not better. Words that add nothing count against an answer.
3. **Honest.** Flattery, and agreeing with a mistake in the prompt, count against an answer.

Press **4** where you see no difference that matters, *both bad* where neither could be used, and *skip* where you
cannot judge the subject. Flag what should not be shown to people at all.
"""
"""The guidelines of a database that has none of its own."""


@dataclass(frozen=True)
class Guideline:
    """Version (1, 2, …), text (Markdown), who wrote it (None: Keel), when (seconds since the epoch)."""

    version: int
    text: str
    author: str | None
    at: float


class Guidelines:
    """The guidelines of one database."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    def publish(self, text: str, author: str | None = None) -> Guideline:
        """A new version, from now on; the present one where the text is the same. Raises UserError on an empty text."""
        if not text.strip() or len(text) > _LONGEST:
            raise UserError(f"guidelines have 1 to {_LONGEST:,} characters; these have {len(text.strip()):,}.")
        if not storable(text):
            raise UserError("the guidelines hold a character that is no text (a NUL, or half a character); remove it.")
        table = schema.guidelines
        with self._database.write() as connection:
            newest = connection.execute(select(table).order_by(table.c.version.desc()).limit(1)).one_or_none()
            if newest is not None and newest.text == text:
                return Guideline(newest.version, newest.text, newest.author, newest.at)
            version = 1 + int(connection.execute(select(func.coalesce(func.max(table.c.version), 0))).scalar_one())
            new = Guideline(version, text, author, self._clock())
            connection.execute(insert(table), {"version": version, "text": text, "author": author, "at": new.at})
        return new

    def current(self) -> Guideline:
        """The newest version; `DEFAULT` is published where there is none."""
        table = schema.guidelines
        with self._database.read() as connection:
            row = connection.execute(select(table).order_by(table.c.version.desc()).limit(1)).one_or_none()
        return self.publish(DEFAULT) if row is None else Guideline(row.version, row.text, row.author, row.at)

    def version(self, number: int) -> Guideline:
        """A version by its number. Raises UserError where there is none."""
        table = schema.guidelines
        with self._database.read() as connection:
            row = connection.execute(select(table).where(table.c.version == number)).one_or_none()
        if row is None:
            raise UserError(f"there is no version {number} of the guidelines.")
        return Guideline(row.version, row.text, row.author, row.at)
