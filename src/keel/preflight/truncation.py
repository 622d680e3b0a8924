"""How much is cut off: of the data at model.max_length, of sampled answers at max_tokens."""

from __future__ import annotations

from collections.abc import Sequence

from keel.data.chat import Truncation
from keel.diagnostics.findings import Finding, level
from keel.types import Rollout

AMBER, RED = 0.05, 0.2
_DUE = f"(a look is due from {AMBER:.0%}, alarm from {RED:.0%})"


def cut_rows(truncation: Truncation, answers: int, limit: int) -> Finding:
    """Of the `answers` answers in the rows that became tokens, how many were cut at `limit` tokens or had no room."""
    lost = truncation.truncated + answers * truncation.prompts / max(truncation.rows, 1)
    return Finding(
        "Length limit",
        level(lost / max(answers, 1), AMBER, RED),
        f"{truncation.truncated} of {answers} answers are cut off at model.max_length {limit}, and "
        f"{truncation.prompts} of {truncation.rows} prompts leave no room for one {_DUE}."
        if lost
        else f"All {answers} answers fit into {limit:,} tokens.",
        "Raise model.max_length as far as the model's context allows, or shorten or leave out long rows: what is cut "
        "off is not learnt, EOS least of all.",
    )


def unanswerable(left_out: int, given: int, part: str) -> Finding:
    """Of `given` prompts of the recipe's section `part`, how many leave no room for an answer."""
    return Finding(
        "Prompts fit",
        level(left_out / max(given, 1), AMBER, RED),
        f"{left_out:,} of {given:,} prompts are left out, as they or their answers would be too long {_DUE}."
        if left_out
        else f"All {given:,} prompts leave room for an answer.",
        f"Lower {part}.sampling.max_tokens, raise model.max_length, or give shorter prompts.",
    )


def cut_answers(rollouts: Sequence[Rollout], asked: int, wanted: int, part: str, stand_in: bool) -> Finding:
    """Of answers sampled with at most `asked` tokens where the stage allows `wanted`, how many ran into the limit.

    Nothing can be said where fewer tokens were asked for, or where the model is not yet fine-tuned (`stand_in`).
    """
    cut = sum(one.stop == "length" for one in rollouts)
    if stand_in or (cut and asked < wanted):
        why = "the base has not learnt to stop" if stand_in else f"only {asked} of {wanted} tokens sampled"
        return Finding("Answers end", "ok", f"Not yet known: {why}.", "")
    return Finding(
        "Answers end",
        level(cut / max(len(rollouts), 1), AMBER, RED),
        f"{cut} of {len(rollouts)} sampled answers are cut off at {part}.sampling.max_tokens {wanted} {_DUE}."
        if cut
        else f"All {len(rollouts)} sampled answers end within {asked} tokens.",
        f"Raise {part}.sampling.max_tokens, or fine-tune on demonstrations that end with EOS, so that the model learns "
        "to stop.",
    )
