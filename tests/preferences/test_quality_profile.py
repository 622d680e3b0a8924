"""Findings at their thresholds, and whole crowds: who does not read is found, who reads is not."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from keel.preferences.judgement import Judgement
from keel.preferences.quality import Finding, Gold, Limits, Profile, Timing, profiles, spam_scores, to_pause
from keel.preferences.quality import findings as find
from keel.preferences.quality.binomial import beta_cdf, share
from keel.preferences.quality.gold import Accuracy
from keel.preferences.quality.others import WithOthers
from keel.preferences.quality.pace import Pace
from keel.preferences.quality.repeats import Consistency
from keel.preferences.quality.runs import LongestRun
from keel.preferences.quality.sides import SideBias
from keel.preferences.simulate import Annotator, Spammer, Taste, judge

LIMITS = Limits()
TASTE = Taste({"score": 1.0})
HONEST = tuple(Annotator(f"honest-{place}", TASTE, lapse=0.02, tie_width=0.2) for place in range(10))


def crowd(people: Sequence[Annotator | Spammer], items: int, k: int, rng: np.random.Generator) -> list[Judgement]:
    """Each item by k of them, sides by a coin; scores differ by N(0, 8), which makes readers agree on about 3 of 4."""
    said = []
    for item in range(items):
        scores = rng.normal(0, 2, 2).tolist()
        for who in rng.permutation(len(people))[:k].tolist():
            shown = (0, 1) if rng.random() < 0.5 else (1, 0)
            left, right = ({"score": scores[place]} for place in shown)
            said.append(
                Judgement(f"i{item}", people[who].name, shown, "comparison", judge(people[who], left, right, rng))
            )
    return said


def named(found: dict[str, Profile]) -> set[tuple[str, str, str]]:
    """(annotator, measure, verdict) of all that is not ok."""
    return {(who, one.measure, one.verdict) for who, each in found.items() for one in each.findings if one.remedy}


def test_honest_crowds_are_left_in_peace() -> None:
    """Over 100 crowds of ten who read, how often anybody is named: at most the nominal 5 %, for each test."""
    rng = np.random.default_rng(5)
    crowds = 100
    times: Counter[str] = Counter()
    for _ in range(crowds):
        times.update({measure for _, measure, _ in named(profiles(crowd(HONEST, 60, 5, rng)))})
    chance = 2.33 * math.sqrt(0.05 * 0.95 / crowds)  # p > .01 where the true rate is the nominal one
    assert all(count / crowds <= 0.05 + chance for count in times.values()), times
    assert set(times) <= {"sides", "runs", "others"}


def test_who_does_not_read_is_found() -> None:
    people = (*HONEST, Spammer("any"), Spammer("left", (-3, -2, -1)), Spammer("middle", (0,)))
    rng = np.random.default_rng(1)
    said = crowd(people, 400, 5, rng)
    found = profiles(said, spam=spam_scores(said))
    caught = named(found)
    assert {("any", "others", "red"), ("left", "others", "red"), ("left", "sides", "red")} <= caught
    assert {("any", "spam", "amber"), ("left", "spam", "amber"), ("middle", "runs", "amber")} <= caught
    assert not any(who.startswith("honest") for who, _, _ in caught)
    assert found["any"].verdict == found["left"].verdict == "red"
    any_ = found["any"].others
    assert any_ is not None
    assert any_.share.low < 0.5 < any_.share.high  # a coin
    assert {who for who, each in found.items() if each.spam and each.spam.score < 0.1} <= {"any", "left", "middle"}
    assert to_pause(found) == {}  # without gold items nobody is paused by default
    paused = to_pause(found, replace(LIMITS, pauses=frozenset({"sides", "others"})))
    assert list(paused) == [who for who in found if who in ("any", "left")]
    assert "Pressed left on" in paused["left"]


def test_who_answers_the_opposite_is_found() -> None:
    liar = Annotator("liar", Taste({"score": -1.0}))
    found = profiles(crowd((*HONEST, liar), 300, 4, np.random.default_rng(2)))
    assert named(found) == {("liar", "others", "red")}
    assert "less than the half of a coin" in found["liar"].findings[0].message


def test_a_lean_comes_back() -> None:
    """P(left) = σ(b) on equal answers: the interval of the left share holds it."""
    leaner = replace(HONEST[0], name="leaner", position_bias=1.2, lapse=0.0, tie_width=0.0)
    rng = np.random.default_rng(3)
    said = []
    for item in range(600):
        shown = (0, 1) if rng.random() < 0.5 else (1, 0)
        pressed = judge(leaner, {"score": 0.0}, {"score": 0.0}, rng)
        said.append(Judgement(f"i{item}", "leaner", shown, "comparison", pressed))
    found = profiles(said)["leaner"]
    assert found.sides is not None
    assert found.sides.left.low < 1 / (1 + math.exp(-1.2)) < found.sides.left.high
    assert ("leaner", "sides", "red") in named({"leaner": found})


def on_gold(accuracy: float, answered: int, rng: np.random.Generator) -> list[Judgement]:
    right = rng.random(answered) < accuracy
    return [
        Judgement(f"g{place}", "ann", (1, 0), "comparison", 1 if correct else -1) for place, correct in enumerate(right)
    ]


GOLD = [Gold.expecting(f"g{place}", -1) for place in range(60)]


def ever_paused(accuracy: float, items: int) -> float:
    """Exactly, if the rule is asked after each gold item: a walk over (items, right), absorbed where it pauses."""
    walking, paused = {0: 1.0}, 0.0
    for n in range(1, items + 1):
        following: dict[int, float] = {}
        for right, mass in walking.items():
            following[right + 1] = following.get(right + 1, 0.0) + mass * accuracy
            following[right] = following.get(right, 0.0) + mass * (1 - accuracy)
        # P(θ < .7 | Beta(3 + right, 1 + n − right)), by the binomial sum
        pauses = {
            right
            for right in following
            if n >= 5 and sum(math.comb(n + 3, k) * 0.7**k * 0.3 ** (n + 3 - k) for k in range(right + 3, n + 4)) > 0.95
        }
        paused += sum(following[right] for right in pauses)
        walking = {right: mass for right, mass in following.items() if right not in pauses}
    return paused


def test_how_often_the_gold_rule_errs() -> None:
    """The numbers that `Limits` states, exactly; and the rule itself against them, by simulation."""
    stated = {(0.9, 60): 0.0002, (0.8, 60): 0.010, (0.7, 60): 0.14, (0.5, 10): 0.29, (0.5, 20): 0.59, (0.5, 40): 0.87}
    assert {key: ever_paused(*key) for key in stated} == pytest.approx(stated, rel=0.04, abs=0.00006)
    rng = np.random.default_rng(4)
    paused = []
    for _ in range(60):
        said = on_gold(0.5, 12, rng)
        paused.append(any(to_pause(profiles(said[:seen], gold=GOLD)) for seen in range(5, 13)))
    assert np.mean(paused) == pytest.approx(ever_paused(0.5, 12), abs=0.15)


def test_a_single_look_at_gold_keeps_its_level() -> None:
    """At an accuracy of .7 exactly, over all outcomes of n items: P(paused) ≤ .05 for every n."""
    prior = LIMITS.prior
    for n in range(5, 101):
        rate = sum(
            math.comb(n, right) * 0.7**right * 0.3 ** (n - right)
            for right in range(n + 1)
            if beta_cdf(LIMITS.accuracy, prior[0] + right, prior[1] + n - right) > LIMITS.certainty
        )
        assert rate <= 0.05


def test_the_pause_by_hand() -> None:
    """Three of ten right: P(θ < .7) for Beta(6, 8); four misses of four are too few to judge."""
    rng = np.random.default_rng(0)
    said = [replace(each, pressed=1 if place < 3 else -1) for place, each in enumerate(on_gold(1.0, 10, rng))]
    found = profiles(said, gold=GOLD)
    doubt = sum(math.comb(13, k) * 0.7**k * 0.3 ** (13 - k) for k in range(6, 14))
    reasons = to_pause(found)
    assert list(reasons) == ["ann"]
    assert reasons["ann"].startswith("Right on 3 of 10 (30%, ")
    assert reasons["ann"].endswith(f"; the accuracy is below 70% with probability {doubt:.2f}.")
    assert to_pause(found, replace(LIMITS, pauses=frozenset())) == {}
    early = profiles(on_gold(0.0, 4, rng), gold=GOLD)
    assert (early["ann"].verdict, to_pause(early)) == ("ok", {})
    assert "Judged from 5 on" in early["ann"].findings[0].message


def consistency(same: int, n: int) -> Consistency:
    return Consistency(share(same, n), share(n - same, n))


def pace(fast: int, n: int) -> Pace:
    return Pace(n, 0, 12.0, 240.0, share(fast, n))


def side(left: int, n: int, adjusted: float) -> SideBias:
    return SideBias(share(left, n), 0.0, adjusted, adjusted)


def others(alike: float, n: int, adjusted: float | None) -> WithOthers:
    return WithOthers(share(alike, n), 0.75, adjusted, adjusted)


@pytest.mark.parametrize(
    ("finding", "measured", "verdict"),
    [
        (find.of_gold, Accuracy(share(9, 10), 0.2, (), 0), "ok"),
        (find.of_gold, Accuracy(share(6, 10), 0.51, (), 0), "amber"),
        (find.of_gold, Accuracy(share(3, 10), 0.96, (), 2), "red"),
        (find.of_gold, Accuracy(share(0, 4), 0.99, (), 0), "ok"),
        (find.of_repeats, consistency(50, 100), "amber"),
        (find.of_repeats, consistency(40, 100), "red"),
        (find.of_repeats, consistency(62, 100), "ok"),
        (find.of_repeats, consistency(0, 3), "red"),
        (find.of_repeats, consistency(0, 1), "ok"),
        (find.of_pace, pace(0, 100), "ok"),
        (find.of_pace, pace(12, 100), "ok"),
        (find.of_pace, pace(20, 100), "amber"),
        (find.of_pace, pace(40, 100), "red"),
        (find.of_pace, pace(0, 0), "ok"),
        (find.of_sides, side(60, 100, 0.06), "ok"),
        (find.of_sides, side(60, 100, 0.04), "amber"),
        (find.of_sides, side(90, 100, 0.001), "red"),
        (find.of_sides, side(10, 100, 0.001), "red"),
        (find.of_runs, LongestRun("+1", 9, 40, 0.2, 0.2), "ok"),
        (find.of_runs, LongestRun("+1", 9, 40, 0.001, 0.01), "amber"),
        (find.of_runs, LongestRun("+1", 20, 20, 1.0, 1.0), "amber"),
        (find.of_runs, LongestRun("+1", 19, 19, 1.0, 1.0), "ok"),
        (find.of_others, others(70, 100, 0.3), "ok"),
        (find.of_others, others(62, 100, 0.01), "amber"),
        (find.of_others, others(52, 100, 0.01), "red"),
        (find.of_others, others(20, 100, 0.01), "red"),
        (find.of_others, others(5, 10, None), "ok"),
        (lambda score, limits: find.of_spam(score, 100, limits), 0.04, "amber"),
        (lambda score, limits: find.of_spam(score, 99, limits), 0.04, "ok"),
        (lambda score, limits: find.of_spam(score, 100, limits), 0.06, "ok"),
    ],
)
def test_findings_at_their_thresholds(
    finding: Callable[[object, Limits], Finding], measured: object, verdict: str
) -> None:
    found = finding(measured, LIMITS)
    assert found.verdict == verdict
    assert found.message.endswith(".")
    assert (found.remedy == "") == (verdict == "ok")


def test_a_profile_holds_what_there_is_and_the_worst_comes_first() -> None:
    said = [Judgement(f"i{place}", "ann", (place % 2, 1 - place % 2), "comparison", -1) for place in range(40)]
    said += [Judgement(f"r{place}", "ann", (1 - place % 2, place % 2), "comparison", -1) for place in range(10)]
    said += [Judgement("i0", "bob", (0, 1), "flag")]
    times = [Timing("ann", 1000, 0.0, 1.0 if place < 8 else 60.0) for place in range(40)]
    found = profiles(said, repeats={f"r{place}": f"i{place}" for place in range(10)}, timings=times)
    assert list(found) == ["ann", "bob"]
    ann, bob = found["ann"], found["bob"]
    verdicts = [(one.measure, one.verdict) for one in ann.findings]
    assert verdicts == [("repeats", "red"), ("sides", "red"), ("pace", "amber"), ("runs", "amber")]
    assert (ann.judgements, ann.verdict, ann.gold, ann.others, ann.spam) == (50, "red", None, None, None)
    assert (bob.judgements, bob.verdict) == (1, "ok")
    assert [one.measure for one in bob.findings] == ["runs"]
    assert profiles([]) == {}


def test_spam_is_scored_on_shared_pairs_alone() -> None:
    """What one annotator alone has judged changes no score: on such items all agree with themselves."""
    said = crowd((*HONEST[:4], Spammer("any")), 60, 3, np.random.default_rng(6))
    alone = [Judgement(f"x{place}", "any", (0, 1), "comparison", -1) for place in range(200)]
    ranking = [Judgement("y", "solo", (0, 1, 2), "ranking", order=(0, 1, 2))]
    mixed = sorted([*said, *alone, *ranking], key=lambda each: each.item)
    assert spam_scores([*said, *alone, *ranking]) == spam_scores(said)
    scores = spam_scores(mixed)
    assert set(scores) == {each.annotator for each in said}
    assert {name: each.score for name, each in scores.items()} == pytest.approx(
        {name: each.score for name, each in spam_scores(said).items()}, abs=1e-3
    )
    assert scores["any"].votes == sum(each.annotator == "any" for each in said)
    assert spam_scores(alone) == {}
