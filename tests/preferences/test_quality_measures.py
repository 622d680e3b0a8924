"""Each measure of one annotator, by hand on a few judgements."""

import math
from dataclasses import replace

import pytest

from keel.preferences.judgement import Judgement
from keel.preferences.quality import Gold, Limits, Timing, timings
from keel.preferences.quality.binomial import beta_cdf
from keel.preferences.quality.gold import accuracies
from keel.preferences.quality.others import agreements
from keel.preferences.quality.pace import paces
from keel.preferences.quality.repeats import consistencies
from keel.preferences.quality.sides import side_biases

from .tables import judgements

LIMITS = Limits()
FIRST = frozenset({"first"})


def said(
    item: str, pressed: int | None, swapped: bool = False, kind: str = "comparison", who: str = "ann"
) -> Judgement:
    return Judgement(item, who, (1, 0) if swapped else (0, 1), kind, pressed)  # type: ignore[arg-type]


def test_accuracy_on_gold_by_hand() -> None:
    gold = [Gold("a", FIRST), Gold("b", FIRST), Gold("c", frozenset({"second", "tie"})), Gold("d", FIRST)]
    gold += [Gold("e", frozenset({"both_bad"})), Gold("f", FIRST), Gold("g", FIRST), Gold("k", FIRST, (0, 2))]
    found = accuracies(
        [
            said("a", -1),  # right
            said("b", -3, swapped=True),  # the left one is the second: wrong
            said("c", 0),  # right: a tie is accepted here
            said("d", 0),  # a tie is a miss
            said("e", None, kind="both_bad"),  # right
            said("f", None, kind="both_bad"),  # a miss
            said("g", None, kind="skip"),  # no answer
            said("h", 3),  # no gold item
            Judgement("k", "ann", (2, 0), "comparison", 2),  # the right one is the first: right
            Judgement("k", "bob", (0, 1), "comparison", -1),  # other answers of the item
            Judgement("k", "cat", (0, 2, 1), "ranking", order=(0, 1, 2)),  # a ranking
        ],
        gold,
        LIMITS,
    )
    assert list(found) == ["ann"]
    ann = found["ann"]
    assert (ann.share.successes, ann.share.trials, ann.declined) == (4, 7, 1)
    assert ann.missed == ("b", "d", "f")
    assert ann.share.posterior == (7.0, 4.0)  # Beta(3 + 4, 1 + 3)
    assert ann.doubt == pytest.approx(sum(math.comb(10, k) * 0.7**k * 0.3 ** (10 - k) for k in range(7, 11)))


def test_gold_from_a_number() -> None:
    verdicts = [Gold.expecting("a", expected).accepted for expected in (-1, 0, 2)]
    assert verdicts == [frozenset({"first"}), frozenset({"tie"}), frozenset({"second"})]
    with pytest.raises(ValueError, match="gold item a"):
        Gold("a", frozenset())
    with pytest.raises(ValueError, match="ascending"):
        Gold("a", FIRST, (1, 0))


def test_consistency_by_hand() -> None:
    pairs = {
        "a": (said("a", -2), said("a2", 1, swapped=True)),  # the first both times
        "b": (said("b", -2), said("b2", -1, swapped=True)),  # left both times
        "c": (said("c", 3, swapped=True), said("c2", 3)),  # right both times
        "d": (said("d", 0), said("d2", 0, swapped=True)),  # two ties
        "e": (said("e", 0), said("e2", 1, swapped=True)),  # a tie, then a choice
        "f": (said("f", None, kind="both_bad"), said("f2", None, swapped=True, kind="both_bad")),
        "g": (said("g", None, kind="both_bad"), said("g2", 0, swapped=True)),
        "h": (said("h", -1), said("h2", -1)),  # sides were not swapped
        "i": (said("i", -1), said("i2", None, swapped=True, kind="skip")),
    }
    everything = [each for pair in pairs.values() for each in pair]
    repeats = {f"{name}2": name for name in pairs} | {"z2": "z"}
    found = consistencies(everything, repeats)["ann"]
    assert (found.consistent.successes, found.consistent.trials) == (3, 7)  # a, d, f of a … g
    assert (found.sided.successes, found.sided.trials) == (2, 3)  # b, c of a, b, c
    assert consistencies([said("a", -2), replace(said("a2", 1, swapped=True), annotator="bob")], {"a2": "a"}) == {}


def test_side_bias_by_hand() -> None:
    """Nine decided, of which eight left; ties and the rest count nowhere; swapping all sides changes nothing."""
    ann = [said(str(k), -1, swapped=k % 2 == 0) for k in range(8)] + [said("8", 2), said("9", 0)]
    ann += [said("10", None, kind="skip"), said("11", None, kind="both_bad")]
    ann += [Judgement("12", "ann", (2, 1, 0), "ranking", order=(0, 1, 2))]
    bob = [said(str(k), 1 if k < 3 else -1, swapped=k == 0, who="bob") for k in range(6)]
    found = side_biases(ann + bob)
    assert (found["ann"].left.successes, found["ann"].left.trials) == (8, 9)
    assert found["ann"].z == pytest.approx(7 / 3)
    assert found["ann"].p == pytest.approx(2 * (9 + 1) / 2**9)
    assert found["ann"].adjusted == pytest.approx(2 * found["ann"].p)
    assert (found["bob"].z, found["bob"].p) == (0, 1)
    right = side_biases([replace(each, pressed=-each.pressed) if each.pressed else each for each in ann])["ann"]
    assert (right.z, right.p) == (pytest.approx(-7 / 3), found["ann"].p)


def test_sides_that_nobody_drew_say_nothing() -> None:
    assert side_biases([said(str(k), -1) for k in range(30)]) == {}  # an imported file: first is always left
    assert side_biases([said(str(k), -1, swapped=True) for k in range(30)]) == {}
    assert list(side_biases([said("0", -1, swapped=True), said("1", -1)])) == ["ann"]


def test_times_are_taken_from_what_is_known() -> None:
    assert Timing("ann", 100, served=10.0, submitted=25.0).seconds == 15
    assert Timing("ann", 100, served=10.0, submitted=25.0, seen=20.0).seconds == 5
    assert Timing("ann", 100, served=None, submitted=25.0, seen=20.0).seconds == 5
    for unknown in (Timing("ann", 1, None, 25.0), Timing("ann", 1, 10.0, None), Timing("ann", 1, 10.0, 9.0)):
        assert unknown.seconds is None
        assert unknown.too_fast(LIMITS) is None


def test_the_floor_grows_with_the_text() -> None:
    """3,600 characters a minute are 60 a second: 1,200 characters are read in 20 s, and half of that is the floor."""

    def fast(seconds: float, characters: int | None, limits: Limits = LIMITS) -> bool | None:
        return Timing("ann", characters, 0.0, seconds).too_fast(limits)

    assert (fast(9.9, 1200), fast(10.0, 1200), fast(9.9, 600), fast(0.0, 0)) == (True, False, False, False)
    assert fast(9.9, None) is None
    assert fast(9.9, 1200, replace(LIMITS, floor=0.25)) is False
    assert fast(9.9, 600, replace(LIMITS, characters_per_minute=1800.0)) is True


def test_pace_by_hand() -> None:
    times = [Timing("ann", 1200, 0.0, 4.0), Timing("ann", 1200, 0.0, 20.0), Timing("ann", None, 0.0, 6.0)]
    times += [Timing("ann", 1200, 0.0, 1000.0), Timing("ann", 1200, None, 30.0), Timing("bob", 5, None, None)]
    found = paces(times, LIMITS)
    assert list(found) == ["ann"]
    ann = found["ann"]
    assert (ann.timed, ann.unknown, ann.median) == (4, 1, 13)
    assert ann.per_hour == pytest.approx(3600 * 4 / (4 + 20 + 6 + 300))  # the break counts 300 s
    assert (ann.too_fast.successes, ann.too_fast.trials) == (1, 3)
    assert paces([Timing("ann", 5, 1.0, 1.0)], LIMITS)["ann"].per_hour is None


def test_an_edit_is_no_second_reading() -> None:
    one = Judgement("a", "ann", (0, 1), "comparison", -1, served=10.0, seen=12.0, submitted=20.0)
    undone = one.withdraw(submitted=40.0)
    again = replace(undone, kind="comparison", pressed=2, served=100.0, seen=101.0, submitted=103.0, revision=3)
    skipped = Judgement("b", "ann", (0, 1), "skip", served=1.0, submitted=2.0)
    ranked = Judgement("c", "bob", (2, 0, 1), "ranking", order=(0, 1, 2), served=5.0, submitted=9.0)
    elsewhere = Judgement("d", "bob", (0, 1), "comparison", 1, submitted=50.0)
    history = [one, one.edit(-3, submitted=30.0), undone, again, skipped, ranked, elsewhere]
    found = timings(history, {"a": 80, "b": 50, "c": 90})
    assert [(each.annotator, each.characters, each.seconds) for each in found] == [
        ("ann", 80, 8.0),
        ("ann", 80, 2.0),
        ("ann", None, 1.0),
        ("bob", 90, 4.0),
        ("bob", None, None),
    ]


def test_agreement_with_others_by_hand() -> None:
    """Items decided by several; x is the share of the others' choices that are the same."""
    table = [[-1, -3, 1], [2, None, 1], [0, 1, 1], [-1, 0, None], [1, None, None]]
    found = agreements(judgements(table), LIMITS)
    shares = {name: (each.share.successes, each.share.trials) for name, each in found.items()}
    # i0: a0 1/2, a1 1/2, a2 0; i1: a0 1, a2 1; i2: a1 1, a2 1 (a0 tied); i3, i4: nobody else decided
    assert shares == {"a0": (1.5, 2), "a1": (1.5, 2), "a2": (2.0, 3)}
    assert {(each.usual, each.p, each.adjusted) for each in found.values()} == {(None, None, None)}


def test_agreement_is_compared_with_the_usual() -> None:
    """a3 always says the opposite of three who agree: on 20 items, p is the posterior's tail above their share."""
    table = [[sign, sign, sign, -sign] for sign in (-1, 1) * 10]
    found = agreements(judgements(table), LIMITS)
    assert (found["a0"].share.value, found["a3"].share.value) == (pytest.approx(2 / 3), 0)
    assert found["a0"].usual == found["a3"].usual == pytest.approx(2 / 3)
    assert found["a3"].p == pytest.approx(1 - beta_cdf(2 / 3, 0.5, 20.5))
    assert found["a3"].adjusted == pytest.approx(4 * (found["a3"].p or 0))
    assert found["a0"].p == pytest.approx(1 - beta_cdf(2 / 3, 0.5 + 40 / 3, 0.5 + 20 / 3))
    assert {each.p for each in agreements(judgements(table[:19]), LIMITS).values()} == {None}  # too few items


def test_the_usual_is_the_others() -> None:
    """a0 and a1 agree on 20 of 20, a0 and a2 on 10, so a1 and a2 too: shares 3/4, 3/4, 1/2."""
    table = [[-1, -1, -1 if place < 10 else 1] for place in range(20)]
    found = agreements(judgements(table), LIMITS)
    assert [found[name].share.value for name in ("a0", "a1", "a2")] == pytest.approx([0.75, 0.75, 0.5])
    assert [found[name].usual for name in ("a0", "a1", "a2")] == pytest.approx([0.625, 0.625, 0.75])


def test_the_pairs_of_a_ranking_are_one_item() -> None:
    """ann and bob agree on two of three pairs of a, and on the whole of b."""
    ann = [Judgement(item, "ann", (0, 1, 2), "ranking", order=(0, 1, 2)) for item in "ab"]
    bob = [Judgement("a", "bob", (2, 1, 0), "ranking", order=(1, 0, 2)), replace(ann[1], annotator="bob")]
    found = agreements(ann + bob, LIMITS)["ann"]
    assert (found.share.successes, found.share.trials) == (pytest.approx(2 / 3 + 1), 2)


@pytest.mark.parametrize(
    "wrong",
    [
        {"accuracy": 70.0},
        {"prior": (0.0, 1.0)},
        {"consistency": (0.5, 0.6)},
        {"too_fast": (0.3, 0.1)},
        {"lean": 0.3},
        {"floor": 0.0},
    ],
)
def test_limits_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="Limits"):
        replace(LIMITS, **wrong)
