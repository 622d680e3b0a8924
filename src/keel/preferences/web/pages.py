"""HTML: signing in and out, the labelling page, the reviewer's page, and the files that they need."""

import hashlib
import re
from collections.abc import Mapping
from functools import cache, lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined

from keel.preferences.people import SignInError
from keel.preferences.web.limits import sender
from keel.preferences.web.refusals import Refusal
from keel.preferences.web.sessions import Visitor, from_our_page, require, same, session
from keel.preferences.web.site import site_of

router = APIRouter(include_in_schema=False)
_STATIC = Path(str(files("keel.preferences.web") / "static"))
_KINDS = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_NAME = re.compile(r"[A-Za-z0-9_-]+(?:[./][A-Za-z0-9_-]+)*")
Secret = Annotated[str, Form(max_length=200)]


@router.get("/")
def label(request: Request) -> Response:
    """The labelling page of who is signed in."""
    who = session(request, site_of(request))
    if who is None:
        return RedirectResponse("/sign-in", 303)
    return page("label.html.j2", _about(who))


@router.get("/review")
def review(request: Request) -> Response:
    """The reviewer's page."""
    who = session(request, site_of(request))
    if who is None:
        return RedirectResponse("/sign-in", 303)
    require(who.person, "review")
    return page("review.html.j2", _about(who))


@router.get("/sign-in")
def how_to_sign_in(request: Request) -> Response:
    """Says how to get in."""
    return page("sign-in.html.j2", {"reason": None})


@router.get("/in/{secret}")
def welcome(request: Request, secret: str) -> Response:
    """A button that signs in. Looking at this page, as programs do that preview links, does not use up the link."""
    _not_too_often(request)
    try:
        name = site_of(request).people.invited(secret)
    except SignInError as error:
        return page("welcome.html.j2", {"known": False, "name": None, "secret": None, "reason": str(error)}, 404)
    return page("welcome.html.j2", {"known": True, "name": name, "secret": secret, "reason": None})


@router.post("/in")
def sign_in(request: Request, secret: Secret) -> Response:
    """A session for an invitation."""
    site = site_of(request)
    from_our_page(request, site)
    _not_too_often(request)
    try:
        opened = site.people.sign_in(secret)
    except SignInError as error:
        return page("sign-in.html.j2", {"reason": str(error)}, 401)
    before = session(request, site)
    if before is not None:
        site.people.sign_out(before.person)
    answer = RedirectResponse("/", 303)
    answer.set_cookie(
        site.settings.cookie,
        opened,
        max_age=int(site.lifetimes.session),
        secure=site.settings.secure,
        httponly=True,
        samesite="strict",
    )
    return answer


@router.post("/out")
def sign_out(request: Request, csrf: Annotated[str, Form(max_length=200)] = "") -> Response:
    """End the session of this browser."""
    site = site_of(request)
    from_our_page(request, site)
    who = session(request, site)
    if who is not None:
        if not same(csrf, who.csrf or ""):
            raise Refusal(403, "this page is out of date; reload it and sign out again.")
        site.people.sign_out(who.person)
    answer = RedirectResponse("/sign-in", 303)
    answer.delete_cookie(site.settings.cookie, secure=site.settings.secure, httponly=True, samesite="strict")
    return answer


@router.get("/static/{version}/{name:path}")
def static(version: str, name: str) -> Response:
    """A file of the pages; browsers keep what belongs to the present version for good."""
    path = _STATIC / name
    if not _NAME.fullmatch(name) or path.suffix not in _KINDS or not path.is_file():
        raise Refusal(404, "there is nothing at this address.")
    kept = "public, max-age=31536000, immutable" if version == _version() else "no-cache"
    return FileResponse(path, media_type=_KINDS[path.suffix], headers={"Cache-Control": kept})


@router.get("/favicon.ico")
def icon() -> Response:
    """Browsers ask for it, whatever the page says."""
    return Response(status_code=204)


def refused(request: Request, refusal: Refusal) -> Response:
    """A refusal as people see it."""
    who = None if refusal.status >= 500 else session(request, site_of(request))
    about = {
        "status": refusal.status,
        "sentence": str(refusal),
        "signed_in": who is not None,
        "csrf": None if who is None else who.csrf,
    }
    shown = page("refused.html.j2", about, refusal.status)
    shown.headers.update(refusal.headers)
    return shown


def page(template: str, values: Mapping[str, object], status: int = 200) -> HTMLResponse:
    """A page from a template; everything in it is escaped."""
    return HTMLResponse(_templates().get_template(template).render(values), status)


def asset(name: str) -> str:
    """The address of a static file. Scripts that it imports from beside it have the same version."""
    return f"/static/{_version()}/{name}"


def _about(who: Visitor) -> dict[str, object]:
    person = who.person
    return {"name": person.name, "role": person.role, "powers": list(person.powers), "csrf": who.csrf}


def _not_too_often(request: Request) -> None:
    site_of(request).sign_ins.admit(sender(request.client.host if request.client else None))


@cache
def _templates() -> Environment:
    loader = PackageLoader("keel.preferences.web")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    environment.globals["asset"] = asset
    return environment


def _version() -> str:
    """Of all static files together."""
    changed = tuple((path.name, path.stat().st_mtime_ns) for path in sorted(_STATIC.rglob("*")) if path.is_file())
    return _digest(changed)


@lru_cache(maxsize=4)
def _digest(changed: tuple[tuple[str, int], ...]) -> str:
    digest = hashlib.sha256()
    for path in sorted(_STATIC.rglob("*")):
        if path.is_file():
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:12]
