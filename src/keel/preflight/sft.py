"""Supervised fine-tuning: demonstrations against template, mask and length."""

from __future__ import annotations

from collections.abc import Iterator

from keel.diagnostics.findings import Finding
from keel.preflight.endings import endings
from keel.preflight.example import Example
from keel.preflight.masks import masks
from keel.preflight.repeats import repeats
from keel.preflight.sample import ROWS, Start, made, spread_out
from keel.preflight.templates import additions, double_ends, refusals
from keel.preflight.truncation import cut_rows
from keel.preflight.wording import first_said, wording
from keel.stages.seen import fingerprint
from keel.stages.sft import demonstrations
from keel.stages.workspace import Workspace


def checks(space: Workspace, start: Start) -> Iterator[Finding | Example]:
    """Everything that demonstrations can have wrong, and one of them as it is trained."""
    chat, rows = start.chat, demonstrations(space)
    some = spread_out(rows.items, ROWS)
    found, refused = made(some, lambda row: chat.demonstration(row.messages))
    trees = [tree for _, tree in found]
    yield refusals(refused, len(some))
    yield from endings(trees, {chat.eos}, chat.tokenizer.pad_token_id, start.name)
    yield from masks(trees)
    yield cut_rows(chat.truncation, len(some), space.recipe.model.max_length)
    yield repeats([fingerprint(row.messages) for row in rows], "demonstrations", "sft.data")
    yield from wording(space, start, [(row.messages,) for row in rows], [tree.trunk for tree in trees])
    yield additions([first_said(start, row.messages, tree) for row, tree in found], start.special_texts)
    yield from double_ends(trees, start.special, start.name)
    if trees:
        yield Example.of(trees[0], start.decode)
