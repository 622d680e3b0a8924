"""The reviewer's page in a real browser: what it shows, and what a reviewer and an admin can do there."""

import time
from functools import partial

import pytest

from keel.preferences.leases import Verdict
from tests.web.crowd import crowd
from tests.web.place import Place, pair, pairs


def test_it_shows_progress_agreement_and_people(place: Place) -> None:
    crowd(place)
    visit = place.visit("Rita", "reviewer", path="/review")
    assert "of 36" in visit.text("#progress-cards")
    rows = visit.page.locator("#agreement-table tbody tr").all_inner_texts()
    assert any(row.startswith("Observed") for row in rows)
    assert any("AC1" in row for row in rows)
    assert visit.page.locator("#agreement-table .interval").count() == len(rows) >= 5
    people = visit.page.locator(".person")
    assert {people.nth(number).get_attribute("data-name") for number in range(people.count())} >= {
        "Mira",
        "Jon",
        "Öykü",
    }
    assert "100 %" in visit.text(".person[data-name=Öykü] [data-label=Left]")
    assert visit.page.locator("#invite").count() == 0  # that is for admins


def test_the_last_day_is_the_newest_and_stands_on_the_right(place: Place) -> None:
    place.ask(pairs(4))
    place.site.people.invite("Mira", "annotator")
    for days, count in ((3, 3), (0, 1)):
        place.site.desk._clock = partial(days_ago, days)
        for served in place.site.desk.serve("Mira", count):
            place.site.desk.submit("Mira", served.token, Verdict(pressed=1), "1")
    visit = place.visit("Rita", "reviewer", path="/review")
    last = visit.page.locator("#progress-cards .card", has_text="On the last day")
    assert last.locator(".big").inner_text() == "1 judgements"
    heights = last.locator(".columns rect").evaluate_all("(all) => all.map((one) => one.height.baseVal.value)")
    assert heights == pytest.approx([28, 28 / 3])


def days_ago(days: int) -> float:
    return time.time() - 86_400 * days


def test_pausing_somebody_needs_a_reason_and_is_felt_at_once(place: Place) -> None:
    place.ask(pairs(6), wanted=2)
    mira = place.visit("Mira")
    mira.judge("1")
    mira.settled()
    rita = place.visit("Rita", "reviewer", path="/review")
    rita.page.get_by_role("button", name="Pause Mira").click()
    rita.page.keyboard.press("Enter")
    assert rita.page.locator("#state").is_visible()  # no reason yet
    rita.page.fill("#state-why", "Let us talk about the guidelines.")
    rita.page.keyboard.press("Enter")
    rita.page.wait_for_selector(".person[data-name=Mira] .state.paused")
    assert "Let us talk" in rita.text("#event-list")
    mira.judge("2")
    mira.page.wait_for_selector("#alarm:visible")
    assert "paused" in mira.text("#alarm")
    assert place.site.people.states()["Mira"] == "paused"
    rita.page.get_by_role("button", name="Let in Mira").click()
    rita.page.fill("#state-why", "We talked.")
    rita.page.keyboard.press("Enter")
    rita.page.wait_for_selector(".person[data-name=Mira] .state.active")


def test_disputed_items_open_and_can_be_set_aside(place: Place) -> None:
    crowd(place)
    visit = place.visit("Rita", "reviewer", path="/review")
    first = visit.page.locator("#disagreement-list details").first
    first.locator("summary").click()
    first.get_by_role("heading", name="First answer").wait_for()
    assert first.locator(".ballots tbody tr").count() == 3
    first.get_by_role("button", name="Set aside").click()
    visit.page.wait_for_selector("#disagreement-list .tag:text('set aside')")


def test_flags_are_listed_with_their_reasons(place: Place) -> None:
    place.ask([pair("odd", "Call me", "0123", "No")], wanted=2)
    place.site.people.invite("Mira", "annotator")
    served = place.site.desk.serve("Mira", 1)[0]
    place.site.desk.submit("Mira", served.token, Verdict(decline="flag", reason="Private data", note="a number"), "1")
    visit = place.visit("Rita", "reviewer", path="/review")
    assert "Private data" in visit.text("#flag-list")
    visit.page.locator("#flag-list summary").click()
    visit.page.wait_for_selector("#flag-list :text('Note: a number')")


def test_an_admin_invites_and_writes_guidelines(place: Place) -> None:
    place.ask(pairs(2))
    visit = place.visit("Adam", "admin", path="/review")
    visit.page.fill("#invite-name", "Nadia")
    visit.page.select_option("#invite-role", "reviewer")
    visit.page.keyboard.press("Enter")
    visit.page.get_by_role("button", name="Make a link").click()
    visit.page.wait_for_selector("#link")
    link = visit.page.input_value("#link")
    assert link.startswith(f"{place.url}/in/")
    nadia = place.stranger()
    nadia.page.goto(link)
    assert "Welcome, Nadia" in nadia.text("h1")
    visit.page.fill("#guideline-text", "Prefer *short* answers.\n\n<b>plain</b>")
    visit.page.wait_for_selector(".preview em:text('short')")
    assert "<b>plain</b>" in visit.text(".preview")
    visit.page.get_by_role("button", name="Publish as a new version").click()
    visit.page.wait_for_selector("#guideline-box:has-text('Version 2')")
    assert place.site.guidelines.current().author == "Adam"


def test_annotators_have_no_reviewers_page(place: Place) -> None:
    place.ask(pairs(2))
    visit = place.visit("Mira")
    assert visit.page.get_by_role("link", name="Review").count() == 0
    visit.page.goto(f"{place.url}/review")
    assert "Not for you" in visit.text("h1")
