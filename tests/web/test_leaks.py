"""An annotator can read neither others' judgements, nor who wrote what, nor what an item is for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from keel.preferences.leases import Rules
from tests.web.kit import Office, Visitor, item, office

PLANTED = ("MODEL-", "424242", "ITEM-", "OTHERS-NOTE", "OTHERS-REASON", "somebody-else", "the-reviewer")
MARKS = (
    *PLANTED,
    *(f'"{word}"' for word in "gold repeat ordinary purpose selection propensity priority wanted".split()),
)
"""What is planted where an annotator must not see it, and the words for it."""
FIELDS = {
    "error", "state", "name", "role", "powers", "csrf", "guideline", "mode", "progress", "done", "today", "left",
    "per_hour", "median_seconds", "items", "token", "expires", "ranked", "prompt", "answers", "revision", "text",
    "html", "repeated", "next", "item", "said", "kind", "pressed", "places", "note", "reason", "version", "at",
    "author",
}  # fmt: skip
"""Every field that an annotator's replies have."""


def fields(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value) | {name for each in value.values() for name in fields(each)}
    return {name for each in value for name in fields(each)} if isinstance(value, list) else set()


def walk(who: Visitor, replies: list[Any]) -> None:
    """Everything that an annotator can call, often enough to meet gold items and repeats."""

    def heard(reply: Any) -> Any:
        replies.append(reply)
        return reply

    for _ in range(40):
        held = heard(who.post("/api/next", {"count": 2})).json()["items"]
        if not held:
            break
        token = held[0]["token"]
        heard(who.post("/api/heartbeat", {"token": token}))
        heard(who.judge(token, pressed=2, decline="skip"))
        heard(who.judge(token, places=[0, 1]))
        heard(who.judge(token, pressed=-1, note="mine", guideline=9))
        heard(who.judge(token, pressed=-1, note="mine", ahead=2))
        heard(who.judge(token, pressed=1))
        heard(who.judge(token, pressed=-1, note="mine"))
    undone = heard(who.post("/api/undo")).json()
    heard(who.judge(undone["item"]["token"], decline="flag", reason="mine"))
    heard(who.post("/api/release", {"token": "nothing"}))
    for path in ("/api/me", "/api/guidelines", "/api/guidelines/1", "/api/guidelines/9", "/api/review", "/", "/review"):
        heard(who.get(path))
    for path in ("/api/people", "/api/people/x/revoke", "/api/review/items/ITEM-0/aside", "/api/guidelines"):
        heard(who.post(path, {"text": "x", "name": "x", "role": "admin", "aside": True, "state": "paused"}))
    heard(who.post("/api/review/annotators/x/state", {"state": "paused"}))


def crowd(here: Office) -> None:
    """Others have judged before, and said things that are theirs."""
    for number in range(12):
        here.stock(item(str(number), f"one {number}", f"other {number}"), wanted=3)
        good = item(f"known-{number}", f"good {number}", f"bad {number}")
        here.site.store.add_items([good])
        here.site.desk.enqueue_gold(good, -1)
    here.site.people.invite("the-reviewer", "admin")
    here.site.guidelines.publish("Look at the answers.", "the-reviewer")
    other = here.visitor("somebody-else")
    for number in range(8):
        (held,) = other.next()
        said: dict[str, Any] = {"decline": "flag", "reason": "OTHERS-REASON"} if number % 4 == 0 else {"pressed": 3}
        assert other.judge(held["token"], note="OTHERS-NOTE", **said).status_code == 200


def test_no_reply_to_an_annotator_tells_more_than_it_should(tmp_path: Path) -> None:
    for way in ("session", "token"):
        (tmp_path / way).mkdir()
        rules = Rules(gold_share=0.3, repeat_share=0.3, repeat_after=1)
        with office(tmp_path / way, rules, pause=False) as here:
            crowd(here)
            who = here.visitor() if way == "session" else here.program()
            replies: list[Any] = []
            walk(who, replies)
            assert _purposes(here) == {"ordinary", "gold", "repeat"}  # all of them were before ada's eyes
            for reply in replies:
                if reply.headers.get("content-type", "").startswith("application/json"):
                    assert fields(reply.json()) <= FIELDS, reply.url
                    text = json.dumps(reply.json(), ensure_ascii=False)
                    found = [mark for mark in MARKS if mark in text]
                    assert found == [], (reply.url, found, text[:500])
                else:
                    assert [mark for mark in PLANTED if mark in reply.text] == [], reply.url
                assert [mark for mark in PLANTED if mark in str(reply.headers)] == []


def _purposes(here: Office) -> set[str]:
    from sqlalchemy import select

    from keel.preferences import schema

    queue, assigned = schema.queue.c, schema.assignments.c
    judged = (
        select(queue.purpose).join(schema.assignments, assigned.item == queue.item).where(assigned.annotator == "ada")
    )
    with here.site.database.read() as connection:
        return set(connection.execute(judged).scalars())


def test_a_gold_item_and_a_repeat_are_answered_as_any_other(tmp_path: Path) -> None:
    """The replies have the same shape, and the number of items that are left goes down by one each time."""
    with office(tmp_path, Rules(gold_share=0.3, repeat_share=0.3, repeat_after=1), pause=False) as here:
        crowd(here)
        ada = here.visitor()
        left = ada.get("/api/me").json()["progress"]["left"]
        shapes = set()
        for _ in range(8):
            (held,) = ada.next()
            reply = ada.judge(held["token"], pressed=1).json()
            shapes.add(json.dumps(sorted(fields(reply))))
            assert reply["progress"]["left"] == (left := left - 1)
            here.site.progress._pages["ada"].at = 0.0  # counted anew each time
        assert len(shapes) == 1


def test_the_description_of_the_api_names_nobody(tmp_path: Path) -> None:
    with office(tmp_path) as here:
        crowd(here)
        text = here.visitor().get("/api/openapi.json").text
        assert not any(mark in text for mark in PLANTED)


def test_nothing_that_holds_a_secret_is_logged(tmp_path: Path, caplog: Any) -> None:
    caplog.set_level("DEBUG")
    with office(tmp_path) as here:
        crowd(here)
        secret = here.site.people.invite("ada", "annotator")
        client = here.client()
        client.get(f"/in/{secret}")
        client.post("/in", data={"secret": secret})
        client.get("/api/me")
        session = client.cookies["keel_session"]
        ours = [record.getMessage() for record in caplog.records if not record.name.startswith("httpx")]
        assert not any(secret in line or session in line for line in ours)
        for path in here.site.database.where, f"{here.site.database.where}-wal":
            content = Path(path).read_bytes()
            assert secret.encode() not in content
            assert session.encode() not in content
