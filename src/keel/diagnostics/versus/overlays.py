"""Pictures with a line for each run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from keel.config import Guards
from keel.diagnostics.curves import Shown, over_optimisation, practice_curves, spread
from keel.diagnostics.geometry import Chart, figure
from keel.diagnostics.pictures import distance_charts, overlay_chart
from keel.diagnostics.recorded import Curve, Metrics
from keel.diagnostics.versus.rivals import Rival

_METRICS = ("reward", "reward/gold", "kl", "length", "policy/entropy", "policy/clip_fraction")
_START = 3  # updates whose mean is where a run began


@dataclass(frozen=True)
class Ends:
    """A metric of one run in numbers: at its first and last update, and its range."""

    letter: str
    metric: str
    first: str
    last: str
    lowest: str
    highest: str


@dataclass(frozen=True)
class Distances:
    """Reward, and gold where there is one, against √KL; `words` say by letter what came of the gold score."""

    charts: tuple[Chart, ...]
    words: Mapping[str, str]


def overlays(rivals: Sequence[Rival]) -> tuple[list[Chart], list[Ends]]:
    """A picture for each metric of online training that two runs have logged, and the numbers behind them."""
    charts, numbers = [], []
    for shown in (one for name in _METRICS for one in practice_curves(Guards()) if one.metric == name):
        curves = {one.letter: shown.of(_practice(one)) for one in rivals}
        curves = {letter: curve for letter, curve in curves.items() if len(curve) > 1}
        if len(curves) > 1:
            charts.append(overlay_chart(shown.title, _about(shown, rivals, curves), shown.unit, curves))
            numbers += [_ends(letter, shown, curve) for letter, curve in curves.items()]
    return charts, numbers


def distances(rivals: Sequence[Rival]) -> Distances | None:
    """None where no two runs have what it takes.

    The unit, a standard deviation among answers, is one for all runs in a picture (root mean square of their own), so
    that heights can be compared; only where the runs do not have the same reward, each has its own for that.
    """
    rivals = [one for one in rivals if len(_practice(one).curve("kl")) > 1 and len(one.run.attempts.reward)]
    if len(rivals) < 2:
        return None
    kl = {one.letter: _practice(one).curve("kl") for one in rivals}
    own = {one.letter: spread(one.run.attempts) for one in rivals}
    alike = len({_rewards(one) for one in rivals}) == 1
    drawn: dict[str, dict[str, np.ndarray]] = {}
    for place, (title, name) in enumerate((("Reward (proxy)", "reward"), ("Gold score", "reward/gold"))):
        curves = {one.letter: _practice(one).curve(name).values for one in rivals}
        curves = {letter: values for letter, values in curves.items() if len(values) == len(kl[letter])}
        if len(curves) < 2:
            continue
        units = {letter: own[letter][place] for letter in curves}
        if name == "reward/gold" or alike:
            units = dict.fromkeys(units, math.sqrt(fmean(unit**2 for unit in units.values())))
        drawn[title] = {letter: (values - values[:_START].mean()) / units[letter] for letter, values in curves.items()}
    if not drawn:
        return None
    verdicts = {one.letter: over_optimisation(one.run)[0] for one in rivals}
    return Distances(
        distance_charts(kl, drawn),
        {letter: verdict.sentence for letter, verdict in verdicts.items() if verdict is not None},
    )


def _practice(rival: Rival) -> Metrics:
    return rival.run.practice or Metrics(())


def _about(shown: Shown, rivals: Sequence[Rival], curves: Mapping[str, Curve]) -> str:
    """What the metric is, and who is not in the picture; rewards of different models have no common scale."""
    words = shown.about
    if shown.metric == "reward" and len({_rewards(one) for one in rivals if one.letter in curves}) > 1:
        words += " The runs do not have the same reward, so compare the shapes, not the heights."
    missing = [one.letter for one in rivals if one.letter not in curves]
    return f"{words} Not logged in {', '.join(missing)}." if missing else words


def _rewards(rival: Rival) -> tuple[object, ...]:
    """What a run's reward is made of, by fingerprint, and how it is scaled."""
    origin = rival.run.origins.get(rival.summary.method)
    read = () if origin is None else tuple(sorted((name, one.fingerprint) for name, one in origin.inputs.items()))
    fields = ("rl.reward", "rl.reward_normalisation", "rl.missing_eos_score")
    return (
        *((name, mark) for name, mark in read if name.startswith("reward ")),
        *(rival.settings.get(name) for name in fields),
    )


def _ends(letter: str, shown: Shown, curve: Curve) -> Ends:
    values = curve.values
    first, last, lowest, highest = (figure(float(one)) for one in (values[0], values[-1], values.min(), values.max()))
    return Ends(letter, shown.title + (f", {shown.unit}" if shown.unit else ""), first, last, lowest, highest)
