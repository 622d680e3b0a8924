"""What a browser, a model or an annotator may send, and what becomes of it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keel.preferences.web.hosts import Hosts
from keel.preferences.web.markdown import render
from tests.web.kit import Office, item, office, pairs
from tests.web.payloads import PAYLOADS

_TAGS = set(
    "a blockquote br code del em h1 h2 h3 h4 h5 h6 hr li ol p pre s strong table tbody td th thead tr ul".split()
)
_ALLOWED = {"a": {"href", "rel", "target"}, "ol": {"start"}}


class Harmless(HTMLParser):
    """Fails on whatever could do something."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in _TAGS, tag
        assert {name for name, _ in attrs} <= _ALLOWED.get(tag, set()), (tag, attrs)
        if tag == "a":
            about = dict(attrs)
            assert set((about.get("rel") or "").split()) == {"noopener", "noreferrer", "nofollow"}
            assert about.get("target") == "_blank"
            if "href" in about:
                assert urlsplit(about["href"] or "").scheme in ("http", "https", "mailto"), attrs

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)

    def handle_decl(self, decl: str) -> None:
        raise AssertionError(decl)

    def handle_pi(self, data: str) -> None:
        raise AssertionError(data)


def harmless(html: str) -> None:
    parser = Harmless(convert_charrefs=True)
    parser.feed(html)
    parser.close()


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Office]:
    with office(tmp_path) as made:
        yield made


# Markdown


@pytest.mark.parametrize("text", PAYLOADS)
def test_hostile_text_becomes_harmless(text: str) -> None:
    harmless(render(text))
    harmless(render(f"before {text} after"))
    harmless(render(f"> 1. {text}\n\n# {text}"))


@given(st.text(alphabet=st.sampled_from(list("<>\"'=/&;:[]()!`*_#|-\\ \njavscriptonerx0")), max_size=80))
def test_no_text_becomes_more(text: str) -> None:
    harmless(render(text))


def test_markdown_is_shown_as_people_know_it() -> None:
    assert render("**a** *b* ~~c~~ `d`") == "<p><strong>a</strong> <em>b</em> <s>c</s> <code>d</code></p>\n"
    assert "<td>1</td>" in render("| a |\n| --- |\n| 1 |")
    assert render("one\ntwo") == "<p>one<br>\ntwo</p>\n"
    link = '<a href="https://example.org/" target="_blank" rel="noopener noreferrer nofollow">x</a>'
    assert sorted(render("[x](https://example.org/)").removeprefix("<p>").split()) == sorted(f"{link}</p>".split())
    assert render("![a cat](https://example.org/cat.png)") == "<p>![a cat](https://example.org/cat.png)</p>\n"
    assert '<ol start="3">' in render("3. three")


@pytest.mark.parametrize("piece", ["[", "![", "*", "**a", "`", "> ", "- ", "<", "&", "[a](", "| ", "\\", "a\n", "(((("])
def test_a_long_hostile_text_takes_no_long_time(piece: str) -> None:
    for size in (20_000, 200_000):
        began = time.perf_counter()
        harmless(render(piece * (size // len(piece))))
        assert time.perf_counter() - began < 5


# Everything hostile at once, through the whole server


def _strings(value: Any, at: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, each in value.items():
            yield from _strings(each, key)
    elif isinstance(value, list):
        for each in value:
            yield from _strings(each, at)
    elif isinstance(value, str):
        yield at, value


def test_hostile_items_notes_and_names_stay_text_everywhere(here: Office) -> None:
    here.stock(*(item(f"h{number}", text, f"{text} 2", prompt=text) for number, text in enumerate(PAYLOADS)), wanted=2)
    name = "<img src=x onerror=alert(1)>\"'"
    bad, other, boss = here.visitor(name), here.visitor("bob"), here.visitor("boss", "admin")
    texts = set()
    for who, sign in ((bad, -1), (other, 1)):
        held = who.next()
        while held:
            first = held[0]["answers"][0][0]["text"]
            texts.add(first.removesuffix(" 2"))
            said = {"pressed": sign * (3 if first.endswith(" 2") else -3), "note": first}
            if len(texts) % 9 == 0:
                said = {"decline": "flag", "reason": first[:200], "note": first}
            for at, value in _strings(held):
                if at == "html":
                    harmless(value)
            held = who.judge(held[0]["token"], **said).json()["next"]
    assert texts == set(PAYLOADS)
    reply = boss.get("/api/review")
    for at, value in _strings(reply.json()):
        if at == "html":
            harmless(value)
    assert reply.headers["content-type"] == "application/json"
    for path in ("/", "/review"):
        page = (bad if path == "/" else boss).get(path).text
        assert name not in page
    assert "&lt;img src=x onerror=alert(1)&gt;" in bad.get("/").text
    for text in PAYLOADS[:40]:
        published = boss.post("/api/guidelines", {"text": text})
        harmless(published.json()["html"])
        harmless(boss.post("/api/guidelines/preview", {"text": text}).json()["html"])


def test_a_hostile_name_in_the_page_of_its_link(here: Office) -> None:
    secret = here.site.people.invite("<script>alert(1)</script>", "annotator")
    page = here.client().get(f"/in/{secret}").text
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script>alert" not in here.client().get("/in/%3Cscript%3Ealert(1)%3C%2Fscript%3E").text
    assert "<script>alert" not in here.client().get("/%3Cscript%3Ealert(1)").text


# Headers


def test_headers_of_every_answer(here: Office) -> None:
    here.stock(*pairs(1))
    ada = here.visitor()
    replies = [
        ada.get(path)
        for path in ("/", "/review", "/sign-in", "/in/x", "/nothing", "/api/me", "/api/nothing", "/favicon.ico")
    ]
    replies += [
        ada.post("/api/next"),
        ada.post("/api/next", "no"),
        here.client().get("/"),
        ada.get("/", headers={"Host": "evil"}),
    ]
    replies += [
        ada.client.post("/api/next", content=b"x" * 100_000),
        here.client().post("/in"),
        ada.client.put("/api/me"),
    ]
    for reply in replies:
        headers = reply.headers
        where = f"{reply.request.method} {reply.request.url}: {reply.status_code}"
        assert headers["x-content-type-options"] == "nosniff", where
        assert headers["cache-control"] == "no-store", where
        assert headers["cross-origin-opener-policy"] == headers["cross-origin-resource-policy"] == "same-origin", where
        assert "camera=()" in headers["permissions-policy"], where
        assert headers["referrer-policy"] in ("no-referrer", "same-origin"), where
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'"), where
        assert "frame-ancestors 'none'" in policy, where
        assert not any(word in policy for word in ("unsafe", "http", "*")), where
        assert "server" not in headers, where
    assert ada.get("/api/me").headers["referrer-policy"] == "no-referrer"


def test_a_mistake_of_ours_tells_nothing(here: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    ada = here.visitor()

    def broken(*_: object) -> None:
        raise RuntimeError("SECRET-DETAIL of /a/path")

    monkeypatch.setattr(here.site.desk, "serve", broken)
    reply = ada.post("/api/next")
    assert reply.status_code == 500
    assert "SECRET" not in reply.text
    assert list(reply.json()) == ["error"]
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["cache-control"] == "no-store"


def test_static_files_are_those_and_no_others(here: Office) -> None:
    client = here.client()
    page = client.get("/sign-in").text
    files = [part.split('"')[0] for part in page.split('="/static/')[1:]]
    assert files
    for name in files:
        reply = client.get(f"/static/{name}")
        assert reply.status_code == 200, name
        assert reply.headers["cache-control"] == "public, max-age=31536000, immutable"
        old = client.get(f"/static/old/{name.partition('/')[2]}")
        assert (old.status_code, old.headers["cache-control"]) == (200, "no-cache")
    for path in (
        "../app.py",
        "%2e%2e/app.py",
        "..%2fapp.py",
        "../templates/label.html.j2",
        "/etc/passwd",
        "",
        ".",
        "x.js",
    ):
        assert client.get(f"/static/x/{path}").status_code == 404, path


# Being led to ask


_CALLS = [
    ("/api/next", {}), ("/api/undo", {}), ("/api/release", {"token": "x"}),
    ("/api/judgements", {"token": "x", "guideline": 1, "pressed": 1}),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body"), _CALLS)
def test_a_browser_needs_the_word_of_our_pages(here: Office, path: str, body: Any) -> None:
    here.stock(*pairs(1))
    ada, bob = here.visitor("ada"), here.visitor("bob")
    for word in ("", "x", bob.csrf or "", "ü".encode()):
        assert ada.client.post(path, json=body, headers={"X-CSRF-Token": word}).status_code == 403
    assert ada.client.post(path, json=body).status_code == 403
    assert ada.post(path, body).status_code in (200, 409)


@pytest.mark.parametrize(
    ("headers", "fine"),
    [
        ({"Origin": "http://127.0.0.1:8765"}, True),
        ({"Origin": "http://127.0.0.1:8765", "Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Origin": "null", "Sec-Fetch-Site": "same-origin"}, True),
        ({"Origin": "null"}, False),
        ({"Origin": "http://127.0.0.1:9999"}, False),
        ({"Origin": "http://localhost:8765"}, False),
        ({"Origin": "https://127.0.0.1:8765"}, False),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "http://127.0.0.1:8765.evil.example"}, False),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Origin": "http://127.0.0.1:8765", "Sec-Fetch-Site": "cross-site"}, False),
    ],
)
def test_where_a_call_may_come_from(here: Office, headers: dict[str, str], fine: bool) -> None:
    ada = here.visitor()
    assert (ada.post("/api/next", {}, **headers).status_code == 200) == fine
    secret = here.site.people.invite("ada", "annotator")
    assert (here.client().post("/in", data={"secret": secret}, headers=headers).status_code == 303) == fine
    assert (ada.client.post("/out", data={"csrf": ada.csrf or ""}, headers=headers).status_code == 303) == fine


def test_behind_a_proxy_the_known_address_counts(tmp_path: Path) -> None:
    settings: Any = {
        "address": "https://label.example.org",
        "hosts": Hosts.of("127.0.0.1", "https://label.example.org"),
    }
    with office(tmp_path, **settings) as here:
        ada = here.visitor()
        assert ada.post("/api/next", {}, Origin="https://label.example.org").status_code == 200
        assert ada.post("/api/next", {}, Origin="https://example.org").status_code == 403


@pytest.mark.parametrize(
    ("host", "fine"),
    [
        ("127.0.0.1:8765", True), ("localhost:1", True), ("LOCALHOST", True), ("[::1]:8765", True),
        ("evil.example", False), ("evil.example:8765", False), ("127.0.0.1.evil.example", False), ("", False),
        ("192.0.2.7", False), ("localhost@evil.example", False), ("localhost evil", False), ("localhost:x", False),
    ],
)  # fmt: skip
def test_the_names_that_a_local_server_answers_to(here: Office, host: str, fine: bool) -> None:
    assert (here.client().get("/sign-in", headers={"Host": host}).status_code == 200) == fine


def test_the_names_of_a_server_for_others() -> None:
    hosts = Hosts.of("0.0.0.0", "https://label.example.org")
    assert all(hosts.know(name) for name in ("192.0.2.7:8765", "label.example.org", "[2001:db8::1]", "localhost"))
    assert not any(hosts.know(name) for name in ("evil.example", "192.0.2.7.evil.example", "label.example.org.evil"))


# Too much


@pytest.mark.parametrize("announced", [True, False])
def test_long_bodies_are_refused(here: Office, announced: bool) -> None:
    ada = here.visitor("root", "admin")
    headers = {"X-CSRF-Token": ada.csrf or "", "Content-Type": "application/json"}

    def sent(path: str, size: int) -> int:
        text = json.dumps({"text": "x" * size}).encode()
        body: Any = text if announced else iter([text[:100], text[100:]])
        return ada.client.post(path, content=body, headers=headers).status_code

    assert sent("/api/next", 70_000) == 413
    assert sent("/api/guidelines", 90_000) == 200
    assert sent("/api/guidelines", 110_000) == 422
    assert sent("/api/guidelines", 1_100_000) == 413
    assert ada.get("/api/me").status_code == 200


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'"x"', b"1", b"\xff\xfe", b"[" * 30_000, b'{"count": 1e400}', b'{"count": NaN}',
     b'{"count": ' + b"9" * 5000 + b"}", b'{"count": 1, "count": 2}'],
)  # fmt: skip
def test_strange_bodies_are_refused_in_a_sentence(here: Office, body: bytes) -> None:
    ada = here.visitor()
    headers = {"X-CSRF-Token": ada.csrf or "", "Content-Type": "application/json"}
    reply = ada.client.post("/api/next", content=body, headers=headers)
    assert reply.status_code in (200, 400, 422), reply.text
    if reply.status_code != 200:
        assert list(reply.json()) == ["error"]
        assert "\n" not in reply.json()["error"]
