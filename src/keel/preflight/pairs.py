"""What pairs of answers can teach: that they differ, that length does not decide, that people prefer one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

from keel.diagnostics.findings import Finding, level
from keel.types import Conversation, Preference, Ranking

ALIKE_AMBER, ALIKE_RED = 0.01, 0.2
LENGTH = 0.8
"""Share of pairs in which the better answer is the longer (or the shorter) one, from which length alone predicts it."""
TIES_AMBER = 0.5
SWAPPED_RED = 0.5
FEW = 10
"""Pairs below which a share says nothing."""


def compared(rows: Sequence[Preference | Ranking]) -> list[Preference]:
    """Rankings as their pairs, each better answer chosen; pairs as they are."""
    return [pair for row in rows for pair in (_ranked(row) if isinstance(row, Ranking) else [row])]


def pairs(rows: Sequence[Preference | Ranking], identical: int) -> Iterator[Finding]:
    """All that can be said of pairs from their texts; `identical` rows were left out because their answers are one."""
    given = compared(rows)
    yield _alike(given, identical)
    if given:
        yield _longer(given)
        yield _balance(given)
        yield _contradictions(given)


def one_side(first: int, second: int) -> Finding:
    """Of so many verdicts, how many are for the answer of the first column and of the second."""
    share = max(first, second) / max(first + second, 1)
    wrong = first + second >= FEW and share > LENGTH
    column = "first" if first >= second else "second"
    return Finding(
        "Sides",
        "amber" if wrong else "ok",
        f"{share:.0%} of {first + second:,} verdicts are for the {column} answer"
        + (f" (a look is due above {LENGTH:.0%})." if wrong else "."),
        "Are the two columns two models, of which one is better? If not, people may press one key; show them the "
        "answers in random order.",
    )


def _alike(given: Sequence[Preference], identical: int) -> Finding:
    same = identical + sum(_text(one.chosen) == _text(one.rejected) for one in given)
    total = identical + len(given)
    return Finding(
        "Answers differ",
        level(same / max(total, 1), ALIKE_AMBER, ALIKE_RED),
        f"In {same:,} of {total:,} pairs chosen and rejected say the same (a look is due from {ALIKE_AMBER:.0%}, alarm "
        f"from {ALIKE_RED:.0%})."
        if same
        else f"None of {total:,} pairs has two equal answers.",
        "Such pairs teach nothing: leave them out, and find out why they are there (a lost column, a greedy sampler).",
    )


def _longer(given: Sequence[Preference]) -> Finding:
    """Ties in preference and in length are left out."""
    sure = [(len(_text(one.chosen)), len(_text(one.rejected)), one.probability) for one in given]
    better = [(a, b) if p > 0.5 else (b, a) for a, b, p in sure if p != 0.5 and a != b]
    longer = sum(a > b for a, b in better)
    share = longer / max(len(better), 1)
    wrong = len(better) >= FEW and max(share, 1 - share) > LENGTH
    return Finding(
        "Length bias",
        "amber" if wrong else "ok",
        f"The better answer is longer in {share:.0%} of {len(better):,} pairs"
        + (f" (a look is due above {LENGTH:.0%} and below {1 - LENGTH:.0%})." if wrong else "."),
        "Length alone predicts the label, and PPO will find that out: add pairs in which the other length wins, or "
        "charge for length with a reward function (rl.reward).",
    )


def _balance(given: Sequence[Preference]) -> Finding:
    ties = sum(one.probability == 0.5 for one in given) / len(given)
    swapped = sum(one.probability < 0.5 for one in given) / len(given)
    verdict = level(swapped, ALIKE_AMBER, SWAPPED_RED)
    if verdict != "ok":
        return Finding(
            "Label balance",
            verdict,
            f"In {swapped:.0%} of {len(given):,} pairs the chosen answer has a probability below ½ (a look is due from "
            f"{ALIKE_AMBER:.0%}, alarm from {SWAPPED_RED:.0%}).",
            "probability is that of the chosen answer being preferred: swap the two columns, or write 1 − probability.",
        )
    return Finding(
        "Label balance",
        level(ties, TIES_AMBER, 1.0),
        f"{ties:.0%} of {len(given):,} pairs are ties"
        + (f" (a look is due from {TIES_AMBER:.0%}, alarm where all are)." if ties >= TIES_AMBER else "."),
        "Ties only pull scores together: ask more people, ask for a winner, or set preferences.ties: drop.",
    )


def _contradictions(given: Sequence[Preference]) -> Finding:
    """Pairs that also stand there the other way round."""
    sure = [(one.prompt, *sorted_by_label(one)) for one in given if one.probability != 0.5]
    known = set(sure)
    both = sum((prompt, worse, better) in known for prompt, better, worse in sure)
    return Finding(
        "Contradictions",
        level(both / len(given), 0.05, 0.5),
        f"{both:,} of {len(given):,} pairs stand there the other way round too (a look is due from 5%, alarm from 50%)."
        if both
        else f"None of {len(given):,} pairs contradicts another.",
        "If several people judged a pair, give one row with probability, or preferences.labels; otherwise look for "
        "swapped columns.",
    )


def sorted_by_label(one: Preference) -> tuple[Conversation, Conversation]:
    """The answer that people prefer, and the other."""
    return (one.chosen, one.rejected) if one.probability > 0.5 else (one.rejected, one.chosen)


def _ranked(row: Ranking) -> list[Preference]:
    return [Preference(row.prompt, better, worse) for better, worse in combinations(row.completions, 2)]


def _text(answer: Conversation) -> str:
    return "\n".join(turn.content.strip() for turn in answer)
