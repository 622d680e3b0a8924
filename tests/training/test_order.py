"""Every epoch visits everything once, in an order that the seed decides; what is held out is never trained on."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from keel.training.order import count_steps, split, visits

sizes = st.integers(1, 30)


@settings(max_examples=80, deadline=None)
@given(items=sizes, batch=sizes, epochs=st.integers(1, 4), most=st.none() | st.integers(1, 40), seed=st.integers(0, 9))
def test_an_epoch_visits_each_item_once(items: int, batch: int, epochs: int, most: int | None, seed: int) -> None:
    found = list(visits(items, batch, epochs, most, seed))
    assert found == list(visits(items, batch, epochs, most, seed))
    assert len(found) == count_steps(items, batch, epochs, most)
    per_epoch = -(-items // batch)
    assert len(found) == min(epochs * per_epoch, most or epochs * per_epoch)
    for epoch in [found[start : start + per_epoch] for start in range(0, len(found), per_epoch)]:
        seen = list(itertools.chain.from_iterable(epoch))
        assert len(seen) == len(set(seen))
        assert set(seen) <= set(range(items))
        assert all(len(part) == batch for part in epoch[:-1])
        if len(epoch) == per_epoch:
            assert len(seen) == items
    # a shorter run is the beginning of a longer one
    assert found == list(visits(items, batch, epochs + 1, None, seed))[: len(found)]


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    orders = [tuple(part) for seed in range(3) for part in visits(20, 20, 3, None, seed)]
    assert len(set(orders)) == 9
    assert tuple(range(20)) not in orders


@settings(max_examples=80, deadline=None)
@given(
    keys=st.lists(st.integers(0, 12), min_size=1, max_size=40),
    share=st.floats(0, 1, exclude_max=True),
    seed=st.integers(0, 9),
)
def test_a_split_is_disjoint_exhaustive_and_keeps_prompts_together(keys: list[int], share: float, seed: int) -> None:
    items = list(enumerate(keys))
    training, held_out = split(items, share, seed, lambda item: item[1])
    assert sorted(training + held_out) == items
    assert training == sorted(training)
    assert held_out == sorted(held_out)
    assert training
    assert len(held_out) <= round(share * len(items))
    assert not {key for _, key in training} & {key for _, key in held_out}
    assert (training, held_out) == split(items, share, seed, lambda item: item[1])


def test_how_many_are_held_out_and_which() -> None:
    items = list(range(100))
    drawn = {seed: split(items, 0.2, seed, lambda item: item) for seed in range(4)}
    assert all(len(held_out) == 20 for _, held_out in drawn.values())
    assert len({tuple(held_out) for _, held_out in drawn.values()}) == 4
    assert split(items, 0.0, 0, lambda item: item) == (items, [])
    assert split([7], 0.9, 0, lambda item: item) == ([7], [])
    assert split([7, 8, 9], 0.9, 0, lambda item: 1) == ([7, 8, 9], [])  # one prompt: nothing can be held out
    # pairs of prompts: a fifth of the items, in whole prompts
    training, held_out = split(items, 0.2, 0, lambda item: item // 2)
    assert len(held_out) == 20
    assert {item // 2 for item in held_out} & {item // 2 for item in training} == set()
