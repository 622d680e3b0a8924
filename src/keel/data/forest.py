"""Packed batches: a prompt is a trunk, its completions are branches, and all lie end to end in one row of tokens: the
trunks that several branches share first, then the branches, tree by tree.

Attention is causal inside a branch, a branch sees its trunk, nothing sees a neighbour; positions restart at the
trunk's end for each branch. No padding is computed outside attention, and a prompt is computed once for all its
completions. One tree with trunk `a b` and branches `c d` (both trained) and `e f` (`f` trained) becomes

    row        0  1  2  3  4  5
    tokens     a  b  c  d  e  f
    positions  0  1  2  3  2  3
    targets    2 3 5        rows of trained tokens
    sources    1 2 4        rows whose hidden state predicts them
    branch     0 0 1
    ends       3 5          last row of each branch

A forest of more than 256 rows ends in filler, which nothing reads: see `filled`.

Shape suffixes: T rows (tokens), M masked (trained or sampled) tokens, B branches, Q query slots, K key slots, S1 one
more than the sequences, N keys of all sequences.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, groupby
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Layout = Literal["forest", "causal"]
"""How attention is laid out: branches share their trunk, or every branch is a plain causal sequence of its own."""

_WASTE = 1.15  # a block may hold this many times the slots that its sequences need
_FREE = 256  # rows up to which a forest is as long as its trees


@dataclass(frozen=True)
class Branch:
    """One continuation of a trunk; `mask` is True where the token is trained or was sampled by the policy."""

    tokens: tuple[int, ...]
    mask: tuple[bool, ...]


@dataclass(frozen=True)
class Tree:
    """A trunk (the prompt, may be empty) and the branches that continue it."""

    trunk: tuple[int, ...]
    branches: tuple[Branch, ...]

    @property
    def size(self) -> int:
        """Tokens, the trunk once."""
        return len(self.trunk) + sum(len(branch.tokens) for branch in self.branches)


@dataclass(frozen=True)
class Block:
    """Sequences that attention handles in one call: `sequences` × `queries` slots, each after a trunk of `trunk` keys.

    All of a block's sequences have the same trunk length; a sequence shorter than `queries` repeats its last row.
    Such slots stand after every real one, so no real query sees them, and what they compute is never read.
    `visible[q, k]`: query slot q sees key slot k (trunk keys first); None = no trunk, plain causal.
    """

    sequences: int
    queries: int
    trunk: int
    visible: Bool[Tensor, "q k"] | None


@dataclass(frozen=True)
class Run:
    """Neighbouring sequences of one shape: `sequences` of `length` rows each, from row `first` on, all of them after
    the one trunk of `trunk` rows (0: none) that begins at row `root`."""

    first: int
    sequences: int
    length: int
    root: int
    trunk: int

    @property
    def rows(self) -> slice:
        """Of the sequences."""
        return slice(self.first, self.first + self.sequences * self.length)

    @property
    def roots(self) -> slice:
        """Of their trunk."""
        return slice(self.root, self.root + self.trunk)


@dataclass(frozen=True)
class Spans:
    """What the blocks say, without a slot too many: for kernels that take sequences of any length in one call.

    Sequence s has the rows `queries[s]` to `queries[s + 1] − 1`, in the order of the forest, and of `shown` the keys
    `keys[s]` to `keys[s + 1] − 1`: those of its trunk, then its own. So the last of n queries sees all its keys, and
    the one before it all but the last.
    """

    queries: Int[Tensor, " S1"]
    keys: Int[Tensor, " S1"]
    shown: Int[Tensor, " N"] | None  # row of each key; None = all rows as they are, where nothing has a trunk
    longest_query: int
    longest_key: int
    runs: tuple[Run, ...]  # in the order of the rows, from the first on and without the filler

    def to(self, device: torch.device | str) -> "Spans":
        """The same spans on `device`."""
        shown = None if self.shown is None else self.shown.to(device)
        return replace(self, queries=self.queries.to(device), keys=self.keys.to(device), shown=shown)


@dataclass(frozen=True)
class Blocks:
    """The rows behind the slots of all blocks, one block after the other, each sequence by sequence."""

    shapes: tuple[Block, ...]
    queries: Int[Tensor, " Q"]  # row of each query slot
    keys: Int[Tensor, " K"]  # row of each key slot: per sequence its trunk, then its queries
    slots: Int[Tensor, " T"]  # query slot of each row
    spans: Spans

    def to(self, device: torch.device | str) -> "Blocks":
        """The same blocks on `device`."""
        shapes = tuple(
            block if block.visible is None else replace(block, visible=block.visible.to(device))
            for block in self.shapes
        )
        queries, keys, slots = (rows.to(device) for rows in (self.queries, self.keys, self.slots))
        return Blocks(shapes, queries, keys, slots, self.spans.to(device))


@dataclass(frozen=True)
class Forest:
    """A packed batch of T tokens (filler included) in B branches, M of them masked (trained, or sampled).

    `targets`, `sources` and `branch` run tree by tree, branch by branch, token by token: the same order whatever the
    layout, so nothing that a caller holds per token or per branch depends on it.
    """

    tokens: Int[Tensor, " T"]
    positions: Int[Tensor, " T"]
    targets: Int[Tensor, " M"]  # row of each masked token
    sources: Int[Tensor, " M"]  # row whose hidden state predicts it
    branch: Int[Tensor, " M"]  # branch (0..B-1) of each masked token
    ends: Int[Tensor, " B"]  # row of the last token of each branch
    tree: Int[Tensor, " B"]  # tree of each branch
    blocks: Blocks

    @property
    def labels(self) -> Int[Tensor, " M"]:
        """The masked tokens themselves."""
        return self.tokens[self.targets]

    @property
    def longest(self) -> int:
        """Tokens of the longest trunk with its branch."""
        return max(block.trunk + block.queries for block in self.blocks.shapes)

    def column(self, values: Sequence[Sequence[float]]) -> Float[Tensor, " M"]:
        """One number per masked token: `values[b]` holds those of branch b, in fp32 on the forest's device.

        Raises ValueError unless there is one inner sequence per branch, as long as the branch has masked tokens.
        """
        counts = torch.bincount(self.branch, minlength=len(self.ends)).tolist()
        lengths = [len(row) for row in values]
        if lengths != counts:
            raise ValueError(f"a column of {lengths} numbers for branches with {counts} masked tokens")
        return torch.tensor(list(chain.from_iterable(values)), dtype=torch.float32, device=self.tokens.device)

    def to(self, device: torch.device | str) -> "Forest":
        """The same forest on `device`."""
        return Forest(
            tokens=self.tokens.to(device),
            positions=self.positions.to(device),
            targets=self.targets.to(device),
            sources=self.sources.to(device),
            branch=self.branch.to(device),
            ends=self.ends.to(device),
            tree=self.tree.to(device),
            blocks=self.blocks.to(device),
        )


@dataclass(frozen=True)
class _Segment:
    """Rows `start` … `start + length − 1`: a trunk, a branch after the trunk `trunk`, or a whole plain sequence."""

    start: int
    length: int
    trunk: "_Segment | None" = None

    @property
    def before(self) -> int:
        return 0 if self.trunk is None else self.trunk.length

    @property
    def rows(self) -> range:
        return range(self.start, self.start + self.length)


def grow(trees: Sequence[Tree], layout: Layout = "forest") -> Forest:
    """Pack trees into one forest.

    "forest": a tree's branches share its trunk. "causal": every branch is a sequence of its own (trunk + branch), for
    models that cannot take the forest's mask. A tree with one branch, or with an empty trunk, is the same in both.

    Raises ValueError for no trees, a tree without branches, a branch without tokens or with a mask of another length,
    and for a masked first token after an empty trunk, which nothing predicts.
    """
    if not trees:
        raise ValueError("a forest needs at least one tree")
    tokens: list[int] = []
    segments: list[_Segment] = []
    targets: list[int] = []
    sources: list[int] = []
    branch_of: list[int] = []
    ends: list[int] = []
    tree_of: list[int] = []
    trunks: dict[int, _Segment] = {}
    for index, tree in enumerate(trees):
        _check(index, tree)
        if layout == "forest" and tree.trunk and len(tree.branches) > 1:
            trunks[index] = _Segment(len(tokens), len(tree.trunk))
            tokens += tree.trunk
    segments += trunks.values()
    for index, tree in enumerate(trees):
        shared = trunks.get(index)
        for branch in tree.branches:
            own = branch.tokens if shared else tree.trunk + branch.tokens
            segments.append(_Segment(len(tokens), len(own), shared))
            tokens += own
            first = len(tokens) - len(branch.tokens)
            before = shared.rows[-1] if shared else first - 1
            rows = [first + offset for offset, masked in enumerate(branch.mask) if masked]
            targets += rows
            sources += [row - 1 if row > first else before for row in rows]
            branch_of += [len(ends)] * len(rows)
            ends.append(len(tokens) - 1)
            tree_of.append(index)
    real = len(segments)
    if layout == "forest":
        for length in _filler(filled(len(tokens)) - len(tokens), max(segment.length for segment in segments)):
            segments.append(_Segment(len(tokens), length))
            tokens += [0] * length
    return Forest(
        tokens=torch.tensor(tokens),
        positions=torch.cat([torch.arange(segment.length) + segment.before for segment in segments]),
        targets=torch.tensor(targets, dtype=torch.long),
        sources=torch.tensor(sources, dtype=torch.long),
        branch=torch.tensor(branch_of, dtype=torch.long),
        ends=torch.tensor(ends),
        tree=torch.tensor(tree_of),
        blocks=_blocks(segments, real, len(tokens)),
    )


def filled(rows: int) -> int:
    """How long a forest of so many rows becomes: up to the next sixteenth of a power of two, so by at most 1/16.

    Matrix products then come in few sizes. Libraries keep what they have made ready for each (oneDNN some MB for one in
    bfloat16, compilers a program), and every batch of a run would have a size of its own.
    """
    step = max(1, (1 << (rows.bit_length() - 1)) // 16)
    return rows if rows <= _FREE else -(-rows // step) * step


def few_sizes(count: int) -> int:
    """How many sequences or rows become of so many where there should be few sizes: 1, 2, 3, 4, 6, 8, 12, 16, 24, …"""
    step = max(1, (1 << (count.bit_length() - 1)) // 2)
    return -(-count // step) * step


def _filler(rows: int, longest: int) -> list[int]:
    """Lengths of the filler's sequences, none longer than the longest real one, whose positions a model has."""
    return [min(longest, rows - start) for start in range(0, rows, longest)]


def plan(trees: Sequence[Tree], budget: int) -> list[list[int]]:
    """Indices of the trees of each micro-batch: in order, at most `budget` tokens each, in as few micro-batches as that
    takes, of which the largest is as small as it can be, because it sets the peak of memory.

    A tree is never split: one that is larger than the budget stands alone. Raises ValueError for a budget below 1.
    """
    if budget < 1:
        raise ValueError(f"a budget of {budget} tokens; it must be at least 1")
    sizes = [tree.size for tree in trees]
    batches = _filled_up(sizes, budget)
    low, high = 1, budget
    while low < high:
        middle = (low + high) // 2
        closer = _filled_up(sizes, middle)
        if len(closer) == len(batches):
            batches, high = closer, middle
        else:
            low = middle + 1
    return batches


def _filled_up(sizes: Sequence[int], budget: int) -> list[list[int]]:
    """As many as fit into the budget, from the first on, and again."""
    batches: list[list[int]] = []
    room = 0
    for index, size in enumerate(sizes):
        if not batches or size > room:
            batches.append([])
            room = budget
        batches[-1].append(index)
        room -= size
    return batches


def _check(index: int, tree: Tree) -> None:
    if not tree.branches:
        raise ValueError(f"tree {index} has no branches")
    for number, branch in enumerate(tree.branches):
        if not branch.tokens:
            raise ValueError(f"tree {index}, branch {number} has no tokens")
        if len(branch.mask) != len(branch.tokens):
            raise ValueError(
                f"tree {index}, branch {number}: {len(branch.mask)} mask entries for {len(branch.tokens)} tokens"
            )
        if branch.mask[0] and not tree.trunk:
            raise ValueError(f"tree {index}, branch {number}: nothing predicts its masked first token (empty trunk)")


def _blocks(segments: Sequence[_Segment], real: int, rows: int) -> Blocks:
    """Of all segments, the first `real` of which are no filler."""
    queries: list[int] = []
    keys: list[int] = []
    slots = torch.empty(rows, dtype=torch.long)
    shapes: list[Block] = []
    for group in _groups(segments):
        width, trunk = group[-1].length, group[0].before
        for segment in group:
            padded = [*segment.rows] + [segment.rows[-1]] * (width - segment.length)
            within = slice(segment.start, segment.start + segment.length)
            slots[within] = torch.arange(segment.length) + len(queries)
            queries += padded
            keys += [*segment.trunk.rows, *padded] if segment.trunk else padded
        visible = torch.ones(width, trunk + width, dtype=torch.bool).tril(trunk) if trunk else None
        shapes.append(Block(len(group), width, trunk, visible))
    return Blocks(tuple(shapes), torch.tensor(queries), torch.tensor(keys), slots, _spans(segments, real))


def _spans(segments: Sequence[_Segment], real: int) -> Spans:
    """Segments follow each other as their rows do."""
    lengths = torch.tensor([0, *(segment.length for segment in segments)])
    before = torch.tensor([0, *(segment.before for segment in segments)])
    shown = None
    if any(segment.trunk for segment in segments):
        shown = torch.cat(
            [
                torch.arange(rows.start, rows.stop)
                for segment in segments
                for rows in ((segment.trunk.rows, segment.rows) if segment.trunk else (segment.rows,))
            ]
        )
    queries, keys = (counts.cumsum(0).to(torch.int32) for counts in (lengths, lengths + before))
    return Spans(queries, keys, shown, int(lengths.max()), int((lengths + before).max()), tuple(_runs(segments[:real])))


def _runs(segments: Sequence[_Segment]) -> Iterator[Run]:
    """Neighbours of one length, after one trunk or after none."""
    for (length, root), alike in groupby(segments, key=lambda segment: (segment.length, segment.trunk)):
        same = list(alike)
        yield Run(same[0].start, len(same), length, root.start if root else 0, root.length if root else 0)


def _groups(segments: Sequence[_Segment]) -> list[list[_Segment]]:
    """Segments with one trunk length and about one length of their own, shortest first (so the last sets the width)."""
    groups: list[list[_Segment]] = []
    real = 0
    for segment in sorted(segments, key=lambda segment: (segment.before, segment.length)):
        fits = bool(groups) and groups[-1][0].before == segment.before
        if fits and segment.length * (len(groups[-1]) + 1) <= _WASTE * (real + segment.length):
            groups[-1].append(segment)
            real += segment.length
        else:
            groups.append([segment])
            real = segment.length
    return groups
