"""The cache against attention written out, for rows that come, part, are doubled and leave in every way."""

from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor

from keel.rollout.memory import STEP, Memory, _Seats

GROUPS, QUERIES, WIDTH = 2, 3, 4
SCALE = 0.3


class Rows:
    """The same rows, each with all its keys and values in a list of its own."""

    def __init__(self, prompts: list[tuple[Tensor, Tensor]], lengths: list[int]) -> None:
        keys, values = prompts[0]
        self.kept = [(keys[i, :, :n], values[i, :, :n]) for i, n in enumerate(lengths)]

    def select(self, rows: list[int]) -> None:
        self.kept = [self.kept[row] for row in rows]

    def attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        self.kept = [
            (torch.cat([keys, key[i][:, None]], 1), torch.cat([values, value[i][:, None]], 1))
            for i, (keys, values) in enumerate(self.kept)
        ]
        return torch.stack(
            [(q @ k.transpose(1, 2) * SCALE).softmax(-1) @ v for q, (k, v) in zip(query, self.kept, strict=True)]
        )


def prompts(lengths: list[int], draw: torch.Generator) -> list[tuple[Tensor, Tensor]]:
    """Keys and values of one layer; what stands in the padding is large, so that reading it shows."""

    def some() -> Tensor:
        rows = torch.randn(len(lengths), GROUPS, max(lengths), WIDTH, generator=draw, dtype=torch.float64)
        for i, length in enumerate(lengths):
            rows[i, :, length:] = 1e6
        return rows

    return [(some(), some())]


@pytest.mark.parametrize(("room", "recorded"), [(5 * STEP + 5, False), (3, False), (1000, True)])
@pytest.mark.parametrize("seed", range(12))
def test_attention_is_that_of_each_row_alone(seed: int, room: int, recorded: bool) -> None:
    chance, draw = random.Random(seed), torch.Generator().manual_seed(seed)
    lengths = [chance.randrange(1, 9) for _ in range(chance.randrange(1, 6))]
    given = prompts(lengths, draw)
    memory, rows = Memory(given, torch.tensor(lengths), room, recorded), Rows(given, lengths)
    count = len(lengths)
    for step in range(5 * STEP + 5):
        if step in (0, 3, STEP, STEP + 1, 50, 51) or chance.random() < 0.05:
            # Some prompts many times, some once, some not at all, in any order.
            chosen = chance.choices(
                range(count), weights=[chance.random() ** 3 for _ in range(count)], k=min(9, count + 4)
            )
            memory.select(torch.tensor(chosen))
            rows.select(chosen)
            count = len(chosen)
        query = torch.randn(count, GROUPS, QUERIES, WIDTH, generator=draw, dtype=torch.float64)
        key, value = (torch.randn(count, GROUPS, WIDTH, generator=draw, dtype=torch.float64) for _ in range(2))
        memory.advance()
        found = memory.attend(0, query, key, value, SCALE)
        assert torch.allclose(found, rows.attend(query, key, value), rtol=0, atol=1e-12)


def test_layers_have_memories_of_their_own() -> None:
    draw = torch.Generator().manual_seed(0)
    given = prompts([3], draw) + prompts([3], draw)
    memory = Memory(given, torch.tensor([3]), 3, False)
    alone = [Memory([one], torch.tensor([3]), 3, False) for one in given]
    for _ in range(3):
        memory.advance()
        for layer in (0, 1):
            alone[layer].advance()
            query = torch.randn(1, GROUPS, QUERIES, WIDTH, generator=draw, dtype=torch.float64)
            key, value = (torch.randn(1, GROUPS, WIDTH, generator=draw, dtype=torch.float64) for _ in range(2))
            together = memory.attend(layer, query, key, value, SCALE)
            assert torch.equal(together, alone[layer].attend(0, query, key, value, SCALE))


def test_what_is_no_number_stays_with_its_row() -> None:
    """Columns that are not written yet lie where other rows' have been; nothing of those may be met there."""
    draw = torch.Generator().manual_seed(0)
    lengths = [STEP, STEP, STEP]
    given = prompts(lengths, draw)
    given[0][0][0] = torch.nan
    memory = Memory(given, torch.tensor(lengths), 1000, False)
    memory.select(torch.tensor([2, 1, 0]))
    for step in range(6 * STEP):
        if step == 2 * STEP:
            memory.select(torch.tensor([1, 2]))
        count = 3 if step < 2 * STEP else 2
        query = torch.randn(count, GROUPS, QUERIES, WIDTH, generator=draw, dtype=torch.float64)
        key, value = (torch.randn(count, GROUPS, WIDTH, generator=draw, dtype=torch.float64) for _ in range(2))
        memory.advance()
        found = memory.attend(0, query, key, value, SCALE)
        assert found.isfinite().flatten(1).all(1).tolist() == [True] * (count - 1) + [False]


def test_a_column_must_be_opened() -> None:
    memory = Memory(prompts([2], torch.Generator().manual_seed(0)), torch.tensor([2]), 1, False)
    with pytest.raises(ValueError, match="call advance first"):
        memory.attend(0, *(torch.zeros(1, GROUPS, *shape, WIDTH) for shape in ((QUERIES,), (), ())), SCALE)


@pytest.mark.parametrize("seed", range(20))
def test_every_row_has_a_seat_of_its_own_at_its_prompt(seed: int) -> None:
    chance = random.Random(seed)
    count = chance.randrange(1, 7)
    owner = [*range(count), *chance.choices(range(count), weights=[chance.random() ** 4 for _ in range(count)], k=40)]
    chance.shuffle(owner)
    seats = _Seats(torch.tensor(owner), count)
    assert seats.entries[seats.entry].tolist() == owner
    rows = torch.arange(1.0, len(owner) + 1)[:, None, None, None].expand(-1, GROUPS, QUERIES, 5).contiguous()
    seated = seats.seated(rows)
    assert torch.equal(seats.back(seated, QUERIES), rows)
    assert sorted(seated[:, 0, ::QUERIES, 0].flatten().tolist())[-len(owner) :] == list(range(1, len(owner) + 1))
    assert seated.shape[0] * seated.shape[2] // QUERIES <= 4 * len(owner)  # not many seats are empty
    for entry, prompt in enumerate(seats.entries.tolist()):
        sitting = [int(number) - 1 for number in seated[entry, 0, ::QUERIES, 0].tolist() if number]
        assert {owner[row] for row in sitting} == {prompt}
