"""Ranking several answers in a real browser: by keys, by the mouse, by the buttons."""

import pytest

from tests.web.place import Place, Visit, ranking

TEXTS = ("alpha text", "beta text", "gamma text", "delta text")


@pytest.fixture
def visit(place: Place) -> Visit:
    items = [ranking(f"r{number}", f"Rank {number}", *(f"{text} {number}" for text in TEXTS)) for number in range(3)]
    place.ask(items, ranked=True)
    return place.visit("Mira", viewport={"width": 1280, "height": 1000})


def shown(visit: Visit) -> list[str]:
    """The letters of the answers, from the top."""
    return [title.removeprefix("Answer ") for title in visit.page.locator("#answers h2").all_inner_texts()]


def said_texts(visit: Visit) -> list[str]:
    """The texts of the first judgement's answers, from best to worst."""
    (said,) = visit.place.said()
    (item,) = [each for each in visit.place.site.store.items() if each.id == said.item]
    assert said.order is not None
    return [item.answers[index].messages[0].content for index in said.order]


def bodies_from_the_top(visit: Visit) -> list[str]:
    return [text.strip() for text in visit.page.locator("#answers .body").all_inner_texts()]


def test_keys_take_and_move_and_enter_sends(visit: Visit) -> None:
    assert shown(visit) == ["A", "B", "C", "D"]
    visit.press("4")
    assert "Answer D taken, place 4 of 4" in visit.text("#heard")
    visit.press("ArrowUp", "ArrowUp", "Alt+ArrowUp")
    assert shown(visit) == ["D", "A", "B", "C"]
    assert visit.text("#heard") == "Answer D: place 1 of 4."
    visit.press("Escape", "2", "ArrowDown")
    assert shown(visit) == ["D", "B", "A", "C"]
    order = bodies_from_the_top(visit)
    visit.judge("Enter")  # from the handle of the answer that was moved
    visit.settled()
    assert said_texts(visit) == order
    assert "D before B before A before C" in visit.text("#said")


def test_an_order_that_nobody_touched_needs_a_second_enter(visit: Visit) -> None:
    before = visit.prompt()
    visit.press("Enter")
    assert visit.prompt() == before
    assert "Nothing was moved" in visit.text("#verdict")
    order = bodies_from_the_top(visit)
    visit.judge("Enter")
    visit.settled()
    assert said_texts(visit) == order


def test_dragging_with_the_mouse(visit: Visit) -> None:
    handles = visit.page.locator(".handle")
    start = handles.nth(3).bounding_box()
    target = handles.nth(0).bounding_box()
    mouse = visit.page.mouse
    mouse.move(start["x"] + 20, start["y"] + 20)
    mouse.down()
    mouse.move(start["x"] + 20, start["y"] + 5, steps=3)
    mouse.move(target["x"] + 20, target["y"] - 20, steps=10)
    visit.until(lambda: shown(visit) == ["D", "A", "B", "C"])
    mouse.up()
    assert visit.page.locator(".sorting").count() == 0
    assert visit.page.locator(".chosen").count() == 0
    order = bodies_from_the_top(visit)
    visit.page.get_by_role("button", name="Send this order").click()
    visit.settled()
    visit.until(lambda: len(visit.place.said()) == 1)
    assert said_texts(visit) == order


def test_dragging_with_a_finger(place: Place) -> None:
    place.ask([ranking("r", "Rank", *TEXTS)], ranked=True)
    visit = place.visit("Mira", viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    box = visit.page.locator(".handle").nth(0).bounding_box()
    below = visit.page.locator(".handle").nth(2).bounding_box()
    touch = visit.page.context.new_cdp_session(visit.page)
    x, y = box["x"] + 15, box["y"] + 15

    def finger(kind: str, where: float) -> None:
        points = [] if kind == "touchEnd" else [{"x": x, "y": where}]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    finger("touchStart", y)
    for step in range(1, 11):
        finger("touchMove", y + (below["y"] + 40 - y) * step / 10)
        visit.page.wait_for_timeout(20)
    visit.until(lambda: shown(visit).index("A") >= 1)
    finger("touchEnd", 0)
    assert visit.page.locator(".sorting").count() == 0
    assert shown(visit)[0] == "B"


def test_small_buttons_and_undo(visit: Visit) -> None:
    visit.page.get_by_role("button", name="Answer C up").click()
    assert shown(visit) == ["A", "C", "B", "D"]
    visit.page.locator("#prompt-title").focus()
    first = visit.prompt()
    visit.judge("Enter")
    visit.press("u")
    visit.until(lambda: visit.prompt() == first)
    assert shown(visit) == ["A", "C", "B", "D"]
    visit.press("b")
    visit.settled()
    visit.until(lambda: len(visit.place.history()) == 3)
    assert [each.kind for each in visit.place.history()] == ["ranking", "withdrawn", "both_bad"]
