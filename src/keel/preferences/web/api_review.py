"""JSON for reviewers, who watch and may stop people and items, and for admins, who let people in."""

from fastapi import APIRouter, Request
from sqlalchemy import select

from keel.errors import UserError
from keel.preferences import schema
from keel.preferences.judgement import PROGRAMS
from keel.preferences.people import Person
from keel.preferences.web.api_label import NOT_THERE, REFUSALS, guideline_for
from keel.preferences.web.markdown import render
from keel.preferences.web.refusals import Refusal
from keel.preferences.web.schemas import Guideline, Nothing
from keel.preferences.web.schemas_review import (
    Aside,
    Invited,
    Link,
    NewGuidelines,
    NewState,
    Preview,
    Review,
    Revoked,
)
from keel.preferences.web.sessions import Admin, Reviewer
from keel.preferences.web.site import Site, site_of

router = APIRouter(prefix="/api", responses=REFUSALS)


@router.get("/review", tags=["review"])
def review(request: Request, who: Reviewer) -> Review:
    """Progress, agreement, annotators, disputed and flagged items, events; some seconds old."""
    return site_of(request).reviews.now()


@router.post("/review/annotators/{name:path}/state", tags=["review"], responses=NOT_THERE)
def set_state(request: Request, who: Reviewer, name: str, new: NewState) -> Nothing:
    """Pause or exclude somebody, or let them go on. Their judgements stay. Reviewers and admins: by admins alone."""
    site = site_of(request)
    _must_be_below(site, who.person, name)
    site.people.set_state(name, new.state, who.person.name, new.why)
    site.reviews.forget()
    return Nothing()


@router.post("/review/items/{id:path}/aside", tags=["review"], responses=NOT_THERE)
def set_aside(request: Request, who: Reviewer, id: str, new: Aside) -> Nothing:
    """Stop asking about an item, or go on with it."""
    site = site_of(request)
    with site.database.read() as connection:
        queued = schema.queue.c
        if connection.execute(select(queued.item).where(queued.item == _storable(id))).first() is None:
            raise Refusal(404, "there is no such item in the queue.")
    site.desk.set_aside(id, new.aside)
    site.reviews.forget()
    return Nothing()


@router.post("/guidelines", tags=["admin"])
def publish(request: Request, who: Admin, new: NewGuidelines) -> Guideline:
    """A new version of the guidelines, from now on."""
    site = site_of(request)
    published = site.publish(new.text, who.person.name)
    site.reviews.forget()
    return guideline_for(who, published)


@router.post("/guidelines/preview", tags=["admin"])
def preview(request: Request, who: Admin, new: NewGuidelines) -> Preview:
    """What a new version would look like; nothing is kept."""
    return Preview(html=render(new.text, breaks=False))


@router.post("/people", tags=["admin"])
def invite(request: Request, who: Admin, new: Invited) -> Link:
    """A link that lets somebody in once, within seven days."""
    site = site_of(request)
    secret = site.people.invite(new.name, new.role, who.person.name)
    site.reviews.forget()
    return Link(name=new.name, role=new.role, link=f"{site.settings.address}/in/{secret}")


@router.post("/people/{name:path}/revoke", tags=["admin"], responses=NOT_THERE)
def revoke(request: Request, who: Admin, name: str) -> Revoked:
    """Take back every link, session and token of somebody, at once."""
    site = site_of(request)
    _role(site, name)
    count = site.people.revoke(name, who.person.name)
    site.reviews.forget()
    return Revoked(revoked=count)


def _must_be_below(site: Site, person: Person, name: str) -> None:
    """Refuses with 403 who would stop themselves, or somebody who may do as much."""
    role = _role(site, name)
    if name == person.name:
        raise Refusal(403, "that is you; ask somebody else.")
    if role != "annotator" and "admin" not in person.powers:
        raise Refusal(403, f"{name} is {role}; only an admin may do that.")


def _role(site: Site, name: str) -> str:
    """The role of a person; 404 where nobody has this name."""
    who = schema.annotators.c
    with site.database.read() as connection:
        role = connection.execute(select(who.role).where(who.name == _storable(name))).scalar_one_or_none()
    if role is None or role in PROGRAMS:
        raise Refusal(404, "nobody has this name.")
    return str(role)


def _storable(text: str) -> str:
    """The text; refused where a database would refuse it."""
    if "\0" in text:
        raise UserError("a text holds a NUL character; leave it out.")
    return text
