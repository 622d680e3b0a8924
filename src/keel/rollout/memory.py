"""Keys and values of what the rows of a batch have read, laid out for steps of one token.

Three parts, each contiguous, because a strided read of the same numbers costs up to three times as much:

    prompts   read once, shared by all rows that continue a prompt
    body      what the rows have written, in whole tails
    tail      what they are writing: `TAIL` columns, one for each step, the later ones still empty

Shape suffixes: B rows, P prompts, S rows of one prompt, G key/value heads, R query heads for each of them, L tokens of
the longest prompt, n columns of a part, D head width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

TAIL = 32
"""Columns that are written before they join the body, which copies the body once."""


class Memory:
    """The cache of all layers for one batch. `prompts` holds (keys, values) of each layer, [P, G, L, D], and `lengths`
    how many of the L are real; at first every prompt has one row."""

    def __init__(self, prompts: Sequence[tuple[Tensor, Tensor]], lengths: Int[Tensor, " P"]) -> None:
        self._prompts = list(prompts)
        self._body: list[tuple[Tensor, Tensor] | None] = [None for _ in prompts]
        self._tail: list[tuple[Tensor, Tensor] | None] = [None for _ in prompts]
        self._written = 0
        self._padding = _padding(lengths, prompts[0][0].shape[2])
        self._seats = _Seats(torch.arange(len(lengths), device=lengths.device), len(lengths))
        self._hidden: Tensor | None = None

    def select(self, rows: Int[Tensor, " b"]) -> None:
        """Go on with these rows, in this order; a row may be named more than once."""
        kept, entry = torch.unique(self._seats.entry[rows], return_inverse=True)
        seats = _Seats(entry, len(kept))
        entries = kept[seats.entries]
        if not torch.equal(entries, torch.arange(len(self._padding), device=rows.device)):
            self._prompts = [(keys[entries], values[entries]) for keys, values in self._prompts]
            self._padding = self._padding[entries]
        self._seats = seats
        self._body = [None if part is None else (part[0][rows], part[1][rows]) for part in self._body]
        self._tail = [None if part is None else (part[0][rows], part[1][rows]) for part in self._tail]

    def advance(self) -> None:
        """Open the column of the next token, for all layers."""
        if self._written and self._written % TAIL == 0:
            for layer, (body, tail) in enumerate(zip(self._body, self._tail, strict=True)):
                assert tail is not None
                self._body[layer] = tail if body is None else _joined(body, tail)
                self._tail[layer] = None
        self._written += 1
        own = torch.zeros(
            len(self._seats.entry), -(-self._written // TAIL) * TAIL, dtype=torch.bool, device=self._padding.device
        )
        own[:, self._written :] = True
        self._hidden = torch.cat([self._padding[self._seats.entry], own], dim=1)[:, None, None, :]

    def attend(
        self,
        layer: int,
        query: Float[Tensor, "B G R D"],
        key: Float[Tensor, "B G D"],
        value: Float[Tensor, "B G D"],
    ) -> Float[Tensor, "B G R D"]:
        """Write the token's key and value into the open column; softmax(QKᵀ) V over the prompt and all written columns.

        The query comes scaled. Products are made in the format of the cache, the softmax in fp32 or wider.
        """
        if self._hidden is None:
            raise ValueError("no column is open; call advance first")
        keys, values = self._prompts[layer]
        if self._tail[layer] is None:
            shape = (len(key), key.shape[1], TAIL, key.shape[2])
            self._tail[layer] = key.new_zeros(shape), value.new_zeros(shape)
        own = [part for part in (self._body[layer], self._tail[layer]) if part is not None]
        column = (self._written - 1) % TAIL
        own[-1][0][:, :, column], own[-1][1][:, :, column] = key, value
        seats = self._seats
        scores = [seats.back(seats.seated(query) @ keys.transpose(2, 3), query.shape[2])]
        scores += [query @ part.transpose(2, 3) for part, _ in own]
        wide = torch.cat(scores, dim=-1).to(torch.promote_types(query.dtype, torch.float32))
        weights = torch.softmax(wide.masked_fill_(self._hidden, -torch.inf), dim=-1).to(query.dtype)
        shares = torch.split(weights, [part.shape[-1] for part in scores], dim=-1)
        out: Tensor = seats.back(seats.seated(shares[0]) @ values, query.shape[2])
        for share, (_, part) in zip(shares[1:], own, strict=True):
            out = out + share @ part
        return out


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
        if size == 1 and self._seat is None:
            return rows
        if self._seat is not None:
            rows = rows.new_zeros(prompts * size, groups, queries, width).index_copy_(0, self._seat, rows)
        return rows.view(prompts, size, groups, queries, width).transpose(1, 2).reshape(prompts, groups, -1, width)

    def back(self, seated: Float[Tensor, "P G SR n"], queries: int) -> Float[Tensor, "B G R n"]:
        """The inverse of `seated`."""
        prompts, groups, _, width = seated.shape
        if self._shape[1] == 1 and self._seat is None:
            return seated
        rows = seated.view(prompts, groups, self._shape[1], queries, width).transpose(1, 2)
        rows = rows.reshape(-1, groups, queries, width)
        return rows if self._seat is None else rows.index_select(0, self._seat)


def _padding(lengths: Int[Tensor, " P"], width: int) -> Bool[Tensor, "P L"]:
    return torch.arange(width, device=lengths.device) >= lengths[:, None]


def _joined(body: tuple[Tensor, Tensor], tail: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return torch.cat([body[0], tail[0]], dim=2), torch.cat([body[1], tail[1]], dim=2)
