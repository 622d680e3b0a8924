"""Items that a reviewer should look at: those on which people disagree most, and those that were flagged."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keel.preferences.judgement import COUNTED, Item, Judgement, collect
from keel.preferences.web import schemas_review as shapes
from keel.preferences.web.screen import turns

_DISPUTED, _FLAGS, _ASIDE = 30, 50, 100


def disputed(
    items: Mapping[str, Item], queue: Mapping[str, Any], judgements: Sequence[Judgement]
) -> list[shapes.Disputed]:
    """Those with the largest share of pairs of votes that differ, over labels (first, tie, second); the worst first."""
    found = _disagreement(judgements)
    worst = sorted(found, key=lambda item: found[item], reverse=True)[:_DISPUTED]
    said: dict[str, list[Judgement]] = {item: [] for item in worst}
    for judgement in judgements:
        if judgement.item in said and judgement.kind in COUNTED:
            said[judgement.item].append(judgement)
    return [
        shapes.Disputed(
            item=_content(items[item], queue),
            disagreement=found[item][0],
            votes=[_vote(each) for each in said[item]],
        )
        for item in worst
    ]


def flags(items: Mapping[str, Item], queue: Mapping[str, Any], judgements: Sequence[Judgement]) -> list[shapes.Flag]:
    """The newest, those on which the flag still stands."""
    flagged = [judgement for judgement in judgements if judgement.kind == "flag"]
    return [
        shapes.Flag(item=_content(items[each.item], queue), vote=_vote(each)) for each in reversed(flagged[-_FLAGS:])
    ]


def set_aside(items: Mapping[str, Item], queue: Mapping[str, Any]) -> list[shapes.Content]:
    """Items that nobody is asked about for the moment."""
    aside = [item for item, row in queue.items() if row.aside]
    return [_content(items[item], queue) for item in aside[:_ASIDE]]


def _disagreement(judgements: Sequence[Judgement]) -> dict[str, tuple[float, int]]:
    """For each item on which somebody disagrees: the largest share among its pairs of answers, and the votes."""
    votes = collect(judgements)
    counts = votes.counts()
    n = counts.sum(axis=1)
    agreeing = (counts * (counts - 1)).sum(axis=1) / np.maximum(n * (n - 1), 1)
    found: dict[str, tuple[float, int]] = {}
    for pair, share, size in zip(votes.pairs, (1 - agreeing).tolist(), n.tolist(), strict=True):
        if size > 1 and share > 0:
            found[pair.item] = max(found.get(pair.item, (0.0, 0)), (share, size))
    return found


def _content(item: Item, queue: Mapping[str, Any]) -> shapes.Content:
    row = queue.get(item.id)
    return shapes.Content(
        id=item.id,
        prompt=turns(item.prompt),
        answers=[turns(answer.messages) for answer in item.answers],
        aside=row is not None and bool(row.aside),
    )


def _vote(judgement: Judgement) -> shapes.Vote:
    return shapes.Vote(
        annotator=judgement.annotator,
        kind=judgement.kind,
        strength=None if judgement.pressed is None else judgement.strength,
        order=None if judgement.order is None else list(judgement.order),
        note=judgement.note,
        reason=judgement.reason,
        at=judgement.submitted,
    )
