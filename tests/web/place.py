"""A labelling server of its own for a test, and people who come to it with a real browser."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from keel.preferences.database import Database
from keel.preferences.judgement import Answer, Item, Judgement, Role
from keel.preferences.web.app import create_app
from keel.preferences.web.serving import address_of, in_background, listen
from keel.preferences.web.site import PORT, Settings, Site
from keel.types import Message
from tests.web.kit import OFTEN

SETTLED = 180  # milliseconds after which the page takes keys to be meant for the item that is shown

# Whatever the content policy refuses is said on the console.
_WATCH = """
document.addEventListener("securitypolicyviolation", (event) =>
  console.error(`CSP: ${event.violatedDirective} refused ${event.blockedURI} ${event.sample}`));
"""

_HAS_READ = """
const name = "keel.guidelines";
if (location.protocol === "http:") localStorage.setItem(name, localStorage.getItem(name) ?? "1");
"""


class Visit:
    """Somebody's browser page, and all that happened in it."""

    def __init__(self, place: Place, page: Any) -> None:
        self.place, self.page = place, page
        self.errors: list[str] = []
        self.dialogs: list[str] = []
        self.requests: list[str] = []
        self.responses: list[Any] = []
        page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(f"uncaught: {error}"))
        page.on("dialog", self._dialog)
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("response", lambda response: self.responses.append(response))

    def _dialog(self, dialog: Any) -> None:
        if dialog.type == "beforeunload":  # the page asks before it drops what is not sent
            dialog.accept()
            return
        self.dialogs.append(dialog.message)
        dialog.dismiss()

    def text(self, selector: str) -> str:
        return str(self.page.locator(selector).inner_text())

    def prompt(self) -> str:
        return self.text("#prompt").strip()

    def answers(self) -> list[str]:
        return [each.strip() for each in self.page.locator("#answers .answer").all_inner_texts()]

    def press(self, *keys: str) -> None:
        """Keys, each once the item before it has been shown for long enough."""
        for key in keys:
            self.page.wait_for_timeout(SETTLED)
            self.page.keyboard.press(key)

    def judge(self, key: str) -> None:
        """A key that ends the item, and waits until another one (or none) is on the screen."""
        before = self.screen()
        self.press(key)
        self.until_other_than(before)

    def screen(self) -> str:
        """All texts of the item; empty where none is shown."""
        return self.text("#item") if self.page.locator("#item").is_visible() else ""

    def until_other_than(self, screen: str) -> None:
        """Until another item is on the screen, or the page says that there is none."""
        self.until(lambda: self.screen() not in ("", screen) or self.page.locator("#quiet h2").is_visible())

    def until(self, true: Callable[[], bool], seconds: float = 10) -> None:
        end = time.monotonic() + seconds
        while not true():
            assert time.monotonic() < end, f"waited {seconds} s in vain; errors: {self.errors}"
            self.page.wait_for_timeout(20)

    def settled(self) -> None:
        """Until everything that was said is with the server."""
        self.until(lambda: self.page.evaluate("Object.keys(sessionStorage).length") == 0)

    def was_harmless(self) -> None:
        """Nothing went wrong in the page, no dialog came, and no request left the server's origin."""
        lost = ("net::ERR", "Failed to load resource")  # a connection that a test cuts
        wrong = [error for error in self.errors if not any(words in error for words in lost)]
        assert wrong == [], "\n".join(wrong)
        assert self.dialogs == []
        elsewhere = {url for url in self.requests if not url.startswith((self.place.url, "data:", "about:"))}
        assert elsewhere == set()


class Place:
    """The server, its database, and its visitors."""

    def __init__(self, folder: Path, chromium: Any) -> None:
        self._chromium = chromium
        self._contexts: list[Any] = []
        self.visits: list[Visit] = []
        self._open = ExitStack()
        database = self._open.enter_context(Database.open(folder / "preferences.db"))
        listener = listen("127.0.0.1", 0, PORT)
        self.url = address_of(listener, None)
        port = listener.getsockname()[1]
        app = create_app(database, Settings(address=self.url, port=port, rates=OFTEN, review_seconds=0.0))
        self.site: Site = app.state.site
        self._open.enter_context(in_background(app, listener))

    def close(self) -> None:
        for context in self._contexts:
            context.close()
        self._open.close()

    def ask(self, items: Iterable[Item], wanted: int = 1, ranked: bool = False) -> None:
        given = list(items)
        self.site.store.add_items(given)
        self.site.desk.enqueue(given, wanted, ranked)

    def link(self, name: str, role: Role = "annotator") -> str:
        return f"{self.url}/in/{self.site.people.invite(name, role)}"

    def stranger(self, **options: Any) -> Visit:
        """A browser that nobody has signed in with. Options are those of the browser's context."""
        context = self._chromium.new_context(**options)
        context.set_default_timeout(10_000)
        context.add_init_script(_WATCH)
        self._contexts.append(context)
        visit = Visit(self, context.new_page())
        self.visits.append(visit)
        return visit

    def visit(self, name: str, role: Role = "annotator", read: bool = True, path: str = "/", **options: Any) -> Visit:
        """Somebody who signs in by a link. `read`: they have read the guidelines before, so that the pane is shut."""
        visit = self.stranger(**options)
        if read:
            visit.page.add_init_script(_HAS_READ)
        visit.page.goto(self.link(name, role))
        visit.page.click("button.primary")
        visit.page.wait_for_url(f"{self.url}/")
        if path != "/":
            visit.page.goto(self.url + path)
        if path == "/review":
            visit.page.wait_for_selector("main[data-state=shown]")
        else:
            visit.page.wait_for_selector("#item:visible, #quiet h2")
        return visit

    def said(self) -> list[Judgement]:
        """The latest revisions."""
        return list(self.site.store.judgements())

    def history(self) -> list[Judgement]:
        return list(self.site.store.history())


def pairs(count: int, start: int = 0) -> list[Item]:
    """Items whose texts tell them apart, by models whose names must not show."""
    return [
        pair(f"item-{number}", f"Question {number}", f"One {number}", f"Other {number}")
        for number in range(start, start + count)
    ]


def pair(name: str, prompt: str, one: str, other: str) -> Item:
    texts = ((one, "secret-model-one"), (other, "secret-model-two"))
    answers = tuple(Answer((Message("assistant", text),), model, 77_001) for text, model in texts)
    return Item(name, (Message("user", prompt),), answers)


def ranking(name: str, prompt: str, *texts: str) -> Item:
    answers = tuple(
        Answer((Message("assistant", text),), f"secret-model-{index}", 77_001) for index, text in enumerate(texts)
    )
    return Item(name, (Message("user", prompt),), answers)


def path_of(url: str) -> str:
    return urlsplit(url).path


def bodies(visit: Visit, path: str) -> list[Any]:
    """What was sent to this path, in order."""
    found = [response.request for response in visit.responses if path_of(response.url) == path]
    return [json.loads(request.post_data) for request in found if request.post_data]
