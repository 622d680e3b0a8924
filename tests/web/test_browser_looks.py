"""Every page in both themes and on a phone: nothing sticks out, thumbs reach the buttons, axe finds nothing."""

import json
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import pytest

from tests.web.crowd import crowd
from tests.web.place import Place, Visit, pair, pairs, ranking

Options = dict[str, Any]

PHONE: Options = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
DESK: Options = {"viewport": {"width": 1280, "height": 800}}
WIDE = "| a | b | c |\n|---|---|---|\n" + "| a long cell of words | another long cell | and a third one |\n" * 3
MARKDOWN = f"# One\n\n{WIDE}\n\n```python\n{'x = 1  # ' + 'long ' * 60}\n```\n\n- a\n  - b\n\n> said\n\n[a link](https://example.org)"


def violations(visit: Visit) -> list[str]:
    """What axe finds, as one line each."""
    source = (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
    # Run by the debugger, not by the page: the content policy does not let the page load it.
    session = visit.page.context.new_cdp_session(visit.page)
    session.send("Runtime.evaluate", {"expression": source})
    found = session.send(
        "Runtime.evaluate",
        {
            "expression": "axe.run().then((found) => JSON.stringify(found.violations))",
            "awaitPromise": True,
            "returnByValue": True,
        },
    )
    return [
        f"{one['impact']} {one['id']}: {node['html'][:160]} {node['failureSummary']}"
        for one in json.loads(found["result"]["value"])
        for node in one["nodes"]
    ]


def first_visit(place: Place, options: Options) -> Visit:
    place.ask([pair("md", MARKDOWN, MARKDOWN, "")])
    return place.visit("Mira", read=False, **options)


def labelling(place: Place, options: Options) -> Visit:
    place.ask([pair("md", "Hello", MARKDOWN, "short"), *pairs(3)])
    visit = place.visit("Mira", **options)
    visit.press("n")
    visit.page.keyboard.press("Escape")
    return visit


def raw(place: Place, options: Options) -> Visit:
    visit = labelling(place, options)
    visit.press("r")
    return visit


def flagging(place: Place, options: Options) -> Visit:
    visit = labelling(place, options)
    visit.press("f")
    return visit


def helped(place: Place, options: Options) -> Visit:
    visit = labelling(place, options)
    visit.press("?")
    return visit


def ranked(place: Place, options: Options) -> Visit:
    place.ask([ranking("r", "Rank", "one", "two", MARKDOWN)], ranked=True)
    visit = place.visit("Mira", **options)
    visit.press("2")
    return visit


def done(place: Place, options: Options) -> Visit:
    place.ask(pairs(1))
    visit = place.visit("Mira", **options)
    visit.judge("4")
    visit.page.wait_for_selector("#quiet h2")
    return visit


def offline(place: Place, options: Options) -> Visit:
    visit = labelling(place, options)
    visit.page.context.set_offline(True)
    visit.judge("1")
    visit.page.wait_for_selector("#alarm:visible")
    return visit


def reviewed(place: Place, options: Options) -> Visit:
    crowd(place)
    visit = place.visit("Adam", "admin", path="/review", **options)
    visit.page.locator("#disagreement-list summary").first.click()
    return visit


def signing_in(place: Place, options: Options) -> Visit:
    visit = place.stranger(**options)
    visit.page.goto(f"{place.url}/sign-in")
    return visit


def welcomed(place: Place, options: Options) -> Visit:
    visit = place.stranger(**options)
    visit.page.goto(place.link("Mira"))
    return visit


def used_link(place: Place, options: Options) -> Visit:
    visit = place.stranger(**options)
    visit.page.goto(f"{place.url}/in/nothing")
    return visit


def refused(place: Place, options: Options) -> Visit:
    place.ask(pairs(1))
    visit = place.visit("Mira", **options)
    visit.page.goto(f"{place.url}/review")
    return visit


PAGES = (
    first_visit,
    labelling,
    raw,
    flagging,
    helped,
    ranked,
    done,
    offline,
    reviewed,
    signing_in,
    welcomed,
    used_link,
    refused,
)


@pytest.mark.parametrize("come", PAGES)
def test_every_page_in_both_themes_and_sizes(place: Place, come: Callable[[Place, Options], Visit]) -> None:
    visit = come(place, DESK)
    assert violations(visit) == []
    visit.page.emulate_media(color_scheme="dark")
    assert violations(visit) == []
    visit.page.set_viewport_size(PHONE["viewport"])
    assert violations(visit) == []
    assert visit.page.evaluate("document.documentElement.scrollWidth") <= 390
    visit.page.emulate_media(color_scheme="light")
    assert violations(visit) == []


def test_on_a_phone_the_answers_are_stacked_and_the_buttons_are_large(place: Place) -> None:
    place.ask([pair("long", "Hello", "A long answer. " * 300, "Short."), *pairs(2)])
    visit = place.visit("Mira", **PHONE)
    boxes = [visit.page.locator(".answer").nth(index).bounding_box() for index in range(2)]
    assert boxes[1]["y"] >= boxes[0]["y"] + boxes[0]["height"]
    assert boxes[0]["width"] == boxes[1]["width"]
    for button in visit.page.locator("#bar button:visible").all():
        box = button.bounding_box()
        assert box["height"] >= 44
        assert box["width"] >= 44
        assert box["y"] + box["height"] <= 844  # at hand, however long the answers are
    assert "Top answer" in visit.text("#answers")
    visit.page.wait_for_timeout(200)
    visit.page.get_by_role("button", name="Bottom better", exact=True).tap()
    visit.settled()
    visit.until(lambda: len(place.said()) == 1)
    assert place.said()[0].pressed == 2


def test_answers_have_equal_size_side_by_side(place: Place) -> None:
    place.ask([pair("uneven", "Hello", MARKDOWN, "Short.")])
    visit = place.visit("Mira", **DESK)
    one, other = (visit.page.locator(".answer").nth(index).bounding_box() for index in range(2))
    assert (one["width"], one["height"], one["y"]) == (other["width"], other["height"], other["y"])


def test_the_theme_is_kept(place: Place) -> None:
    place.ask(pairs(2))
    visit = place.visit("Mira", color_scheme="light", **DESK)
    paper = "getComputedStyle(document.body).backgroundColor"
    light = visit.page.evaluate(paper)
    visit.page.click("#theme")
    dark = visit.page.evaluate(paper)
    assert light != dark
    visit.page.reload()
    visit.page.wait_for_selector("#item:visible")
    assert visit.page.evaluate(paper) == dark


def test_tab_reaches_everything_in_order_and_the_focus_is_seen(place: Place) -> None:
    place.ask(pairs(2))
    visit = place.visit("Mira", **DESK)
    names = []
    for _ in range(12):
        visit.page.keyboard.press("Tab")
        names.append(visit.page.evaluate("document.activeElement.innerText.trim().split('\\n')[0]"))
        assert visit.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    assert visit.page.evaluate("document.activeElement.closest('#bar') !== null")
    visit.page.locator("#open-guidelines").focus()
    visit.page.keyboard.press("Enter")
    assert visit.page.evaluate("document.activeElement.id") == "guidelines-title"
    visit.page.keyboard.press("Escape")
    assert visit.page.evaluate("document.activeElement.id") == "open-guidelines"


def test_what_a_screen_reader_hears(place: Place) -> None:
    place.ask(pairs(3))
    visit = place.visit("Mira", **DESK)
    assert visit.page.get_by_role("heading", name="Left answer").count() == 1
    assert visit.page.get_by_role("region", name="Your verdict").count() == 1
    names = visit.page.locator("#verdict .seven button").all()
    assert [name.get_attribute("aria-keyshortcuts") for name in names] == list("1234567")
    visit.judge("1")
    assert visit.page.get_by_role("status").filter(has_text="Left much better").count() == 1
    assert visit.page.evaluate("document.activeElement.id") == "prompt-title"
