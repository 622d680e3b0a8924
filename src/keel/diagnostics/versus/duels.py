"""Two runs against each other: the same prompts and judge, the answers of one policy beside those of the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from keel.diagnostics.recorded import Answered
from keel.diagnostics.versus.rivals import Rival
from keel.diagnostics.winrate import WinRate, win_rate

Key = tuple[str, str]
"""What tells prompts apart: id and text where the runs read the same prompts, else the text alone."""


@dataclass(frozen=True)
class Duel:
    """How often the answers of `first` after PPO beat those of `second`, over the prompts that both were asked.

    `confidence` is that of this interval: see `duels`.
    """

    first: Rival
    second: Rival
    prompts: int
    answers: int
    outcome: WinRate
    confidence: float

    @property
    def verdict(self) -> Literal["first", "second", "unclear"]:
        """Whose answers are better beyond what chance explains."""
        return "first" if self.outcome.low > 0.5 else "second" if self.outcome.high < 0.5 else "unclear"


@dataclass(frozen=True)
class Unmatched:
    """Two runs that cannot be set against each other, and why: `reason` goes after "because"."""

    first: Rival
    second: Rival
    reason: str


def duels(rivals: Sequence[Rival]) -> tuple[list[Duel], list[Unmatched]]:
    """Every two runs.

    With m duels each interval is one of 1 − (1 − c)/m, c the recipes' evaluation.confidence (95 % where they do not
    agree), so that all of them hold together with at least c (Bonferroni).
    """
    met, unmatched = [], []
    for one, other in combinations(rivals, 2):
        reason = against(one, other)
        if reason:
            unmatched.append(Unmatched(one, other, reason))
        else:
            met.append((one, other))
    asked = {one.summary.confidence for one in rivals if one.summary.confidence is not None}
    share = asked.pop() if len(asked) == 1 else 0.95
    each = 1 - (1 - share) / max(len(met), 1)
    return [duel(one, other, each) for one, other in met], unmatched


def against(one: Rival, other: Rival) -> str:
    """Why two runs cannot be compared answer by answer; empty where they can."""
    judges = [rival.summary.judge for rival in (one, other)]
    if None in judges:
        without = [rival.letter for rival, judge in zip((one, other), judges, strict=True) if judge is None]
        return f"{' and '.join(without)} had no evaluation"
    if judges[0] != judges[1]:
        return "their answers were judged by different judges"
    if one.judge is None or other.judge is None:
        return "it is not recorded whether the same reward model judged them"
    if one.judge != other.judge:
        return "their answers were judged by different judges"
    return "" if common([one, other]) else "they were asked other prompts"


def duel(one: Rival, other: Rival, confidence: float) -> Duel:
    """Answer by answer: of several to one prompt the i-th of one run meets the i-th of the other."""
    shared = common([one, other])
    pairs = [
        (key, mine, theirs) for key, (ours, rest) in shared.items() for mine, theirs in zip(ours, rest, strict=False)
    ]
    outcome = win_rate(
        [mine.after for _, mine, _ in pairs],
        [theirs.after for _, _, theirs in pairs],
        confidence,
        [key for key, _, _ in pairs],
    )
    return Duel(one, other, len(shared), len(pairs), outcome, confidence)


def common(rivals: Sequence[Rival]) -> dict[Key, list[list[Answered]]]:
    """The prompts that all of these runs were asked, in the first one's order, with each run's answers to them."""
    marks = {one.held("evaluation", "prompts") for one in rivals}
    exact = len(marks) == 1 and None not in marks
    asked = [_by_id(one.run.answers) if exact else _by_text(one.run.answers) for one in rivals]
    return {key: [found[key] for found in asked] for key in asked[0] if all(key in found for found in asked)}


def _by_id(answers: Sequence[Answered]) -> dict[Key, list[Answered]]:
    found: dict[Key, list[Answered]] = {}
    for one in answers:
        found.setdefault((one.id, one.prompt), []).append(one)
    return found


def _by_text(answers: Sequence[Answered]) -> dict[Key, list[Answered]]:
    """Without texts that several prompts end with: what came before them is not in the file."""
    found: dict[Key, list[Answered]] = {}
    for one in answers:
        found.setdefault(("", one.prompt), []).append(one)
    return {key: same for key, same in found.items() if len({one.id for one in same}) == 1}
