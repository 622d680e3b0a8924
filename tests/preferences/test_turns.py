"""First come, first served; and whoever is interrupted while waiting is passed over."""

import threading
import time
from collections.abc import Callable

import pytest

from keel.preferences.turns import Turns


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


class Waiter(threading.Thread):
    """Takes its turn, writes its number down, and keeps it until told."""

    def __init__(self, turns: Turns, number: int, order: list[int]) -> None:
        super().__init__(daemon=True)
        self.turns, self.number, self.order = turns, number, order
        self.done = threading.Event()

    def run(self) -> None:
        with self.turns:
            self.order.append(self.number)
            self.done.wait(20)

    def waits(self) -> bool:
        return len(self.turns._waiting) > 0


def test_waiters_come_in_the_order_in_which_they_came_one_at_a_time() -> None:
    turns, order = Turns(), list[int]()
    waiters = [Waiter(turns, number, order) for number in range(5)]
    for count, waiter in enumerate(waiters):
        waiter.start()
        until(lambda count=count: len(turns._waiting) + len(order) == count + 1)  # type: ignore[misc]
    for count, waiter in enumerate(waiters, start=1):
        until(lambda count=count: len(order) == count)  # type: ignore[misc]
        time.sleep(0.01)
        assert order == list(range(count))
        waiter.done.set()
    for waiter in waiters:
        waiter.join(20)
    with turns:  # free again
        assert order == [0, 1, 2, 3, 4]


def test_an_error_gives_the_turn_away() -> None:
    turns, order = Turns(), list[int]()
    with pytest.raises(KeyError), turns:
        raise KeyError
    waiter = Waiter(turns, 1, order)
    waiter.done.set()
    waiter.start()
    waiter.join(20)
    assert order == [1]


def test_a_turn_in_a_turn_is_refused_and_keeps_the_first() -> None:
    turns, order = Turns(), list[int]()
    waiter = Waiter(turns, 1, order)
    with turns:
        with pytest.raises(RuntimeError, match="within another"), turns:
            pass
        waiter.start()
        until(waiter.waits)
        assert order == []
    waiter.done.set()
    waiter.join(20)
    assert order == [1]


class InterruptedWaitError(Exception):
    pass


class Bell:
    """A lock whose waiter is interrupted; with `called`, at the moment when it has just been called."""

    def __init__(self, turns: Turns, called: bool) -> None:
        self.turns, self.called, self.calls = turns, called, 0

    def acquire(self) -> bool:
        self.calls += 1
        if self.calls == 1:
            return True
        if self.called:
            until(lambda: self not in self.turns._waiting)
        raise InterruptedWaitError

    def release(self) -> None:
        pass


@pytest.mark.parametrize("called", [False, True])
def test_who_is_interrupted_is_passed_over(monkeypatch: pytest.MonkeyPatch, called: bool) -> None:
    turns, order, ended = Turns(), list[int](), list[bool]()

    def interrupted() -> None:
        try:
            with turns:
                ended.append(False)
        except InterruptedWaitError:
            ended.append(True)

    first, last = Waiter(turns, 0, order), Waiter(turns, 2, order)
    first.start()
    until(lambda: order == [0])
    with monkeypatch.context() as patched:
        patched.setattr("keel.preferences.turns.Lock", lambda: Bell(turns, called))
        middle = threading.Thread(target=interrupted)
        middle.start()
        until(lambda: bool(ended) or len(turns._waiting) == 1)
    last.start()
    until(lambda: len(turns._waiting) == (2 if called else 1))
    first.done.set()
    until(lambda: order == [0, 2])
    last.done.set()
    middle.join(20)
    assert ended == [True]
