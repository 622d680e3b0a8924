"""The reward model: what the pairs can teach it, and how it will read them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from keel.diagnostics.findings import Finding
from keel.preflight.endings import endings
from keel.preflight.pairs import compared, pairs, sorted_by_label
from keel.preflight.repeats import repeats
from keel.preflight.sample import ROWS, Start, made, spread_out
from keel.preflight.templates import refusals
from keel.preflight.truncation import cut_rows
from keel.preflight.wording import wording
from keel.stages.preferences import preferences_are_there, preferences_of, preferences_of_labels
from keel.stages.seen import fingerprint
from keel.stages.workspace import Workspace
from keel.training.comparisons import comparisons
from keel.types import Conversation, Preference, Ranking


def judged(space: Workspace) -> Sequence[Preference | Ranking] | None:
    """What the reward model will learn from; None where the run has yet to gather it."""
    recipe = space.recipe
    if recipe.reward.data is None and recipe.preferences.labels.data is not None:
        found: Sequence[Preference | Ranking] = preferences_of_labels(space)
    elif preferences_are_there(space):
        found = preferences_of(space)
    else:
        return None
    return found[: recipe.reward.limit]


def checks(space: Workspace, start: Start) -> Iterator[Finding]:
    """Everything that pairs can have wrong."""
    rows = judged(space)
    if rows is None:
        yield Finding("Pairs", "ok", "Not yet known: the run gathers its own pairs.", "")
        return
    yield from pairs(rows, _identical(space))
    yield repeats(
        [
            f"{fingerprint(one.prompt + better)} {fingerprint(one.prompt + worse)}"
            for one, better, worse in _sorted(rows)
        ],
        "pairs",
        "reward.data",
    )
    chat, some = start.chat, spread_out(rows, ROWS)
    found, refused = made(some, lambda row: comparisons(chat, row).tree)
    trees = [tree for _, tree in found]
    yield refusals(refused, len(some))
    yield from endings(trees, {chat.eos}, chat.tokenizer.pad_token_id, start.name)
    yield cut_rows(chat.truncation, sum(len(_answers(row)) for row in some), space.recipe.model.max_length)
    said = [(row.prompt, *_answers(row)) for row in rows]
    yield from wording(space, start, said, [tree.trunk for tree in trees])


def _sorted(rows: Sequence[Preference | Ranking]) -> list[tuple[Preference, Conversation, Conversation]]:
    return [(one, *sorted_by_label(one)) for one in compared(rows)]


def _answers(row: Preference | Ranking) -> tuple[Conversation, ...]:
    return row.completions if isinstance(row, Ranking) else (row.chosen, row.rejected)


def _identical(space: Workspace) -> int:
    """Rows that were left out in reading because their two answers are the same.

    Of a file that reward.limit cuts short, so many as fall on the rows that are kept.
    """
    settings = space.recipe.reward
    if settings.data is None:
        return 0
    rows = space.sources.comparisons(settings.data, settings.columns)
    same = sum(one.reason == "identical answers" for one in rows.dropped)
    return round(same * len(rows.items[: settings.limit]) / len(rows)) if len(rows) else same
