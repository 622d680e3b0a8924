"""Who gets in, what they may do there, and how they are put out again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from keel.preferences.web.limits import Limiter, Rate, Rates, sender
from tests.web.kit import OFTEN, Office, csrf_in, item, office, pairs


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Office]:
    with office(tmp_path) as made:
        made.stock(*pairs(8))
        yield made


# Signing in


def test_a_link_lets_in_once(here: Office) -> None:
    secret = here.site.people.invite("ada", "annotator")
    client = here.client()
    for _ in range(3):  # a preview of the link does not use it up
        page = client.get(f"/in/{secret}")
        assert page.status_code == 200
        assert "Welcome, ada" in page.text
        assert "set-cookie" not in page.headers
    assert client.get("/").headers["location"] == "/sign-in"
    assert client.post("/in", data={"secret": secret}).headers["location"] == "/"
    assert client.get("/").status_code == 200
    again = here.client()
    assert again.get(f"/in/{secret}").status_code == 404
    refused = again.post("/in", data={"secret": secret})
    assert refused.status_code == 401
    assert "has been used" in refused.text
    assert "set-cookie" not in refused.headers


@pytest.mark.parametrize("secret", ["", "x", "x" * 200, "ü", "../../x", "\u202e"])
def test_an_invented_link_lets_nobody_in(here: Office, secret: str) -> None:
    assert here.client().post("/in", data={"secret": secret}).status_code in (401, 422)
    assert here.client().get(f"/in/{secret}").status_code == 404


def test_the_session_is_for_this_browser_alone(here: Office) -> None:
    secret = here.site.people.invite("ada", "annotator")
    cookie = here.client().post("/in", data={"secret": secret}).headers["set-cookie"].lower()
    assert "; httponly" in cookie
    assert "; samesite=strict" in cookie
    assert "; path=/" in cookie
    assert "domain" not in cookie
    assert "secure" not in cookie


def test_under_tls_the_cookie_is_for_tls(tmp_path: Path) -> None:
    with office(tmp_path, address="https://127.0.0.1:8765") as here:
        secret = here.site.people.invite("ada", "annotator")
        assert "; secure" in here.client().post("/in", data={"secret": secret}).headers["set-cookie"].lower()


def test_two_servers_on_one_machine_have_two_cookies(tmp_path: Path) -> None:
    with office(tmp_path, port=8766) as here:
        secret = here.site.people.invite("ada", "annotator")
        assert "keel_session_8766=" in here.client().post("/in", data={"secret": secret}).headers["set-cookie"]


def test_signing_out_ends_the_session(here: Office) -> None:
    ada = here.visitor()
    cookies = dict(ada.client.cookies)
    assert ada.client.post("/out", data={"csrf": "wrong"}).status_code == 403
    assert ada.get("/api/me").status_code == 200
    assert ada.client.post("/out", data={"csrf": csrf_in(ada.get("/").text)}).headers["location"] == "/sign-in"
    ada.client.cookies.update(cookies)  # whoever has kept the cookie
    assert ada.get("/api/me").status_code == 401


def test_signing_in_anew_ends_the_session_before(here: Office) -> None:
    ada = here.visitor()
    old = dict(ada.client.cookies)
    assert ada.client.post("/in", data={"secret": here.site.people.invite("bob", "annotator")}).status_code == 303
    assert ada.get("/api/me").json()["name"] == "bob"
    stale = here.client()
    stale.cookies.update(old)
    assert stale.get("/api/me").status_code == 401


# What is needed for what

_READ = ["/api/me", "/api/guidelines", "/api/guidelines/1", "/api/openapi.json", "/api/review"]
_WRITE = [
    "/api/next", "/api/heartbeat", "/api/release", "/api/judgements", "/api/undo", "/api/guidelines",
    "/api/guidelines/preview", "/api/people", "/api/people/x/revoke", "/api/review/annotators/x/state",
    "/api/review/items/x/aside",
]  # fmt: skip


def test_nothing_is_to_be_had_without_signing_in(here: Office) -> None:
    stranger = here.client()
    for reply in [*(stranger.get(path) for path in _READ), *(stranger.post(path, json={}) for path in _WRITE)]:
        assert reply.status_code == 401
        assert list(reply.json()) == ["error"]
    wrong = here.client(Authorization="Bearer nothing")
    assert wrong.get("/api/me").status_code == 401
    assert wrong.get("/api/me").headers["www-authenticate"] == "Bearer"
    for header in ("Basic abc", "Bearer", "", "bearer  "):
        assert here.client(Authorization=header).get("/api/me").status_code == 401


def test_every_endpoint_is_in_these_lists(here: Office) -> None:
    paths = here.visitor(role="admin").get("/api/openapi.json").json()["paths"]
    listed = {re.sub("/[x1](?=/|$)", "/{}", path) for path in (*_READ, *_WRITE)} - {"/api/openapi.json"}
    assert {re.sub(r"\{\w+\}", "{}", path) for path in paths} == listed


_REVIEWING = {"/api/review", "/api/review/annotators/x/state", "/api/review/items/x/aside"}
_ADMINISTERING = {"/api/people", "/api/people/x/revoke", "/api/guidelines/preview"}
_BODIES = {
    "/api/guidelines": {"text": "x"},
    "/api/guidelines/preview": {"text": "x"},
    "/api/people": {"name": "x", "role": "annotator"},
    "/api/review/annotators/x/state": {"state": "paused"},
    "/api/review/items/x/aside": {"aside": True},
}


@pytest.mark.parametrize(("role", "scope"), [("annotator", "label"), ("reviewer", "review"), ("admin", "admin")])
@pytest.mark.parametrize("way", ["session", "token"])
def test_powers(here: Office, role: str, scope: str, way: str) -> None:
    who = here.visitor(role=role) if way == "session" else here.program(role=role, scope=scope)  # type: ignore[arg-type]
    assert (
        who.get("/api/me").json()["powers"]
        == ["label", "review", "admin"][: ["label", "review", "admin"].index(scope) + 1]
    )
    for path in sorted(_REVIEWING | _ADMINISTERING):
        reply = who.get(path) if path == "/api/review" else who.post(path, _BODIES.get(path))
        allowed = scope == "admin" or (scope == "review" and path in _REVIEWING)
        assert (reply.status_code != 403) == allowed, (path, reply.text)
    published = who.post("/api/guidelines", {"text": "New ones"})
    assert published.status_code == (200 if scope == "admin" else 403)
    assert who.get("/review").status_code == (303 if way == "token" else 403 if scope == "label" else 200)


def test_a_token_may_no_more_than_its_scope(here: Office) -> None:
    assert here.program(role="admin", scope="label").get("/api/review").status_code == 403
    assert here.program(role="admin", scope="review").post("/api/people", _BODIES["/api/people"]).status_code == 403


def test_a_token_is_no_session_and_a_session_no_token(here: Office) -> None:
    ada = here.visitor()
    session = ada.client.cookies["keel_session"]
    assert here.client(Authorization=f"Bearer {session}").get("/api/me").status_code == 401
    client = here.client()
    client.cookies.set("keel_session", here.site.people.issue("ada", "label"))
    assert client.get("/api/me").status_code == 401
    invitation = here.site.people.invite("ada", "annotator")
    assert here.client(Authorization=f"Bearer {invitation}").get("/api/me").status_code == 401
    assert here.client().post("/in", data={"secret": session}).status_code == 401


def test_who_is_revoked_is_out_at_once(here: Office) -> None:
    ada, program = here.visitor(), here.program()
    admin = here.visitor("root", "admin")
    link = admin.post("/api/people", {"name": "ada", "role": "annotator"}).json()["link"]
    assert admin.post("/api/people/ada/revoke").json()["revoked"] >= 3
    assert ada.get("/api/me").status_code == program.get("/api/me").status_code == 401
    assert here.client().get(link.removeprefix(here.site.settings.address)).status_code == 404
    assert admin.post("/api/people/nobody/revoke").status_code == 404


def test_who_is_paused_does_not_judge_until_let_on(here: Office) -> None:
    ada, boss = here.visitor(), here.visitor("boss", "reviewer")
    (first,) = ada.next()
    assert boss.post("/api/review/annotators/ada/state", {"state": "paused", "why": "a talk"}).status_code == 200
    for path, body in (
        ("/api/next", {}), ("/api/undo", {}), ("/api/heartbeat", {"token": first["token"]}),
        ("/api/judgements", {"token": first["token"], "guideline": 1, "pressed": 1}),
    ):  # fmt: skip
        reply = ada.post(path, body)
        assert reply.status_code == 403
        assert reply.json() == {"error": "you are paused for the moment; ask the reviewer.", "state": "paused"}
    assert ada.get("/api/me").json()["state"] == "paused"
    assert boss.post("/api/review/annotators/ada/state", {"state": "active"}).status_code == 200
    assert ada.next() != []


def test_nobody_stops_themselves_or_somebody_of_the_same_rank(here: Office) -> None:
    boss = here.visitor("boss", "reviewer")
    here.visitor("root", "admin")
    here.visitor("other", "reviewer")
    for name in ("boss", "root", "other"):
        assert boss.post(f"/api/review/annotators/{name}/state", {"state": "excluded"}).status_code == 403
    assert boss.post("/api/review/annotators/nobody/state", {"state": "excluded"}).status_code == 404
    assert (
        here.visitor("root", "admin").post("/api/review/annotators/boss/state", {"state": "excluded"}).status_code
        == 200
    )
    assert boss.get("/api/review").status_code == 403


# Rates


def test_signing_in_too_often_has_to_wait(tmp_path: Path) -> None:
    with office(tmp_path, rates=Rates(Rate(3, 0.01), OFTEN.judge, OFTEN.ask)) as here:
        client = here.client()
        assert [client.post("/in", data={"secret": "x"}).status_code for _ in range(3)] == [401] * 3
        refused = client.post("/in", data={"secret": here.site.people.invite("ada", "annotator")})
        assert refused.status_code == 429
        assert 90 <= int(refused.headers["retry-after"]) <= 100
        assert client.get("/in/x").status_code == 429


def test_judging_too_often_has_to_wait(tmp_path: Path) -> None:
    with office(tmp_path, rates=Rates(OFTEN.sign_in, Rate(2, 0.5), OFTEN.ask)) as here:
        here.stock(*pairs(4))
        ada, bob = here.visitor("ada"), here.visitor("bob")
        for _ in range(2):
            assert ada.judge(ada.next()[0]["token"]).status_code == 200
        (held,) = ada.next()
        refused = ada.judge(held["token"])
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "2")
        assert ada.post("/api/undo").status_code == 429
        assert bob.post("/api/undo").status_code == 200  # everybody has a bucket of their own
        assert len(here.site.store.judgements()) == 2


def test_asking_too_often_has_to_wait(tmp_path: Path) -> None:
    with office(tmp_path, rates=Rates(OFTEN.sign_in, OFTEN.judge, Rate(5, 0.5))) as here:
        ada = here.visitor()
        assert [ada.get("/api/me").status_code for _ in range(5)][-1] == 429


def test_a_bucket_fills_again_and_the_limiter_forgets() -> None:
    now = [0.0]
    limiter = Limiter(Rate(2, 0.5), lambda: now[0])
    assert [limiter.wait("a") for _ in range(3)] == [0, 0, 2]
    now[0] = 1.0
    assert limiter.wait("a") == 1
    now[0] = 2.0
    assert limiter.wait("a") == 0
    for number in range(30_000):
        limiter.wait(f"sender {number}")
    assert len(limiter._buckets) <= 10_001


def test_an_address_of_ipv6_is_known_by_its_network() -> None:
    assert sender("2001:db8::1:2:3:4") == sender("2001:db8::ffff") != sender("2001:db8:0:1::1")
    assert sender("192.0.2.1") != sender("192.0.2.2")
    assert sender(None) == "?"


def test_ranking_is_said_to_be_ranking(tmp_path: Path) -> None:
    with office(tmp_path) as here:
        here.stock(item("k", "a", "b", "c"), ranked=True)
        assert here.visitor().get("/api/me").json()["mode"] == "ranking"
