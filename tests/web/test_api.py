"""The walk of an annotator, and what reviewers see of it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from keel.preferences.leases import Rules
from keel.preferences.web import review
from tests.web.kit import Office, Visitor, item, office, pairs


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Office]:
    with office(tmp_path) as made:
        yield made


def finish(who: Visitor, pressed: int = -1) -> int:
    """Judges until nothing comes any more."""
    held = who.next(2)
    count = 0
    while held:
        reply = who.judge(held[0]["token"], pressed=pressed, looked=2.5, ahead=1)
        assert reply.status_code == 200, reply.text
        held = reply.json()["next"]
        count += 1
    return count


def test_an_afternoon(here: Office) -> None:
    here.stock(*pairs(5))
    ada = here.visitor()
    me = ada.get("/api/me").json()
    assert (me["name"], me["role"], me["guideline"], me["mode"]) == ("ada", "annotator", 1, "pair")
    assert me["progress"] == {"done": 0, "today": 0, "left": 5, "per_hour": None, "median_seconds": None}
    held = ada.next(3)
    assert len({each["token"] for each in held}) == 3
    assert [each["token"] for each in ada.next(3)] == [each["token"] for each in held]  # a reload changes nothing
    first = held[0]
    before = time.time()
    reply = ada.judge(first["token"], pressed=-2, looked=4.0, note="because", ahead=2).json()
    assert reply["repeated"] is False
    assert [each["token"] for each in reply["next"]][:2] == [each["token"] for each in held[1:]]
    assert len(reply["next"]) == 3
    assert reply["progress"].pop("per_hour") == pytest.approx(900, abs=1)
    assert reply["progress"] == {"done": 1, "today": 1, "left": 4, "median_seconds": 4.0}
    (said,) = here.site.store.judgements()
    assert (said.annotator, said.pressed, said.note, said.guideline) == ("ada", -2, "because", "1")
    assert said.seen == pytest.approx(before - 4, abs=2)
    assert finish(ada) == 4
    assert ada.get("/api/me").json()["progress"]["done"] == 5


def test_the_same_submission_twice_is_one(here: Office) -> None:
    here.stock(*pairs(2))
    ada = here.visitor()
    (held,) = ada.next()
    assert ada.judge(held["token"], pressed=3).json()["repeated"] is False
    again = ada.judge(held["token"], pressed=3)
    assert (again.status_code, again.json()["repeated"]) == (200, True)
    other = ada.judge(held["token"], pressed=-3)
    assert (other.status_code, list(other.json())) == (409, ["error"])
    assert [each.pressed for each in here.site.store.history()] == [3]


def test_undo_gives_the_item_back_with_what_was_said(here: Office) -> None:
    here.stock(*pairs(2))
    ada = here.visitor()
    first, second = ada.next(2)
    ada.judge(first["token"], pressed=3, note="hm")
    ada.judge(second["token"], decline="flag", reason="rude")
    undone = ada.post("/api/undo").json()
    assert undone["said"] == {"kind": "flag", "pressed": None, "places": None, "note": "", "reason": "rude"}
    assert (undone["item"]["prompt"], undone["item"]["answers"]) == (second["prompt"], second["answers"])
    assert undone["item"]["token"] != second["token"]
    undone = ada.post("/api/undo").json()
    assert undone["said"]["pressed"] == 3
    assert undone["said"]["note"] == "hm"
    assert undone["item"]["revision"] == 3
    assert undone["progress"]["done"] == 0
    assert ada.judge(undone["item"]["token"], pressed=-3).status_code == 200
    assert [each.pressed for each in here.site.store.judgements()] == [-3]
    assert [
        each.revision for each in here.site.store.history() if each.item == here.site.store.judgements()[0].item
    ] == [1, 2, 3]


def test_nothing_to_undo(here: Office) -> None:
    undone = here.visitor().post("/api/undo").json()
    assert (undone["item"], undone["said"]) == (None, None)


def test_an_undo_that_is_sent_twice_undoes_once(here: Office) -> None:
    here.stock(*pairs(2))
    ada = here.visitor()
    first, second = ada.next(2)
    ada.judge(first["token"])
    ada.judge(second["token"])
    assert ada.post("/api/undo", {"token": second["token"]}).status_code == 200
    assert ada.post("/api/undo", {"token": second["token"]}).status_code == 409
    assert len(here.site.store.judgements()) == 1


def test_ranking_by_places(here: Office) -> None:
    here.stock(item("k", "a", "b", "c", "d"), ranked=True)
    ada = here.visitor()
    (held,) = ada.next()
    texts = [each[0]["text"] for each in held["answers"]]
    assert held["ranked"]
    assert sorted(texts) == ["a", "b", "c", "d"]
    assert ada.judge(held["token"], pressed=1).status_code == 422
    assert ada.judge(held["token"], places=[0, 1, 1, 2]).status_code == 422
    assert ada.judge(held["token"], places=[2, 0, 1]).status_code == 422
    assert ada.judge(held["token"], places=[2, 0, 3, 1]).status_code == 200
    (said,) = here.site.store.judgements()
    assert said.order == tuple("abcd".index(texts[place]) for place in (2, 0, 3, 1))
    assert ada.post("/api/undo").json()["said"]["places"] == [2, 0, 3, 1]


@pytest.mark.parametrize(
    "said",
    [
        {}, {"pressed": 4}, {"pressed": "1"}, {"pressed": 1.5}, {"pressed": 1, "decline": "skip"}, {"decline": "no"},
        {"pressed": 1, "note": "x" * 2001}, {"decline": "flag", "reason": "x" * 201}, {"pressed": 1, "note": "\0"},
        {"pressed": 1, "looked": -1}, {"pressed": 1, "looked": "NaN"}, {"pressed": 1, "ahead": 3},
        {"pressed": 1, "annotator": "bob"}, {"pressed": 1, "guideline": 0}, {"places": [0, 1]},
        {"pressed": 1, "note": "\ud800"},
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_and_recorded_nowhere(here: Office, said: dict[str, object]) -> None:
    here.stock(*pairs(1))
    ada = here.visitor()
    (held,) = ada.next()
    body = json.dumps({"token": held["token"], "guideline": 1, **said})
    reply = ada.client.post(
        "/api/judgements", content=body, headers={"X-CSRF-Token": ada.csrf or "", "Content-Type": "application/json"}
    )
    assert reply.status_code in (400, 422), reply.text
    assert list(reply.json()) == ["error"]
    assert here.site.store.history() == []
    assert ada.judge(held["token"], pressed=1).status_code == 200


def test_leases(tmp_path: Path) -> None:
    with office(tmp_path, Rules(lease_seconds=30.0)) as here:
        here.stock(*pairs(1))
        ada, bob = here.visitor("ada"), here.visitor("bob")
        (held,) = ada.next()
        assert bob.next() == []
        assert ada.post("/api/heartbeat", {"token": held["token"]}).json()["expires"] > held["expires"]
        assert bob.post("/api/heartbeat", {"token": held["token"]}).status_code == 409
        assert ada.post("/api/release", {"token": held["token"]}).json() == {}
        (taken,) = bob.next()
        late = ada.judge(held["token"])
        assert late.status_code == 409
        assert bob.judge(taken["token"]).status_code == 200
        assert ada.judge("nonsense").status_code == 409


def test_guidelines_have_versions(here: Office) -> None:
    here.stock(*pairs(2))
    ada, root = here.visitor(), here.visitor("root", "admin")
    first = ada.get("/api/guidelines").json()
    assert root.post("/api/guidelines/preview", {"text": "*x*"}).json() == {"html": "<p><em>x</em></p>\n"}
    new = root.post("/api/guidelines", {"text": "# Two\n\nLook *twice*."}).json()
    assert (first["version"], new["version"], new["author"]) == (1, 2, "root")
    assert new["html"] == "<h1>Two</h1>\n<p>Look <em>twice</em>.</p>\n"
    assert ada.get("/api/guidelines").json()["text"] == "# Two\n\nLook *twice*."
    assert ada.get("/api/guidelines/1").json() == first
    assert ada.get("/api/guidelines/3").status_code == 404
    assert ada.get("/api/guidelines/0").status_code == 422
    assert ada.post("/api/next", {}).json()["guideline"] == 2
    (held,) = ada.next()
    assert ada.judge(held["token"], pressed=0, guideline=3).status_code == 409
    assert ada.judge(held["token"], pressed=0, guideline=2).json()["guideline"] == 2
    assert [said.guideline for said in here.site.store.judgements()] == ["2"]


def test_the_review(here: Office) -> None:
    here.stock(*pairs(6), wanted=2)
    ada, bob, boss = here.visitor("ada"), here.visitor("bob"), here.visitor("boss", "reviewer")
    finish(ada, -2)
    held = bob.next(3)
    bob.judge(held[0]["token"], decline="flag", reason="private", note="see line 2")
    bob.judge(held[1]["token"], pressed=-1)
    found = boss.get("/api/review").json()
    assert found["counts"] == {
        "items": 6, "done": 1, "aside": 0, "missing": 5, "judgements": 7, "skips": 0, "flags": 1, "gold": 0,
        "repeats": 0,
    }  # fmt: skip
    assert [day["judgements"] for day in found["days"]] == [7]
    assert found["agreement"]["items"] == 1
    people = {each["name"]: each for each in found["annotators"]}
    assert list(people) == ["ada", "bob", "boss"]
    assert people["ada"]["judgements"] == 6
    assert people["ada"]["pace"]["median"] == pytest.approx(2.5, abs=0.1)
    assert people["ada"]["run"]["length"] == 6
    assert people["boss"]["judgements"] == 0
    (flag,) = found["flags"]
    assert (flag["vote"]["annotator"], flag["vote"]["reason"], flag["vote"]["note"]) == ("bob", "private", "see line 2")
    assert [event["what"] for event in found["events"]] == ["invited"] * 3
    assert boss.post(f"/api/review/items/{flag['item']['id']}/aside", {"aside": True}).status_code == 200
    found = boss.get("/api/review").json()
    assert [each["id"] for each in found["set_aside"]] == [flag["item"]["id"]]
    assert found["counts"]["aside"] == 1
    assert boss.post("/api/review/items/nothing/aside", {"aside": True}).status_code == 404


def test_disputed_items_come_with_their_votes(here: Office) -> None:
    here.stock(item("x", "one", "other"), item("y", "one", "other"), wanted=2)
    for name, better in (("ada", "one"), ("bob", "other")):
        who = here.visitor(name)
        for held in who.next(2):
            left = held["answers"][0][0]["text"] == better
            agree = held["prompt"][0]["text"] == "question y"
            who.judge(held["token"], pressed=0 if agree else -2 if left else 2)
    (found,) = here.visitor("boss", "reviewer").get("/api/review").json()["disputed"]
    assert (found["item"]["id"], found["disagreement"]) == ("ITEM-x", 1.0)
    assert {each["annotator"]: each["strength"] for each in found["votes"]} == {"ada": -2, "bob": 2}


def test_the_review_of_nothing(here: Office) -> None:
    found = here.visitor("boss", "reviewer").get("/api/review").json()
    assert found["agreement"] is None
    assert found["disputed"] == found["flags"] == found["days"] == []


def test_the_review_is_kept_for_a_while(tmp_path: Path) -> None:
    with office(tmp_path, review_seconds=60.0) as here:
        here.stock(*pairs(2))
        boss, ada = here.visitor("boss", "reviewer"), here.visitor()
        before = boss.get("/api/review").json()
        finish(ada)
        assert boss.get("/api/review").json() == before
        boss.post("/api/review/annotators/ada/state", {"state": "paused"})
        assert boss.get("/api/review").json()["counts"]["judgements"] == 2


def test_who_misses_gold_is_paused(tmp_path: Path) -> None:
    with office(tmp_path, Rules(gold_share=1.0)) as here:
        here.stock(*pairs(3))
        for number in range(12):
            gold = item(f"g{number}", "good", "bad")
            here.site.store.add_items([gold])
            here.site.desk.enqueue_gold(gold, -1)
        good, bad = here.visitor("good"), here.visitor("bad")
        for who, wanted in ((good, "good"), (bad, "bad")):
            for _ in range(11):
                reply = who.post("/api/next", {})
                if reply.status_code != 200 or not reply.json()["items"]:
                    break
                held = reply.json()["items"][0]
                who.judge(held["token"], pressed=-3 if held["answers"][0][0]["text"] == wanted else 3)
        assert here.site.people.states() == {"good": "active", "bad": "paused"}
        last = here.site.people.events()[-1]
        assert (last.by, last.what, last.whom) == ("quality control", "paused", "bad")
        people = {
            each["name"]: each for each in here.visitor("boss", "reviewer").get("/api/review").json()["annotators"]
        }
        assert people["good"]["gold"]["share"]["value"] == 1.0
        assert people["bad"]["verdict"] == "red"
        assert people["bad"]["gold"]["share"]["successes"] == 0


def test_nobody_is_paused_where_that_is_off(tmp_path: Path) -> None:
    with office(tmp_path, Rules(gold_share=1.0), pause=False) as here:
        for number in range(8):
            gold = item(f"g{number}", "good", "bad")
            here.site.store.add_items([gold])
            here.site.desk.enqueue_gold(gold, -1)
        bad = here.visitor("bad")
        for _ in range(8):
            held = bad.next()[0]
            bad.judge(held["token"], pressed=-3 if held["answers"][0][0]["text"] == "bad" else 3)
        assert here.site.people.states() == {"bad": "active"}


def test_progress_goes_on_after_a_reload_and_forgets_yesterday(here: Office) -> None:
    here.stock(*pairs(4))
    ada = here.visitor()
    finish(ada)
    here.site.progress._pages.clear()
    now = ada.get("/api/me").json()["progress"]
    assert (now["done"], now["today"], now["left"], now["median_seconds"]) == (4, 4, 0, 2.5)
    here.site.progress._clock = lambda: time.time() + 86_400
    assert ada.get("/api/me").json()["progress"]["today"] == 0


def test_nobody_waits_for_a_review_that_is_being_made(here: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    here.stock(*pairs(2))
    boss, ada = here.visitor("boss", "reviewer"), here.visitor()
    before = boss.get("/api/review").json()
    begun, over = threading.Event(), threading.Event()
    make = review.make

    def slow(*arguments: Any) -> Any:
        begun.set()
        over.wait(30)
        return make(*arguments)

    monkeypatch.setattr(review, "make", slow)
    monkeypatch.setattr(here.site.reviews, "_clock", lambda: time.time() + 1000)  # it is old by then
    finish(ada)
    other = threading.Thread(target=here.site.reviews.now)
    other.start()
    assert begun.wait(30)
    assert boss.get("/api/review").json() == before
    over.set()
    other.join()
    assert boss.get("/api/review").json()["counts"]["judgements"] == 2
