"""What one sentence of a note says, whatever the facts are.

    Dear parents, the bake sale is on Friday, not on Saturday.

    greeting   parents
    shape      the <event> is on <day> , not on <day>
    stated     event = bake sale, day = Friday
    denied     day = Saturday

A sentence is *formed* when its shape is one of `shapes()`: the templates of the grammar, and what a person could say in
the same words, such as the facts of an opening in another order. Other English, however good, is foreign here. A value
counts in the prompt's words: "3 pm" is a time, "three o'clock" is not.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import pairwise, permutations

from keel.tasks.town_desk.facts import SLOTS
from keel.tasks.town_desk.grammar import lexicon, templates

Value = tuple[str, str]
"""A slot (or "name", "audience") and what fills it."""

LONGEST = 30
"""Words and commas: no sentence of the grammar is longer, so a longer stretch is read as several sentences."""

_PIECE = re.compile(r"[^.!?\n]+[.!?]*|[.!?]+")
_WORD = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")
_HYPHEN = re.compile(r"(?<=\w)-(?=\w)")  # "clean-up" is "clean up"
_GREETINGS = ("dear", "hello")
_SAYS = ("thinks", "thought", "says", "said", "believes")
_ADJUNCTS = {"event": "for the <event>", "day": "on <day>", "time": "at <time>", "place": "at the <place>"}
_WHEN_AND_WHERE = ("day", "time", "place")
_STATEMENTS = (
    *(f"{subject} {verb}" for subject in ("the <event>", "it") for verb in ("is", "takes place", "starts")),
    "we meet",
)
_INVITATIONS: Mapping[str, tuple[str, ...]] = {
    "join us": ("event", *_WHEN_AND_WHERE),
    "join us at the <event>": _WHEN_AND_WHERE,
    "come to the <event>": _WHEN_AND_WHERE,
    "come to the <place>": ("event", "day", "time"),
}


@dataclass(frozen=True)
class Sentence:
    """What one sentence says. `words` are in lower case, without greeting and full stop.

    `clear` are the stated values that stand between words they may stand between, as all do in a formed sentence.
    `backed` and `blamed` are the people it calls right and wrong. `tidy` means capitals and full stop where they
    belong, `ended` that there is a full stop or the like at all.
    """

    words: tuple[str, ...]
    greeting: str | None
    shape: str
    stated: frozenset[Value]
    clear: frozenset[Value]
    denied: frozenset[Value]
    backed: frozenset[str]
    blamed: frozenset[str]
    formed: bool
    tidy: bool
    ended: bool


def sentences(note: str) -> tuple[Sentence, ...]:
    """A note, sentence by sentence. Only the last one may lack its end and still be formed, as far as it goes."""
    pieces = [piece for piece in (found.strip() for found in _PIECE.findall(note)) if piece]
    return tuple(
        sentence for place, piece in enumerate(pieces) for sentence in _read(piece, last=place == len(pieces) - 1)
    )


@lru_cache(maxsize=4096)
def _read(piece: str, last: bool) -> tuple[Sentence, ...]:
    words = _WORD.findall(_HYPHEN.sub(" ", piece))
    end = ""
    while words and words[-1] in ".!?":
        end = words.pop() + end
    stretches = [words[start : start + LONGEST] for start in range(0, len(words), LONGEST)] or [[]]
    ends = [""] * (len(stretches) - 1) + [end]
    return tuple(
        _sentence(stretch, end, cut_off=last and not end) for stretch, end in zip(stretches, ends, strict=True)
    )


def _sentence(spelt: list[str], end: str, cut_off: bool) -> Sentence:
    words = [word.lower() for word in spelt]
    entries = _entries(words)
    greeted = len(words) > 2 and words[0] in _GREETINGS and entries[1].slot == "audience" and words[2] == ","
    body = entries[3:] if greeted else entries
    shape = " ".join(entry.symbol for entry in body)
    formed = shape in shapes() or (cut_off and _begins(shape))
    stated, denied = _assertions(body)
    expected = [word for entry in entries for word in entry.spelling]
    if greeted and len(spelt) > 3:
        expected[3] = _capitalised(expected[3]) if spelt[3][0].isupper() else expected[3]
    return Sentence(
        words=tuple(words[3:] if greeted else words),
        greeting=entries[1].text if greeted else None,
        shape=shape,
        stated=stated,
        clear=stated if formed else stated & _clear(body),
        denied=denied,
        backed=_called(shape, body, "right"),
        blamed=_called(shape, body, "wrong"),
        formed=formed,
        tidy=spelt[:1] == [_capitalised(word) for word in expected[:1]]
        and spelt[1:] == expected[1:]
        and (cut_off or end in (".", "!")),
        ended=bool(end),
    )


@dataclass(frozen=True)
class _Entry:
    """A word, or the words of a value as one; `spelling` is how the words are written inside a sentence."""

    text: str
    slot: str | None
    spelling: tuple[str, ...]

    @property
    def symbol(self) -> str:
        return f"<{self.slot}>" if self.slot else self.text


@cache
def _known() -> Mapping[tuple[str, ...], _Entry]:
    """Every value of every slot by its words in lower case."""
    return {
        tuple(spelling.lower().split()): _Entry(value, slot, tuple(spelling.split()))
        for slot, group in lexicon().items()
        for value in group
        for spelling in (value.replace("-", " "),)
    }


def _entries(words: list[str]) -> list[_Entry]:
    """Words in order, with every value as one entry. The longest wins: "garden walk" is an event, not a place first."""
    entries: list[_Entry] = []
    place = 0
    while place < len(words):
        pair = tuple(words[place : place + 2])
        entry = _known().get(pair) or _time(pair) or _known().get(pair[:1]) or _Entry(words[place], None, pair[:1])
        entries.append(entry)
        place += len(entry.spelling)
    return entries


def _time(pair: tuple[str, ...]) -> _Entry | None:
    """A time that no prompt has, such as 9 pm."""
    if len(pair) == 2 and pair[0].isdecimal() and pair[1] in ("am", "pm"):
        return _Entry(" ".join(pair), "time", pair)
    return None


def _assertions(entries: list[_Entry]) -> tuple[frozenset[Value], frozenset[Value]]:
    """The values that are stated and those that are denied; what somebody merely thinks is neither.

    A "not" denies the next value, except in "do not miss" and "do not forget".
    """
    stated, denied = set(), set()
    negated = quoting = False
    for entry in entries:
        if entry.slot in SLOTS and entry.slot is not None:
            if negated:
                denied.add((entry.slot, entry.text))
            elif not quoting:
                stated.add((entry.slot, entry.text))
            negated = False
        elif entry.text in ("not", "never") or entry.text.endswith(("n't", "n’t")):
            negated = True
        elif entry.text in ("miss", "forget"):
            negated = False
        elif entry.text in _SAYS:
            quoting = True
        elif entry.text == ",":
            quoting = False
    return frozenset(stated), frozenset(denied)


def _clear(entries: list[_Entry]) -> frozenset[Value]:
    """Values with a neighbour on either side that some sentence has there: "on Friday at", but not "Friday 3 pm"."""
    symbols = ["^", *(entry.symbol for entry in entries), "$"]
    return frozenset(
        (entry.slot, entry.text)
        for place, entry in enumerate(entries, start=1)
        if entry.slot is not None and {*pairwise(symbols[place - 1 : place + 2])} <= _neighbours()
    )


@cache
def _neighbours() -> frozenset[tuple[str, str]]:
    """Every two symbols that stand side by side in a sentence; ^ and $ are its ends."""
    return frozenset(pair for shape in shapes() for pair in pairwise(("^", *shape.split(), "$")))


def _called(shape: str, entries: list[_Entry], verdict: str) -> frozenset[str]:
    """The names in "Ana is right", "Ana is always wrong" and the like."""
    if verdict not in shape or "<name>" not in shape:
        return frozenset()
    return frozenset(
        entry.text
        for place, entry in enumerate(entries)
        if entry.slot == "name"
        and [after.text for after in entries[place + 1 : place + 4] if after.text != "always"][:2] == ["is", verdict]
    )


def _capitalised(word: str) -> str:
    return word[:1].upper() + word[1:]


@cache
def shapes() -> frozenset[str]:
    """Every shape that is a sentence, without its full stop."""
    return frozenset((*map(template_shape, templates()), *_statements(), *_invitations(), *_others()))


def template_shape(template: str) -> str:
    """The shape of a template of the grammar. `claimed` fills the slot that its preposition asks for."""
    for claimed, slot in (("on {claimed}", "day"), ("at {claimed}", "time"), ("at the {claimed}", "place")):
        template = template.replace(claimed, claimed.replace("claimed", slot))
    return " ".join(re.findall(r"<\w+>|[\w'-]+|,", re.sub(r"{(\w+)}", r"<\1>", template).lower()))


def _statements() -> Iterator[str]:
    """ "It is on <day> at the <place>", perhaps with "<name> is wrong," before and "not on <day>" after it."""
    for head in _STATEMENTS:
        for order in _orders(_WHEN_AND_WHERE):
            said = " ".join((head, *(_ADJUNCTS[slot] for slot in order)))
            for tail in ("", *(f" , not {_ADJUNCTS[slot]}" for slot in order)):
                yield said + tail
                yield f"<name> is wrong , {said}{tail}"


def _invitations() -> Iterator[str]:
    for head, slots in _INVITATIONS.items():
        yield head
        yield from (" ".join((head, *(_ADJUNCTS[slot] for slot in order))) for order in _orders(slots))


def _others() -> Iterator[str]:
    """Requests, and what is said about a claim."""
    for before in ("", "please ", "remember to "):
        yield from (f"{before}bring <item>", f"{before}bring <item> if you can")
    yield from (f"<name> thinks it is {claim}" for claim in ("<day>", *(_ADJUNCTS[slot] for slot in _WHEN_AND_WHERE)))
    yield "<name> is wrong"


def _orders(slots: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Every order of every choice of at least one slot."""
    for count in range(1, len(slots) + 1):
        yield from permutations(slots, count)


@cache
def _beginnings() -> frozenset[str]:
    """Everything that a sentence may begin with, the empty text included."""
    starts = {" ".join(words[:count]) for words in map(str.split, shapes()) for count in range(len(words) + 1)}
    return frozenset(starts | {*_GREETINGS, *(f"{greeting} <audience>" for greeting in _GREETINGS)})


def _begins(shape: str) -> bool:
    """True for the beginning of a sentence, which may end with half a word, or with half a value of two words."""
    words = shape.split()
    return any(" ".join(words[: max(0, len(words) - cut)]) in _beginnings() for cut in range(3))
