"""A labelling site on a database of its own, and people who come to it without a browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from keel.preferences.database import Database
from keel.preferences.judgement import Answer, Item, Role
from keel.preferences.leases import Rules
from keel.preferences.web.app import create_app
from keel.preferences.web.limits import Rate, Rates
from keel.preferences.web.site import Settings, Site
from keel.types import Message

ADDRESS = "http://127.0.0.1:8765"
OFTEN = Rates(Rate(1e6, 1e6), Rate(1e6, 1e6), Rate(1e6, 1e6))


def item(name: str, *texts: str, prompt: str | None = None) -> Item:
    """Its models have names that must not be seen."""
    answers = tuple(
        Answer((Message("assistant", text),), f"MODEL-{number}-of-{name}", 424_242) for number, text in enumerate(texts)
    )
    return Item(f"ITEM-{name}", (Message("user", prompt or f"question {name}"),), answers)


def pairs(count: int) -> list[Item]:
    return [item(str(number), f"one {number}", f"other {number}") for number in range(count)]


class Visitor:
    """Somebody with a browser's cookie, or with a token (then without CSRF)."""

    def __init__(self, client: TestClient, csrf: str | None = None) -> None:
        self.client = client
        self.csrf = csrf

    def get(self, path: str, **more: Any) -> Any:
        return self.client.get(path, **more)

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        """With the CSRF token, unless it is given."""
        mine = {} if self.csrf is None else {"X-CSRF-Token": self.csrf}
        return self.client.post(path, json={} if body is None else body, headers={**mine, **headers})

    def next(self, count: int = 1) -> list[dict[str, Any]]:
        reply = self.post("/api/next", {"count": count})
        assert reply.status_code == 200, reply.text
        found: list[dict[str, Any]] = reply.json()["items"]
        return found

    def judge(self, token: str, **said: Any) -> Any:
        said = said or {"pressed": -1}
        return self.post("/api/judgements", {"token": token, "guideline": 1, **said})


class Office:
    """The site and its visitors."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self.app = create_app(database, settings)
        self.site: Site = self.app.state.site

    def client(self, **headers: str) -> TestClient:
        return TestClient(
            self.app,
            base_url=self.site.settings.address,
            follow_redirects=False,
            headers=headers,
            raise_server_exceptions=False,
        )

    def stock(self, *items: Item, wanted: int = 1, **more: Any) -> None:
        self.site.store.add_items(items)
        self.site.desk.enqueue(items, wanted, **more)

    def visitor(self, name: str = "ada", role: Role = "annotator") -> Visitor:
        """Signed in with a browser."""
        client = self.client()
        secret = self.site.people.invite(name, role)
        assert client.post("/in", data={"secret": secret}).status_code == 303
        return Visitor(client, client.get("/api/me").json()["csrf"])

    def program(self, name: str = "ada", role: Role = "annotator", scope: Any = "label") -> Visitor:
        """With a token."""
        self.site.people.invite(name, role)
        return Visitor(self.client(Authorization=f"Bearer {self.site.people.issue(name, scope)}"))


@contextmanager
def office(folder: Path, rules: Rules | None = None, **settings: Any) -> Iterator[Office]:
    """A site whose rates stand in nobody's way unless they are given."""
    settings = {"rates": OFTEN, "review_seconds": 0.0, **settings}
    with Database.open(folder / "labels.db") as database:
        yield Office(database, Settings(rules=rules or Rules(), **settings))


def csrf_in(page: str) -> str:
    """The word in a page's head."""
    found = re.search(r'<meta name="csrf" content="([0-9a-f]+)">', page)
    assert found is not None
    return found[1]
