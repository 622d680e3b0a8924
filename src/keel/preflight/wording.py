"""The checks of data against chat template that all stages share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, dropwhile, takewhile

from keel.data.forest import Tree
from keel.diagnostics.findings import Finding
from keel.preflight.sample import TEXTS, Start, spread_out, texts
from keel.preflight.templates import Said, beginnings, markers, own_template
from keel.stages.workspace import Workspace
from keel.types import Conversation


def wording(
    space: Workspace, start: Start, rows: Sequence[Sequence[Conversation]], trunks: Sequence[Sequence[int]]
) -> Iterator[Finding]:
    """Which template is used, what stands in the messages of `rows`, and how prompts (`trunks`, in tokens) begin.

    A row is its conversations, so that of a row either all are searched or none.
    """
    yield own_template(start.ignored_template)
    asked, said = texts(chain.from_iterable(spread_out(rows, TEXTS)))
    yield markers(asked, said, start.special_texts, space.recipe.model.template == "plain")
    yield beginnings(trunks, start.bos, start.adds_bos)


def first_said(start: Start, conversation: Conversation, tree: Tree) -> Said:
    """The first assistant's turn that a tree trains, as the data and as the tokens have it."""
    branch = tree.branches[0]
    marked = zip(branch.tokens, branch.mask, strict=True)
    run = takewhile(lambda one: one[1], dropwhile(lambda one: not one[1], marked))
    content = next(turn.content for turn in conversation if turn.role == "assistant")
    return Said(content, start.decode([token for token, _ in run]))
