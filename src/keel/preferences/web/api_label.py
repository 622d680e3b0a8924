"""JSON for annotators: the next item, a judgement, undo, the guidelines. Nothing here tells more than `screen` does."""

import time
from typing import Annotated, Any

from fastapi import APIRouter, BackgroundTasks, Path, Request
from sqlalchemy import exists, select

from keel.errors import UserError
from keel.preferences import schema
from keel.preferences.guidelines import Guideline as Text
from keel.preferences.rows import judgement
from keel.preferences.web import control, screen
from keel.preferences.web.markdown import render
from keel.preferences.web.refusals import Refusal
from keel.preferences.web.schemas import (
    Count,
    Expires,
    Guideline,
    Held,
    Items,
    Judged,
    Me,
    Nothing,
    Receipt,
    Refused,
    Undo,
    Undone,
)
from keel.preferences.web.sessions import Anybody, Visitor, Worker
from keel.preferences.web.site import site_of

_SAID = {
    400: "the request is not understood",
    401: "nobody has signed in",
    403: "not allowed, or paused",
    413: "too long",
    422: "the request does not fit",
    429: "too often",
}
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Refused, "description": text} for status, text in _SAID.items()
}
LEASE_LOST: dict[int | str, dict[str, Any]] = {
    409: {"model": Refused, "description": "the item is not, or no longer, held for you"}
}
NOT_THERE: dict[int | str, dict[str, Any]] = {404: {"model": Refused, "description": "there is none"}}
router = APIRouter(prefix="/api", responses=REFUSALS, tags=["label"])


@router.get("/me")
def me(request: Request, who: Anybody) -> Me:
    """Who you are, and how far you have come."""
    site, person = site_of(request), who.person
    with site.database.read() as connection:
        open_ranking = exists().where(schema.queue.c.ranked.is_(True), schema.queue.c.done.is_(False))
        ranking = connection.execute(select(open_ranking)).scalar_one()
    return Me(
        name=person.name,
        role=person.role,
        state=person.state,
        powers=list(person.powers),
        csrf=who.csrf,
        guideline=site.guideline(),
        mode="ranking" if ranking else "pair",
        progress=site.progress.of(person.name),
    )


@router.post("/next")
def next_items(request: Request, who: Worker, wanted: Count) -> Items:
    """Hold up to this many items for you, those first that are held already; none where nothing is left for you."""
    site = site_of(request)
    held = site.desk.serve(who.person.name, wanted.count)
    return Items(items=screen.items(held), guideline=site.guideline())


@router.post("/heartbeat", responses=LEASE_LOST)
def heartbeat(request: Request, who: Worker, held: Held) -> Expires:
    """You are still there: the lease begins anew."""
    site = site_of(request)
    return Expires(expires=site.desk.heartbeat(who.person.name, held.token), guideline=site.guideline())


@router.post("/release")
def release(request: Request, who: Anybody, held: Held) -> Nothing:
    """You leave the item to others."""
    site_of(request).desk.release(who.person.name, held.token)
    return Nothing()


@router.post("/judgements", responses=LEASE_LOST)
def judge(request: Request, who: Worker, judged: Judged, later: BackgroundTasks) -> Receipt:
    """Record a verdict; it is on disk when this answers. The same again changes nothing."""
    site, name = site_of(request), who.person.name
    site.judging.admit(name)
    if judged.guideline > site.guideline():
        raise Refusal(409, f"there is no version {judged.guideline} of the guidelines; reload the page.")
    try:
        receipt = site.desk.submit(name, judged.token, judged.verdict(time.time()), str(judged.guideline))
    except ValueError:
        # the desk's own sentence names the item, which is not for annotators
        raise Refusal(422, "the verdict does not fit the item: two answers are compared, more are ranked.") from None
    if not receipt.repeated:
        site.progress.judged(receipt.judgement)
        if site.settings.pause and site.settings.rules.gold_share > 0:
            later.add_task(control.after, site.database, site.people, site.settings.limits, receipt.judgement)
    held = site.desk.serve(name, 1 + judged.ahead)
    return Receipt(
        repeated=receipt.repeated, guideline=site.guideline(), progress=site.progress.of(name), next=screen.items(held)
    )


@router.post("/undo", responses=LEASE_LOST)
def undo(request: Request, who: Worker, wanted: Undo) -> Undone:
    """Withdraw your latest judgement; its item waits for you again."""
    site, name = site_of(request), who.person.name
    site.judging.admit(name)
    served = site.desk.undo(name, wanted.token)
    if served is None:
        return Undone(item=None, said=None, progress=site.progress.of(name))
    site.progress.undone(name)
    said = schema.judgements.c
    before = served.shown.revision - 2  # the last revision is the withdrawal
    with site.database.read() as connection:
        row = connection.execute(
            select(schema.judgements).where(
                said.item == served.shown.assignment.item, said.annotator == name, said.revision == before
            )
        ).one()
    return Undone(item=screen.item(served), said=screen.said(judgement(row)), progress=site.progress.of(name))


@router.get("/guidelines")
def guidelines(request: Request, who: Anybody) -> Guideline:
    """What to look at, in its newest version."""
    return guideline_for(who, site_of(request).guidelines.current())


@router.get("/guidelines/{version}", responses=NOT_THERE)
def old_guidelines(request: Request, who: Anybody, version: Annotated[int, Path(ge=1, le=2**31 - 1)]) -> Guideline:
    """A version of the guidelines."""
    try:
        return guideline_for(who, site_of(request).guidelines.version(version))
    except UserError as error:
        raise Refusal(404, str(error)) from None


def guideline_for(who: Visitor, text: Text) -> Guideline:
    """A version as this person may see it: names of others are for reviewers."""
    author = text.author if "review" in who.person.powers else None
    return Guideline(
        version=text.version, text=text.text, html=render(text.text, breaks=False), at=text.at, author=author
    )
