"""Labelling over a bad connection, and with leases and sessions that end: nothing is lost, nothing counts twice."""

from typing import Any

from tests.web.place import Place, Visit, pairs, path_of


def test_offline_keeps_what_is_said_and_sends_it_once(place: Place) -> None:
    place.ask(pairs(5))
    visit = place.visit("Mira")
    visit.judge("1")
    visit.settled()
    visit.page.context.set_offline(True)
    visit.judge("2")
    visit.judge("3")
    visit.page.wait_for_selector("#alarm:visible")
    visit.until(lambda: "2 verdicts are kept here" in visit.text("#alarm"))
    assert len(place.said()) == 1
    visit.page.context.set_offline(False)
    visit.settled()
    visit.until(lambda: not visit.page.locator("#alarm").is_visible())
    assert [each.pressed for each in place.history()] == [-3, -2, -1]


def test_a_lost_reply_is_no_second_judgement_and_no_second_undo(place: Place) -> None:
    place.ask(pairs(4))
    visit = place.visit("Mira")
    cut: list[str] = []

    def lose(route: Any) -> None:
        if path_of(route.request.url) in cut:
            route.continue_()
            return
        cut.append(path_of(route.request.url))
        route.fetch()
        route.abort()

    visit.judge("1")
    visit.page.route("**/api/judgements", lose)
    visit.page.route("**/api/undo", lose)
    second = visit.prompt()
    visit.judge("2")
    visit.settled()
    assert [each.pressed for each in place.history()] == [-3, -2]
    visit.press("u")
    visit.until(lambda: visit.prompt() == second)
    visit.judge("7")
    visit.settled()
    visit.until(lambda: len(place.history()) == 4)
    assert [(each.kind, each.pressed) for each in place.history()[2:]] == [("withdrawn", None), ("comparison", 3)]
    assert cut == ["/api/judgements", "/api/undo"]


def test_a_server_in_trouble_is_asked_again(place: Place) -> None:
    place.ask(pairs(3))
    visit = place.visit("Mira")
    answers = iter([503, 429, 500])

    def refuse(route: Any) -> None:
        status = next(answers, None)
        if status is None:
            route.continue_()
        else:
            route.fulfill(status=status, json={"error": "not now."}, headers={"Retry-After": "1"})

    visit.page.route("**/api/judgements", refuse)
    visit.judge("6")
    visit.settled()
    assert [each.pressed for each in place.history()] == [2]


def test_an_item_that_somebody_else_has_by_now(place: Place) -> None:
    place.ask(pairs(3))
    visit = place.visit("Mira")
    refused: list[bool] = []

    def refuse(route: Any) -> None:
        if refused:
            route.continue_()
            return
        refused.append(True)
        route.fulfill(status=409, json={"error": "somebody else has it now."})

    visit.page.route("**/api/judgements", refuse)
    visit.judge("1")
    visit.until(lambda: "Not recorded: somebody else has it now." in visit.text("#said"))
    visit.judge("2")
    visit.settled()
    visit.until(lambda: len(place.history()) == 1)
    assert place.said()[0].pressed == -2


def test_somebody_who_is_paused_is_told_and_loses_nothing(place: Place) -> None:
    place.ask(pairs(4))
    visit = place.visit("Mira")
    place.site.people.set_state("Mira", "paused", "Rita", "a break")
    visit.judge("1")
    visit.page.wait_for_selector("#alarm:visible")
    assert "paused" in visit.text("#alarm")
    assert "a break" not in visit.page.content()
    place.site.people.set_state("Mira", "active", "Rita", "go on")
    visit.page.get_by_role("button", name="Try now").click()
    visit.settled()
    visit.until(lambda: len(place.said()) == 1)


def test_when_nothing_is_left_the_page_waits_for_more(place: Place) -> None:
    place.ask(pairs(1))
    visit = place.stranger()
    visit.page.clock.install()
    visit.page.goto(place.link("Mira"))
    visit.page.click("button.primary")
    visit.page.wait_for_selector("#item:visible")
    visit.page.clock.run_for(1000)
    visit.page.keyboard.press("4")
    visit.page.wait_for_selector("#quiet:has-text('All done for now')")
    place.ask(pairs(1, start=50))
    visit.page.clock.run_for(21_000)
    visit.page.wait_for_selector("#prompt:has-text('Question 50')")


def test_what_a_page_could_not_send_is_sent_by_the_next_one(place: Place) -> None:
    place.ask(pairs(4))
    visit = place.visit("Mira")
    visit.page.route("**/api/judgements", lambda route: route.abort())
    visit.judge("6")
    visit.page.wait_for_selector("#alarm:visible")
    visit.page.unroute("**/api/judgements")
    visit.page.reload()
    visit.page.wait_for_selector("#item:visible")
    visit.settled()
    assert [each.pressed for each in place.history()] == [2]


def test_who_is_signed_out_signs_in_elsewhere_and_goes_on(place: Place) -> None:
    place.ask(pairs(4))
    visit = place.visit("Mira")
    place.site.people.revoke("Mira", "Adam")
    visit.judge("2")
    visit.page.wait_for_selector("#alarm:visible")
    assert "You are signed out" in visit.text("#alarm")
    tab = visit.page.context.new_page()
    tab.goto(place.link("Mira"))
    tab.click("button.primary")
    tab.wait_for_selector("#item:visible")
    tab.close()
    visit.page.evaluate("dispatchEvent(new Event('online'))")  # does not wait for the next try
    visit.settled()
    assert [each.pressed for each in place.history()] == [-2]


def test_signs_of_life_keep_the_items(place: Place) -> None:
    place.ask(pairs(3))
    visit = place.stranger()
    visit.page.clock.install()
    visit.page.goto(place.link("Mira"))
    visit.page.click("button.primary")
    visit.page.wait_for_selector("#item:visible")
    visit.page.clock.run_for(61_000)
    visit.until(lambda: [path_of(url) for url in visit.requests].count("/api/heartbeat") == 3)


def test_who_comes_back_too_late_is_told_and_gets_another_item(place: Place) -> None:
    place.ask(pairs(5))
    place.site.people.invite("Jon", "annotator")
    visit = place.visit("Mira")
    gone = visit.prompt()
    place.site.desk.release("Mira", _tokens(visit)[0])
    taken = place.site.desk.serve("Jon", 1)[0]
    assert taken.shown.prompt[0].content == gone
    visit.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    visit.until(lambda: visit.prompt() != gone)
    assert "somebody else has it" in visit.text("#said")


def _tokens(visit: Visit) -> list[str]:
    """The tokens of what was served last, the first for the item on the screen."""
    served = [response for response in visit.responses if path_of(response.url) == "/api/next"][-1]
    return [item["token"] for item in served.json()["items"]]
