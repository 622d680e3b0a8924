"""An item as its annotator may see it: the texts in their places, and a token in place of everything else."""

from collections.abc import Sequence

from keel.preferences.judgement import Judgement
from keel.preferences.leases import Served
from keel.preferences.web.markdown import render
from keel.preferences.web.schemas import Item, Said, Turn
from keel.types import Conversation


def turns(messages: Conversation) -> list[Turn]:
    """A conversation."""
    return [Turn(role=one.role, text=one.content, html=render(one.content)) for one in messages]


def item(served: Served) -> Item:
    """One item."""
    shown = served.shown
    return Item(
        token=served.token,
        expires=served.expires,
        ranked=shown.assignment.ranked,
        prompt=turns(shown.prompt),
        answers=[turns(answer) for answer in shown.answers],
        revision=shown.revision,
    )


def items(served: Sequence[Served]) -> list[Item]:
    """Several."""
    return [item(one) for one in served]


def said(judgement: Judgement) -> Said:
    """What its own annotator had said, in the places where the answers stand."""
    order = judgement.order
    return Said(
        kind=judgement.kind,
        pressed=judgement.pressed,
        places=None if order is None else [judgement.shown.index(answer) for answer in order],
        note=judgement.note,
        reason=judgement.reason,
    )
