"""The desk, one call at a time, under a clock that is set by hand."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import update

from keel.preferences import schema
from keel.preferences.desk import Desk
from keel.preferences.judgement import Assignment, Decline
from keel.preferences.leases import LeaseLostError, Verdict

from .desk_kit import LEFT, RIGHT, START, TIE, Office, names, one, say


def test_what_is_served_and_what_comes_back(shop: Office) -> None:
    shop.stock("x")
    served = one(shop, "ann")
    shop.clock.now += 7
    assert (served.served, served.expires, served.shown.revision) == (START, START + 60, 1)
    stands = served.shown.assignment
    assert [answer[0].content for answer in served.shown.answers] == [f"x {place}" for place in stands.shown]
    assert "model" not in repr(served)
    receipt = shop.desk.submit("ann", served.token, Verdict(pressed=2, note="Ü", seen=START + 1), guideline="3")
    (said,) = shop.store.history()
    assert (receipt.judgement, receipt.repeated) == (said, False)
    assert (said.item, said.annotator, said.shown, said.pressed) == ("x", "ann", stands.shown, 2)
    assert (said.note, said.guideline, said.served, said.seen, said.submitted) == (
        "Ü",
        "3",
        START,
        START + 1,
        START + 7,
    )
    assert shop.desk.serve("ann") == []


def test_serving_again_shows_the_same_and_prolongs_it(shop: Office) -> None:
    shop.stock("x", "y", "z")
    first = shop.desk.serve("ann", 2)
    shop.clock.now += 50
    again = shop.desk.serve("ann", 2)
    assert [(each.token, each.shown, each.served) for each in again] == [
        (each.token, each.shown, START) for each in first
    ]
    assert [each.expires for each in again] == [START + 110] * 2
    shop.clock.now += 50
    assert names(shop.desk.serve("ann")) == names(first)[:1]
    held = {row.item: row.expires for row in shop.rows("assignments")}
    assert held == {names(first)[0]: START + 160, names(first)[1]: START + 110}  # only what is served is prolonged


def test_never_more_than_wanted_at_once(shop: Office) -> None:
    shop.stock("x", wanted=2)
    assert names(shop.desk.serve("ann", 5)) == names(shop.desk.serve("bob", 5)) == ["x"]
    assert shop.desk.serve("cat") == []


def test_the_place_is_free_when_the_lease_is_over_not_before(shop: Office) -> None:
    shop.stock("x")
    one(shop, "ann")
    shop.clock.now = START + 59.999
    assert shop.desk.serve("bob") == []
    shop.clock.now = START + 60
    assert names(shop.desk.serve("bob")) == ["x"]
    assert shop.desk.serve("ann") == []


def test_a_late_verdict_counts_while_nobody_has_the_place(shop: Office) -> None:
    shop.stock("x")
    served = one(shop, "ann")
    shop.clock.now += 600
    assert not shop.desk.submit("ann", served.token, LEFT).repeated
    assert [said.pressed for said in shop.store.judgements()] == [-1]


@pytest.mark.parametrize("answered", [False, True])
def test_a_late_verdict_is_lost_once_somebody_has_the_place(shop: Office, answered: bool) -> None:
    shop.stock("x")
    late = one(shop, "ann")
    shop.clock.now += 60
    other = one(shop, "bob")
    if answered:
        shop.desk.submit("bob", other.token, RIGHT)
    with pytest.raises(LeaseLostError, match="took longer"):
        shop.desk.submit("ann", late.token, LEFT)
    assert len(shop.store.history()) == answered
    shop.clock.now += 60  # where bob did not answer, the place is free again, and ann's token good again
    if not answered:
        assert one(shop, "ann").token == late.token
        shop.desk.submit("ann", late.token, LEFT)
        with pytest.raises(LeaseLostError):
            shop.desk.submit("bob", other.token, RIGHT)


def test_clocks_that_differ_cannot_give_a_place_twice(shop: Office) -> None:
    """A second server, whose clock is fast, takes for over what the first takes for held."""
    fast = Desk(shop.database, shop.desk.rules, clock=lambda: START + 100)
    shop.stock("x")
    anns = one(shop, "ann")
    (bobs,) = fast.serve("bob")
    with pytest.raises(LeaseLostError, match="no longer held"):
        shop.desk.heartbeat("ann", anns.token)
    with pytest.raises(LeaseLostError, match="somebody else has it"):
        shop.desk.submit("ann", anns.token, LEFT)
    fast.submit("bob", bobs.token, RIGHT)
    assert [said.annotator for said in shop.store.judgements()] == ["bob"]
    shop.clock.now += 100


def test_the_time_is_read_when_it_is_ones_turn(shop: Office) -> None:
    """Who has waited for the database must not judge leases by the time at which it began to wait."""
    shop.stock("x")
    anns = one(shop, "ann")
    with ThreadPoolExecutor(1) as pool:
        with shop.database.write():
            waiting = pool.submit(shop.desk.serve, "bob")
            time.sleep(0.2)
            shop.clock.now += 60
        (bobs,) = waiting.result(20)
        assert bobs.served == START + 60
        with shop.database.write() as connection:
            waiting = pool.submit(shop.desk.heartbeat, "ann", anns.token)  # type: ignore[arg-type]
            time.sleep(0.2)
            shop.clock.now += 60
            connection.execute(update(schema.assignments).values(expires=shop.clock.now))
        with pytest.raises(LeaseLostError):
            waiting.result(20)


def test_a_heartbeat_keeps_the_place_while_it_is_held(shop: Office) -> None:
    shop.stock("x")
    served = one(shop, "ann")
    for _ in range(5):
        shop.clock.now += 59
        assert shop.desk.heartbeat("ann", served.token) == shop.clock.now + 60
        assert shop.desk.serve("bob") == []
    for who, token in (("bob", served.token), ("ann", "no such token"), ("ann", "\0"), ("ann", "\ud800"), ("ann", "")):
        with pytest.raises(LeaseLostError):
            shop.desk.heartbeat(who, token)
    shop.clock.now += 60
    with pytest.raises(LeaseLostError, match="no longer held"):
        shop.desk.heartbeat("ann", served.token)
    served = one(shop, "ann")
    shop.desk.submit("ann", served.token, LEFT)
    with pytest.raises(LeaseLostError, match="no longer held"):
        shop.desk.heartbeat("ann", served.token)


def test_release_gives_the_place_away_at_once(shop: Office) -> None:
    shop.stock("x")
    served = one(shop, "ann")
    shop.desk.release("bob", served.token)  # not bob's
    assert shop.desk.serve("bob") == []
    shop.desk.release("ann", served.token)
    assert names(shop.desk.serve("bob")) == ["x"]
    shop.desk.release("ann", served.token)  # long gone: no matter
    shop.desk.release("ann", "\0")
    assert shop.desk.serve("cat") == []


def test_a_release_after_the_end_of_a_lease_changes_nothing(shop: Office) -> None:
    shop.stock("x")
    served = one(shop, "ann")
    shop.clock.now += 61
    shop.desk.release("ann", served.token)
    assert [row.expires for row in shop.rows("assignments")] == [START + 60]


def test_the_same_submission_again_changes_nothing(shop: Office) -> None:
    shop.stock("x")
    served = one(shop, "ann")
    first = shop.desk.submit("ann", served.token, Verdict(pressed=1, note="n", seen=START))
    shop.clock.now += 5
    again = shop.desk.submit("ann", served.token, Verdict(pressed=1, note="n", seen=START + 9))
    assert (again.judgement, again.repeated) == (first.judgement, True)
    for other in (Verdict(pressed=-1, note="n"), Verdict(pressed=1, note="m"), Verdict(decline="skip", note="n")):
        with pytest.raises(LeaseLostError, match="otherwise already"):
            shop.desk.submit("ann", served.token, other)
    shop.people.set_state("ann", "paused", "rita", "slow")
    assert shop.desk.submit("ann", served.token, Verdict(pressed=1, note="n")).repeated
    assert len(shop.store.history()) == 1


def test_who_may_not_submit(shop: Office) -> None:
    shop.stock("x")
    served = one(shop, "ann")
    for who, token in (("bob", served.token), ("eve", served.token), ("ann", served.token + "x"), ("ann", "\0")):
        with pytest.raises(LeaseLostError, match="out of date"):
            shop.desk.submit(who, token, LEFT)
    with pytest.raises(ValueError, match="no text"):
        shop.desk.submit("ann", served.token, LEFT, guideline="1\0")
    assert shop.store.history() == []


def test_nothing_is_served_to_who_wants_nothing(shop: Office) -> None:
    shop.stock("x", "y")
    one(shop, "ann")
    assert shop.desk.serve("ann", 0) == shop.desk.serve("ann", -1) == []
    assert names(shop.desk.serve("bob", 2)) != []


@pytest.mark.parametrize("kind", ["skip", "flag"])
def test_somebody_else_is_asked_instead_of_who_declines(shop: Office, kind: Decline) -> None:
    shop.stock("x")
    say(shop, "ann", Verdict(decline=kind, reason="why"))
    assert shop.desk.waiting() == 1
    assert shop.desk.serve("ann") == []
    say(shop, "bob")
    assert shop.desk.waiting() == 0
    assert shop.desk.serve("cat") == []
    assert [(said.kind, said.reason) for said in shop.store.history()] == [(kind, "why"), ("comparison", "")]


def test_both_bad_counts(shop: Office) -> None:
    shop.stock("x")
    say(shop, "ann", Verdict(decline="both_bad"))
    assert shop.desk.waiting() == 0
    assert shop.desk.serve("bob") == []


def test_undo_brings_the_latest_back(shop: Office) -> None:
    shop.stock("x", "y")
    first = say(shop, "ann")
    shop.clock.now += 1
    token = one(shop, "ann").token
    shop.desk.submit("ann", token, RIGHT)
    last = shop.store.history()[-1]
    shop.clock.now += 1
    undone = shop.desk.undo("ann")
    assert undone is not None
    assert undone.shown.assignment == Assignment(last.item, "ann", last.shown)
    assert (undone.shown.revision, undone.served, undone.expires) == (3, START + 2, START + 62)
    assert [said.item for said in shop.store.judgements()] == [first]
    assert shop.desk.serve("bob", 2) == []  # ann has her place again
    with pytest.raises(LeaseLostError, match="out of date"):  # the old page
        shop.desk.submit("ann", token, RIGHT)
    shop.desk.submit("ann", undone.token, TIE)
    assert [(said.item, said.pressed) for said in shop.store.judgements()] == [(first, -1), (last.item, 0)]
    assert [said.kind for said in shop.store.history()][2:] == ["withdrawn", "comparison"]


def test_undo_goes_back_step_by_step_and_ends(shop: Office) -> None:
    shop.stock("x", "y", "z")
    order = [say(shop, "ann") for _ in range(3)]
    back = [shop.desk.undo("ann") for _ in range(3)]
    assert [each.shown.assignment.item for each in back if each] == order[::-1]
    assert shop.desk.undo("ann") is None
    assert shop.desk.undo("bob") is None
    assert shop.store.judgements() == []


def test_an_undo_that_is_sent_twice_undoes_once(shop: Office) -> None:
    """The token names what is to be taken back; by the second time that is no longer the latest."""
    shop.stock("x", "y")
    say(shop, "ann")
    served = one(shop, "ann")
    kept = shop.store.judgements()
    shop.desk.submit("ann", served.token, LEFT)
    again = shop.desk.undo("ann", served.token)
    assert again is not None
    assert again.shown.assignment == served.shown.assignment
    for token in (served.token, again.token, "nonsense"):
        with pytest.raises(LeaseLostError, match="not what you said last"):
            shop.desk.undo("ann", token)
    assert shop.store.judgements() == kept
    with pytest.raises(LeaseLostError, match="not what you said last"):
        shop.desk.undo("bob", served.token)


@pytest.mark.parametrize("answered", [False, True])
def test_a_skip_stays_where_somebody_else_has_the_place(shop: Office, answered: bool) -> None:
    shop.stock("x")
    say(shop, "ann", Verdict(decline="skip"))
    served = one(shop, "bob")
    if answered:
        shop.desk.submit("bob", served.token, LEFT)
    with pytest.raises(LeaseLostError, match="somebody else"):
        shop.desk.undo("ann")
    assert shop.store.judgements()[0].kind == "skip"
    shop.clock.now += 60
    if not answered:
        undone = shop.desk.undo("ann")
        assert undone is not None
        assert undone.shown.revision == 3
