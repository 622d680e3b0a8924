"""What the desk asks about and when: rankings, order, pauses, gold, repeats, propensities."""

import itertools
from collections import Counter
from collections.abc import Callable
from random import Random

import pytest
from sqlalchemy import select

from keel.errors import UserError
from keel.preferences import schema
from keel.preferences.judgement import Assignment, Item
from keel.preferences.leases import LeaseLostError, NotWelcomeError, Rules, Verdict
from keel.preferences.queue import enter

from .desk_kit import LEFT, RIGHT, START, Office, audit, names, office, one, rules, say
from .tables import item


def test_ranking(shop: Office) -> None:
    shop.stock("three", answers=3, ranked=True)
    shop.stock("two", ranked=True)
    both = {each.shown.assignment.item: each for each in shop.desk.serve("ann", 2)}
    shown = both["three"].shown.assignment.shown
    assert sorted(shown) == [0, 1, 2]
    assert both["two"].shown.assignment.ranked is False
    for wrong in (LEFT, Verdict(places=(0, 1)), Verdict(places=(0, 1, 1))):
        with pytest.raises(ValueError, match="item three"):
            shop.desk.submit("ann", both["three"].token, wrong)
    with pytest.raises(ValueError, match="compared, not ranked"):
        shop.desk.submit("ann", both["two"].token, Verdict(places=(1, 0)))
    with pytest.raises(ValueError, match="not within"):
        shop.desk.submit("ann", both["two"].token, Verdict(pressed=4))
    said = shop.desk.submit("ann", both["three"].token, Verdict(places=(2, 0, 1))).judgement
    assert said.order == (shown[2], shown[0], shown[1])
    assert shop.desk.submit("ann", both["three"].token, Verdict(places=(2, 0, 1))).repeated
    assert shop.store.judgements() == [said]


def test_two_of_many_answers_are_compared_unless_ranked(shop: Office) -> None:
    shop.stock("x", answers=4)
    assert len(one(shop, "ann").shown.answers) == 2


def test_begun_items_come_first_in_the_order_in_which_they_entered(shop: Office) -> None:
    shop.stock("u", "v", "w", "x", "y", wanted=2)
    entered = []
    for _ in range(3):
        entered.append(say(shop, "ann"))
        shop.clock.now += 1
    assert [say(shop, "bob") for _ in range(3)] == entered
    assert say(shop, "bob") not in entered


def test_a_place_behind_many_that_are_held_is_found(shop: Office) -> None:
    shop.stock(*(f"i{number}" for number in range(70)))
    assert len(shop.desk.serve("bob", 70)) == 70
    shop.clock.now += 1
    shop.stock("last", wanted=2)
    assert "last" in names(shop.desk.serve("bob", 71))
    assert names(shop.desk.serve("ann", 2)) == ["last"]


def test_a_clock_that_stands_still_is_no_matter(shop: Office) -> None:
    shop.stock(*"abcdefgh", wanted=3)
    for who in ("ann", "bob", "cat"):
        assert sorted(say(shop, who) for _ in range(8)) == list("abcdefgh")
    assert shop.desk.waiting() == 0


def test_waiting_counts_what_is_still_to_come(shop: Office) -> None:
    shop.stock("x", "y", wanted=2)
    shop.stock("z", wanted=3)
    assert shop.desk.waiting() == 7
    served = shop.desk.serve("ann", 3)
    assert shop.desk.waiting() == 7
    for each in served:
        shop.desk.submit("ann", each.token, LEFT)
    assert shop.desk.waiting() == 4
    undone = shop.desk.undo("ann")
    assert undone is not None
    assert shop.desk.waiting() == 5
    shop.desk.set_aside("x", True)
    assert shop.desk.waiting() == 5 - (2 if undone.shown.assignment.item == "x" else 1)
    shop.desk.set_aside("x", False)
    assert shop.desk.waiting() == 5


def test_set_aside_and_back(shop: Office) -> None:
    shop.stock("x")
    served = one(shop, "ann")
    shop.desk.set_aside("x", True)
    assert shop.desk.serve("ann") == shop.desk.serve("bob") == []
    shop.desk.set_aside("x", False)
    assert one(shop, "ann").token == served.token
    shop.desk.set_aside("x", True)
    shop.desk.submit("ann", served.token, LEFT)  # who has it before them may finish
    assert len(shop.store.judgements()) == 1
    with pytest.raises(UserError, match="no item '\\?'"):
        shop.desk.set_aside("?", True)


@pytest.mark.parametrize("state", ["paused", "excluded"])
def test_who_may_not_go_on(shop: Office, state: str) -> None:
    shop.stock("x", "y")
    first, second = shop.desk.serve("ann", 2)
    shop.desk.submit("ann", first.token, LEFT)
    shop.people.set_state("ann", state, "rita", "why")  # type: ignore[arg-type]
    for call in (
        lambda: shop.desk.serve("ann"),
        lambda: shop.desk.undo("ann"),
        lambda: shop.desk.submit("ann", second.token, LEFT),
    ):
        with pytest.raises(NotWelcomeError, match=state):
            call()
    with pytest.raises(LeaseLostError):
        shop.desk.heartbeat("ann", second.token)
    # what was in front of ann is free; what an excluded person has said is asked again, and stays
    expected = {"x", "y"} if state == "excluded" else {second.shown.assignment.item}
    assert shop.desk.waiting() == len(expected)
    bobs = shop.desk.serve("bob", 3)
    assert set(names(bobs)) == expected
    assert len(shop.store.judgements()) == 1
    shop.people.set_state("ann", "active", "rita", "sorry")
    assert shop.desk.serve("ann") == []
    audit(shop, {first.shown.assignment.item: state == "excluded"})
    for each in bobs:
        shop.desk.release("bob", each.token)


def test_a_place_that_was_planned_for_somebody_is_theirs_until_they_are_paused(shop: Office) -> None:
    shop.stock("x", "y")
    shop.store.assign([Assignment("y", "ann", (1, 0))])
    assert names(shop.desk.serve("bob", 2)) == ["x"]
    shop.people.set_state("ann", "paused", "rita", "ill")
    assert names(shop.desk.serve("bob", 2)) == ["x", "y"]
    shop.people.set_state("ann", "active", "rita", "well")
    assert shop.desk.serve("ann") == []


def test_a_planned_place_keeps_its_sides(shop: Office) -> None:
    shop.stock("y")
    shop.store.assign([Assignment("y", "ann", (1, 0))])
    served = one(shop, "ann")
    assert served.shown.assignment.shown == (1, 0)
    shop.desk.submit("ann", served.token, LEFT)
    assert shop.store.judgements()[0].strength == 1


def test_unknown_people_and_programs_are_not_served(shop: Office) -> None:
    shop.hire("program", role="simulated")
    shop.stock("x")
    for who in ("eve", "program"):
        with pytest.raises(NotWelcomeError, match=who):
            shop.desk.serve(who)


def test_what_programs_say_takes_nobodys_place(shop: Office) -> None:
    shop.hire("program", role="simulated")
    shop.stock("x")
    shop.store.assign([Assignment("x", "program", (0, 1))])
    shop.store.record(shop.store.ask("program")[0].press(1))
    assert shop.desk.waiting() == 1
    assert say(shop, "ann") == "x"


def test_enqueue(shop: Office) -> None:
    assert shop.stock("x", "y", wanted=2, priority={"x": 3.0}) == 2
    assert shop.desk.enqueue([item("x", "x 0", "x 1")] * 2, 5, priority={"y": -1.0, "?": 2.0}) == 0
    assert {id: (row.wanted, row.priority) for id, row in shop.queue().items()} == {"x": (2, 3.0), "y": (2, -1.0)}
    shop.store.add_items([item("z"), item("zz")])
    assert shop.desk.enqueue([item("z"), item("z"), item("zz")], {"z": 1, "zz": 4}) == 2
    assert {id: row.wanted for id, row in shop.queue().items()} == {"x": 2, "y": 2, "z": 1, "zz": 4}
    shop.store.add_items([item("new")])
    with pytest.raises(ValueError, match="not in the store"):
        shop.desk.enqueue([item("unknown")], 1)
    with pytest.raises(ValueError, match="item new: 0 people"):
        shop.desk.enqueue([item("new")], 0)
    with pytest.raises(ValueError, match="priority nan"):
        shop.desk.enqueue([item("new")], 1, priority={"new": float("nan")})
    with pytest.raises(ValueError, match="item x: its priority inf"):
        shop.desk.enqueue([], 1, priority={"x": float("inf")})
    assert len(shop.queue()) == 4


def test_what_was_said_before_the_item_is_queued_counts(shop: Office) -> None:
    shop.store.add_items([item("x"), item("y")])
    shop.store.assign([Assignment("x", "ann", (0, 1))])
    shop.store.record(shop.store.ask("ann")[0].press(1))
    shop.desk.enqueue([item("x"), item("y")], 1)
    assert shop.desk.waiting() == 1
    assert names(shop.desk.serve("bob", 2)) == ["y"]
    assert shop.queue()["x"].propensity is None


def test_gold_looks_normal_and_never_fills(shop: Office) -> None:
    shop.stock("g", "x")
    shop.desk.enqueue_gold(item("g", "g 0", "g 1"), 1)
    assert shop.desk.waiting() == 1
    assert names(shop.desk.serve("ann", 3)) == ["x"]
    rules(shop, gold_share=1.0)
    assert sorted(names(shop.desk.serve("ann", 3))) == ["g", "x"]
    for who in ("bob", "cat"):
        assert names(shop.desk.serve(who)) == ["g"]
    assert [say(shop, who) for who in ("bob", "cat")] == ["g"] * 2
    queued = shop.queue()["g"]
    assert (queued.done, queued.expected, queued.purpose) == (False, 1, "gold")
    assert [said.item for said in shop.store.judgements()] == ["g"] * 2
    assert shop.store.counted() == []


def test_what_cannot_be_gold(shop: Office) -> None:
    shop.stock("three", answers=3)
    with pytest.raises(UserError, match="has two answers"):
        shop.desk.enqueue_gold(item("three", *"abc"), 1)
    with pytest.raises(UserError, match="known answer 2"):
        shop.desk.enqueue_gold(item("x"), 2)
    with pytest.raises(ValueError, match="not in the store"):
        shop.desk.enqueue_gold(item("x"), 1)


def test_the_share_of_gold(place: str) -> None:
    with office(place, Rules(gold_share=0.25), seed=3) as shop:
        shop.hire("ann")
        shop.stock(*(f"x{n}" for n in range(120)), *(f"g{n}" for n in range(80)))
        for n in range(80):
            shop.desk.enqueue_gold(item(f"g{n}", f"g{n} 0", f"g{n} 1"), 1)
        gold = sum(id.startswith("g") for id in names(shop.desk.serve("ann", 120)))
        assert abs(gold - 30) < 4 * (120 * 0.25 * 0.75) ** 0.5


def test_a_repeat_comes_with_swapped_sides_once(shop: Office) -> None:
    shop.stock(*"abcd")
    rules(shop, repeat_share=1.0, repeat_after=2)
    first = [say(shop, "ann", verdict) for verdict in (LEFT, Verdict(decline="skip"), RIGHT)]
    stood = {said.item: said.shown for said in shop.store.history()}
    repeated = one(shop, "ann").shown.assignment  # the only one that is two judgements old
    assert (repeated.item, repeated.shown) == (f"{first[0]}~ann", stood[first[0]][::-1])
    copy = {each.id: each for each in shop.store.items()}
    assert copy[repeated.item] == Item(repeated.item, copy[first[0]].prompt, copy[first[0]].answers)
    queued = shop.queue()[repeated.item]
    assert (queued.purpose, queued.repeats, queued.reserved, queued.wanted) == ("repeat", first[0], "ann", 1)
    bobs = shop.desk.serve("bob", 9)
    assert names(bobs) == [id for id in names(bobs) if "~" not in id] != []
    for served in bobs:
        shop.desk.release("bob", served.token)
    assert say(shop, "ann") == repeated.item
    # the next may be the second (a skip: no), then the third, once two ordinary judgements have come after it
    assert "~" not in say(shop, "ann")
    assert shop.desk.serve("ann") == []
    assert {said.item for said in shop.store.counted()} == {*"abcd"}


def test_a_withdrawn_judgement_is_not_repeated_nor_counted(shop: Office) -> None:
    shop.stock(*"abc")
    rules(shop, repeat_share=1.0, repeat_after=1)
    first = say(shop, "ann")
    say(shop, "ann")
    undone = shop.desk.undo("ann")
    assert undone is not None
    two = names(shop.desk.serve("ann", 2))  # what was undone, then a new one: the first is not yet one judgement old
    assert two == [undone.shown.assignment.item, ({*"abc"} - {first, undone.shown.assignment.item}).pop()]


def test_sides_depend_on_seed_item_and_annotator_alone(places: Callable[[], str]) -> None:
    def drawn(shop: Office, order: list[str]) -> dict[tuple[str, str], tuple[int, ...]]:
        shop.hire(*order)
        shop.stock(*(f"i{n}" for n in range(40)), wanted=2)
        return {
            (each.shown.assignment.item, who): each.shown.assignment.shown
            for who in order
            for each in shop.desk.serve(who, 40)
        }

    def at(seed: int, order: list[str]) -> dict[tuple[str, str], tuple[int, ...]]:
        with office(places(), seed=seed) as shop:
            return drawn(shop, order)

    one_way = at(5, ["ann", "bob"])
    assert at(5, ["bob", "ann"]) == one_way
    assert at(6, ["ann", "bob"]) != one_way
    assert Counter(one_way.values())[0, 1] == pytest.approx(40, abs=4 * 80**0.5 / 2)
    assert [one_way[f"i{n}", "ann"] for n in range(40)] != [one_way[f"i{n}", "bob"] for n in range(40)]


def test_propensities_by_hand(shop: Office) -> None:
    """Five items; priorities 2, 2, 1, 0, 0; a random share of 0.4."""
    shop.stock(*"abcde", priority={"a": 2.0, "b": 2.0, "c": 1.0})
    rules(shop, selection="disagreement", random_share=0.4)
    entered = [say(shop, "ann") for _ in range(5)]
    left, priority = set("abcde"), {"a": 2.0, "b": 2.0, "c": 1.0, "d": 0.0, "e": 0.0}
    for id in entered:
        top = max(priority[each] for each in left)
        tied = sum(priority[each] == top for each in left)
        expected = 0.4 / len(left) + (0.6 / tied if priority[id] == top else 0.0)
        queued = shop.queue()[id]
        assert (queued.selection, queued.propensity) == ("disagreement", pytest.approx(expected, abs=1e-12))
        left.remove(id)
    assert shop.queue()[entered[-1]].propensity == pytest.approx(1.0)


def test_random_selection_has_equal_propensities(shop: Office) -> None:
    shop.stock(*"abcd", priority={"a": 9.0})
    entered = [say(shop, "ann") for _ in range(4)]
    assert [shop.queue()[id].propensity for id in entered] == [1 / 4, 1 / 3, 1 / 2, 1.0]
    assert {row.selection for row in shop.queue().values()} == {"random"}


def test_without_a_random_share_the_highest_goes_first(shop: Office) -> None:
    shop.stock(*"abc", priority={"a": 1.0, "b": 3.0, "c": 2.0})
    rules(shop, selection="bald", random_share=0.0)
    assert [say(shop, "ann") for _ in range(3)] == ["b", "c", "a"]
    assert [shop.queue()[id].propensity for id in "bca"] == [1.0] * 3


def test_frequencies_are_the_propensities(shop: Office) -> None:
    """Two entries from four items, 600 times: each pair as often as the product of the written propensities says."""
    shop.stock(*"abcd", priority={"a": 1.0, "b": 1.0, "c": 0.0})
    rules, chance, rounds = Rules(selection="bald", random_share=0.5), Random(1), 600
    drawn: Counter[tuple[str, ...]] = Counter()
    expected: dict[tuple[str, ...], float] = {}
    written = select(schema.queue.c.propensity)
    with shop.database.write() as connection:
        for _ in range(rounds):
            with connection.begin_nested() as unseen:
                pair = tuple(str(enter(connection, START, rules, chance)) for _ in range(2))
                drawn[pair] += 1
                if pair not in expected:
                    each = [connection.execute(written.where(schema.queue.c.item == id)).scalar_one() for id in pair]
                    expected[pair] = each[0] * each[1]
                unseen.rollback()
    assert set(drawn) == set(itertools.permutations("abcd", 2))
    assert sum(expected.values()) == pytest.approx(1.0)
    statistic = sum((drawn[pair] - rounds * p) ** 2 / (rounds * p) for pair, p in expected.items())
    assert statistic < 31.3  # the 99.9 % point of χ² with 11 degrees of freedom


def test_an_item_enters_with_a_propensity_only_once(shop: Office) -> None:
    shop.stock("x", wanted=2)
    served = one(shop, "ann")
    entered = shop.queue()["x"].entered
    shop.desk.release("ann", served.token)
    shop.clock.now += 10
    say(shop, "bob")
    assert shop.queue()["x"].entered == entered == START


def test_verdicts_that_say_nothing_or_too_much() -> None:
    for wrong in ({}, {"pressed": 1, "decline": "skip"}, {"places": (0, 1), "pressed": 0}):
        with pytest.raises(ValueError, match="one of the three"):
            Verdict(**wrong)  # type: ignore[arg-type]
    for text in ("a\0b", "\ud83d"):
        with pytest.raises(ValueError, match="no text"):
            Verdict(pressed=1, note=text)
        with pytest.raises(ValueError, match="no text"):
            Verdict(decline="flag", reason=text)
    with pytest.raises(ValueError, match="seconds since"):
        Verdict(pressed=1, seen=float("nan"))


@pytest.mark.parametrize(
    "wrong", [{"lease_seconds": 0.0}, {"gold_share": 1.1}, {"random_share": -0.1}, {"repeat_after": 0}]
)
def test_rules_that_make_no_sense(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="need lease_seconds"):
        Rules(**wrong)  # type: ignore[arg-type]
