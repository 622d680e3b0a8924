"""Simulated annotators do what their docstring says, and depend on nothing else."""

import itertools
import math
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from keel.preferences.agreement import measure
from keel.preferences.assign import Overlap, plan
from keel.preferences.dawid_skene import dawid_skene
from keel.preferences.judgement import Item, collect
from keel.preferences.simulate import Annotator, Spammer, Taste, judge, simulate
from keel.preferences.store import PreferenceStore
from keel.types import Conversation

from .tables import item

BRIEF = Taste({"right": 1.0, "length": -0.1})
DETAILED = Taste({"right": 1.0, "length": 0.1})
ZERO: Mapping[str, float] = {"right": 0.0, "length": 0.0}


def features(prompt: Conversation, text: str) -> Mapping[str, float]:
    """Answers are written as "right length"."""
    right, length = text.split()
    return {"right": float(right), "length": float(length)}


def presses(who: Annotator | Spammer, gap: float, n: int, seed: int = 0) -> Counter[int]:
    rng = np.random.default_rng(seed)
    return Counter(judge(who, {"right": gap, "length": 0.0}, ZERO, rng) for _ in range(n))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_utility_by_hand() -> None:
    assert BRIEF.utility({"right": 2.0, "length": 5.0, "grammar": 9.0}) == 1.5
    with pytest.raises(ValueError, match="weighs 'length', the features are"):
        BRIEF.utility({"right": 1.0})


def test_frequencies_are_bradley_terry() -> None:
    n, chi2 = 2000, 0.0
    for seed, gap in enumerate((-2.0, -1.0, 0.0, 0.5, 1.0, 3.0)):
        left = sum(
            count for pressed, count in presses(Annotator("a", BRIEF, noise=2.0), gap, n, seed).items() if pressed < 0
        )
        expected = n * sigmoid(gap / 2)
        chi2 += (left - expected) ** 2 / expected + (left - expected) ** 2 / (n - expected)
    assert chi2 < 22.46  # 6 degrees of freedom, p > .001


def test_strengths_and_ties_have_the_logistics_mass() -> None:
    """Δ = .7 + bias .3, tie width .4, steps 1 and 2.5 beyond it: seven cells of a logistic distribution."""
    who = Annotator("a", BRIEF, position_bias=0.3, tie_width=0.4, steps=(1.0, 2.5))
    n = 6000
    found = presses(who, 0.7, n)
    edges = [math.inf, 2.9, 1.4, 0.4, -0.4, -1.4, -2.9, -math.inf]  # of z, from "left much better" on
    below = [sigmoid(edge - 1.0) if math.isfinite(edge) else float(edge > 0) for edge in edges]
    expected = [n * (above - under) for above, under in itertools.pairwise(below)]
    chi2 = sum((found[pressed] - mass) ** 2 / mass for pressed, mass in zip(range(-3, 4), expected, strict=True))
    assert chi2 < 22.46  # 6 degrees of freedom, p > .001
    left = sum(found[pressed] for pressed in (-3, -2, -1)) / n
    assert left == pytest.approx(sigmoid(1.0 - 0.4), abs=0.02)  # Rao–Kupper


def test_position_bias_leans_to_the_left_on_equal_answers() -> None:
    found = presses(Annotator("a", BRIEF, position_bias=1.0), 0.0, 4000)
    assert sum(found[pressed] for pressed in (-3, -2, -1)) / 4000 == pytest.approx(sigmoid(1.0), abs=0.025)


def test_a_lapse_does_not_look() -> None:
    found = presses(Annotator("a", BRIEF, lapse=0.4), 50.0, 4000)
    assert sum(found[pressed] for pressed in (1, 2, 3)) / 4000 == pytest.approx(0.2, abs=0.02)
    assert presses(Annotator("a", BRIEF), 50.0, 500) == Counter({-3: 500})


def test_spammers_do_not_read() -> None:
    assert presses(Spammer("left", (-3,)), -50.0, 100) == Counter({-3: 100})
    found = presses(Spammer("any"), 50.0, 6000)
    assert sum((found[pressed] - 1000) ** 2 / 1000 for pressed in (-3, -2, -1, 1, 2, 3)) < 20.52  # 5 df, p > .001


def test_settings_that_mean_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="noise > 0"):
        Annotator("a", BRIEF, noise=0.0)
    with pytest.raises(ValueError, match="rising steps"):
        Annotator("a", BRIEF, steps=(2.0, 1.0))
    with pytest.raises(ValueError, match="not buttons"):
        Spammer("s", (4,))
    with pytest.raises(ValueError, match="not buttons"):
        Spammer("s", ())


CROWD = (
    Annotator("ann", BRIEF, tie_width=0.2),
    Annotator("bob", DETAILED, lapse=0.05),
    Annotator("cat", BRIEF, position_bias=0.5),
    Annotator("dan", BRIEF),
    Spammer("sam", (-3,)),
)


def questions(n: int, seed: int = 0) -> list[Item]:
    rng = np.random.default_rng(seed)
    return [item(f"i{k}", *(f"{rng.integers(-2, 3)} {rng.integers(0, 20)}" for _ in range(2))) for k in range(n)]


def run(place: str, items: list[Item], overlap: Overlap, seed: int = 0) -> PreferenceStore:
    store = PreferenceStore.open(place)
    store.add_items(items)
    simulate(store, CROWD, features, overlap, seed)
    return store


def test_a_whole_store_is_judged_as_planned(place: str) -> None:
    with run(place, questions(50), Overlap(0.2, 3)) as store:
        said = store.judgements()
        assert len(said) == 10 * 3 + 40
        assert set(store.annotators().values()) == {"simulated"}
        assert not any(store.ask(who.name) for who in CROWD)
        assert {each.pressed for each in said if each.annotator == "sam"} == {-3}
        assert simulate(store, CROWD, features, Overlap(0.2, 3), seed=0) == 0


def test_order_does_not_matter(places: Callable[[], str]) -> None:
    first = places()
    with (
        run(first, questions(40), Overlap()) as one,
        run(places(), questions(40)[::-1], Overlap()) as other,
    ):
        assert set(one.judgements()) == set(other.judgements())
    with (
        run(places(), questions(40), Overlap(), seed=1) as third,
        run(first, [], Overlap()) as one,
    ):
        assert set(third.judgements()) != set(one.judgements())


def test_a_killed_run_ends_with_the_same_judgements(places: Callable[[], str]) -> None:
    with run(places(), questions(40), Overlap()) as whole:
        expected = set(whole.judgements())
    looks = 0

    def dies(prompt: Conversation, text: str) -> Mapping[str, float]:
        nonlocal looks
        looks += 1
        if looks > 45:
            raise KeyboardInterrupt
        return features(prompt, text)

    with PreferenceStore.open(places()) as store:
        store.add_items(questions(40))
        with pytest.raises(KeyboardInterrupt):
            simulate(store, CROWD, dies, Overlap(), 0)
        assert 0 < len(store.judgements()) < len(expected)
        simulate(store, CROWD, features, Overlap(), 0)
        assert set(store.judgements()) == expected


def test_new_items_leave_the_old_judgements_alone(place: str) -> None:
    with run(place, questions(30), Overlap()) as store:
        before = store.judgements()
        store.add_items([item("later", "1 1", "0 9")])
        assert simulate(store, CROWD, features, Overlap(0.0, 1), seed=0) == 1
        assert store.judgements()[:-1] == before


def test_people_are_left_out_of_the_plan(place: str) -> None:
    with PreferenceStore.open(place) as store:
        store.add_annotator("person")
        store.add_items(questions(4))
        store.assign(plan(store.items()[:1], ["person"], Overlap(0.0), seed=0))
        assert simulate(store, CROWD, features, Overlap(0.0), seed=0) == 3
        assert [each.assignment.item for each in store.ask("person")] == ["i0"]


def test_the_crowd_is_seen_through(tmp_path: Path) -> None:
    """The way from votes to reliabilities, whole: the spammer is found, and leans left; tastes show in κ."""
    with run(str(tmp_path / "a.db"), questions(400), Overlap(1.0, 5)) as store:
        votes = collect(store.judgements())
    found = dict(zip(votes.annotators, dawid_skene(votes).spam_score().tolist(), strict=True))
    assert found["sam"] < 0.05 < 0.2 < min(found[name] for name in ("ann", "bob", "cat", "dan"))
    left = {
        name: float((votes.strength * votes.side < 0)[votes.annotator == k].mean())
        for k, name in enumerate(votes.annotators)
    }
    assert left["sam"] == 1
    assert left["cat"] > 0.55
    assert left["dan"] == pytest.approx(0.5, abs=3.3 * math.sqrt(0.25 / 400))
    kappa = {pair: each.kappa.value for pair, each in measure(votes, resamples=10).cohen_pairs.items()}
    assert kappa["ann", "dan"] > kappa["ann", "bob"] + 0.05
