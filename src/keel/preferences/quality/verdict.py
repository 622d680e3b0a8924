"""What a judgement says about two answers, in canonical orientation and without its strength."""

from collections.abc import Iterable
from typing import Literal

from keel.preferences.judgement import Judgement

Verdict = Literal["first", "tie", "second", "both_bad"]
"""first: the answer with the lower index is better."""


def verdict_of(judgement: Judgement) -> Verdict | None:
    """None where nothing is said about two answers: skipped, flagged, withdrawn, or a ranking of several."""
    if len(judgement.shown) != 2:
        return None
    if judgement.kind == "both_bad":
        return "both_bad"
    if judgement.kind != "comparison":
        return None
    return "tie" if judgement.strength == 0 else "first" if judgement.strength < 0 else "second"


def by_annotator(judgements: Iterable[Judgement]) -> dict[str, list[Judgement]]:
    """Each annotator's judgements, in the order given."""
    found: dict[str, list[Judgement]] = {}
    for judgement in judgements:
        found.setdefault(judgement.annotator, []).append(judgement)
    return found
