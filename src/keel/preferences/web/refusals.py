"""Every way to say no: a status and one sentence, as JSON to programs and as a page to people."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException

from keel.errors import UserError, one_line
from keel.preferences.leases import LeaseLostError, NotWelcomeError
from keel.preferences.people import SignInError, State

_SENTENCES = {
    404: "there is nothing at this address.",
    405: "this address does not take that method.",
    500: "something went wrong in the server; its log says what. Try again.",
}


class Refusal(Exception):  # noqa: N818 (nothing went wrong)
    """A request that is refused: HTTP status, one sentence for whoever asked, and headers of the answer.

    `state` is that of a person who may not go on.
    """

    def __init__(
        self, status: int, sentence: str, headers: Mapping[str, str] | None = None, state: State | None = None
    ) -> None:
        super().__init__(one_line(sentence))
        self.status = status
        self.state = state
        self.headers = dict(headers or {})


def too_often(wait: float) -> Refusal:
    """429; `wait` is in seconds."""
    seconds = math.ceil(wait)
    return Refusal(429, f"that was too often; wait {seconds} s and try again.", {"Retry-After": str(seconds)})


def refusal_of(error: Exception) -> Refusal:
    """What an exception means for whoever asked."""
    match error:
        case Refusal():
            return error
        case LeaseLostError():
            return Refusal(409, str(error))
        case NotWelcomeError():
            return Refusal(403, str(error))
        case SignInError():
            return Refusal(401, str(error))
        case UserError():
            return Refusal(400, str(error))
        case RequestValidationError():
            return Refusal(422, _invalid(error.errors()))
        case HTTPException():
            sentence = _SENTENCES.get(error.status_code, f"{error.detail}")
            return Refusal(error.status_code, sentence, error.headers)
        case OperationalError():
            return Refusal(503, "the database is busy or out of reach; try again.", {"Retry-After": "1"})
    return Refusal(500, _SENTENCES[500])


def as_json(refusal: Refusal) -> JSONResponse:
    """The refusal as the API says it."""
    state = {} if refusal.state is None else {"state": refusal.state}
    return JSONResponse({"error": str(refusal), **state}, refusal.status, refusal.headers)


def _invalid(errors: Sequence[Any]) -> str:
    """The first thing that does not fit, without the value that was sent."""
    first = errors[0]
    where = ".".join(str(part) for part in first["loc"] if part != "body") or "the body"
    return f"{where}: {first['msg'].removeprefix('Value error, ')}."
