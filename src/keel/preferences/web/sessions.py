"""Who is asking, and whether they meant to.

A program shows its token as `Authorization: Bearer SECRET`. A browser shows its session in a cookie, which it sends
along wherever it is led to; so what changes something must also come from one of our own pages (`Origin`,
`Sec-Fetch-Site`) and carry a word that only our pages know.
"""

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from keel.preferences.people import Person, Power
from keel.preferences.web.refusals import Refusal
from keel.preferences.web.site import Site, site_of

CSRF_HEADER = "X-CSRF-Token"
_READING = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True)
class Visitor:
    """Somebody who is in. `csrf` is the word that their pages must send along; None for a program."""

    person: Person
    csrf: str | None


def visitor(request: Request) -> Visitor:
    """Who is asking. Refuses with 401 whom nobody knows, with 403 what a browser may have been led to."""
    site = site_of(request)
    found = _program(request, site) or session(request, site)
    if found is None:
        raise Refusal(401, "you are not signed in; open the link that you got, or ask for a new one.")
    if found.csrf is not None and request.method not in _READING:
        from_our_page(request, site)
        if not same(request.headers.get(CSRF_HEADER, ""), found.csrf):
            raise Refusal(403, f"the header {CSRF_HEADER} is missing or stale; reload the page.")
    return found


def may(power: Power) -> Callable[..., Visitor]:
    """Who is asking, if they may do this."""

    def allowed(request: Request) -> Visitor:
        found = visitor(request)
        require(found.person, power)
        site_of(request).asking.admit(found.person.name)
        return found

    return allowed


def worker(request: Request) -> Visitor:
    """Who is asking, if they may go on labelling."""
    found = may("label")(request)
    state = found.person.state
    if state != "active":
        raise Refusal(403, f"you are {state} for the moment; ask the reviewer.", state=state)
    return found


Anybody = Annotated[Visitor, Depends(may("label"))]
Worker = Annotated[Visitor, Depends(worker)]
Reviewer = Annotated[Visitor, Depends(may("review"))]
Admin = Annotated[Visitor, Depends(may("admin"))]


def require(person: Person, power: Power) -> None:
    """Refuses with 403 who may not. Who is paused or excluded still reads and signs out, but has no other power."""
    if power not in person.powers:
        raise Refusal(403, f"this needs the power to {power}, which you do not have here.")
    if power != "label" and person.state != "active":
        raise Refusal(403, f"you are {person.state} for the moment; ask an admin.")


def session(request: Request, site: Site) -> Visitor | None:
    """Whose browser it is; None where nobody has signed in with it."""
    secret = request.cookies.get(site.settings.cookie)
    person = site.people.who(secret, "session") if secret else None
    return None if secret is None or person is None else Visitor(person, csrf_of(secret))


def _program(request: Request, site: Site) -> Visitor | None:
    header = request.headers.get("Authorization")
    if header is None:
        return None
    scheme, _, secret = header.partition(" ")
    person = site.people.who(secret.strip(), "token") if scheme.lower() == "bearer" else None
    if person is None:
        raise Refusal(
            401, "this token is not known here, or no longer good; ask for a new one.", {"WWW-Authenticate": "Bearer"}
        )
    return Visitor(person, None)


def from_our_page(request: Request, site: Site) -> None:
    """Refuses with 403 what a page from elsewhere has made a browser send."""
    fetched, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    ours = (site.settings.address, f"{request.url.scheme}://{request.headers.get('Host', '')}")
    led = fetched not in (None, "same-origin", "none")
    # a page that hides where it comes from (Origin: null) must be vouched for by the browser
    foreign = origin is not None and origin not in ours and not (origin == "null" and fetched == "same-origin")
    if led or foreign:
        raise Refusal(403, "this came from a page of another address; go back to the address that you were given.")


def csrf_of(secret: str) -> str:
    """The word of a session: it cannot be guessed without the secret, nor the secret from it."""
    return hashlib.sha256(f"keel csrf {secret}".encode()).hexdigest()


def same(one: str, other: str) -> bool:
    """Equality in a time that tells nothing."""
    return hmac.compare_digest(one.encode(), other.encode())
