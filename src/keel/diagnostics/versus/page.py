"""The page that compares runs: one HTML file that needs nothing else."""

from __future__ import annotations

import shlex
from pathlib import Path

from keel.data.write import write_text
from keel.diagnostics.gauges import Gauge, gauge
from keel.diagnostics.pictures import tone_of
from keel.diagnostics.rendering import filled
from keel.diagnostics.versus.answers import shared
from keel.diagnostics.versus.compared import Compared
from keel.diagnostics.versus.differences import listed
from keel.diagnostics.versus.duels import Duel
from keel.diagnostics.versus.overlays import distances, overlays
from keel.diagnostics.versus.table import accuracies, count_in_words, matrix, outcomes, problems, win_rates
from keel.errors import UserError

_MARK = '<meta name="generator" content="keel report">'

_BARS = 3
"""Pairs of runs that are shown as bars; more are a table."""
_OF_WIN_RATES = ("Prompts of the evaluation", "Judge", "Opponent")


def write_comparison(compared: Compared, path: Path) -> None:
    """Write the page, the whole file or none of it; an older page of a comparison is replaced.

    UserError where it cannot be written, or something else is there.
    """
    if path.is_dir():
        raise UserError(f"--out {path} is a folder; name the file to write")
    if path.exists() and _MARK not in _beginning(path):
        raise UserError(f"{path} is there, and is no comparison of runs; name another file with --out")
    write_text(path, render(compared))


def render(compared: Compared) -> str:
    """The page."""
    rivals = compared.rivals
    charts, numbers = overlays(rivals)
    return filled(
        "compare.html.j2",
        title=f"{' and '.join(one.name for one in rivals[:2])}{' and others' if len(rivals) > 2 else ''} compared",
        headline=headline(compared),
        compared=compared,
        rivals=rivals,
        tones={one.letter: tone_of(one.letter) for one in rivals},
        table=outcomes(rivals),
        win_rates=win_rates(rivals),
        unfair=_unfair(compared),
        accuracies=accuracies(rivals),
        duels=[_duel(one) for one in compared.duels],
        matrix=matrix(rivals, compared.duels) if len(compared.duels) > _BARS else None,
        charts=charts,
        numbers=numbers,
        distances=distances(rivals),
        shared=shared(rivals),
        problems=problems(rivals),
        counted={one.letter: count_in_words(one.checks) for one in rivals},
        command=shlex.join(["keel", "report", *(str(one.summary.directory) for one in rivals)]),
    )


def headline(compared: Compared) -> str:
    """The comparison in one line."""
    told = [one for one in compared.duels if one.verdict != "unclear"]
    if not compared.duels:
        return f"{_number(len(compared.rivals))} runs that cannot be ranked by their answers"
    if not told:
        return "No run can be told from another" if len(compared.rivals) > 2 else "The two runs cannot be told apart"
    won = [
        (one.first.letter, one.second.letter) if one.verdict == "first" else (one.second.letter, one.first.letter)
        for one in told
    ]
    does = "has better answers than"
    if any(one.first.summary.judge == "reward" for one in told):
        does = "pleases the reward model more than"
    for best in dict.fromkeys(winner for winner, _ in won):
        beaten = [loser for winner, loser in won if winner == best]
        if len(beaten) == len(compared.rivals) - 1 or len(won) == len(beaten):
            return f"{best} {does} {listed(beaten)}"
    return f"{len(told)} of {len(compared.duels)} pairs of runs can be told apart"


def _unfair(compared: Compared) -> str:
    """Why win rates over SFT must not be set side by side: "Judge and opponent are"; empty where they may."""
    about = [one.about.lower() for one in compared.notes if one.level == "red" and one.about in _OF_WIN_RATES]
    verb = "is" if about in (["judge"], ["opponent"]) else "are"
    return f"{listed(about).capitalize()} {verb}" if about else ""


def _number(count: int) -> str:
    return ("Two", "Three", "Four", "Five", "Six", "Seven", "Eight")[count - 2]


def _duel(duel: Duel) -> Gauge:
    """The win rate of the first over the second; in colour where they are told apart."""
    tone = {"first": tone_of(duel.first.letter), "second": tone_of(duel.second.letter), "unclear": "plain"}
    found = duel.outcome
    label = f"{duel.first.letter} over {duel.second.letter}"
    return gauge(label, found.rate, found.low, found.high, tone[duel.verdict])


def _beginning(path: Path) -> str:
    """As much of a file as a page needs to say what it is."""
    try:
        with path.open("rb") as file:
            return file.read(4096).decode("utf-8", "replace")
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); name another file with --out") from None
