"""Who comes in: secrets are kept as hashes, work as often as they should, and end; people are paused and let go on."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import pytest

from keel.errors import UserError
from keel.preferences.judgement import Role
from keel.preferences.leases import Verdict
from keel.preferences.people import Event, Lifetimes, People, Person, Power, SignInError

from .desk_kit import START, Office, office

LIVES = Lifetimes(invitation=100.0, session=1000.0, token=10_000.0)


@pytest.fixture
def shop(place: str) -> Iterator[Office]:
    with office(place) as shop:
        shop.people = People(shop.database, LIVES, shop.clock)
        yield shop


def signed_in(shop: Office, name: str, role: Role = "annotator") -> str:
    return shop.people.sign_in(shop.people.invite(name, role))


def person(shop: Office, session: str) -> Person:
    found = shop.people.who(session, "session")
    assert found is not None
    return found


def everything_stored(shop: Office) -> str:
    return repr([shop.rows(table) for table in ("annotators", "tokens", "events", "assignments", "guidelines")])


def test_only_the_hash_of_a_secret_is_kept(shop: Office) -> None:
    invitation = shop.people.invite("ann", "admin")
    session, token = shop.people.sign_in(invitation), shop.people.issue("ann", "review")
    stored = {row.scope: row.hash for row in shop.rows("tokens")}
    secrets = {"invitation": invitation, "session": session, "review": token}
    assert stored == {scope: hashlib.sha256(secret.encode()).hexdigest() for scope, secret in secrets.items()}
    assert len(set(secrets.values())) == 3
    assert all(len(secret) >= 43 for secret in secrets.values())  # 256 bits, six to a letter
    text = everything_stored(shop)
    assert not any(secret in text for secret in secrets.values())
    for hashed in stored.values():  # what stands in the database lets nobody in
        assert shop.people.who(hashed, "session") is None
        with pytest.raises(SignInError):
            shop.people.sign_in(hashed)


def test_an_invitation_works_once(shop: Office) -> None:
    invitation = shop.people.invite("ann", "annotator")
    session = shop.people.sign_in(invitation)
    assert person(shop, session).name == "ann"
    with pytest.raises(SignInError, match="has been used"):
        shop.people.sign_in(invitation)
    assert person(shop, session).name == "ann"


def test_an_invitation_works_once_however_many_try(shop: Office) -> None:
    invitation = shop.people.invite("ann", "annotator")

    def attempt(_: int) -> str | None:
        try:
            return shop.people.sign_in(invitation)
        except SignInError:
            return None

    with ThreadPoolExecutor(12) as pool:
        sessions = [session for session in pool.map(attempt, range(12)) if session is not None]
    assert len(sessions) == 1
    assert person(shop, sessions[0]).name == "ann"


def test_a_secret_is_good_for_its_own_purpose_alone(shop: Office) -> None:
    invitation = shop.people.invite("ann", "annotator")
    session = signed_in(shop, "bob")
    token = shop.people.issue("bob", "label")
    for secret, kind in product((invitation, session, token), ("session", "token")):
        good = (secret, kind) in ((session, "session"), (token, "token"))
        assert (shop.people.who(secret, kind) is not None) == good  # type: ignore[arg-type]
    for secret in (session, token, "", "\0", "\ud800", invitation + "x"):
        with pytest.raises(SignInError, match="not known"):
            shop.people.sign_in(secret)
        assert shop.people.who(secret + "?", "session") is None


def test_every_secret_ends(shop: Office) -> None:
    session, token = signed_in(shop, "ann"), shop.people.issue("ann", "label")
    late, last = shop.people.invite("ann", "annotator"), shop.people.invite("ann", "annotator")
    shop.clock.now = START + 99.9
    shop.people.sign_in(last)
    shop.clock.now = START + 100
    with pytest.raises(SignInError, match="no longer good"):
        shop.people.sign_in(late)
    for kind, secret, end in (("session", session, 1000.0), ("token", token, 10_000.0)):
        shop.clock.now = START + end - 0.1
        assert shop.people.who(secret, kind) is not None  # type: ignore[arg-type]
        shop.clock.now = START + end
        assert shop.people.who(secret, kind) is None  # type: ignore[arg-type]


def test_signing_out_ends_one_session(shop: Office) -> None:
    one, other = signed_in(shop, "ann"), signed_in(shop, "ann")
    shop.people.sign_out(person(shop, one))
    assert shop.people.who(one, "session") is None
    assert person(shop, other).name == "ann"


def test_revoking_ends_everything_of_one_person(shop: Office) -> None:
    spent = shop.people.invite("ann", "annotator")
    session, token = shop.people.sign_in(spent), shop.people.issue("ann", "label")
    waiting, others = shop.people.invite("ann", "annotator"), signed_in(shop, "bob")
    shop.people.sign_out(person(shop, signed_in(shop, "ann")))
    assert shop.people.revoke("ann", by="rita") == 3  # the session, the token, and the link that nobody has used
    assert shop.people.who(session, "session") is shop.people.who(token, "token") is None
    with pytest.raises(SignInError, match="no longer good"):
        shop.people.sign_in(waiting)
    assert person(shop, others).name == "bob"
    assert shop.people.revoke("ann", by="rita") == 0
    assert person(shop, signed_in(shop, "ann")).name == "ann"  # who is invited again comes in again
    with pytest.raises(UserError, match="nobody is called 'eve'"):
        shop.people.revoke("eve", by="rita")


POWERS: dict[Role, tuple[Power, ...]] = {
    "annotator": ("label",),
    "reviewer": ("label", "review"),
    "admin": ("label", "review", "admin"),
}


@pytest.mark.parametrize("role", sorted(POWERS))
def test_powers_follow_the_role_and_the_scope(shop: Office, role: Role) -> None:
    found = person(shop, signed_in(shop, "ann", role))
    assert (found.role, found.state, found.powers) == (role, "active", POWERS[role])
    for scope in ("label", "review", "admin"):
        if scope in POWERS[role]:
            program = shop.people.who(shop.people.issue("ann", scope), "token")
            assert program is not None
            assert program.powers == POWERS["admin"][: POWERS["admin"].index(scope) + 1]
        else:
            with pytest.raises(UserError, match=f"does not allow the scope '{scope}'"):
                shop.people.issue("ann", scope)


def test_who_can_be_invited(shop: Office) -> None:
    shop.hire("program", role="simulated")
    for name in ("", "  ", "x" * 81, "a\nb", "a\0b", "a\u202eb", "\ud800"):
        with pytest.raises(UserError, match="printable characters"):
            shop.people.invite(name, "annotator")
    with pytest.raises(UserError, match="cannot sign in"):
        shop.people.invite("robot", "simulated")
    with pytest.raises(UserError, match="already known as simulated"):
        shop.people.invite("program", "annotator")
    shop.people.invite("Zoë O'Hara <b>", "annotator")
    with pytest.raises(UserError, match="already known as annotator"):
        shop.people.invite("Zoë O'Hara <b>", "admin")
    with pytest.raises(UserError, match="nobody is called"):
        shop.people.issue("eve", "label")
    with pytest.raises(UserError, match="does not allow"):
        shop.people.issue("program", "label")
    assert shop.store.annotators() == {"program": "simulated", "Zoë O'Hara <b>": "annotator"}


def test_states_and_who_set_them(shop: Office) -> None:
    session = signed_in(shop, "ann")
    shop.hire("program", role="simulated")
    shop.clock.now += 5
    shop.people.set_state("ann", "paused", "rita", "too fast")
    assert shop.people.states() == {"ann": "paused", "program": "active"}
    assert person(shop, session).state == "paused"
    shop.people.set_state("ann", "active", "rita", "")
    assert person(shop, session).state == "active"
    for name in ("eve", "program"):
        with pytest.raises(UserError, match=f"no person is called '{name}'"):
            shop.people.set_state(name, "paused", "rita", "")
    assert shop.people.events() == [
        Event(START, "command line", "invited", "ann", "annotator"),
        Event(START + 5, "rita", "paused", "ann", "too fast"),
        Event(START + 5, "rita", "active", "ann", ""),
    ]


def test_excluding_somebody_asks_others_and_keeps_what_was_said(shop: Office) -> None:
    shop.hire("ann", "bob")
    shop.stock("x", "y", wanted=1)
    for served in shop.desk.serve("ann", 2):
        shop.desk.submit("ann", served.token, Verdict(pressed=1))
    assert shop.desk.waiting() == 0
    shop.people.set_state("ann", "excluded", "rita", "spam")
    assert (shop.desk.waiting(), len(shop.store.judgements()), shop.store.counted()) == (2, 2, [])
    assert [row.done for row in shop.rows("queue")] == [False, False]
    shop.people.set_state("ann", "active", "rita", "it was somebody else")
    assert (shop.desk.waiting(), len(shop.store.counted())) == (0, 2)
    assert [row.done for row in shop.rows("queue")] == [True, True]
