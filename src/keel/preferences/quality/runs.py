"""The longest run of one button, against what the annotator's own habits would give by chance."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from jaxtyping import Float

from keel.preferences.judgement import Judgement
from keel.preferences.quality.discovery import adjusted
from keel.preferences.quality.verdict import by_annotator


@dataclass(frozen=True)
class LongestRun:
    """`button` was pressed `length` times in a row, the longest run among `presses`.

    `p` is the probability of a run of any button as long or longer; `adjusted` is p adjusted across annotators.
    """

    button: str
    length: int
    presses: int
    p: float
    adjusted: float


def longest_runs(judgements: Sequence[Judgement]) -> dict[str, LongestRun]:
    """The longest run of each annotator. `judgements` must be in the order in which they were submitted.

    Buttons are as they lie on the screen: −3 … +3, both bad, skip and flag. Rankings are left out. p takes presses as
    independent, each button with its share among the annotator's own presses: for items in random order that holds; the
    share is raised by the run itself, so that p is a little too large rather than too small. Who presses one button
    alone has p = 1.
    """
    pressed = {}
    for name, said in by_annotator(judgements).items():
        buttons = [_button(each) for each in said if each.kind not in ("ranking", "withdrawn")]
        if buttons:
            pressed[name] = buttons
    longest = {name: _longest(buttons) for name, buttons in pressed.items()}
    p = {}
    for name, buttons in pressed.items():
        shares = np.array(list(Counter(buttons).values())) / len(buttons)
        p[name] = run_probability(longest[name][1], len(buttons), shares)
    across = adjusted(p)
    return {name: LongestRun(*longest[name], len(pressed[name]), p[name], across[name]) for name in pressed}


def run_probability(length: int, presses: int, shares: Float[np.ndarray, " B"]) -> float:
    """P(some button is pressed `length` times or more in a row among `presses` independent ones), exactly.

        g_t(b) = P(no such run among the first t, and press t is b),   h_t = Σ_b g_t(b),   h_0 = 1
        g_t(b) = p_b·h_{t−1} − p_b^L·(h_{t−L} − g_{t−L}(b))            P = 1 − h_n

    The second term takes away the sequences in which press t makes the run L long: L times b after something else than
    b. It is the recursion for success runs (Feller, Introduction to Probability Theory I, XIII.7) with one state for
    each button. O(n·B). Raises ValueError unless length ≥ 1 and the shares add up to 1.
    """
    if length < 1 or shares.min(initial=1.0) < 0 or abs(shares.sum() - 1) > 1e-9:
        raise ValueError(f"a run of {length} among buttons of shares {shares.tolist()}")
    if length > presses:
        return 0.0
    full = shares**length
    g = np.zeros((presses + 1, len(shares)))
    h = np.ones(presses + 1)
    for t in range(1, presses + 1):
        g[t] = shares * h[t - 1]
        if t >= length:
            g[t] -= full * (h[t - length] - g[t - length])
        h[t] = g[t].sum()
    return float(min(1.0, max(0.0, 1 - h[presses])))


def _longest(buttons: Sequence[str]) -> tuple[str, int]:
    """The first of the longest runs: its button and length."""
    runs = [(button, sum(1 for _ in same)) for button, same in groupby(buttons)]
    return max(runs, key=lambda run: run[1])


def _button(judgement: Judgement) -> str:
    return f"{judgement.pressed:+d}" if judgement.pressed is not None else judgement.kind.replace("_", " ")
