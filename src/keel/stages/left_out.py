"""What a stage was given and could not use: counted by reason, for report.json."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from keel.data.chat import Truncation
from keel.stages.workspace import Facts

NO_ROOM = "no room for an answer within model.max_length"
ALIKE = "answers that are alike"


def left_out(given: int, reasons: Iterable[str]) -> Facts:
    """Of `given` rows or prompts, how many were left out, and how many of these for which reason; one reason each."""
    counts = Counter(reasons)
    return {"given": given, "dropped": counts.total(), "reasons": dict(counts)}


def unfit(truncation: Truncation) -> list[str]:
    """The reason of each row that a chat template could not make into tokens."""
    return [NO_ROOM] * truncation.prompts + [ALIKE] * truncation.alike
