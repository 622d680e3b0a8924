"""How trees are packed: rows, what predicts what, and exactly which rows a row may see."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import fields
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from keel.data.forest import Branch, Forest, Layout, Run, Tree, filled, grow, plan

few = settings(deadline=None, max_examples=30)

# Plain tuples, planted inside the tests: beartype draws random numbers, which a strategy must not.
Plans = list[tuple[tuple[int, ...], list[list[tuple[int, bool]]]]]
branches = st.lists(st.tuples(st.integers(0, 99), st.booleans()), min_size=1, max_size=9)
plans = st.lists(
    st.tuples(st.lists(st.integers(0, 99), max_size=9).map(tuple), st.lists(branches, min_size=1, max_size=5)),
    min_size=1,
    max_size=5,
)


def planted(plans: Plans) -> list[Tree]:
    """Trees; a first token that nothing predicts is not masked."""
    return [
        Tree(
            trunk,
            tuple(
                Branch(
                    tuple(token for token, _ in branch),
                    tuple(masked and bool(trunk or place) for place, (_, masked) in enumerate(branch)),
                )
                for branch in branches
            ),
        )
        for trunk, branches in plans
    ]


def whole(grown: list[Tree]) -> list[tuple[int, ...]]:
    return [tree.trunk + branch.tokens for tree in grown for branch in tree.branches]


def seen(forest: Forest) -> dict[int, list[int]]:
    """The rows whose keys each row's query meets, read off the blocks, in order of their positions."""
    met: dict[int, list[int]] = {}
    rows, columns = forest.blocks.queries.tolist(), forest.blocks.keys.tolist()
    slots = forest.blocks.slots.tolist()
    slot = column = 0
    for block in forest.blocks.shapes:
        visible = block.visible
        if visible is None:
            assert block.trunk == 0
            visible = torch.ones(block.queries, block.queries, dtype=torch.bool).tril()
        for _ in range(block.sequences):
            keys = columns[column : column + block.trunk + block.queries]
            for place in range(block.queries):
                if slots[rows[slot]] == slot:  # the others repeat a row, and nothing reads them
                    met[rows[slot]] = [key for key, shown in zip(keys, visible[place].tolist(), strict=True) if shown]
                slot += 1
            column += len(keys)
    assert (slot, column) == (len(rows), len(columns))
    return met


def spanned(forest: Forest) -> dict[int, list[int]]:
    """The same, read off the spans."""
    spans, met = forest.blocks.spans, {}
    queries, keys = spans.queries.tolist(), spans.keys.tolist()
    shown = list(range(keys[-1])) if spans.shown is None else spans.shown.tolist()
    assert (queries[-1], keys[-1]) == (len(forest.tokens), len(shown))
    assert max(after - before for before, after in pairwise(queries)) == spans.longest_query
    assert max(after - before for before, after in pairwise(keys)) == spans.longest_key
    for (first, last), (start, end) in zip(pairwise(queries), pairwise(keys), strict=True):
        for row in range(first, last):
            met[row] = shown[start : end - (last - 1 - row)]
    return met


def ran(forest: Forest) -> dict[int, list[int]]:
    """The same, read off the runs."""
    met: dict[int, list[int]] = {}
    for run in forest.blocks.spans.runs:
        trunk = list(range(run.roots.start, run.roots.stop))
        rows = list(range(run.rows.start, run.rows.stop))
        assert len(rows) == run.sequences * run.length > 0
        for place, row in enumerate(rows):
            met[row] = trunk + rows[place - place % run.length : place + 1]
    return met


def test_the_worked_example() -> None:
    tree = Tree((10, 11), (Branch((12, 13), (True, True)), Branch((14, 15), (False, True))))
    forest = grow([tree])
    assert forest.tokens.tolist() == [10, 11, 12, 13, 14, 15]
    assert forest.positions.tolist() == [0, 1, 2, 3, 2, 3]
    assert forest.targets.tolist() == [2, 3, 5]
    assert forest.sources.tolist() == [1, 2, 4]
    assert forest.branch.tolist() == [0, 0, 1]
    assert forest.ends.tolist() == [3, 5]
    assert forest.tree.tolist() == [0, 0]
    assert forest.labels.tolist() == [12, 13, 15]
    assert forest.longest == 4
    assert seen(forest) == {0: [0], 1: [0, 1], 2: [0, 1, 2], 3: [0, 1, 2, 3], 4: [0, 1, 4], 5: [0, 1, 4, 5]}
    spans = forest.blocks.spans
    assert spans.queries.tolist() == [0, 2, 4, 6]
    assert spans.keys.tolist() == [0, 2, 6, 10]
    assert spans.shown is not None
    assert spans.shown.tolist() == [0, 1, 0, 1, 2, 3, 0, 1, 4, 5]
    assert (spans.longest_query, spans.longest_key) == (2, 4)
    assert spans.runs == (Run(0, 1, 2, 0, 0), Run(2, 2, 2, 0, 2))


def test_a_masked_first_token_is_predicted_by_the_end_of_its_own_trunk() -> None:
    trees = [Tree((1, 2), (Branch((3,), (True,)), Branch((4,), (True,)))), Tree((5,), (Branch((6,), (True,)),))]
    assert grow(trees).sources.tolist() == [1, 1, 4]
    assert grow(trees, "causal").sources.tolist() == [1, 4, 6]
    assert grow(trees, "causal").tokens.tolist() == [1, 2, 3, 1, 2, 4, 5, 6]


@few
@given(plans, st.sampled_from(["forest", "causal"]))
def test_a_row_sees_its_own_sequence_so_far_and_nothing_else(drawn: Plans, layout: Layout) -> None:
    grown = planted(drawn)
    forest = grow(grown, layout)
    met = seen(forest)
    assert spanned(forest) == ran(forest) == met
    assert sorted(met) == list(range(len(forest.tokens)))
    assert [len(met[row]) - 1 for row in range(len(met))] == forest.positions.tolist()
    for end, sequence in zip(forest.ends.tolist(), whole(grown), strict=True):
        assert forest.tokens[met[end]].tolist() == list(sequence)
        for place, row in enumerate(met[end]):
            assert met[row] == met[end][: place + 1]


@few
@given(plans)
def test_per_token_order_does_not_depend_on_the_layout(drawn: Plans) -> None:
    grown = planted(drawn)
    expected = [
        (number, token, (tree.trunk + branch.tokens)[len(tree.trunk) + place - 1])
        for number, (tree, branch) in enumerate((tree, branch) for tree in grown for branch in tree.branches)
        for place, (token, masked) in enumerate(zip(branch.tokens, branch.mask, strict=True))
        if masked
    ]
    for layout in ("forest", "causal"):
        forest = grow(grown, layout)
        before = forest.tokens[forest.sources].tolist()
        assert list(zip(forest.branch.tolist(), forest.labels.tolist(), before, strict=True)) == expected
        assert forest.tree.tolist() == [index for index, tree in enumerate(grown) for _ in tree.branches]
        assert (forest.positions[forest.targets] == forest.positions[forest.sources] + 1).all()


@few
@given(plans)
def test_no_trunk_is_stored_twice_and_little_is_padded(drawn: Plans) -> None:
    grown = planted(drawn)
    forest = grow(grown)
    assert len(forest.tokens) == sum(
        len(tree.trunk) + sum(len(branch.tokens) for branch in tree.branches) for tree in grown
    )
    slot = 0
    for block in forest.blocks.shapes:
        size = block.sequences * block.queries
        real = len(set(forest.blocks.queries[slot : slot + size].tolist()))
        assert real <= size <= 1.15 * real
        slot += size


def test_one_branch_is_one_plain_causal_sequence() -> None:
    tree = Tree((1, 2, 3), (Branch((4, 5), (True, True)),))
    forest = grow([tree, tree])
    assert [(block.sequences, block.queries, block.trunk) for block in forest.blocks.shapes] == [(2, 5, 0)]
    assert forest.blocks.spans.shown is None


@few
@given(plans, st.integers(1, 60))
def test_a_plan_holds_every_tree_once_in_order_within_the_budget(drawn: Plans, budget: int) -> None:
    grown = planted(drawn)
    batches = plan(grown, budget)
    assert [place for batch in batches for place in batch] == list(range(len(grown)))
    sizes = [len(tree.trunk) + sum(len(branch.tokens) for branch in tree.branches) for tree in grown]
    totals = [sum(sizes[place] for place in batch) for batch in batches]
    assert all(total <= budget or len(batch) == 1 for total, batch in zip(totals, batches, strict=True))
    assert len(batches) == fewest(sizes, budget)
    if any(len(batch) > 1 and total == max(totals) for total, batch in zip(totals, batches, strict=True)):
        assert fewest(sizes, max(totals) - 1) > len(batches)


def fewest(sizes: list[int], budget: int) -> int:
    """The least number of neighbouring groups of which none exceeds the budget unless it is one tree; by trying all."""
    best = [0]
    for end in range(1, len(sizes) + 1):
        starts = [start for start in range(end) if end - start == 1 or sum(sizes[start:end]) <= budget]
        best.append(1 + min(best[start] for start in starts))
    return best[-1]


def test_plan_by_hand() -> None:
    sizes = [4, 4, 9, 1, 1, 8]
    trees = [Tree((), (Branch((0,) * size, (False,) * size),)) for size in sizes]
    assert plan(trees, 8) == [[0, 1], [2], [3, 4], [5]]
    assert plan([trees[0]] * 5, 16) == [[0, 1, 2], [3, 4]]  # 12 and 8 tokens, not 16 and 4
    assert plan([], 8) == []
    with pytest.raises(ValueError, match="budget of 0"):
        plan(trees, 0)


def test_a_column_lines_up_with_the_masked_tokens() -> None:
    tree = Tree((1,), (Branch((2, 3), (True, True)), Branch((4,), (False,)), Branch((5, 6), (False, True))))
    forest = grow([tree])
    column = forest.column([(0.5, -1.0), (), (2.0,)])
    assert column.dtype == torch.float32
    assert column.tolist() == [0.5, -1.0, 2.0]
    assert [forest.labels.tolist()[place] for place in (0, 2)] == [2, 6]
    for wrong in ([(0.5,), (), (2.0,)], [(0.5, -1.0), ()], [(0.5, -1.0), (2.0,), ()]):
        with pytest.raises(ValueError, match="masked tokens"):
            forest.column(wrong)


def test_a_forest_without_masked_tokens_has_empty_columns() -> None:
    forest = grow([Tree((1,), (Branch((2,), (False,)),))])
    assert forest.labels.tolist() == forest.column([()]).tolist() == []
    assert forest.ends.tolist() == [1]


def test_to_moves_every_tensor() -> None:
    tree = Tree((1, 2), (Branch((3,), (True,)), Branch((4, 5), (True, True))))
    moved = grow([tree]).to("meta")
    assert all(getattr(moved, field.name).is_meta for field in fields(Forest) if field.name != "blocks")
    blocks = moved.blocks
    assert blocks.queries.is_meta
    assert blocks.keys.is_meta
    assert blocks.slots.is_meta
    assert blocks.spans.queries.is_meta
    assert blocks.spans.keys.is_meta
    assert blocks.spans.shown is not None
    assert blocks.spans.shown.is_meta
    assert Counter(block.visible is None or block.visible.is_meta for block in blocks.shapes) == {True: 3}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([], "at least one tree"),
        ([Tree((1,), ())], "tree 0 has no branches"),
        ([Tree((1,), (Branch((2,), (True,)), Branch((), ())))], "tree 0, branch 1 has no tokens"),
        ([Tree((1,), (Branch((2, 3), (True,)),))], "1 mask entries for 2 tokens"),
        ([Tree((), (Branch((2, 3), (True, True)),))], "nothing predicts"),
    ],
)
def test_what_cannot_be_packed_is_refused(wrong: list[Tree], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        grow(wrong)


def test_filled_by_hand() -> None:
    """A sixteenth of 512 is 32, of 4096 it is 256."""
    assert [filled(rows) for rows in (1, 6, 255, 256, 257, 500, 512, 513, 544, 545, 4096, 4097, 8191)] == (
        [1, 6, 255, 256, 272, 512, 512, 544, 544, 576, 4096, 4352, 8192]
    )


def test_filler_is_at_most_a_sixteenth_and_leaves_few_sizes() -> None:
    sizes = {rows: filled(rows) for rows in range(1, 20_000)}
    assert all(rows <= size <= rows * 17 / 16 for rows, size in sizes.items())
    assert len({size for rows, size in sizes.items() if 4096 <= rows < 8192}) == 17


@pytest.mark.parametrize("seed", range(3))
def test_filler_stands_behind_all_and_is_read_by_nothing(seed: int) -> None:
    chance = random.Random(seed)
    trees = [
        Tree((3,) * chance.randrange(0, 20), tuple(Branch((4,) * chance.randrange(1, 30), ()) for _ in range(3)))
        for _ in range(20)
    ]
    trees = [
        Tree(tree.trunk, tuple(Branch(one.tokens, (False, *(True,) * (len(one.tokens) - 1))) for one in tree.branches))
        for tree in trees
    ]
    real = sum(len(tree.trunk) + sum(len(one.tokens) for one in tree.branches) for tree in trees)
    forest = grow(trees)
    assert len(forest.tokens) == len(forest.positions) == len(forest.blocks.slots) == filled(real) > real
    assert max(int(rows.max()) for rows in (forest.targets, forest.sources, forest.ends)) < real
    assert int(forest.positions.max()) < 20 + 30  # filler has no positions that the trees do not have
    # every sequence of the blocks is all real or all filler
    start = keys = 0
    for block in forest.blocks.shapes:
        for _ in range(block.sequences):
            queries = forest.blocks.queries[start : start + block.queries]
            shown = forest.blocks.keys[keys : keys + block.trunk + block.queries]
            assert len({bool(row < real) for row in (*queries.tolist(), *shown.tolist())}) == 1
            start, keys = start + block.queries, keys + block.trunk + block.queries


def test_plain_sequences_have_no_filler() -> None:
    trees = [Tree((3, 4), (Branch((5,) * 100, (True,) * 100),)) for _ in range(3)]
    assert len(grow(trees, "causal").tokens) == 3 * 102
