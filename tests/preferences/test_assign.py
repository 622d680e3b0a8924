"""The plan: exactly k, never twice, balanced, and the same whatever the order."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keel.preferences.assign import Overlap, plan, seeded, sides

from .tables import item

NAMES = ["ann", "bob", "cat", "dan", "eve"]


@given(st.integers(0, 60), st.floats(0, 1), st.integers(1, 5), st.integers(0, 9))
def test_exactly_k_annotators_never_the_same_twice(size: int, share: float, k: int, seed: int) -> None:
    planned = plan([item(f"i{n}") for n in range(size)], NAMES, Overlap(share, k), seed)
    assert len({(each.item, each.annotator) for each in planned}) == len(planned)
    times = Counter(Counter(each.item for each in planned).values())
    shared = round(share * size)
    assert times == Counter({k: shared}) + Counter({1: size - shared})
    load = Counter(dict.fromkeys(NAMES, 0))
    load.update(each.annotator for each in planned)
    assert max(load.values()) - min(load.values()) <= 1


def test_the_plan_depends_on_the_set_alone() -> None:
    items = [item(f"i{n}") for n in range(40)]
    one = plan(items, NAMES, Overlap(), seed=4)
    assert one == plan(items[::-1], NAMES[::-1], Overlap(), seed=4)
    assert one != plan(items, NAMES, Overlap(), seed=5)


def test_annotators_meet_in_all_combinations() -> None:
    planned = plan([item(f"i{n}") for n in range(300)], NAMES, Overlap(1.0, 2), seed=0)
    groups: dict[str, list[str]] = {}
    for each in planned:
        groups.setdefault(each.item, []).append(each.annotator)
    assert len({tuple(sorted(group)) for group in groups.values()}) == 10  # all pairs of five


def test_sides_are_balanced_within_every_annotator_and_stay() -> None:
    items = [item(f"i{n}") for n in range(1000)]
    for name in NAMES:
        swapped = sum(sides(each, name, seed=1) == (1, 0) for each in items)
        assert abs(swapped - 500) < 3.3 * (1000 * 0.25) ** 0.5  # p > .001
        assert [sides(each, name, seed=1) for each in items[:50]] == [sides(each, name, seed=1) for each in items[:50]]
    both = Counter((sides(each, "ann", 1), sides(each, "bob", 1)) for each in items)
    chi2 = sum((both[pair] - 250) ** 2 / 250 for pair in both)
    assert len(both) == 4
    assert chi2 < 16.27  # 3 degrees of freedom, p > .001: annotators' sides are independent


def test_three_answers_give_every_ordered_pair() -> None:
    seen = Counter(sides(item(f"i{n}", "1", "2", "3"), "ann", seed=0) for n in range(1200))
    assert len(seen) == 6
    assert sum((count - 200) ** 2 / 200 for count in seen.values()) < 20.52  # 5 degrees of freedom, p > .001


def test_seeds_do_not_run_together() -> None:
    draws = {float(seeded(1, *names).random()) for names in (("ab", "c"), ("a", "bc"), ("abc",), ("ab", "c", ""))}
    assert len(draws) == 4
    assert seeded(1, "a").random() == seeded(1, "a").random() != seeded(2, "a").random()


def test_too_few_annotators() -> None:
    with pytest.raises(ValueError, match="3 different annotators"):
        plan([item("x")], NAMES[:2], Overlap(0.5, 3), seed=0)
    with pytest.raises(ValueError, match="named twice"):
        plan([item("x")], ["ann", "ann", "bob"], Overlap(), seed=0)
    with pytest.raises(ValueError, match="0 ≤ share ≤ 1"):
        Overlap(1.5, 3)
    assert len(plan([item("x")], NAMES[:1], Overlap(0.0, 3), seed=0)) == 1
