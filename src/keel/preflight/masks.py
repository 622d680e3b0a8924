"""Which share of the tokens is trained, and that it is some of every answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from keel.data.forest import Tree
from keel.diagnostics.findings import Finding

LOW, HIGH = 0.02, 0.98
"""Shares of trained tokens beyond which prompt and answer are probably not where they belong."""


def masks(trees: Sequence[Tree]) -> Iterator[Finding]:
    """Whether every answer has trained tokens, and which share of all tokens is trained; nothing of no answers."""
    branches = [branch for tree in trees for branch in tree.branches]
    if not branches:
        return
    empty = sum(not any(branch.mask) for branch in branches)
    yield Finding(
        "Masks",
        "red" if empty else "ok",
        f"{empty} of {len(branches)} answers have no trained token, so nothing is learnt from them."
        if empty
        else f"Each of {len(branches)} answers has trained tokens.",
        "Look at these rows and at the chat template: its {% generation %} markers must enclose the assistant's text, "
        "and model.max_length must leave room for it.",
    )
    size = sum(tree.size for tree in trees)
    share = sum(sum(branch.mask) for branch in branches) / size
    wrong = share < LOW or share > HIGH
    yield Finding(
        "Share trained",
        "amber" if wrong else "ok",
        f"{share:.1%} of {size:,} tokens are trained"
        + (f" (a look is due below {LOW:.0%} and above {HIGH:.0%})." if wrong else "."),
        "Look at the example below: is what the assistant says trained, and the prompt not? A very low share means "
        "long prompts for short answers, a very high one that the prompts stand in the answers.",
    )
