"""Guidelines are versions, of which none ever changes."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from keel.errors import UserError
from keel.preferences.database import Database
from keel.preferences.guidelines import DEFAULT, Guideline, Guidelines


@pytest.fixture
def guidelines(place: str) -> Iterator[Guidelines]:
    with Database.open(place) as database:
        yield Guidelines(database, clock=lambda: 5.0)


def test_a_new_database_has_the_default_from_keel(guidelines: Guidelines) -> None:
    assert guidelines.current() == guidelines.current() == Guideline(1, DEFAULT, None, 5.0)


def test_each_text_is_a_version_and_the_last_is_current(guidelines: Guidelines) -> None:
    first = guidelines.publish("Look twice.")
    assert first == Guideline(1, "Look twice.", None, 5.0)
    assert guidelines.publish("Look twice.") == first  # the same text is no new version
    second = guidelines.publish("Look once. ü")
    again = guidelines.publish("Look twice.")
    assert (second.version, again.version) == (2, 3)
    assert guidelines.current() == again
    assert [guidelines.version(number).text for number in (1, 2, 3)] == ["Look twice.", "Look once. ü", "Look twice."]
    with pytest.raises(UserError, match="no version 4"):
        guidelines.version(4)


@pytest.mark.parametrize("text", ["", " \n", "x" * 100_001, "a\0b", "\ud83d"])
def test_texts_that_are_none(guidelines: Guidelines, text: str) -> None:
    with pytest.raises(UserError, match="guidelines"):
        guidelines.publish(text)
    assert guidelines.current().version == 1


def test_several_who_publish_at_once_get_versions_of_their_own(guidelines: Guidelines) -> None:
    with ThreadPoolExecutor(8) as pool:
        published = list(pool.map(guidelines.publish, [f"text {number}" for number in range(8)]))
        firsts = list(pool.map(lambda _: guidelines.current(), range(8)))
    assert sorted(each.version for each in published) == list(range(1, 9))
    assert all(guidelines.version(each.version) == each for each in published)
    assert len(set(firsts)) == 1


def test_several_who_ask_first_get_one_default(guidelines: Guidelines) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: guidelines.current(), range(8))) == {Guideline(1, DEFAULT, None, 5.0)}
