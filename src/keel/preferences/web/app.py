"""Puts the parts of the labelling server together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from anyio.to_thread import current_default_thread_limiter
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import OperationalError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import Response

from keel import __version__
from keel.errors import UserError
from keel.preferences.database import Database
from keel.preferences.leases import LeaseLostError, NotWelcomeError
from keel.preferences.people import SignInError
from keel.preferences.web import api_label, api_review, pages
from keel.preferences.web.headers import Headers, headers_for
from keel.preferences.web.hosts import HostCheck
from keel.preferences.web.limits import BodyLimit
from keel.preferences.web.refusals import Refusal, as_json, refusal_of
from keel.preferences.web.sessions import Anybody
from keel.preferences.web.site import Settings, Site

THREADS = 6
_REFUSED = (
    Refusal,
    LeaseLostError,
    NotWelcomeError,
    SignInError,
    UserError,
    RequestValidationError,
    HTTPException,
    OperationalError,
)
_ABOUT = """\
Annotators ask for items and hand in judgements; reviewers watch, and admins let people in.

A program sends its token, from `keel label token`, as `Authorization: Bearer SECRET`. A refusal is
`{"error": "one sentence"}`.
"""


def create_app(database: Database, settings: Settings | None = None) -> FastAPI:
    """The server of one database, which stays the caller's to close."""
    app = FastAPI(
        lifespan=_few_threads,
        title="Keel labelling",
        version=__version__,
        description=_ABOUT,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    site = app.state.site = Site(database, settings or Settings())
    app.include_router(api_label.router)
    app.include_router(api_review.router)
    app.include_router(pages.router)
    app.add_api_route("/api/openapi.json", _openapi, include_in_schema=False)
    for kind in _REFUSED:
        app.add_exception_handler(kind, _refuse)
    app.add_exception_handler(Exception, _fail)
    app.add_middleware(BodyLimit)
    app.add_middleware(HostCheck, hosts=site.settings.hosts)
    app.add_middleware(Headers)
    return app


@asynccontextmanager
async def _few_threads(app: FastAPI) -> AsyncIterator[None]:
    """More threads would only wait for each other: for the interpreter's lock, and for SQLite's one writer."""
    current_default_thread_limiter().total_tokens = THREADS
    yield


def _openapi(request: Request, who: Anybody) -> JSONResponse:
    """The description of this API."""
    return JSONResponse(described(request.app))


def described(app: FastAPI) -> dict[str, object]:
    """The OpenAPI description, with the two ways to show who one is."""
    if app.openapi_schema is None:
        description = app.openapi()
        site: Site = app.state.site
        description["components"]["securitySchemes"] = {
            "token": {"type": "http", "scheme": "bearer"},
            "session": {"type": "apiKey", "in": "cookie", "name": site.settings.cookie},
        }
        description["security"] = [{"token": []}, {"session": []}]
    whole: dict[str, object] = app.openapi_schema or {}
    return whole


async def _refuse(request: Request, error: Exception) -> Response:
    refusal = refusal_of(error)
    if request.url.path.startswith("/api/"):
        return as_json(refusal)
    return await run_in_threadpool(pages.refused, request, refusal)


async def _fail(request: Request, error: Exception) -> Response:
    """A mistake of ours: its traceback goes to the log, and none of it to whoever asked."""
    answer = as_json(refusal_of(error))
    answer.headers.update(headers_for(request.url.path))
    return answer
