"""Pictures as geometry: where every line, dot and tick of a chart lies. The template draws them and escapes the words.

Coordinates are units of an SVG view box, y downwards. A chart has a description for those who cannot see it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float

from keel.diagnostics.over_optimisation import Verdict
from keel.diagnostics.recorded import Curve
from keel.diagnostics.smoothing import smooth

Tone = Literal["sea", "gold", "plain", "amber", "red"]
Anchor = Literal["start", "middle", "end"]
_MOST_DOTS = 160


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


def curve_chart(
    title: str,
    about: str,
    unit: str,
    curve: Curve,
    tone: Tone = "sea",
    thresholds: Sequence[Threshold] = (),
    x_label: str = "update",
) -> Chart:
    """One metric over its stage: raw values as faint dots, a light smoothing as the line (none of fewer than 25)."""
    smoothed = smooth(curve.values, len(curve) / 25) if len(curve) >= 25 else curve.values
    y_low, y_high = _room(curve.values, [limit.value for limit in thresholds])
    x = _scale_x(curve.steps.astype(float), SMALL)
    y = Scale(y_low, y_high, SMALL.y_end, SMALL.top)
    shown = [limit for limit in thresholds if y_low <= limit.value <= y_high]
    return Chart(
        id=re.sub(r"\W+", "-", title.lower()),
        title=title,
        about=about,
        description=_describe(title, unit, x_label, curve, smoothed),
        box=SMALL,
        x_label=x_label,
        y_label=unit,
        x_ticks=_ticks(x, 5),
        y_ticks=_ticks(y, 4),
        lines=(_line(x, y, curve.steps.astype(float), smoothed, tone, title),),
        dots=tuple(
            Dot(x(step), y(value), 1.7, tone, f"{x_label} {step:g}: {figure(value)}")
            for step, value in _thinned(curve.steps, curve.values)
        ),
        rules=tuple(
            Rule(y(limit.value), limit.label, limit.tone, _free_side(smoothed, limit.value)) for limit in shown
        ),
        latest=figure(float(smoothed[-1])),
    )


def over_optimisation_chart(
    kl: Curve, proxy: Curve, gold: Curve, spread: tuple[float, float], verdict: Verdict
) -> Chart:
    """Proxy and gold against √KL, each as its change since the first update in units of its `spread` among answers.

    √KL is the distance d of Gao et al. (2210.10760); a KL that came out below 0 counts as 0. Where gold
    has fallen its best is marked. All three curves have the same steps.
    """
    width = max(1.0, len(kl) / 25)
    distance = np.sqrt(np.maximum(kl.values, 0))
    path = np.sqrt(np.maximum(smooth(kl.values, width), 0))
    rises = [(one.values - one.values[:3].mean()) / size for one, size in zip((proxy, gold), spread, strict=True)]
    smoothed = [smooth(rise, width) for rise in rises]
    x = Scale(0.0, max(float(distance.max()), 0.1) * 1.03, WIDE.left, WIDE.x_end)
    low, high = _room(np.concatenate((*rises, np.zeros(1))), ())
    y = Scale(low, high, WIDE.y_end, WIDE.top)
    names: tuple[tuple[Tone, str], ...] = (("sea", "reward (proxy)"), ("gold", "gold score"))
    marks: tuple[Mark, ...] = ()
    if verdict.kind in ("over-optimised", "falling"):
        place = int(np.argmin(np.abs(gold.steps - verdict.best)))
        at = x(float(path[place]))
        anchor: Anchor = "start" if at < 120 else "end" if at > 400 else "middle"
        marks = (Mark(at, y(float(smoothed[1][place])), "gold at its best", anchor),)
    return Chart(
        id="over-optimisation",
        title="Reward and gold score against distance",
        about="",
        description=(
            "Change since the first update against the square root of KL. "
            + " ".join(
                f"The {name} ends {figure(float(line[-1]))} standard deviations from its start, its highest is "
                f"{figure(float(line.max()))}."
                for (_, name), line in zip(names, smoothed, strict=True)
            )
        ),
        box=WIDE,
        x_label="distance from SFT, √KL (√nats)",
        y_label="change, in standard deviations",
        x_ticks=_ticks(x, 6),
        y_ticks=_ticks(y, 5),
        lines=tuple(_line(x, y, path, line, tone, name) for (tone, name), line in zip(names, smoothed, strict=True)),
        dots=tuple(
            Dot(x(at), y(value), 2.2, tone, f"{name}: {figure(value)} at √KL {figure(at)}")
            for (tone, name), rise in zip(names, rises, strict=True)
            for at, value in _thinned(distance, rise)
        ),
        rules=(Rule(y(0.0), "", "plain"),),
        marks=marks,
    )


def calibration_chart(bins: Sequence[tuple[float, float, float]]) -> Chart:
    """How often an answer is preferred, against the probability that the reward model gives it.

    `bins` are (mean predicted, mean actual, share of the pairs); a dot's area is its share.
    """
    x = Scale(0.0, 1.0, SQUARE.left, SQUARE.x_end)
    y = Scale(0.0, 1.0, SQUARE.y_end, SQUARE.top)
    most = max(weight for _, _, weight in bins)
    return Chart(
        id="calibration",
        title="Calibration",
        about="",
        description="Predicted against actual share of preferred answers: "
        + ", ".join(f"{100 * one:.0f}% predicted, {100 * other:.0f}% actual" for one, other, _ in bins)
        + ".",
        box=SQUARE,
        x_label="the reward model says",
        y_label="people prefer it",
        x_ticks=tuple(Tick(x(share), f"{100 * share:.0f}%") for share in (0.0, 0.25, 0.5, 0.75, 1.0)),
        y_ticks=tuple(Tick(y(share), f"{100 * share:.0f}%") for share in (0.0, 0.25, 0.5, 0.75, 1.0)),
        lines=(_line(x, y, np.array([0.0, 1.0]), np.array([0.0, 1.0]), "plain", "perfect"),),
        dots=tuple(
            Dot(x(one), y(other), round(2.5 + 7 * math.sqrt(weight / most), 1), "sea",
                f"says {100 * one:.0f}%, is {100 * other:.0f}%, {100 * weight:.0f}% of the pairs")
            for one, other, weight in bins
        ),
    )  # fmt: skip


def _free_side(values: Float[np.ndarray, " N"], level: float) -> Literal["left", "right"]:
    """The end at which a curve leaves more room for a word at this level."""
    return "left" if abs(values[0] - level) > abs(values[-1] - level) else "right"


def _line(
    x: Scale, y: Scale, at: Float[np.ndarray, " N"], values: Float[np.ndarray, " N"], tone: Tone, label: str
) -> Line:
    points = [(x(float(one)), y(float(other))) for one, other in _thinned(at, values, 2 * _MOST_DOTS)]
    return Line("M" + "L".join(f"{one:g},{other:g}" for one, other in points), tone, label, points[-1])


def _scale_x(steps: Float[np.ndarray, " N"], box: Box) -> Scale:
    first, last = float(steps[0]), float(steps[-1])
    return Scale(first, last if last > first else first + 1, box.left, box.x_end)


def _room(values: Float[np.ndarray, " N"], limits: Sequence[float]) -> tuple[float, float]:
    """The range of an axis: the values with some air, and a limit that they come near to."""
    low, high = float(values.min()), float(values.max())
    near = [limit for limit in limits if low < limit <= 1.5 * max(high, 0)]
    high = max([high, *near])
    if low == high > 0:
        return 0.0, 1.6 * high
    air = 0.08 * (high - low) or 0.1 * abs(high) or 0.5
    return (low if 0 <= low < air else low - air, high + air)


def _ticks(scale: Scale, about: int) -> tuple[Tick, ...]:
    return tuple(Tick(scale(value), tick_label(value)) for value in nice_ticks(scale.low, scale.high, about))


def tick_label(value: float) -> str:
    """A round number, short: 0.25, 1.5, 2k, 1e−4."""
    if value != 0 and abs(value) < 1e-3:
        return f"{value:.0e}".replace("e-0", "e−").replace("-", "−")
    return (f"{value / 1000:g}k" if abs(value) >= 10_000 else f"{value:g}").replace("-", "−")


def _thinned(at: np.ndarray, values: Float[np.ndarray, " N"], most: int = _MOST_DOTS) -> list[tuple[float, float]]:
    """At most so many of the points, evenly spaced, always with the last."""
    stride = math.ceil(len(values) / most)
    kept = range(len(values) - 1, -1, -stride)
    return [(float(at[place]), float(values[place])) for place in reversed(kept)]


def _describe(title: str, unit: str, x_label: str, curve: Curve, smoothed: Float[np.ndarray, " N"]) -> str:
    low, high = int(np.argmin(smoothed)), int(np.argmax(smoothed))
    of = f" in {unit}" if unit else ""
    return (
        f"{title}{of}, smoothed: {figure(float(smoothed[0]))} at {x_label} {curve.steps[0]}, "
        f"{figure(float(smoothed[-1]))} at {x_label} {curve.steps[-1]}; lowest {figure(float(smoothed[low]))} at "
        f"{x_label} {curve.steps[low]}, highest {figure(float(smoothed[high]))} at {x_label} {curve.steps[high]}."
    )
