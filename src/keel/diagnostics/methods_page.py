"""The page that compares methods: win rate and gold against the KL and the time that they cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_uppercase

import numpy as np

from keel.config import ONLINE
from keel.data.write import write_text
from keel.diagnostics.bout import Bout, Estimate, Row, Trial
from keel.diagnostics.gauges import Gauge, gauge
from keel.diagnostics.geometry import OVERLAID, Badge, Box, Chart, Dot, Rule, Scale, Tone, figure, room, ticks
from keel.diagnostics.rendering import filled, points
from keel.summary import percent

_APART = 21.0
"""Between the middles of two letters, so that their discs do not touch, on a phone neither."""
_CLEAR = 14.0
"""From the middle of a letter to the dots."""
_JUDGES = {
    "gold": "Answers are judged by the task’s hidden gold score, which no method was trained on.",
    "reward": "Answers are judged by the reward model. A method that practised may have been trained to please it, one "
    "straight from preferences was not; let people, or another judge, look before you rely on it.",
}


@dataclass(frozen=True)
class Column:
    """A number of every method: as text, with its interval below it where there is one."""

    head: str
    cells: tuple[tuple[str, str], ...]


def write_methods(bout: Bout, path: Path) -> None:
    """Write the page, the whole file or none of it."""
    write_text(path, render(bout))


def render(bout: Bout) -> str:
    """The page."""
    rows = bout.rows()
    return filled(
        "methods.html.j2",
        title=f"{_counted(len(rows), 'method')} compared",
        counts=f"{_counted(len(rows), 'method')}, {_counted(bout.seeds, 'seed')}",
        headline=headline(rows),
        rows=rows,
        columns=columns(rows),
        began=began(bout),
        failures=bout.failures,
        paired=bout.seeds > 1 and len(rows) > 1,
        judges=[_JUDGES[one] for one in dict.fromkeys(trial.judge for trial in bout.trials) if one is not None],
        rates=_rates(rows),
        letters=letters(bout),
        tones={row.name: tone(row.name) for row in rows},
        kinds=list(dict.fromkeys(tone(row.name) for row in rows)),
        trials=bout.trials,
        golden=any(one.gold is not None for one in bout.trials),
        seeds=bout.seeds,
        charts=[chart for chart in _charts(bout) if chart is not None],
    )


def headline(rows: Sequence[Row]) -> str:
    """Which method is ahead, where the intervals tell; else that none is, or that none beats SFT."""
    known = [(one, one.win_rate.value) for one in rows if one.win_rate.value is not None]
    if not known:
        return "Methods that no evaluation has judged"
    best, _ = max(known, key=lambda pair: pair[1])
    low = best.win_rate.low
    others = [one.win_rate for one, _ in known if one is not best]
    if best.win_rate.high is not None and best.win_rate.high < 0.5:
        return "No method here beats SFT"
    if not others:
        return f"{best.title}, alone"
    if any(one.value == best.win_rate.value for one in others):
        return "No method is ahead of all others"
    if low is not None and all(one.high is not None and one.high < low for one in others):
        return f"{best.title} beats SFT more often than any other method here"
    if best.seeds == 1:
        return f"{best.title} is ahead with the one seed that was tried"
    return f"{best.title} is ahead, but not beyond what these seeds can tell apart"


def began(bout: Bout) -> str:
    """What all methods began with, as far as that is true of these."""
    if not bout.shared:
        return "All methods began with the same model."
    said = "All methods began, seed by seed, with the same " + ("supervised model" if "sft" in bout.shared else "model")
    said += " and the same preferences" if "preferences" in bout.shared else ""
    return said + ("; those that learn from a reward model, with the same one." if "reward" in bout.shared else ".")


def letters(bout: Bout) -> dict[str, str]:
    """A letter for each method, which stands for it in the pictures."""
    return dict(zip(bout.by_method(), ascii_uppercase, strict=False))


def tone(name: str) -> Tone:
    """The colour of a method: one for those that practise, another for those straight from preferences."""
    return "sea" if name in ONLINE else "gold"


def columns(rows: Sequence[Row]) -> list[Column]:
    """The win rate, and whatever else was measured; where there are two seeds, also what is paired by seed."""
    seeds = max((row.seeds for row in rows), default=0)
    paired: list[tuple[str, list[tuple[str, str]]]] = []
    if seeds > 1 and len(rows) > 1:
        first = ("–", "")
        ahead = [_cell(one.rate_ahead, _percents, -1.0, 1.0, seeds) for one in rows[1:]]
        paired.append((f"Win rate less that of {rows[0].title}", [first, *ahead]))
        ahead = [_cell(one.gain_ahead, _signed, seeds=seeds) for one in rows[1:]]
        paired.append((f"Gain less that of {rows[0].title}", [first, *ahead]))
    found = (
        ("Win rate over SFT", [_cell(one.win_rate, percent, 0.0, 1.0, seeds) for one in rows]),
        ("Gold less SFT’s", [_cell(one.gain, _signed, seeds=seeds) for one in rows]),
        *paired,
        ("KL, nats per answer", [_cell(one.kl, figure, 0.0, seeds=seeds) for one in rows]),
        ("Tokens per answer", [_cell(one.length, figure, 0.0, seeds=seeds) for one in rows]),
        ("Seconds of training", [_cell(one.seconds, figure, 0.0, seeds=seeds) for one in rows]),
    )
    return [
        Column(head, tuple(cells))
        for place, (head, cells) in enumerate(found)
        if place == 0 or any(text != "–" for text, _ in cells)
    ]


def _cell(
    found: Estimate, form: Callable[[float], str], least: float = -math.inf, most: float = math.inf, seeds: int = 0
) -> tuple[str, str]:
    """The interval ends where the number cannot be: no share is above 1. A number of fewer than all `seeds` says so."""
    if found.value is None:
        return "–", ""
    notes = []
    if found.low is not None and found.high is not None:
        low = found.low if found.value < least else max(found.low, least)  # an estimate of KL may lie below 0
        notes.append(f"{form(low)} to {form(min(found.high, most))}")
    if found.seeds < seeds:
        notes.append(f"{found.seeds} of {_counted(seeds, 'seed')}")
    return form(found.value), ", ".join(notes)


def _percents(share: float) -> str:
    """A difference of shares, with its sign."""
    text = f"{round(100 * share, 1) + 0.0:.1f}%".replace("-", "−")  # as `points` has it
    return f"+{text}" if share > 0 else text


def _signed(value: float) -> str:
    text = points(round(value, 2) + 0.0)  # adding nothing makes of −0.00 a 0.00
    return f"+{text}" if value > 0 else text


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _rates(rows: Sequence[Row]) -> list[Gauge]:
    """The win rates as bars, the highest first."""
    known = [(one.win_rate.value, one) for one in rows if one.win_rate.value is not None]
    bars = []
    for value, row in sorted(known, key=lambda pair: -pair[0]):
        low, high = row.win_rate.low, row.win_rate.high
        if low is not None and high is not None:
            low, high = max(low, 0.0), min(high, 1.0)
        bars.append(gauge(row.title, value, low, high, tone(row.name)))
    return bars


def _charts(bout: Bout) -> Iterator[Chart | None]:
    golden = all(one.gain is not None for one in bout.trials)
    up: Callable[[Trial], float | None] = (lambda one: one.gain) if golden else (lambda one: one.win_rate)
    name, unit = ("Gold less SFT’s", "points") if golden else ("Win rate over SFT", "share")
    level, rule = (0.0, "SFT") if golden else (0.5, "a draw")
    yield scatter(
        bout, f"{name} against the distance from SFT", "√KL, √nats", unit,
        lambda one: None if one.kl is None else math.sqrt(max(one.kl, 0.0)), up, level, rule,
    )  # fmt: skip
    yield scatter(
        bout, f"{name} against the time of training", "seconds of training", unit,
        lambda one: one.seconds, up, level, rule,
    )  # fmt: skip


def scatter(
    bout: Bout,
    title: str,
    x_label: str,
    y_label: str,
    across: Callable[[Trial], float | None],
    up: Callable[[Trial], float | None],
    level: float,
    rule: str,
) -> Chart | None:
    """A dot for each seed, and the letter of each method beside its mean; None where nothing was measured."""
    found: dict[str, list[tuple[float, float]]] = {}
    for one in bout.trials:
        at, value = across(one), up(one)
        if at is not None and value is not None and math.isfinite(at) and math.isfinite(value):
            found.setdefault(one.name, []).append((at, value))
    if not found:
        return None
    every = np.array([dot for dots in found.values() for dot in dots])
    x = Scale(0.0, 1.08 * max(float(every[:, 0].max()), 1e-9), OVERLAID.left, OVERLAID.x_end)
    y = Scale(*room(np.append(every[:, 1], level), ()), OVERLAID.y_end, OVERLAID.top)
    means = {
        name: (float(np.mean([a for a, _ in dots])), float(np.mean([b for _, b in dots])))
        for name, dots in found.items()
    }
    dots = [
        Dot(x(a), y(b), 3.0, tone(name), f"{bout.titles[name]}: {figure(b)} at {figure(a)}")
        for name, held in found.items()
        for a, b in held
    ]
    homes = {name: (x(a), y(b)) for name, (a, b) in means.items()}
    taken = [(one.x, one.y) for one in dots]
    # the words on the rule, which a letter would hide
    taken += [(OVERLAID.x_end - 12.0 * place, y(level) - lift) for place in range(1, 6) for lift in (6, 18)]
    places = _beside(list(homes.values()), taken, OVERLAID)
    letter = letters(bout)
    return Chart(
        id="-".join(title.lower().split()),
        title=title,
        about="",
        description="; ".join(f"{bout.titles[name]} at {figure(a)}: {figure(b)}" for name, (a, b) in means.items()),
        box=OVERLAID,
        x_label=x_label,
        y_label=y_label,
        x_ticks=ticks(x, 6),
        y_ticks=ticks(y, 5),
        lines=(),
        dots=tuple(dots),
        rules=(Rule(y(level), rule, "plain", "right"),),
        badges=tuple(
            Badge(*place, letter[name], tone(name), home)
            for place, (name, home) in zip(places, homes.items(), strict=True)
        ),
    )


def _beside(
    homes: Sequence[tuple[float, float]], taken: Sequence[tuple[float, float]], box: Box
) -> list[tuple[float, float]]:
    """A place for a letter near each home: clear of the other letters, where there is room also of what else is taken,
    and within the picture; ever further out until there is one."""
    found: list[tuple[float, float]] = []
    for home in homes:
        around = [one for one in _around(home) if _within(one, box) and _least(one, found) >= _APART]
        clear = (one for one in around if _least(one, [*taken, *homes]) >= _CLEAR)
        found.append(next(clear, around[0] if around else home))
    return found


def _around(home: tuple[float, float]) -> Iterator[tuple[float, float]]:
    """Places in ever wider rings, each from the right upwards."""
    for distance in range(16, 160, 8):
        for turn in range(16):
            angle = math.pi * turn / 8
            yield round(home[0] + distance * math.cos(angle), 2), round(home[1] - distance * math.sin(angle), 2)


def _within(place: tuple[float, float], box: Box) -> bool:
    return box.left + 10 <= place[0] <= box.width - 10 and 10 <= place[1] <= box.y_end - 10


def _least(place: tuple[float, float], others: Sequence[tuple[float, float]]) -> float:
    return min((math.dist(place, one) for one in others), default=math.inf)
