"""Rows that come twice, within the data to learn from and between that and the evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

from keel.diagnostics.findings import Finding, level
from keel.summary import STAGES

AMBER, RED = 0.05, 0.5
"""Shares of repeated rows; from half on, an epoch is really several."""
OVERLAP = 0.2
"""Share of known prompts from which an evaluation measures memory."""


def repeats(rows: Sequence[str], noun: str, where: str) -> Finding:
    """Fingerprints of rows: how many of them have been there before. `where` names the recipe's field."""
    again = len(rows) - len(set(rows))
    return Finding(
        "Duplicates",
        level(again / max(len(rows), 1), AMBER, RED),
        f"{again:,} of {len(rows):,} {noun} repeat an earlier one (a look is due from {AMBER:.0%}, alarm from "
        f"{RED:.0%})."
        if again
        else f"None of {len(rows):,} {noun} comes twice.",
        f"Leave each row in {where} once; for more passes over the data there are epochs.",
    )


def overlap(trained: Mapping[str, Set[str]], asked: Sequence[str]) -> Finding:
    """How many prompts of the evaluation (`asked`, fingerprints) stand in the data of a stage that trains."""
    known = {stage: sum(one in prompts for one in asked) for stage, prompts in trained.items()}
    met = sum(any(one in prompts for prompts in trained.values()) for one in asked)
    by = ", ".join(f"{STAGES[stage]} {count:,}" for stage, count in known.items() if count)
    share = met / max(len(asked), 1)
    return Finding(
        "Train/test overlap",
        "red" if share >= OVERLAP else "amber" if met else "ok",
        f"{met:,} of {len(asked):,} prompts of the evaluation are trained on too ({by}; a look is due from the first, "
        f"alarm from {OVERLAP:.0%})."
        if met
        else f"No prompt of {len(asked):,} is trained on.",
        "Give evaluation.prompts that stand in none of the files to train on (sft.data, reward.data, rl.prompts), or "
        "take them out there.",
    )
