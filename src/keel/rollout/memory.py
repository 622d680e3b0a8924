"""Keys and values of what the rows of a batch have read, laid out for steps of one token.

    shared   prompts that several rows continue, read once for all of them
    own      what each row has to itself: what it has written, in columns of which the last ones are still empty, and
             before them the prompt, where no other row continues it

Both are contiguous, because a strided read of the same numbers costs up to three times as much; so `own` grows by
copies, `STEP` columns at a time. A copy goes into a block that is spare, and leaves its own to the next. On a
processor, whose memory is taken when it is written to, blocks are as large as they will have to be, as far as that is
near: a heap that gives and takes ever larger ones is left with holes.

Shape suffixes: B rows, P prompts, S rows of one prompt, G key/value heads, R query heads for each of them, L tokens of
the longest prompt, C columns, n any of L and C, D head width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

STEP = 16
"""Columns that are added at once: each growth copies what is there, and empty columns are computed and thrown away. A
prompt's columns are a multiple of it too, so that products come in few sizes."""
LONG_STEP = 128
"""Columns that are added at once on a GPU, where each growth means that a graph is recorded anew."""


def roomy(width: int, room: int, device: torch.device) -> int:
    """Columns to have memory for where there are `width` and `room` will be written: all of them, or twice as many."""
    return width if device.type == "cuda" else width + min(-(-room // STEP) * STEP, max(width, 64))


class Memory:
    """The cache of all layers for one batch. `prompts` holds (keys, values) of each layer, [P, G, L, D], and `lengths`
    how many of the L are real; at first every prompt has one row. They are taken over: what they lie in is written to.
    `room` is how many tokens will be written, a hint; `recorded` is that of the replay that runs `attend`.
    """

    def __init__(
        self, prompts: Sequence[tuple[Tensor, Tensor]], lengths: Int[Tensor, " P"], room: int, recorded: bool
    ) -> None:
        keys = prompts[0][0]
        count, groups, width, _ = keys.shape
        hidden = torch.arange(width, device=lengths.device) >= lengths[:, None]
        bias = torch.zeros(count, groups, 1, width, dtype=keys.dtype, device=keys.device)
        self._shared: list[tuple[Tensor, Tensor]] = []
        self._shared_bias = bias[:, :, :, :0]
        self._seats: _Seats | None = None
        self._own = list(prompts)
        self._room = room
        self._size = _numbers(keys)  # of a block
        self._spare: Tensor | None = None
        self._bias = bias.masked_fill(hidden[:, None, None], -torch.inf)  # 0, or −∞ where nothing is to be seen
        self._filled = width
        self._recorded = recorded
        self._column = torch.zeros(1, dtype=torch.long, device=lengths.device)
        self._step = LONG_STEP if lengths.device.type == "cuda" else STEP
        self._opened = False
        self.layout = 0
        """Changes whenever a tensor that `attend` reads or writes is replaced by another."""

    def select(self, rows: Int[Tensor, " b"]) -> None:
        """Go on with these rows, in this order; a row may be named more than once."""
        self.layout += 1
        count = len(self._bias)
        if not self._opened and len(rows) > int(torch.unique(rows).numel()):
            # nothing is written yet and prompts are continued more than once: they stand apart from now on
            self._shared, self._shared_bias = self._own, self._bias
            _, groups, _, depth = self._own[0][0].shape
            none = self._own[0][0].new_empty(count, groups, 0, depth)
            self._own, self._size = [(none, none)] * len(self._shared), 0
            self._bias, self._filled = self._bias[:, :, :, :0], 0
            self._seats = _Seats(torch.arange(count, device=rows.device), count)
        self._move(len(rows), self._bias.shape[-1], lambda old, new: torch.index_select(old, 0, rows, out=new))
        self._bias = self._bias[rows]
        if self._seats is not None:
            self._sit(self._seats.entry[rows])

    def advance(self) -> None:
        """Open the column of the next token, for all layers."""
        self._opened = True
        if self._filled == self._bias.shape[-1]:
            self._move(len(self._bias), self._filled + self._step, _lengthen)
            self._bias = pad(self._bias, (0, self._step), value=-torch.inf)
            self.layout += 1
        self._bias[:, :, :, self._filled] = 0
        self._column.fill_(self._filled)
        self._filled += 1

    def attend(
        self,
        layer: int,
        query: Float[Tensor, "B G R D"],
        key: Float[Tensor, "B G D"],
        value: Float[Tensor, "B G D"],
        scale: float,
    ) -> Float[Tensor, "B G R D"]:
        """Write the token's key and value into the open column; softmax(scale·QKᵀ) V over all that the row has read.

        Products are made in the format of the cache, the softmax within it in fp32 or wider.
        """
        if not self._opened:
            raise ValueError("no column is open; call advance first")
        keys, values = self._own[layer]
        self._write(keys, key)
        self._write(values, value)
        scores = _scores(query, keys, self._bias, scale)
        if self._seats is None:
            return _mixed(torch.softmax(scores, dim=-1), values)
        seats, (shared_keys, shared_values) = self._seats, self._shared[layer]
        before = _scores(seats.seated(query), shared_keys, self._shared_bias, scale)
        before = seats.back(before, query.shape[2])
        weights = torch.softmax(torch.cat([before, scores], dim=-1), dim=-1)
        share, rest = torch.split(weights, [before.shape[-1], scores.shape[-1]], dim=-1)
        return seats.back(_mixed(seats.seated(share), shared_values), query.shape[2]) + _mixed(rest, values)

    def _write(self, columns: Float[Tensor, "B G C D"], rows: Float[Tensor, "B G D"]) -> None:
        """Into the open column. A recorded step reads from a tensor which one that is, so as to write into whichever is
        open; a number takes a processor a third of the time."""
        if self._recorded:
            columns.index_copy_(2, self._column, rows.unsqueeze(2))
        else:
            columns[:, :, self._filled - 1] = rows

    def _sit(self, owner: Int[Tensor, " b"]) -> None:
        """Seat the rows at their prompts; prompts that nobody continues go, and so does sharing where no two share."""
        kept, entry = torch.unique(owner, return_inverse=True)
        if len(kept) == len(owner):
            before = iter([columns for pair in self._shared for columns in pair])
            width = self._shared_bias.shape[-1] + self._bias.shape[-1]
            self._move(len(owner), width, lambda old, new: torch.cat([next(before)[owner], old], dim=2, out=new))
            self._bias = torch.cat([self._shared_bias[owner], self._bias], dim=3)
            self._filled += self._shared_bias.shape[-1]
            self._shared, self._seats = [], None
            return
        self._seats = _Seats(entry, len(kept))
        entries = kept[self._seats.entries]
        if not torch.equal(entries, torch.arange(len(self._shared_bias), device=entries.device)):
            for number, (keys, values) in enumerate(self._shared):  # never all of the old and all of the new at once
                self._shared[number] = keys[entries], values[entries]
            self._shared_bias = self._shared_bias[entries]

    def _move(self, rows: int, width: int, write: Callable[[Tensor, Tensor], object]) -> None:
        """Give each layer's own keys and values so many rows and columns; `write(old, new)` fills the new ones."""
        _, groups, _, depth = self._own[0][0].shape
        shape = (rows, groups, width, depth)
        if math.prod(shape) > self._size:
            self._size, self._spare = rows * groups * roomy(width, self._room, self._bias.device) * depth, None
        for number, pair in enumerate(self._own):
            keys, values = (self._moved(columns, shape, write) for columns in pair)
            self._own[number] = keys, values

    def _moved(self, old: Tensor, shape: tuple[int, ...], write: Callable[[Tensor, Tensor], object]) -> Tensor:
        """What `write` makes of `old`, in the spare block; the one that `old` leaves is the next spare, if as large."""
        block = old.new_empty(self._size) if self._spare is None else self._spare
        new = block[: math.prod(shape)].view(shape)
        write(old, new)
        self._spare = old.as_strided((self._size,), (1,), 0) if _numbers(old) == self._size else None
        return new


class _Seats:
    """Where the rows of each prompt sit beside each other, so that they read its keys together.

    A prompt with many more rows than the others is entered several times, so that at most about half of the seats are
    empty: `entries` are the prompts that are entered, `entry` is each row's place among them.
    """

    def __init__(self, owner: Int[Tensor, " B"], prompts: int) -> None:
        counts = torch.bincount(owner, minlength=prompts)
        size = min(int(counts.max()), -(-2 * len(owner) // prompts))
        needed = (counts + size - 1) // size
        self.entries = torch.repeat_interleave(torch.arange(prompts, device=owner.device), needed)
        order = owner.argsort(stable=True)
        first = counts.cumsum(0) - counts
        rank = torch.empty_like(owner)
        rank[order] = torch.arange(len(owner), device=owner.device) - first[owner[order]]
        self.entry = (needed.cumsum(0) - needed)[owner] + rank // size
        self._shape = len(self.entries), size
        seat = self.entry * size + rank % size
        plain = len(seat) == len(self.entries) * size
        self._seat = None if plain and bool((seat == torch.arange(len(seat), device=seat.device)).all()) else seat

    def seated(self, rows: Float[Tensor, "B G R n"]) -> Float[Tensor, "P G SR n"]:
        """Rows of one prompt beside each other, empty seats zero."""
        _, groups, queries, width = rows.shape
        prompts, size = self._shape
        if self._seat is not None:
            rows = rows.new_zeros(prompts * size, groups, queries, width).index_copy_(0, self._seat, rows)
        return rows.view(prompts, size, groups, queries, width).transpose(1, 2).reshape(prompts, groups, -1, width)

    def back(self, seated: Float[Tensor, "P G SR n"], queries: int) -> Float[Tensor, "B G R n"]:
        """The inverse of `seated`."""
        prompts, groups, _, width = seated.shape
        rows = seated.view(prompts, groups, self._shape[1], queries, width).transpose(1, 2)
        rows = rows.reshape(-1, groups, queries, width)
        return rows if self._seat is None else rows.index_select(0, self._seat)


def _numbers(columns: Tensor) -> int:
    """How many numbers its block has."""
    return columns.untyped_storage().nbytes() // columns.element_size()


def _scores(
    query: Float[Tensor, "B G R D"], keys: Float[Tensor, "B G n D"], bias: Float[Tensor, "B G 1 n"], scale: float
) -> Float[Tensor, "B G R n"]:
    """scale·QKᵀ + bias."""
    rows, groups, queries, _ = query.shape
    seen = bias.flatten(0, 1).expand(-1, queries, -1)
    scores = torch.baddbmm(seen, query.flatten(0, 1), keys.flatten(0, 1).transpose(1, 2), alpha=scale)
    return scores.view(rows, groups, queries, -1)


def _mixed(weights: Float[Tensor, "B G R n"], values: Float[Tensor, "B G n D"]) -> Float[Tensor, "B G R D"]:
    return torch.bmm(weights.flatten(0, 1), values.flatten(0, 1)).view(*weights.shape[:3], -1)


def _lengthen(old: Float[Tensor, "B G n D"], new: Float[Tensor, "B G m D"]) -> None:
    """The same columns and some empty ones."""
    filled = old.shape[2]
    new[:, :, :filled] = old
    new[:, :, filled:] = 0
