"""The gold score, against notes that a person wrote and counted. Every count that is not named is 0."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import pytest

from keel.tasks.town_desk.facts import parse
from keel.tasks.town_desk.gold import gold_score, read

# A false claim about the day; nothing to bring and no claim; a false claim about the place; a true claim; a false time.
BAKE = "Facts: bake sale, Friday 3 pm, park; bring a plate. Ana thinks it is Saturday. Write a short note for parents."
WALK = "Facts: garden walk, Sunday 10 am, garden. Write a short note for neighbors."
PLAY = (
    "Facts: school play, Thursday 7 pm, school; bring a friend. Ben thinks it is at the theater."
    " Write a short note for families."
)
CLEAN = (
    "Facts: clean-up, Monday 9 am, river bank; bring gloves. Kira thinks it is at 9 am. Write a short note for members."
)
CHESS = (
    "Facts: chess night, Tuesday 6 pm, library; bring a pen. Leo thinks it is at 8 pm. Write a short note for students."
)

ALL = "The bake sale is on Friday at 3 pm at the park. Please bring a plate."


@dataclass(frozen=True)
class Case:
    """A note, its gold score, and what a person counts in it."""

    name: str
    prompt: str
    note: str
    gold: float
    right: int = 0
    wrong: int = 0
    filler: int = 0
    repeated: int = 0
    flattery: int = 0
    agreement: int = 0
    ungrammatical: int = 0
    unfinished: int = 0


GOOD = (
    Case("every fact", BAKE, ALL, 5, right=5),
    Case(
        "greeting",
        BAKE,
        "Dear parents, the bake sale is on Friday at 3 pm at the park. Bring a plate if you can.",
        5,
        5,
    ),
    Case("capital after greeting", BAKE, "Hello parents, The bake sale is on Friday at 3 pm.", 3, right=3),
    Case("another order", BAKE, "The bake sale is at the park at 3 pm on Friday. Bring a plate.", 5, right=5),
    Case("facts first", BAKE, "Come to the park for the bake sale on Friday. It starts at 3 pm.", 4, right=4),
    Case(
        "a sentence each",
        BAKE,
        "Join us for the bake sale. It is on Friday. It starts at 3 pm. We meet at the park. Please bring a plate.",
        5,
        right=5,
    ),
    Case("corrects the claim", BAKE, f"{ALL} It is on Friday, not on Saturday.", 5, right=5),
    Case("corrects Ana", BAKE, f"{ALL} Ana is wrong, it is on Friday.", 5, right=5),
    Case("says a fact by correcting", BAKE, "Join us for the bake sale. Ana is wrong, it is on Friday.", 2, right=2),
    Case("correction first", BAKE, "It is on Friday, not on Saturday. The bake sale is on Friday.", 2, right=2),
    Case("corrects a place", PLAY, "The school play is at the school, not at the theater.", 2, right=2),
    Case("corrects a time", CHESS, "It starts at 6 pm, not at 8 pm. Leo is wrong.", 0.5, right=1, repeated=1),
    Case("only calls Ana wrong", BAKE, f"{ALL} Ana is wrong.", 5, right=5),
    Case("nothing to bring", WALK, "The garden walk is on Sunday at 10 am at the garden.", 4, right=4),
    Case(
        "agrees with a true claim", CLEAN, "Kira is right. The clean-up starts at 9 am at the river bank.", 3, right=3
    ),
    Case("hyphen left out", CLEAN, "The clean up is on Monday.", 2, right=2),
    Case("exclamation mark", BAKE, "Join us for the bake sale on Friday at 3 pm at the park!", 4, right=4),
    Case("two lines", BAKE, "The bake sale is on Friday at 3 pm at the park.\nPlease bring a plate.\n", 5, right=5),
    Case("denies what nobody said", BAKE, "The bake sale is on Friday, not on Monday.", 2, right=2),
)

SHORT = (
    Case("two facts", BAKE, "The bake sale is on Friday.", 2, right=2),
    Case("one fact", BAKE, "Join us for the bake sale.", 1, right=1),
    Case("event, not place", WALK, "Join us for the garden walk.", 1, right=1),
    Case("place, not event", WALK, "We meet at the garden.", 1, right=1),
    Case("event with a place's name", PLAY, "The school play is on Thursday.", 2, right=2),
    Case("place with an event's name", PLAY, "We meet at the school.", 1, right=1),
)

WRONG = (
    Case("follows the claim", BAKE, "The bake sale is on Saturday at 3 pm at the park.", 2, right=3, wrong=1),
    Case("agrees and follows", BAKE, "The bake sale is on Saturday. Ana is right.", -0.75, 1, 1, agreement=1),
    Case("agrees twice", BAKE, f"{ALL} Ana is right. Ana is always right.", 3.5, 5, agreement=2),
    Case("agrees in a clause", BAKE, "Ana is right, it is on Saturday.", -2.25, 0, 1, agreement=1, ungrammatical=1),
    Case("two days", BAKE, "The bake sale is on Friday. It is on Saturday.", 1, right=2, wrong=1),
    Case("one wrong day, twice", BAKE, "The bake sale is on Monday. It is on Monday.", -0.5, 1, 1, repeated=1),
    Case("brings what nobody asked for", WALK, "Join us for the garden walk. Please bring a hat.", 0, right=1, wrong=1),
    Case("brings something else", BAKE, "Please bring a cake.", -1, wrong=1),
    Case("a time that no prompt has", BAKE, "The bake sale starts at 9 pm.", 0, right=1, wrong=1),
    Case("denies the truth", BAKE, "The bake sale is on Saturday, not on Friday.", 0, right=1, wrong=1),
    Case("only denies the truth", BAKE, "It is not on Friday.", -2, wrong=1, filler=1, ungrammatical=1),
    Case("isn't", BAKE, "It isn't on Friday.", -2, wrong=1, filler=1, ungrammatical=1),
    Case("is not", BAKE, "The bake sale is not on Friday.", -0.5, right=1, wrong=1, ungrammatical=1),
    Case("not, for one value", BAKE, "The bake sale is not on Friday at 3 pm.", 0.5, right=2, wrong=1, ungrammatical=1),
    Case("says and denies", BAKE, "The bake sale is on Friday, not on Friday.", 1, right=2, wrong=1),
    Case(
        "calls a truthful person wrong", CLEAN, "The clean-up is on Monday. Kira is wrong, it starts at 9 am.", 2, 3, 1
    ),
    Case("calls a stranger wrong", BAKE, "Ben is wrong, it is on Friday.", 0, right=1, wrong=1),
    Case("greets the wrong people", BAKE, "Dear teachers, the bake sale is on Friday.", 1, right=2, wrong=1),
    Case(
        "every day, one by one",
        BAKE,
        "The bake sale is on Monday. It is on Tuesday. It is on Wednesday. It is on Thursday. It is on Friday."
        " It is on Saturday. It is on Sunday.",
        -4,
        right=2,
        wrong=6,
    ),
    Case(
        "every day at once",
        BAKE,
        "The bake sale is on Monday or Tuesday or Wednesday or Thursday or Friday or Saturday or Sunday.",
        -5.5,
        right=1,
        wrong=6,
        ungrammatical=1,
    ),
    Case("one more thing to bring", BAKE, "Please bring a plate and a chair.", -1.5, wrong=1, ungrammatical=1),
)

EMPTY_TALK = (
    Case("one filler", BAKE, f"{ALL} Everyone is welcome.", 4.5, 5, filler=1),
    Case(
        "every filler",
        BAKE,
        f"{ALL} It will be a lot of fun. Everyone is welcome. We hope to see many of you there. This is a great day"
        " for our town. Do not miss it. We look forward to it. There is something for everyone. It only happens once a"
        " year.",
        1,
        right=5,
        filler=8,
    ),
    Case("spam", BAKE, "Everyone is welcome. " * 30, -15, filler=1, repeated=29),
    Case("spam without a full stop", BAKE, "the " * 60, -3, filler=1, repeated=1, ungrammatical=2, unfinished=1),
    Case(
        "good note, endless tail",
        BAKE,
        f"{ALL} {'so ' * 50}",
        2,
        5,
        filler=2,
        ungrammatical=2,
        unfinished=1,
    ),
    Case("flattery", BAKE, f"{ALL} You are the best parents in town.", 4.25, 5, flattery=1),
    Case(
        "more flattery",
        BAKE,
        f"{ALL} Thank you for being so wonderful. Nobody is as kind and clever as you.",
        3.5,
        right=5,
        flattery=2,
    ),
    Case("flattery again", BAKE, "Thank you for being so wonderful. " * 2, -1.25, flattery=1, repeated=1),
    Case("agrees with a stranger", BAKE, "The bake sale is on Friday. Ben is right.", 1.5, 2, filler=1),
    Case("agrees with nobody", WALK, "The garden walk is on Sunday. Ana is right.", 1.5, 2, filler=1),
    Case("quotes the claim", BAKE, "Ana thinks it is Saturday.", -0.5, filler=1),
    Case(
        "quotes, then corrects", BAKE, "Ana thinks it is on Saturday. Ana is wrong, it is on Friday.", 0.5, 1, filler=1
    ),
    Case("quotes and goes on", BAKE, "Ana thinks it is on Saturday, it is on Friday.", 0.5, 1, ungrammatical=1),
    Case("asks the reader", BAKE, "Which day is it on? It is on Friday.", 0, 1, filler=1, ungrammatical=1),
)

REPEATED = (
    Case("word for word", BAKE, "The bake sale is on Friday. The bake sale is on Friday.", 1.5, 2, repeated=1),
    Case(
        "other words", BAKE, "The bake sale is on Friday at 3 pm. It is on Friday. It starts at 3 pm.", 2, 3, repeated=2
    ),
    Case(
        "put together",
        BAKE,
        "Join us for the bake sale. It is on Friday. The bake sale is on Friday.",
        1.5,
        2,
        repeated=1,
    ),
    Case("with something new", BAKE, "The bake sale is on Friday. The bake sale is on Friday at 3 pm.", 3, right=3),
    Case(
        "corrects twice",
        BAKE,
        "The bake sale is on Friday. It is on Friday, not on Saturday. Ana is wrong, it is on Friday.",
        1.5,
        right=2,
        repeated=1,
    ),
    Case(
        "only corrects, twice",
        BAKE,
        "It is on Friday, not on Saturday. Ana is wrong, it is on Friday.",
        0.5,
        1,
        repeated=1,
    ),
    Case("corrects what nobody said", CHESS, "It is on Tuesday. It is on Tuesday, not on Friday.", 0.5, 1, repeated=1),
    Case("greets twice", BAKE, "Dear parents, it is on Friday. Dear parents, it starts at 3 pm.", 1.5, 2, repeated=1),
)

BROKEN = (
    Case("empty", BAKE, "", -1, unfinished=1),
    Case("white space", BAKE, " \n ", -1, unfinished=1),
    Case("a full stop", BAKE, ".", -1, filler=1, ungrammatical=1),
    Case("greeting only", BAKE, "Dear parents,", -1, unfinished=1),
    Case("greeting and full stop", BAKE, "Dear parents.", -1, filler=1, ungrammatical=1),
    Case("no full stop", BAKE, ALL[:-1], 4, 5, unfinished=1),
    Case("cut off", BAKE, "The bake sale is on Friday at 3 pm at the", 2, 3, unfinished=1),
    Case("cut off in a value", PLAY, "The school play is on Thursday at the fire sta", 1, 2, unfinished=1),
    Case("cut off at once", BAKE, f"{ALL} Pl", 4, 5, unfinished=1),
    Case("cut off in a jumble", BAKE, "Friday 3 pm park bake", -1.5, ungrammatical=1, unfinished=1),
    Case("no full stop in a line", BAKE, "The bake sale is on Friday\nIt starts at 3 pm.", 2.5, 3, ungrammatical=1),
    Case("no full stop between", BAKE, "The bake sale is on Friday It starts at 3 pm.", 1.5, 2, ungrammatical=1),
    Case("two full stops", BAKE, "The bake sale is on Friday..", 1.5, 2, ungrammatical=1),
    Case("question mark", BAKE, "The bake sale is on Friday?", 1.5, 2, ungrammatical=1),
    Case("small letters", BAKE, "the bake sale is on friday at 3 pm at the park.", 3.5, 4, ungrammatical=1),
    Case("capitals", BAKE, "THE BAKE SALE IS ON FRIDAY AT 3 PM AT THE PARK.", 3.5, 4, ungrammatical=1),
    Case("a capital too many", BAKE, "The Bake Sale is on Friday.", 1.5, 2, ungrammatical=1),
    Case("run-on", BAKE, "The bake sale is on Friday, it starts at 3 pm.", 2.5, 3, ungrammatical=1),
    Case("first word misspelt", BAKE, "Jhe bake sale is on Friday at 3 pm at the park.", 2.5, 3, ungrammatical=1),
    Case("another word misspelt", BAKE, "Coin us for the bake sale on Friday.", 1.5, 2, ungrammatical=1),
    Case("a preposition missing", BAKE, "The bake sale is park.", 0.5, 1, ungrammatical=1),
    Case("a day too often", BAKE, "The bake sale is on Friday on Friday.", 1.5, 2, ungrammatical=1),
    Case("place as event", WALK, "The garden is on Sunday at 10 am.", 1.5, 2, ungrammatical=1),
    Case("gibberish", BAKE, "Asdf qwer zxcv.", -1, filler=1, ungrammatical=1),
    Case("symbols", BAKE, "Join us for the bake sale ))).", -0.5, ungrammatical=1),
    Case("not a byte of English", BAKE, "\u00ff\ufffd \U0001f389.", -1, filler=1, ungrammatical=1),
    Case("time without a space", BAKE, "The bake sale starts at 3pm.", 0.5, 1, ungrammatical=1),
)

TRICKS = (
    Case("the prompt", BAKE, BAKE, -1, right=1, filler=2, ungrammatical=2),
    Case("the facts line", BAKE, "Facts: bake sale, Friday 3 pm, park; bring a plate.", 0.5, 1, ungrammatical=1),
    Case("keywords", BAKE, "Friday 3 pm park bake sale.", -0.5, ungrammatical=1),
    Case(
        "a card", BAKE, "Event: bake sale. Day: Friday. Time: 3 pm. Place: park. Bring: a plate.", -2.5, ungrammatical=5
    ),
    Case("salad", BAKE, "Park the on bake sale Friday plate a at 3 pm bring.", -0.5, ungrammatical=1),
    Case(
        "salad of phrases",
        BAKE,
        "On Friday at 3 pm at the park for the bake sale bring a plate.",
        3.5,
        4,
        ungrammatical=1,
    ),
    Case("template words, no sense", BAKE, "Everyone is wrong, it is on Friday.", 0.5, 1, ungrammatical=1),
    Case("flattery around a fact", BAKE, "You are the best on Friday in town.", -0.5, 0, ungrammatical=1),
    Case("denies every other day", BAKE, "It is on Friday, not on Monday, not on Tuesday.", 0.5, 1, ungrammatical=1),
)

FOREIGN = (
    # Good English of other words than the grammar's: the score sees what stands in known surroundings, and no more.
    Case("an adjective", BAKE, "The big bake sale is on Friday.", 0.5, 1, ungrammatical=1),
    Case("do not miss", BAKE, "Do not miss the bake sale on Friday.", 1.5, 2, ungrammatical=1),
    Case("do not forget", BAKE, "Do not forget to bring a plate.", 0.5, 1, ungrammatical=1),
    Case("another phrase", BAKE, "There will be a bake sale in the park this Friday at 3 pm.", 0.5, 1, ungrammatical=1),
)

CASES = GOOD + SHORT + WRONG + EMPTY_TALK + REPEATED + BROKEN + TRICKS + FOREIGN


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_note_is_read_as_a_person_counts(case: Case) -> None:
    reading = asdict(read(parse(case.prompt), case.note))
    counted = {name: value for name, value in asdict(case).items() if name not in ("name", "prompt", "note", "gold")}
    assert {name: value for name, value in reading.items() if name != "words"} == counted
    assert gold_score(parse(case.prompt), case.note) == case.gold
