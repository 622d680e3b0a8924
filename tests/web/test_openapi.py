"""The description of the API, held against the API: whatever is sent, nothing breaks, and replies are as described."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from keel.preferences.database import Database
from keel.preferences.web.app import create_app, described
from keel.preferences.web.site import Settings
from tests.web.kit import OFTEN, Office, item, office, pairs

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed (pip install 'keel[browser]')")

from schemathesis.checks import load_all_checks, not_a_server_error  # noqa: E402
from schemathesis.specs.openapi import checks as openapi  # noqa: E402

EXAMPLES = 20
_CHECKS = (
    not_a_server_error,
    openapi.status_code_conformance,
    openapi.content_type_conformance,
    openapi.response_schema_conformance,
)
_REFUSED = {400, 401, 403, 404, 405, 409, 413, 422, 429}


def _description(folder: Path) -> dict[str, Any]:
    with Database.open(folder / "x.db") as database:
        return dict(described(create_app(database, Settings())))


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    load_all_checks()
    with office(tmp_path_factory.mktemp("api"), rates=OFTEN) as made:
        made.stock(*pairs(400), wanted=5)
        made.stock(item("k", "a", "b", "c"), wanted=5, ranked=True)
        yield made


def _names() -> list[str]:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        paths = _description(Path(folder))["paths"]
    return [f"{method.upper()} {path}" for path, methods in paths.items() for method in methods]


def _modes() -> list[tuple[str, str]]:
    """What is asked, and whether as described; of what takes neither a body nor a part of the path nothing is wrong."""
    names = _names()
    wrong = [(name, "negative") for name in names if "{" in name or not name.startswith("GET")]
    return [(name, "positive") for name in names] + wrong


@pytest.mark.parametrize(("name", "mode"), _modes())
def test_replies_are_as_described(here: Office, name: str, mode: str) -> None:
    program = here.program("fuzz", "admin", "admin")
    schema = schemathesis.openapi.from_dict(dict(described(here.app)))
    method, path = name.split()
    operation = schema[path][method]
    strategy = operation.as_strategy(generation_mode=schemathesis.GenerationMode(mode))

    @settings(
        max_examples=EXAMPLES,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=strategy, live=st.booleans())
    def exchange(case: Any, live: bool) -> None:
        if live and isinstance(case.body, dict) and "token" in case.body:
            case.body["token"] = program.next()[0]["token"]
        sent = case.as_transport_kwargs(base_url=here.site.settings.address)
        headers = {**dict(sent.pop("headers", {}) or {}), "Authorization": program.client.headers["Authorization"]}
        wanted = {key: sent[key] for key in ("json", "data", "params") if sent.get(key) is not None}
        if isinstance(wanted.get("data"), bytes | str):
            wanted["content"] = wanted.pop("data")
        reply = program.client.request(sent["method"], sent["url"], headers=_sendable(headers), **wanted)
        if reply.status_code in _REFUSED:
            assert set(reply.json()) <= {"error", "state"}
            assert "\n" not in reply.json()["error"]
        if reply.status_code not in (404, 405) or "{" in path:  # a path that is no path any more
            case.validate_response(reply, checks=list(_CHECKS))
        if mode == "positive" and not live:
            assert reply.status_code not in (413, 422), (case.body, reply.text)

    exchange()


def _sendable(headers: dict[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in headers.items() if str(value).isascii() and str(value).isprintable()}


def test_the_description_is_for_people_who_are_in(here: Office) -> None:
    assert here.client().get("/api/openapi.json").status_code == 401
    found = here.program("ada").get("/api/openapi.json").json()
    assert found["info"]["title"] == "Keel labelling"
    assert set(found["components"]["securitySchemes"]) == {"token", "session"}
    for methods in found["paths"].values():
        for operation in methods.values():
            assert operation["summary"]
            assert operation["description"]
            assert {"200", "401", "403", "422", "429"} <= set(operation["responses"])
