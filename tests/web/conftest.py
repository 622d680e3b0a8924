"""A browser for the tests that need one: they skip without it, and fail where KEEL_REQUIRE names it."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.web.place import Place

_ARGUMENTS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()


def without_browser(reason: str) -> NoReturn:
    if "browser" in os.environ.get("KEEL_REQUIRE", "").replace(",", " ").split():
        pytest.fail(f"KEEL_REQUIRE wants a browser: {reason}")
    pytest.skip(reason)


# One for each file: the library runs an event loop in this thread, which tests elsewhere could not bear.
@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        without_browser("playwright is not installed (pip install 'keel[browser]')")
    path = os.environ.get("KEEL_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        if path is None:
            path = playwright.chromium.executable_path
        if not Path(path).exists():
            without_browser("no Chromium is installed (playwright install chromium)")
        browser = playwright.chromium.launch(executable_path=path, args=_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def place(tmp_path: Path, chromium: Any) -> Iterator[Place]:
    """A server whose visitors must not have come to harm in the end."""
    place = Place(tmp_path, chromium)
    try:
        yield place
        for visit in place.visits:
            visit.was_harmless()
    finally:
        place.close()
