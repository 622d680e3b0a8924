"""Pictures as geometry: the parts of a chart, and where numbers lie in it. The template draws them, escaping the words.

Coordinates are units of an SVG view box, y downwards. A chart has a description for those who cannot see it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

Tone = Literal[
    "sea", "gold", "plain", "amber", "red", "run-A", "run-B", "run-C", "run-D", "run-E", "run-F", "run-G", "run-H"
]
RUNS: tuple[Tone, ...] = ("run-A", "run-B", "run-C", "run-D", "run-E", "run-F", "run-G", "run-H")
"""The tones of runs that are compared: each has a colour and a dash of its own, and its letter stands at its end."""
Anchor = Literal["start", "middle", "end"]
_MOST_DOTS = 160
_BADGE = 20
"""Width of a letter in its disc, with some air."""


@dataclass(frozen=True)
class Box:
    """The size of a picture and the room around its plot."""

    width: int
    height: int
    left: int = 44
    right: int = 12
    top: int = 10
    bottom: int = 34

    @property
    def x_end(self) -> int:
        return self.width - self.right

    @property
    def y_end(self) -> int:
        return self.height - self.bottom


SMALL = Box(360, 210)
WIDE = Box(520, 330, left=52, bottom=44)
SQUARE = Box(320, 320, left=48, bottom=44)
OVERLAID = Box(520, 300, left=52, right=34, bottom=44)


@dataclass(frozen=True)
class Scale:
    """Maps numbers from [low, high] to [start, end] in a picture."""

    low: float
    high: float
    start: int
    end: int

    def __call__(self, value: float) -> float:
        return round(self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start), 2)


@dataclass(frozen=True)
class Tick:
    """A number on an axis, and where it stands."""

    at: float
    label: str


@dataclass(frozen=True)
class Line:
    """A path with its colour and the place of its last point."""

    path: str
    tone: Tone
    label: str
    end: tuple[float, float]


@dataclass(frozen=True)
class Dot:
    """A faint point with the words that appear over it."""

    x: float
    y: float
    radius: float
    tone: Tone
    tip: str


@dataclass(frozen=True)
class Rule:
    """A level that one should know about: a threshold, or zero; `side` is the end on which its label stands."""

    y: float
    label: str
    tone: Tone
    side: Literal["left", "right"] = "left"


@dataclass(frozen=True)
class Mark:
    """A ring with words under it; `anchor` is the point of the words that the ring stands over."""

    x: float
    y: float
    label: str
    anchor: Anchor


@dataclass(frozen=True)
class Badge:
    """The letter of a run where its line ends; `home` is that end, from which the badge may have had to move."""

    x: float
    y: float
    letter: str
    tone: Tone
    home: tuple[float, float]


@dataclass(frozen=True)
class Chart:
    """A picture, ready to be drawn. `latest` is the last smoothed value, as text."""

    id: str
    title: str
    about: str
    description: str
    box: Box
    x_label: str
    y_label: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[Line, ...]
    dots: tuple[Dot, ...] = ()
    rules: tuple[Rule, ...] = ()
    marks: tuple[Mark, ...] = ()
    badges: tuple[Badge, ...] = ()
    latest: str = ""


@dataclass(frozen=True)
class Threshold:
    """A level at which a metric deserves a look."""

    value: float
    label: str
    tone: Tone


def figure(value: float) -> str:
    """A number with about three digits, as people write it."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else "–"
    size = abs(value)
    if size < 1e-3:
        return f"{value:.1e}".replace("-", "−")
    digits = max(0, 2 - max(0, math.floor(math.log10(size)))) if size < 1e4 else 0
    return f"{value:,.{min(digits if size >= 0.1 else 3, 3)}f}".replace("-", "−")


def nice_ticks(low: float, high: float, about: int) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) from low to high, about so many."""
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(place * step, 12) for place in range(first, math.floor(high / step + 1e-9) + 1)]


def tick_label(value: float) -> str:
    """A round number, short: 0.25, 1.5, 2k, 1e−4."""
    if value != 0 and abs(value) < 1e-3:
        return f"{value:.0e}".replace("e-0", "e−").replace("-", "−")
    return (f"{value / 1000:g}k" if abs(value) >= 10_000 else f"{value:g}").replace("-", "−")


def trace(
    x: Scale, y: Scale, at: Float[np.ndarray, " N"], values: Float[np.ndarray, " N"], tone: Tone, label: str
) -> Line:
    """A line through the points (at, values), with fewer of them where there are very many."""
    points = [(x(float(one)), y(float(other))) for one, other in thinned(at, values, 2 * _MOST_DOTS)]
    return Line("M" + "L".join(f"{one:g},{other:g}" for one, other in points), tone, label, points[-1])


def scale_x(steps: Float[np.ndarray, " N"], box: Box) -> Scale:
    """Steps from the left end of the box to its right end."""
    first, last = float(steps[0]), float(steps[-1])
    return Scale(first, last if last > first else first + 1, box.left, box.x_end)


def room(values: Float[np.ndarray, " N"], limits: Sequence[float]) -> tuple[float, float]:
    """The range of an axis: the values with some air, and a limit that they come near to."""
    low, high = float(values.min()), float(values.max())
    near = [limit for limit in limits if low < limit <= 1.5 * max(high, 0)]
    high = max([high, *near])
    if low == high > 0:
        return 0.0, 1.6 * high
    air = 0.08 * (high - low) or 0.1 * abs(high) or 0.5
    return (low if 0 <= low < air else low - air, high + air)


def ticks(scale: Scale, about: int) -> tuple[Tick, ...]:
    """About so many round numbers on an axis."""
    return tuple(Tick(scale(value), tick_label(value)) for value in nice_ticks(scale.low, scale.high, about))


def thinned(at: np.ndarray, values: Float[np.ndarray, " N"], most: int = _MOST_DOTS) -> list[tuple[float, float]]:
    """At most so many of the points, evenly spaced, always with the last."""
    stride = math.ceil(len(values) / most)
    kept = range(len(values) - 1, -1, -stride)
    return [(float(at[place]), float(values[place])) for place in reversed(kept)]


def badges(lines: Sequence[Line], box: Box) -> tuple[Badge, ...]:
    """The letter (label) of each line right of its end; where letters would overlap, they are moved up or down."""
    ends = sorted(lines, key=lambda one: one.end[1])
    places = [(one.end[0] + 12, one.end[1]) for one in ends]
    pushed = _pushed(places)
    lowest = box.y_end - _BADGE / 2
    if any(y > lowest for _, y in pushed):  # no room below: from the bottom upwards
        upside_down = [(x, -min(y, lowest)) for x, y in reversed(pushed)]
        pushed = [(x, -y) for x, y in reversed(_pushed(upside_down))]
    return tuple(
        Badge(round(x, 2), round(y, 2), one.label, one.tone, one.end) for (x, y), one in zip(pushed, ends, strict=True)
    )


def _pushed(places: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Discs in order of their height, each moved away from those before it where it would overlap them."""
    found: list[tuple[float, float]] = []
    for x, y in places:
        below = [other + _BADGE for beside, other in found if abs(beside - x) < _BADGE]
        found.append((x, max([y, *below])))
    return found
