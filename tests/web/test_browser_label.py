"""Labelling in a real browser: signing in, keys, undo, reloading, several people, and bad connections."""

from itertools import pairwise
from typing import Any

from tests.web.place import SETTLED, Place, bodies, pair, pairs, path_of


def test_a_link_lets_in_once_and_looking_at_it_does_not_use_it_up(place: Place) -> None:
    place.ask(pairs(1))
    link = place.link("Mira")
    visit = place.stranger()
    visit.page.goto(place.url)
    assert path_of(visit.page.url) == "/sign-in"
    visit.page.goto(link)
    visit.page.goto(link)
    assert "Welcome, Mira" in visit.text("h1")
    visit.page.click("button.primary")
    visit.page.wait_for_selector("#item:visible")
    (cookie,) = visit.page.context.cookies()
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Strict"
    other = place.stranger()
    other.page.goto(link)
    assert "has been used" in other.text("main")
    visit.page.keyboard.press("?")
    visit.page.click("#help .sign-out button")
    visit.page.wait_for_url(f"{place.url}/sign-in")
    visit.page.goto(place.url)
    assert path_of(visit.page.url) == "/sign-in"


def test_keys_say_what_they_are_for(place: Place) -> None:
    place.ask(pairs(11))
    visit = place.visit("Mira")
    for key in "1234567bs":
        visit.judge(key)
    visit.settled()
    said = place.said()
    assert [each.pressed for each in said[:7]] == [-3, -2, -1, 0, 1, 2, 3]
    assert [each.kind for each in said[7:]] == ["both_bad", "skip"]
    assert all(each.guideline == "1" for each in said)
    assert all(each.seen is not None and each.served is not None for each in said)
    assert "Skipped" in visit.text("#said")
    assert "2 left" in visit.text("#progress")


def test_buttons_do_what_keys_do_and_a_second_click_does_not_hit_the_next_item(place: Place) -> None:
    place.ask(pairs(3))
    visit = place.visit("Mira")
    visit.page.wait_for_timeout(SETTLED)
    visit.page.get_by_role("button", name="Right slightly better").dblclick()
    visit.until(lambda: len(place.said()) == 1)
    visit.page.wait_for_timeout(SETTLED)
    assert [each.pressed for each in place.said()] == [1]
    # After the click the focus is on the new prompt, so that Enter does not press the same button again.
    assert visit.page.evaluate("document.activeElement.id") == "prompt-title"
    visit.press("Enter")
    assert len(place.said()) == 1


def test_the_left_answer_is_the_one_that_the_left_keys_are_for(place: Place) -> None:
    place.ask(pairs(6))
    visit = place.visit("Mira")
    left = []
    for _ in range(6):
        left.append(visit.answers()[0])
        visit.judge("1")
    visit.settled()
    for said, text in zip(place.said(), left, strict=True):
        first = said.shown[0] == 0
        assert ("One" in text) == first
        assert said.strength == (-3 if first else 3)


def test_undo_brings_the_item_back_at_once_and_the_change_is_a_revision(place: Place) -> None:
    place.ask(pairs(4))
    visit = place.visit("Mira")
    first, answers = visit.prompt(), visit.answers()
    visit.judge("2")
    second = visit.prompt()
    visit.judge("6")
    visit.press("u")
    visit.until(lambda: visit.prompt() == second)
    visit.press("u")
    visit.until(lambda: visit.prompt() == first)
    assert visit.answers() == answers
    assert visit.page.locator("#verdict [aria-pressed=true]").get_attribute("value") == "-2"
    visit.judge("7")
    assert visit.prompt() == second
    visit.judge("Enter")
    visit.settled()
    visit.until(lambda: len(place.said()) == 2)
    assert [
        (each.revision, each.kind, each.pressed) for each in place.history() if each.item == place.said()[0].item
    ] == [
        (1, "comparison", -2),
        (2, "withdrawn", None),
        (3, "comparison", 3),
    ]
    assert sorted(each.pressed or 0 for each in place.said()) == [2, 3]


def test_undo_of_what_is_still_on_its_way(place: Place) -> None:
    place.ask(pairs(3))
    visit = place.visit("Mira")
    first = visit.prompt()
    waiting: list[Any] = []
    visit.page.route("**/api/judgements", lambda route: route.continue_() if waiting else waiting.append(route))
    visit.judge("1")
    second = visit.prompt()
    visit.judge("2")
    visit.until(lambda: len(waiting) == 1)
    visit.press("u")  # the second verdict was not sent yet
    visit.until(lambda: visit.prompt() == second)
    visit.press("u")  # the first one was
    visit.until(lambda: visit.prompt() == first)
    visit.press("7")
    waiting[0].continue_()
    visit.settled()
    visit.until(lambda: len(place.history()) == 3)
    assert [(each.kind, each.pressed) for each in place.history()] == [
        ("comparison", -3),
        ("withdrawn", None),
        ("comparison", 3),
    ]
    assert visit.prompt() == second


def test_undo_after_a_reload_and_when_there_is_nothing(place: Place) -> None:
    place.ask(pairs(3))
    visit = place.visit("Mira")
    visit.press("u")
    visit.until(lambda: "nothing to undo" in visit.text("#said"))
    first = visit.prompt()
    visit.judge("5")
    visit.settled()
    visit.page.reload()
    visit.page.wait_for_selector("#item:visible")
    visit.press("u")
    visit.until(lambda: visit.prompt() == first)
    assert visit.page.locator("#verdict [aria-pressed=true]").get_attribute("value") == "1"


def test_a_reload_in_the_middle_keeps_the_item(place: Place) -> None:
    place.ask(pairs(8))
    visit = place.visit("Mira")
    visit.judge("3")
    visit.settled()
    before = visit.prompt(), visit.answers()
    visit.page.reload()
    visit.page.wait_for_selector("#item:visible")
    assert (visit.prompt(), visit.answers()) == before
    # A verdict that the page was just sending when it went is with the server.
    visit.press("1")
    visit.page.reload()
    visit.page.wait_for_selector("#item:visible")
    visit.settled()
    visit.until(lambda: len(place.said()) == 2)
    assert visit.prompt() != before[0]


def test_two_people_at_once_never_have_the_same_place(place: Place) -> None:
    place.ask(pairs(12), wanted=1)
    one, other = place.visit("Mira"), place.visit("Jon")
    while one.page.locator("#item").is_visible() or other.page.locator("#item").is_visible():
        for visit in (one, other):
            if visit.page.locator("#item").is_visible():
                visit.judge("4")
        if one.page.locator("#item").is_visible() and other.page.locator("#item").is_visible():
            assert one.prompt() != other.prompt()
    one.settled()
    other.settled()
    said = place.said()
    assert len(said) == 12
    assert len({each.item for each in said}) == 12
    assert {each.annotator for each in said} == {"Mira", "Jon"}
    assert "All done for now" in one.text("#quiet")


def test_a_note_goes_with_the_verdict_and_typing_presses_no_keys(place: Place) -> None:
    place.ask(pairs(2))
    visit = place.visit("Mira")
    visit.press("n")
    visit.page.keyboard.type("7 is too much? skip this: bug")
    assert len(place.history()) == 0
    visit.page.keyboard.press("Escape")
    visit.judge("2")
    assert not visit.page.locator("#note").is_visible()
    # Half a note stays with its item while the one before is changed.
    visit.press("n")
    visit.page.keyboard.type("half")
    visit.page.keyboard.press("Escape")
    visit.press("u")
    visit.until(lambda: visit.page.input_value("#note") == "7 is too much? skip this: bug")
    visit.judge("1")
    assert visit.page.input_value("#note") == "half"
    visit.page.fill("#note", "")
    visit.page.keyboard.press("Escape")
    visit.judge("6")
    visit.settled()
    notes = {each.pressed: each.note for each in place.said()}
    assert notes == {-3: "7 is too much? skip this: bug", 2: ""}


def test_a_flag_has_a_reason(place: Place) -> None:
    place.ask(pairs(2))
    visit = place.visit("Mira")
    visit.press("f")
    visit.page.keyboard.press("ArrowDown")
    visit.page.keyboard.press("3")  # means nothing in a dialog
    visit.page.fill("#reason-text", "a phone number")
    visit.page.keyboard.press("Enter")
    visit.settled()
    visit.until(lambda: len(place.said()) == 1)
    assert (place.said()[0].kind, place.said()[0].reason) == ("flag", "Private data: a phone number")
    visit.press("f")
    visit.page.keyboard.press("Escape")
    visit.page.keyboard.press("n")
    visit.page.keyboard.type("after all not")
    assert visit.page.input_value("#note") == "after all not"
    visit.page.click("#open-flag")
    visit.page.keyboard.press("Escape")
    visit.until(lambda: visit.page.evaluate("document.activeElement.id") == "prompt-title")
    assert len(place.said()) == 1


def test_with_enter_only_a_key_just_chooses(place: Place) -> None:
    place.ask(pairs(2))
    visit = place.visit("Mira")
    visit.press("?")
    visit.page.check("#setting-confirm")
    visit.page.keyboard.press("Escape")
    visit.press("1", "6")
    assert visit.page.locator("#verdict [aria-pressed=true]").get_attribute("value") == "2"
    assert place.history() == []
    visit.judge("Enter")
    visit.settled()
    assert [each.pressed for each in place.said()] == [2]


def test_keys_can_be_turned_off(place: Place) -> None:
    place.ask(pairs(2))
    visit = place.visit("Mira")
    visit.press("?")
    visit.page.uncheck("#setting-keys")
    visit.page.keyboard.press("Escape")
    before = visit.prompt()
    visit.press("1", "s", "b")
    assert visit.prompt() == before
    assert place.history() == []


def test_raw_text_and_markdown(place: Place) -> None:
    place.ask([pair("md", "Say **it**", "# Title\n\n- a\n- b", "`code`")])
    visit = place.visit("Mira")
    assert visit.page.locator("#prompt strong").count() == 1
    assert visit.page.locator("#answers li").count() == 2
    visit.press("r")
    assert visit.prompt() == "Say **it**"
    assert visit.page.locator("#answers li").count() == 0
    visit.page.reload()
    visit.page.wait_for_selector("#item:visible")
    assert visit.prompt() == "Say **it**"


def test_new_guidelines_open_by_themselves_and_judgements_name_them(place: Place) -> None:
    place.ask(pairs(4))
    visit = place.visit("Mira", read=False)
    assert visit.page.locator("#guidelines").is_visible()
    visit.press("g")
    assert not visit.page.locator("#guidelines").is_visible()
    visit.judge("1")
    visit.settled()
    place.site.people.invite("Adam", "admin")
    place.site.publish("Look at **dates** first.", "Adam")
    visit.judge("1")
    visit.settled()
    visit.page.wait_for_selector("#guidelines strong:text('dates')")
    assert "Version 2" in visit.text("#guidelines-version")
    assert "have changed" in visit.text("#heard")
    assert "Adam" not in visit.page.content()
    visit.judge("1")
    visit.settled()
    visit.until(lambda: len(place.said()) == 3)
    assert [each.guideline for each in place.said()] == ["1", "1", "2"]


def test_items_that_are_held_ahead_go_to_others_when_the_page_is_left(place: Place) -> None:
    place.ask(pairs(3))
    place.site.people.invite("Jon", "annotator")
    visit = place.visit("Mira")
    assert place.site.desk.serve("Jon", 3) == []
    visit.page.goto("about:blank")
    visit.until(lambda: len(place.site.desk.serve("Jon", 3)) == 2)


def test_each_person_judges_an_item_once_and_k_is_kept(place: Place) -> None:
    place.ask(pairs(4), wanted=2)
    for name in ("Mira", "Jon", "Ida"):
        visit = place.visit(name)
        while visit.page.locator("#item").is_visible():
            visit.judge("3")
        visit.settled()
    said = sorted((each.item, each.annotator) for each in place.said())
    assert len(said) == 4 * 2
    assert all(one != other for one, other in pairwise(said))


def test_what_is_sent_says_how_long_the_item_was_looked_at(place: Place) -> None:
    place.ask(pairs(2))
    visit = place.visit("Mira")
    visit.page.wait_for_timeout(400)
    visit.judge("1")
    visit.settled()
    (body,) = bodies(visit, "/api/judgements")
    assert 0.3 < body["looked"] < 10
    assert body["ahead"] == 2
