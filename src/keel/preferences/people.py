"""Who may come in: names and roles, invitations, sessions, tokens, and who may not go on for the moment.

What lets somebody in is a secret of 256 random bits. It is shown once and kept as its SHA-256 hash, so that whoever
reads the database cannot sign in with what stands there. (A password would need a slow hash; a random secret cannot be
guessed, however fast the hash.) Scopes:

    invitation   in the link that somebody gets; good once, for a session
    session      in the cookie of a browser
    label        for programs, as a bearer token: what an annotator may do
    review       what a reviewer may do as well
    admin        what an admin may do as well

A session may do what its person's role says; a program's token at most what its scope says, and no more than the role.
"""

import hashlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, and_, insert, select, update

from keel.errors import UserError
from keel.preferences import schema
from keel.preferences.counts import recount_of
from keel.preferences.database import Database
from keel.preferences.judgement import PROGRAMS, Role

Scope = Literal["invitation", "session", "label", "review", "admin"]
State = Literal["active", "paused", "excluded"]
Power = Literal["label", "review", "admin"]

_ROLES: dict[Role, tuple[Power, ...]] = {
    "annotator": ("label",),
    "reviewer": ("label", "review"),
    "admin": ("label", "review", "admin"),
}
_LONGEST_NAME = 80
_who, _tokens, _assigned = schema.annotators.c, schema.tokens.c, schema.assignments.c


class SignInError(Exception):
    """The link or token lets nobody in (any more). Says why, in a sentence."""


@dataclass(frozen=True)
class Person:
    """Somebody who has signed in, what they may do, and the token by which they came in (its number)."""

    name: str
    role: Role
    state: State
    powers: tuple[Power, ...]
    token: int


@dataclass(frozen=True)
class Lifetimes:
    """Seconds for which each kind of secret is good."""

    invitation: float = 7 * 86_400.0
    session: float = 14 * 86_400.0
    token: float = 365 * 86_400.0


@dataclass(frozen=True)
class Event:
    """Something that was done to somebody: at (seconds since the epoch), by whom, what, to whom, and why."""

    at: float
    by: str
    what: str
    whom: str
    why: str


class People:
    """The people of one database."""

    def __init__(
        self, database: Database, lifetimes: Lifetimes | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self._database = database
        self._lifetimes = lifetimes or Lifetimes()
        self._clock = clock

    def invite(self, name: str, role: Role, by: str = "command line") -> str:
        """The secret of a link that lets this person in once; makes the name known where it is new.

        Raises UserError where the name is empty, too long, or known with another role.
        """
        _check_name(name, role)
        with self._database.write() as connection:
            known = connection.execute(select(_who.role).where(_who.name == name)).scalar_one_or_none()
            if known is not None and known != role:
                raise UserError(f"{name!r} is already known as {known}; choose another name for the {role}.")
            if known is None:
                connection.execute(insert(schema.annotators), {"name": name, "role": role})
            self._note(connection, by, "invited", name, role)
            return self._secret(connection, name, "invitation", self._lifetimes.invitation)

    def issue(self, name: str, scope: Power, by: str = "command line") -> str:
        """The secret of a token for a program of this person. Raises UserError where the role does not allow it."""
        with self._database.write() as connection:
            role = connection.execute(select(_who.role).where(_who.name == name)).scalar_one_or_none()
            if role is None:
                raise UserError(f"nobody is called {name!r}; invite the name first.")
            if scope not in _ROLES.get(role, ()):
                raise UserError(f"{name!r} is {role}, which does not allow the scope '{scope}'.")
            self._note(connection, by, "issued token", name, scope)
            return self._secret(connection, name, scope, self._lifetimes.token)

    def invited(self, invitation: str) -> str:
        """Whose invitation this is, which stays as good as it was. Raises SignInError where it lets nobody in."""
        with self._database.read() as connection:
            return str(_good(connection, invitation, self._clock()).annotator)

    def sign_in(self, invitation: str) -> str:
        """The secret of a new session for an invitation, which is used up. Raises SignInError."""
        with self._database.write() as connection:
            now = self._clock()
            found = _good(connection, invitation, now)
            connection.execute(update(schema.tokens).where(_tokens.number == found.number).values(used=now))
            return self._secret(connection, found.annotator, "session", self._lifetimes.session)

    def who(self, secret: str, kind: Literal["session", "token"]) -> Person | None:
        """Whose session or program's token this is; None where it lets nobody in."""
        scopes = ("session",) if kind == "session" else ("label", "review", "admin")
        with self._database.read() as connection:
            found = connection.execute(
                select(schema.tokens, _who.role, _who.state)
                .join(schema.annotators, _who.name == _tokens.annotator)
                .where(
                    _tokens.hash == _hash(secret),
                    _tokens.scope.in_(scopes),
                    _tokens.revoked.is_(None),
                    _tokens.expires > self._clock(),
                )
            ).one_or_none()
        if found is None:
            return None
        powers = _ROLES.get(found.role, ())
        if kind == "token":
            powers = powers[: powers.index(found.scope) + 1] if found.scope in powers else ()
        return Person(found.annotator, found.role, found.state, powers, found.number)

    def sign_out(self, person: Person) -> None:
        """Revoke the session or token by which this person came in."""
        with self._database.write() as connection:
            connection.execute(
                update(schema.tokens).where(_tokens.number == person.token).values(revoked=self._clock())
            )

    def revoke(self, name: str, by: str) -> int:
        """Revoke every invitation, session and token of a person; returns how many were good until now.

        Raises UserError on an unknown name.
        """
        with self._database.write() as connection:
            now = self._clock()
            if connection.execute(select(_who.name).where(_who.name == name)).first() is None:
                raise UserError(f"nobody is called {name!r}.")
            unspent = and_(_tokens.used.is_(None), _tokens.expires > now)
            good = and_(_tokens.annotator == name, _tokens.revoked.is_(None), unspent)
            count = connection.execute(update(schema.tokens).where(good).values(revoked=now)).rowcount
            self._note(connection, by, "revoked", name, f"{count} secrets")
        return int(count)

    def set_state(self, name: str, state: State, by: str, why: str) -> None:
        """Let somebody go on, pause them, or exclude them. Raises UserError on an unknown name or a program.

        Judgements stay as they are. What is in front of somebody who may not go on is free for others at once; what
        excluded people have said no longer counts towards the people that an item is to have, so that others are asked.
        (Where they are let in again after others have judged in their place, an item may have more judgements than were
        wanted.)
        """
        with self._database.write() as connection:
            role = connection.execute(select(_who.role).where(_who.name == name)).scalar_one_or_none()
            if role is None or role in PROGRAMS:
                raise UserError(f"no person is called {name!r}.")
            connection.execute(update(schema.annotators).where(_who.name == name).values(state=state))
            if state != "active":
                theirs = and_(_assigned.annotator == name, _assigned.said.is_(None), _assigned.token.is_not(None))
                connection.execute(update(schema.assignments).where(theirs).values(expires=self._clock()))
            recount_of(connection, name)
            self._note(connection, by, state, name, why)

    def states(self) -> dict[str, State]:
        """Every name and whether it may go on, in the order of arrival."""
        with self._database.read() as connection:
            rows = connection.execute(select(_who.name, _who.state).order_by(_who.number))
            return {row.name: row.state for row in rows}

    def events(self) -> list[Event]:
        """What was done to whom, oldest first."""
        table = schema.events
        with self._database.read() as connection:
            rows = connection.execute(select(table).order_by(table.c.number))
            return [Event(row.at, row.by, row.what, row.whom, row.why) for row in rows]

    def _secret(self, connection: Connection, name: str, scope: Scope, lifetime: float) -> str:
        secret, now = secrets.token_urlsafe(32), self._clock()
        connection.execute(
            insert(schema.tokens),
            {"annotator": name, "hash": _hash(secret), "scope": scope, "created": now, "expires": now + lifetime},
        )
        return secret

    def _note(self, connection: Connection, by: str, what: str, whom: str, why: str) -> None:
        connection.execute(
            insert(schema.events), {"at": self._clock(), "by": by, "what": what, "whom": whom, "why": why}
        )


def _good(connection: Connection, invitation: str, now: float) -> Any:
    """The row of an invitation that lets somebody in; SignInError where it does not."""
    mine = and_(_tokens.hash == _hash(invitation), _tokens.scope == "invitation")
    found = connection.execute(select(schema.tokens).where(mine)).one_or_none()
    if found is None:
        raise SignInError("this sign-in link is not known here; ask for a new one.")
    if found.used is not None:
        raise SignInError("this sign-in link has been used; each works once. Ask for a new one.")
    if found.revoked is not None or found.expires <= now:
        raise SignInError("this sign-in link is no longer good; ask for a new one.")
    return found


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode(errors="surrogatepass")).hexdigest()


def _check_name(name: str, role: Role) -> None:
    if role in PROGRAMS:
        raise UserError(f"a {role} annotator cannot sign in; invite an annotator, a reviewer or an admin.")
    if not name.strip() or len(name) > _LONGEST_NAME or not name.isprintable():
        raise UserError(f"a name has 1 to {_LONGEST_NAME} printable characters; choose another.")
