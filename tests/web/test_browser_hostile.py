"""Hostile texts in a real browser: they stay text (`Visit.was_harmless` holds that no dialog came, and that no request
left). And what an annotator must not know does not reach the browser."""

from typing import Any

from tests.web.payloads import PAYLOADS
from tests.web.place import Place, pair, pairs, path_of

# What must not be in the page, however it came there.
_FOREIGN = """() => {
  const tags = "script img iframe object embed form style link svg input base meta".split(" ");
  const places = ["#item", "details.item .inner", ".people .name", "#event-list", ".preview"];
  const foreign = places.flatMap((place) => tags.map((tag) => `${place} ${tag}`)).join(", ");
  return [
    ...document.querySelectorAll(foreign),
    ...[...document.querySelectorAll("*")].filter((e) => [...e.attributes].some((a) => a.name.startsWith("on"))),
    ...[...document.links].filter((link) => !/^(https?|mailto):/.test(link.protocol)),
  ].map((element) => element.outerHTML);
}"""


def test_texts_of_models_and_people_stay_text(place: Place) -> None:
    thirds = [PAYLOADS[start : start + 3] for start in range(0, len(PAYLOADS) - 2, 3)] + [PAYLOADS[-3:]]
    place.ask(pair(f"item-{index}", *three) for index, three in enumerate(thirds))
    name = "<img src=x onerror=alert(1)>\"'&"
    mira = place.visit(name)
    seen: set[str] = set()
    written = []
    while mira.page.locator("#item").is_visible():
        assert mira.page.evaluate(_FOREIGN) == []
        before = mira.screen()
        mira.press("r")
        texts = mira.page.locator("#item .raw").evaluate_all("(all) => all.map((element) => element.textContent)")
        seen.update(texts)
        mira.page.keyboard.press("r")
        text = texts[0].strip()
        written.append(text)
        if len(seen) % 2 == 0 and "\n" not in text:  # a reason is one line
            mira.page.keyboard.press("f")
            mira.page.fill("#reason-text", text)
            mira.page.click("#send-flag")
        else:
            mira.page.keyboard.press("n")
            mira.page.fill("#note", text)
            mira.page.keyboard.press("Escape")
            mira.page.keyboard.press("1")
        mira.until_other_than(before)
    assert seen == set(PAYLOADS)
    mira.settled()
    said = [each.note or each.reason.partition(": ")[2] for each in place.said()]
    assert said == written

    place.site.people.set_state(name, "paused", name, "<script>alert(1)</script>")
    place.site.people.invite("Adam", "admin")
    place.site.guidelines.publish("\n\n".join(PAYLOADS), "Adam")
    adam = place.visit("Adam", "admin", path="/review")
    for more in adam.page.locator("main button:text-matches('Show [0-9]+ more')").all():
        more.click()
    for fold in adam.page.locator("details.item").all():
        fold.locator("summary").click()
    adam.until(lambda: adam.page.locator("details.item .inner:empty").count() == 0)
    assert adam.page.evaluate(_FOREIGN) == []
    assert name in adam.page.locator(".person .name").all_inner_texts()
    assert "<script>alert(1)</script>" in adam.text("#event-list")
    adam.page.click("button[aria-label^='Let in']")
    assert name in adam.text("#state-title")
    adam.page.keyboard.press("Escape")
    welcome = place.stranger()
    welcome.page.goto(place.link(name))
    assert name in welcome.text("h1")


def test_nothing_that_an_annotator_receives_tells_whose_answers_they_are(place: Place) -> None:
    place.ask(pairs(4), wanted=2)
    place.site.people.invite("Somebody Else", "annotator")
    received: list[str] = []

    def listen(route: Any) -> None:
        response = route.fetch(max_redirects=0)
        received.append(response.text())
        route.fulfill(response=response)

    visit = place.visit("Mira")
    visit.page.route("**/*", listen)
    visit.page.reload()
    visit.page.wait_for_selector("#item:visible")
    for key in ("1", "s", "b"):
        visit.judge(key)
    visit.settled()
    before = visit.prompt()
    visit.press("u")
    visit.until(lambda: visit.prompt() != before and path_of(visit.responses[-1].url) == "/api/undo")
    received.append(visit.page.content())
    visit.page.unroute_all(behavior="wait")
    assert len(received) > 20
    told = "\n".join(received)
    for secret in (
        "secret-model",
        "77001",
        "item-0",
        "item-1",
        "item-2",
        "item-3",
        "Somebody Else",
        "ordinary",
        "propensity",
    ):
        assert secret not in told, secret


def test_a_page_of_another_address_cannot_frame_or_call_it(place: Place) -> None:
    place.ask(pairs(1))
    visit = place.visit("Mira")
    send = "{method: 'POST', headers: {'Content-Type': 'application/json'}, body: JSON.stringify({token: 'x'})}"
    refused = visit.page.evaluate(f"fetch('/api/release', {send}).then((response) => response.status)")
    assert refused == 403
    policy = next(each for each in visit.responses if each.url == f"{place.url}/").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
