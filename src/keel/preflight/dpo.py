"""Learning straight from preferences: what the pairs, or rated answers, can teach, and how they will be read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from keel.diagnostics.findings import Finding
from keel.preflight.endings import endings
from keel.preflight.example import Example
from keel.preflight.pairs import compared as as_pairs
from keel.preflight.pairs import pairs, sorted_by_label
from keel.preflight.repeats import repeats
from keel.preflight.reward import judged
from keel.preflight.sample import ROWS, Start, made, spread_out
from keel.preflight.templates import refusals
from keel.preflight.truncation import cut_rows
from keel.preflight.wording import wording
from keel.stages.direct import Row, as_tree, rows_to_prefer
from keel.stages.seen import fingerprint
from keel.stages.workspace import Workspace
from keel.types import Conversation, Preference, Ranking, Rated

FEW = 0.1
"""Share of the rarer kind of rated answers below which its weight is due for a look."""


def checks(space: Workspace, start: Start) -> Iterator[Finding | Example]:
    """Everything that preferences can have wrong, and one of them as it is trained."""
    rows = _known(space)
    if rows is None:
        yield Finding("Pairs", "ok", "Not yet known: the run gathers its own pairs.", "")
        return
    where = "dpo.data" if space.recipe.dpo.data is not None else "reward.data"
    compared = [row for row in rows if isinstance(row, Preference | Ranking)]
    if compared:
        yield from pairs(compared, _identical(space))
        yield repeats(_fingerprints(compared), "pairs", where)
    singles = [row for row in rows if isinstance(row, Rated)]
    if singles:
        yield sides(singles)
        yield repeats([fingerprint(row.prompt + row.answer) for row in singles], "answers", where)
    chat, some = start.chat, spread_out(rows, ROWS)
    found, refused = made(some, lambda row: as_tree(chat, row))
    trees = [tree for _, tree in found]
    yield refusals(refused, len(some))
    yield from endings(trees, {chat.eos}, chat.tokenizer.pad_token_id, start.name)
    yield cut_rows(chat.truncation, sum(len(_answers(row)) for row in some), space.recipe.model.max_length)
    yield from wording(space, start, [(row.prompt, *_answers(row)) for row in rows], [tree.trunk for tree in trees])
    if trees:
        yield Example.of(trees[0], start.decode)


def _known(space: Workspace) -> Sequence[Row] | None:
    """What will be learnt from; None where the run has yet to gather it."""
    recipe = space.recipe
    if recipe.dpo.data is not None:
        return rows_to_prefer(space)
    limited = recipe.reward.model_copy(update={"limit": recipe.dpo.limit})
    return judged(replace(space, recipe=recipe.model_copy(update={"reward": limited})))


def _identical(space: Workspace) -> int:
    """Rows that were left out in reading because their two answers are the same."""
    recipe = space.recipe
    section = recipe.dpo if recipe.dpo.data is not None else recipe.reward
    if section.data is None:
        return 0
    rows = space.sources.comparisons(section.data, section.columns)
    same = sum(one.reason == "identical answers" for one in rows.dropped)
    return round(same * len(rows.items[: recipe.dpo.limit]) / len(rows))  # of a file that is cut short, its share


def _fingerprints(rows: Sequence[Preference | Ranking]) -> list[str]:
    """Of each pair, whichever of its answers stands first."""
    sides = [(one.prompt, *sorted_by_label(one)) for one in as_pairs(rows)]
    return [f"{fingerprint(asked + better)} {fingerprint(asked + worse)}" for asked, better, worse in sides]


def sides(rows: Sequence[Rated]) -> Finding:
    """How many of the rated answers are good: without either kind there is nothing to tell apart."""
    good = sum(row.desirable for row in rows)
    fewer = min(good, len(rows) - good)
    rare = fewer < FEW * len(rows)
    return Finding(
        "Good and bad answers",
        "red" if not fewer else "amber" if rare else "ok",
        f"{good:,} of {len(rows):,} answers are good"
        + (f" (a look is due where one kind is below {FEW:.0%}, alarm where it is missing)." if rare else "."),
        "Give answers of both kinds; where one is rarer, raise its weight (dpo.desirable_weight, "
        "dpo.undesirable_weight) until the sums are alike.",
    )


def _answers(row: Row) -> tuple[Conversation, ...]:
    match row:
        case Rated():
            return (row.answer,)
        case Ranking():
            return row.completions
        case Preference():
            return (row.chosen, row.rejected)
