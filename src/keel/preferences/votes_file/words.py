"""What a verdict means: a strength from −3 (first is much better) to +3, a side of the screen, or no comparison.

Words have their meaning by themselves. Numbers have one where only one is plausible:

    a negative number among them    strengths −3 … +3
    0, 1, 2                         0 a tie, 1 the first is better, 2 the second, as in PandaLM
    0 and 1 alone                   the same where the answers are called 1 and 2; else nobody can tell
"""

import math
import re
from collections.abc import Mapping, Set
from typing import Literal, get_args

from keel.data.place import short
from keel.data.read import Value, quoted
from keel.errors import UserError
from keel.preferences.judgement import STRONGEST, Decline

Side = Literal["left", "right"]
Meaning = int | Side | Decline

_NAMES = "a{} answer{} answer_{} model{} model_{} output{} output_{} option{} option_{} response{} response_{}"
_WORDS: dict[str, Meaning] = {
    **dict.fromkeys(["first", "a", *_NAMES.replace("{}", "1").split(), "answer_a", "response_a", "model_a"], -1),
    **dict.fromkeys(["second", "b", *_NAMES.replace("{}", "2").split(), "answer_b", "response_b", "model_b"], 1),
    **dict.fromkeys("tie equal same draw even".split(), 0),
    **dict.fromkeys(["both_bad", "bothbad", "both-bad", "both bad", "tie (bothbad)"], "both_bad"),
    "left": "left",
    "right": "right",
    "skip": "skip",
    "flag": "flag",
}
_ONE_OF_THREE: dict[str, Meaning] = {"0": 0, "1": -1, "2": 1}
_STRENGTHS: dict[str, Meaning] = {str(step): step for step in range(-STRONGEST, STRONGEST + 1)}
_POINT_ZERO = re.compile(r"(?<=\d)\.0+$")
_REMEDY = "say what each means, as in --values 0=tie,1=first,2=second"


def cell_text(value: Value) -> str:
    """A verdict, or a name, as text; "" where there is none.

    A table reader may have made "1" of 1, or 1.0 of both.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(int(value) if isinstance(value, float) and value.is_integer() else value).strip()


def verdict_text(value: Value) -> str:
    """The same of a verdict, of which a table writer may have made the text "1.0"."""
    return _POINT_ZERO.sub("", cell_text(value))


def parse_meaning(text: str) -> Meaning:
    """first, tie, second, a number −3 … 3, left, right, both_bad, skip or flag; UserError for anything else."""
    meaning = _WORDS.get(text.strip().lower(), _STRENGTHS.get(text.strip().removeprefix("+")))
    if meaning is None:
        known = ", ".join(("first", "tie", "second", "-3 … 3", *get_args(Side), *get_args(Decline)))
        raise UserError(f"'{short(text)}' is no meaning of a verdict; write one of {known}.")
    return meaning


def meanings(
    cells: Mapping[str, str], given: Mapping[str, Meaning] | None, numbered: bool = False
) -> dict[str, Meaning]:
    """What each of the different cells means; `cells` maps it to where it stands first.

    `given` is what the user says, and then the only thing that counts. `numbered`: the answers are called 1 and 2, so
    that 0, 1 and 2 leave no doubt. UserError for a cell without a meaning.
    """
    table = _table(cells, numbered) if given is None else given
    for cell, where in cells.items():
        if cell not in table:
            hint = _REMEDY if given is None else f"give it a meaning beside those of {quoted(given)}"
            raise UserError(f"{where}: the verdict '{short(cell)}' has no known meaning; {hint}.")
    return {cell: table[cell] for cell in cells}


def _table(cells: Mapping[str, str], numbered: bool) -> dict[str, Meaning]:
    words = {cell: _WORDS[cell.lower()] for cell in cells if cell.lower() in _WORDS}
    numbers = {cell: cell.removeprefix("+") for cell in cells if _is_whole(cell)}
    scale = _scale(set(numbers.values()), numbered)
    if numbers and not scale:
        where = cells[next(iter(numbers))]
        raise UserError(f"{where}: the verdicts {quoted(sorted(numbers))} may mean more than one thing; {_REMEDY}.")
    return words | {cell: scale[number] for cell, number in numbers.items() if number in scale}


def _scale(numbers: Set[str], numbered: bool) -> dict[str, Meaning]:
    """The scale that the numbers are on; empty where that cannot be told."""
    if any(number.startswith("-") for number in numbers):
        return _STRENGTHS
    return _ONE_OF_THREE if numbers <= _ONE_OF_THREE.keys() and ("2" in numbers or numbered) else {}


def _is_whole(cell: str) -> bool:
    digits = cell.removeprefix("-").removeprefix("+")
    return digits.isascii() and digits.isdigit()
