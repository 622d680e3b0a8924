"""The desk beside a model of it in plain Python: whatever people do, in whatever order, both say the same."""

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from keel.preferences.judgement import COUNTED, Assignment, Judgement
from keel.preferences.leases import LeaseLostError, NotWelcomeError, Rules, Served, Verdict
from keel.preferences.people import State

from .desk_kit import Office, audit, office
from .tables import item

PEOPLE = ("ann", "bob", "cat", "dan")
LEASE = 60.0
VERDICTS = {
    "left": Verdict(pressed=-2),
    "right": Verdict(pressed=3),
    "bad": Verdict(decline="both_bad"),
    "skip": Verdict(decline="skip"),
    "flag": Verdict(decline="flag", reason="rude"),
}


@dataclass
class Place:
    """Somebody's part in an item: what they now say, and until when they hold it (None: planned, without an end)."""

    said: Verdict | None = None
    token: str | None = None
    expires: float | None = None
    revisions: int = 0
    last: int = -1  # when they said it, in steps


@dataclass
class Question:
    wanted: int
    gold: bool
    aside: bool = False
    entered: float | None = None
    extra: int = 0  # places beyond those wanted, of people who were let in again
    places: dict[str, Place] = field(default_factory=dict)


def counts(said: Verdict | None) -> bool:
    return said is not None and said.decline not in ("skip", "flag")


class DeskMachine(RuleBasedStateMachine):
    """Subclasses say where the databases are."""

    new_place: Callable[[], str]

    @initialize(seed=st.integers(0, 9))
    def open(self, seed: int) -> None:
        rules = Rules(lease_seconds=LEASE, selection="bald", random_share=0.5, gold_share=0.2)
        self.context = office(type(self).new_place(), rules, seed)
        self.office: Office = self.context.__enter__()
        self.office.hire(*PEOPLE)
        self.state: dict[str, State] = dict.fromkeys(PEOPLE, "active")
        self.questions: dict[str, Question] = {}
        self.tokens: list[tuple[str, str, str]] = []  # whose, for which item, the token
        self.steps = 0
        self.history: list[tuple[str, str, int, str]] = []

    def teardown(self) -> None:
        if hasattr(self, "context"):
            self.context.__exit__(None, None, None)

    @property
    def now(self) -> float:
        return self.office.clock.now

    def judged(self, question: Question) -> int:
        return sum(counts(p.said) and self.state[who] != "excluded" for who, p in question.places.items())

    def room(self, question: Question, who: str) -> bool:
        others = sum(
            place.said is None and self.state[other] == "active" and (place.expires is None or place.expires > self.now)
            for other, place in question.places.items()
            if other != who
        )
        return question.gold or self.judged(question) + others < question.wanted

    @rule(wanted=st.integers(1, 3), gold=st.booleans(), priority=st.integers(0, 1))
    def stock(self, wanted: int, gold: bool, priority: int) -> None:
        id = f"i{len(self.questions)}"
        gold = gold and len(self.questions) % 2 == 1
        assert self.office.stock(id, wanted=wanted, priority={id: float(priority)}) == 1
        if gold:
            self.office.desk.enqueue_gold(item(id, f"{id} 0", f"{id} 1"), 1)
        self.questions[id] = Question(wanted, gold)

    @rule(seconds=st.sampled_from([0.0, 1.0, 59.0, 60.0, 61.0]))
    def tick(self, seconds: float) -> None:
        self.office.clock.now += seconds

    @precondition(lambda self: self.questions)
    @rule(who=st.sampled_from(PEOPLE), count=st.integers(1, 3))
    def serve(self, who: str, count: int) -> None:
        if self.state[who] != "active":
            with pytest.raises(NotWelcomeError):
                self.office.desk.serve(who, count)
            return
        waiting = [
            (self.order.index((id, who)), id)
            for id, question in self.questions.items()
            if who in question.places
            and question.places[who].said is None
            and not question.aside
            and self.room(question, who)
        ]
        expected = [id for _, id in sorted(waiting)][:count]
        served = self.office.desk.serve(who, count)
        assert [each.shown.assignment.item for each in served[: len(expected)]] == expected
        for each in served:
            id = each.shown.assignment.item
            if id in expected:
                assert self.questions[id].places[who].token in (None, each.token)
            else:
                self.enters(who, id)
            self.hold(who, each)
        if len(served) < count:  # nothing else could have been given, but for gold
            assert self.free(who, fresh=True) | self.free(who, fresh=False) == set()

    def free(self, who: str, fresh: bool) -> set[str]:
        return {
            id
            for id, q in self.questions.items()
            if who not in q.places and not (q.gold or q.aside) and self.room(q, who) and (q.entered is None) == fresh
        }

    def enters(self, who: str, id: str) -> None:
        """An item that this annotator had not had was given: one that is allowed, and whose turn it is."""
        question = self.questions[id]
        assert who not in question.places
        assert not question.aside
        if not question.gold:
            begun = self.free(who, fresh=False)
            if begun:
                assert question.entered == min(self.questions[each].entered or 0.0 for each in begun)
                assert id in begun
            else:
                assert id in self.free(who, fresh=True)
                question.entered = self.now
        question.places[who] = Place()

    def hold(self, who: str, served: Served) -> None:
        place = self.questions[served.shown.assignment.item].places[who]
        assert served.expires == self.now + LEASE
        assert served.shown.revision == place.revisions + 1
        place.token, place.expires = served.token, served.expires
        self.tokens.append((who, served.shown.assignment.item, served.token))

    @property
    def order(self) -> list[tuple[str, str]]:
        """The assignments, as they were made."""
        return [(each.item, each.annotator) for each in self.office.store.assignments()]

    def known(self, pick: int) -> tuple[str, str, str, Place | None]:
        """Any token that was ever given, and the place that it is good for, if it is."""
        who, id, token = self.tokens[pick % len(self.tokens)]
        place = self.questions[id].places[who]
        return who, id, token, place if place.token == token else None

    @precondition(lambda self: self.tokens)
    @rule(pick=st.integers(0, 999), say=st.sampled_from(sorted(VERDICTS)))
    def submit(self, pick: int, say: str) -> None:
        who, id, token, place = self.known(pick)
        verdict, question = VERDICTS[say], self.questions[id]
        if place is not None and place.said is verdict:
            assert self.office.desk.submit(who, token, verdict).repeated
        elif place is None or place.said is not None:
            with pytest.raises(LeaseLostError):
                self.office.desk.submit(who, token, verdict)
        elif self.state[who] != "active":
            with pytest.raises(NotWelcomeError):
                self.office.desk.submit(who, token, verdict)
        elif not self.room(question, who):
            with pytest.raises(LeaseLostError):
                self.office.desk.submit(who, token, verdict)
        else:
            receipt = self.office.desk.submit(who, token, verdict)
            assert not receipt.repeated
            self.say(who, id, verdict, receipt.judgement)

    def say(self, who: str, id: str, verdict: Verdict | None, judgement: Judgement) -> None:
        place = self.questions[id].places[who]
        self.steps += 1
        place.said, place.revisions, place.last = verdict, place.revisions + 1, self.steps
        assert (judgement.item, judgement.annotator, judgement.revision) == (id, who, place.revisions)
        self.history.append((id, who, judgement.revision, judgement.kind))

    @precondition(lambda self: self.tokens)
    @rule(pick=st.integers(0, 999))
    def heartbeat(self, pick: int) -> None:
        who, id, token, place = self.known(pick)
        held = place is not None and place.said is None and (place.expires or 0.0) > self.now
        if held and self.room(self.questions[id], who):
            assert place is not None
            place.expires = self.office.desk.heartbeat(who, token)
            assert place.expires == self.now + LEASE
        else:
            with pytest.raises(LeaseLostError):
                self.office.desk.heartbeat(who, token)

    @precondition(lambda self: self.tokens)
    @rule(pick=st.integers(0, 999))
    def release(self, pick: int) -> None:
        who, _, token, place = self.known(pick)
        self.office.desk.release(who, token)
        if place is not None and place.said is None and (place.expires or 0.0) > self.now:
            place.expires = self.now

    @rule(who=st.sampled_from(PEOPLE))
    def undo(self, who: str) -> None:
        if self.state[who] != "active":
            with pytest.raises(NotWelcomeError):
                self.office.desk.undo(who)
            return
        said = [
            (question.places[who].last, id)
            for id, question in self.questions.items()
            if who in question.places and question.places[who].said is not None
        ]
        if not said:
            assert self.office.desk.undo(who) is None
            return
        _, id = max(said)
        question = self.questions[id]
        place = question.places[who]
        mine, place.said = place.said, None  # counted as if it were withdrawn already
        free = self.room(question, who)
        place.said = mine
        if free:
            undone = self.office.desk.undo(who)
            assert undone is not None
            assert undone.shown.assignment.item == id
            self.say(who, id, None, self.office.store.history()[-1])
            assert (undone.served, undone.token != place.token) == (self.now, True)
            self.hold(who, undone)
        else:
            with pytest.raises(LeaseLostError):
                self.office.desk.undo(who)

    @rule(who=st.sampled_from(PEOPLE), state=st.sampled_from(["active", "active", "paused", "excluded"]))
    def set_state(self, who: str, state: State) -> None:
        self.office.people.set_state(who, state, "rita", "because")
        self.state[who] = state
        for question in self.questions.values():
            place = question.places.get(who)
            if place is None:
                continue
            if state != "active" and place.said is None and place.expires is not None:
                place.expires = min(place.expires, self.now)
            live = sum(p.said is None and (p.expires or 0.0) > self.now for p in question.places.values())
            question.extra = max(question.extra, self.judged(question) + live - question.wanted)

    @precondition(lambda self: self.questions)
    @rule(pick=st.integers(0, 99), aside=st.booleans())
    def set_aside(self, pick: int, aside: bool) -> None:
        id = list(self.questions)[pick % len(self.questions)]
        self.office.desk.set_aside(id, aside)
        self.questions[id].aside = aside

    @precondition(lambda self: self.questions)
    @rule(pick=st.integers(0, 99), who=st.sampled_from(PEOPLE))
    def plan(self, pick: int, who: str) -> None:
        """A place is given out beforehand: on an item where there is room for it."""
        id = list(self.questions)[pick % len(self.questions)]
        question = self.questions[id]
        if who in question.places or question.gold or not self.room(question, who):
            return
        self.office.store.assign([Assignment(id, who, (1, 0))])
        question.places[who] = Place()
        self.steps += 1
        if question.entered is None:
            question.entered = 1e12 + self.steps  # by the store's own clock, long after that of these tests

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        if not hasattr(self, "office"):
            return
        audit(self.office, {id: question.extra for id, question in self.questions.items()})
        assert self.history == [(s.item, s.annotator, s.revision, s.kind) for s in self.office.store.history()]
        assert self.office.desk.waiting() == sum(
            max(q.wanted - self.judged(q), 0) for q in self.questions.values() if not (q.gold or q.aside)
        )
        ordinary = {
            (id, who)
            for id, q in self.questions.items()
            for who, p in q.places.items()
            if p.said is not None and not q.gold and self.state[who] != "excluded"
        }
        assert {(said.item, said.annotator) for said in self.office.store.counted()} == ordinary


def run(examples: int, steps: int, new_place: Callable[[], str]) -> None:
    machine = type("Machine", (DeskMachine,), {"new_place": staticmethod(new_place)})
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=checks
        ),
    )


def test_the_desk_is_its_model_on_sqlite(tmp_path: Path) -> None:
    folders: list[str] = []

    def new_place() -> str:
        for old in folders:
            shutil.rmtree(old)
        folders[:] = [tempfile.mkdtemp(dir=tmp_path)]
        return f"{folders[0]}/preferences.db"

    run(12, 40, new_place)


def test_the_desk_is_its_model_on_postgresql(postgres: object) -> None:
    run(3, 40, postgres.fresh)  # type: ignore[attr-defined]


assert set(COUNTED) == {"comparison", "ranking", "both_bad"}  # what `counts` says in words of verdicts
