"""The pictures of a report: where every line, dot and tick of a chart lies."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float

from keel.diagnostics.geometry import (
    OVERLAID,
    RUNS,
    SMALL,
    SQUARE,
    WIDE,
    Anchor,
    Chart,
    Dot,
    Mark,
    Rule,
    Scale,
    Threshold,
    Tick,
    Tone,
    badges,
    figure,
    room,
    scale_x,
    thinned,
    ticks,
    trace,
)
from keel.diagnostics.over_optimisation import Verdict
from keel.diagnostics.recorded import Curve
from keel.diagnostics.smoothing import smooth


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
    smoothed = _smoothed(curve)
    y_low, y_high = room(curve.values, [limit.value for limit in thresholds])
    x = scale_x(curve.steps.astype(float), SMALL)
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
        x_ticks=ticks(x, 5),
        y_ticks=ticks(y, 4),
        lines=(trace(x, y, curve.steps.astype(float), smoothed, tone, title),),
        dots=tuple(
            Dot(x(step), y(value), 1.7, tone, f"{x_label} {step:g}: {figure(value)}")
            for step, value in thinned(curve.steps, curve.values)
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
    low, high = room(np.concatenate((*rises, np.zeros(1))), ())
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
        x_ticks=ticks(x, 6),
        y_ticks=ticks(y, 5),
        lines=tuple(trace(x, y, path, line, tone, name) for (tone, name), line in zip(names, smoothed, strict=True)),
        dots=tuple(
            Dot(x(at), y(value), 2.2, tone, f"{name}: {figure(value)} at √KL {figure(at)}")
            for (tone, name), rise in zip(names, rises, strict=True)
            for at, value in thinned(distance, rise)
        ),
        rules=(Rule(y(0.0), "", "plain"),),
        marks=marks,
    )


def overlay_chart(title: str, about: str, unit: str, curves: Mapping[str, Curve], x_label: str = "update") -> Chart:
    """One metric of several runs, each a light smoothing of what was logged (see `curve_chart`).

    `curves` are by letter, A to H.
    """
    smoothed = {name: _smoothed(curve) for name, curve in curves.items()}
    steps = np.concatenate([curve.steps for curve in curves.values()]).astype(float)
    x = scale_x(np.sort(steps), OVERLAID)
    y = Scale(*room(np.concatenate(list(smoothed.values())), ()), OVERLAID.y_end, OVERLAID.top)
    lines = tuple(
        trace(x, y, curve.steps.astype(float), smoothed[name], tone_of(name), name) for name, curve in curves.items()
    )
    return Chart(
        id=re.sub(r"\W+", "-", f"{title} of runs".lower()),
        title=title,
        about=about,
        description=f"{title}{f' in {unit}' if unit else ''}, smoothed. "
        + " ".join(
            f"{name}: {figure(float(line[0]))} at {x_label} {curves[name].steps[0]}, {figure(float(line[-1]))} at "
            f"{x_label} {curves[name].steps[-1]}."
            for name, line in smoothed.items()
        ),
        box=OVERLAID,
        x_label=x_label,
        y_label=unit,
        x_ticks=ticks(x, 6),
        y_ticks=ticks(y, 5),
        lines=lines,
        badges=badges(lines, OVERLAID),
    )


def distance_charts(
    kl: Mapping[str, Curve], rises: Mapping[str, Mapping[str, Float[np.ndarray, " N"]]]
) -> tuple[Chart, ...]:
    """A picture for each of `rises`, with the runs' lines against √KL, all on the same scales.

    `rises` are by title, then by letter: the change since the first updates, in standard deviations among answers.
    """
    paths = {
        name: np.sqrt(np.maximum(smooth(curve.values, max(1.0, len(curve) / 25)), 0)) for name, curve in kl.items()
    }
    lines = {
        title: {name: smooth(rise, max(1.0, len(rise) / 25)) for name, rise in runs.items()}
        for title, runs in rises.items()
    }
    x = Scale(0.0, max(0.1, *(float(path.max()) for path in paths.values())) * 1.03, OVERLAID.left, OVERLAID.x_end)
    heights = [line for runs in lines.values() for line in runs.values()]
    y = Scale(*room(np.concatenate([*heights, np.zeros(1)]), ()), OVERLAID.y_end, OVERLAID.top)
    return tuple(_against_distance(title, paths, runs, x, y) for title, runs in lines.items())


def _against_distance(
    title: str,
    paths: Mapping[str, Float[np.ndarray, " N"]],
    runs: Mapping[str, Float[np.ndarray, " N"]],
    x: Scale,
    y: Scale,
) -> Chart:
    lines = tuple(trace(x, y, paths[name], values, tone_of(name), name) for name, values in runs.items())
    return Chart(
        id=re.sub(r"\W+", "-", f"{title} against distance".lower()),
        title=title,
        about="Change since the first updates, in standard deviations among answers.",
        description="Change since the first updates against the square root of KL. "
        + " ".join(
            f"{name} ends {figure(float(values[-1]))} standard deviations from its start, its highest is "
            f"{figure(float(values.max()))}."
            for name, values in runs.items()
        ),
        box=OVERLAID,
        x_label="distance from SFT, √KL (√nats)",
        y_label="",
        x_ticks=ticks(x, 6),
        y_ticks=ticks(y, 5),
        lines=lines,
        rules=(Rule(y(0.0), "", "plain"),),
        badges=badges(lines, OVERLAID),
    )


def tone_of(letter: str) -> Tone:
    """The tone of the run that is called by this letter."""
    return next(tone for tone in RUNS if tone.endswith(letter))


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
        lines=(trace(x, y, np.array([0.0, 1.0]), np.array([0.0, 1.0]), "plain", "perfect"),),
        dots=tuple(
            Dot(x(one), y(other), round(2.5 + 7 * math.sqrt(weight / most), 1), "sea",
                f"says {100 * one:.0f}%, is {100 * other:.0f}%, {100 * weight:.0f}% of the pairs")
            for one, other, weight in bins
        ),
    )  # fmt: skip


def _smoothed(curve: Curve) -> Float[np.ndarray, " N"]:
    return smooth(curve.values, len(curve) / 25) if len(curve) >= 25 else curve.values


def _free_side(values: Float[np.ndarray, " N"], level: float) -> Literal["left", "right"]:
    """The end at which a curve leaves more room for a word at this level."""
    return "left" if abs(values[0] - level) > abs(values[-1] - level) else "right"


def _describe(title: str, unit: str, x_label: str, curve: Curve, smoothed: Float[np.ndarray, " N"]) -> str:
    low, high = int(np.argmin(smoothed)), int(np.argmax(smoothed))
    of = f" in {unit}" if unit else ""
    return (
        f"{title}{of}, smoothed: {figure(float(smoothed[0]))} at {x_label} {curve.steps[0]}, "
        f"{figure(float(smoothed[-1]))} at {x_label} {curve.steps[-1]}; lowest {figure(float(smoothed[low]))} at "
        f"{x_label} {curve.steps[low]}, highest {figure(float(smoothed[high]))} at {x_label} {curve.steps[high]}."
    )
