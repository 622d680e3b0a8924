"""The same prompts, answered by several runs: those on which the runs differ most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import combinations

from keel.diagnostics.comparisons import Piece, difference
from keel.diagnostics.recorded import Answered
from keel.diagnostics.versus.duels import common
from keel.diagnostics.versus.rivals import Rival

SHOWN = 6
_LONGEST = 400  # words of an answer that are compared


@dataclass(frozen=True)
class Answer:
    """What a run's policy says; `score` is the judge's, None where the runs have no judge in common.

    Of two runs, `pieces` mark the words that only this one has.
    """

    letter: str
    pieces: tuple[Piece, ...]
    score: float | None


@dataclass(frozen=True)
class Asked:
    """A prompt with the answer of each run that was asked it."""

    prompt: str
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class Shared:
    """The prompts that are shown, out of `prompts` that these runs have in common, and the one who scored them."""

    letters: tuple[str, ...]
    prompts: int
    judge: str | None
    shown: tuple[Asked, ...]


def shared(rivals: Sequence[Rival]) -> Shared | None:
    """For the largest group of runs that were asked a prompt in common; None where no two were.

    The prompts come by how far the judge's scores of the first answers are apart; without a common judge by how many
    words differ. Equal ones stand in the order of the file; a prompt that all answer in the same words is not shown.
    """
    group = _together([one for one in rivals if one.run.answers])
    if not group:
        return None
    asked = common(group)
    judges = {one.judge for one in group}
    judge = group[0].summary.judge if len(judges) == 1 and None not in judges else None
    firsts = [(key[1], [answers[0] for answers in row]) for key, row in asked.items()]
    other = [(prompt, row) for prompt, row in firsts if len({one.policy for one in row}) > 1]
    chosen = sorted(other, key=lambda one: -(_unlike(one[1]) if judge is None else _apart(one[1])))[:SHOWN]
    letters = tuple(one.letter for one in group)
    return Shared(
        letters, len(asked), judge, tuple(_asked(prompt, letters, row, judge is not None) for prompt, row in chosen)
    )


def _together(rivals: Sequence[Rival]) -> list[Rival]:
    """The largest group with a prompt in common; of equally large ones that with the most prompts."""
    for size in range(len(rivals), 1, -1):
        found = [(len(common(group)), group) for group in combinations(rivals, size)]
        most, group = max(found, key=lambda one: one[0])
        if most:
            return list(group)
    return []


def _apart(answers: Sequence[Answered]) -> float:
    scores = [one.after for one in answers]
    return max(scores) - min(scores)


def _unlike(answers: Sequence[Answered]) -> float:
    """1 − the likeness of the two that are most unlike, in words."""
    words = [one.policy.split()[:_LONGEST] for one in answers]
    return max(1 - SequenceMatcher(None, one, other, autojunk=False).ratio() for one, other in combinations(words, 2))


def _asked(prompt: str, letters: Sequence[str], answers: Sequence[Answered], scored: bool) -> Asked:
    texts = [one.policy for one in answers]
    pieces = difference(*texts) if len(texts) == 2 else tuple((Piece(text, False),) for text in texts)
    return Asked(
        prompt,
        tuple(
            Answer(letter, said, one.after if scored else None)
            for letter, said, one in zip(letters, pieces, answers, strict=True)
        ),
    )
