"""What several methods came to on one task, over seeds."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, stdev
from typing import Any, Literal

_STUDENT = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262}
"""97.5 % quantile of Student's t by degrees of freedom."""
_NORMAL = 1.959964
_WIDTH = 80


@dataclass(frozen=True)
class Trial:
    """What one method came to from one seed; `seconds` are those of the method's own stage."""

    name: str
    seed: int
    judge: Literal["gold", "reward"] | None
    win_rate: float | None
    win_rate_low: float | None
    win_rate_high: float | None
    gold_before: float | None
    gold: float | None
    reward: float | None
    kl: float | None
    length: float | None
    seconds: float
    directory: str

    @property
    def gain(self) -> float | None:
        """Its gold score less that of the supervised model that it began with."""
        return None if self.gold is None or self.gold_before is None else self.gold - self.gold_before


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with Student's 95 % interval, which one seed does not give; None where nothing was measured."""

    value: float | None
    low: float | None
    high: float | None

    @classmethod
    def of(cls, found: Sequence[float | None]) -> Estimate:
        """Of the seeds that have the number: mean ± t·s/√n, with t the 97.5 % quantile of Student's distribution with
        n − 1 degrees of freedom and s the deviation among seeds, of denominator n − 1."""
        known = [one for one in found if one is not None and math.isfinite(one)]
        if not known:
            return cls(None, None, None)
        if len(known) == 1:
            return cls(known[0], None, None)
        reach = student(len(known) - 1) * stdev(known) / math.sqrt(len(known))
        return cls(fmean(known), fmean(known) - reach, fmean(known) + reach)

    def times(self, factor: float) -> Estimate:
        """In another unit, such as percents."""
        return Estimate(*(None if one is None else factor * one for one in (self.value, self.low, self.high)))


@dataclass(frozen=True)
class Row:
    """One method over all seeds. `gain` is the mean of the trials' gains."""

    name: str
    title: str
    seeds: int
    win_rate: Estimate
    gain: Estimate
    gold: Estimate
    kl: Estimate
    length: Estimate
    seconds: Estimate


@dataclass(frozen=True)
class Bout:
    """All trials, seed by seed, within a seed in the order in which the methods were named; `titles` by name."""

    trials: tuple[Trial, ...]
    titles: Mapping[str, str]

    def with_trial(self, trial: Trial, title: str) -> Bout:
        """The same, and one more."""
        return Bout((*self.trials, trial), {**self.titles, trial.name: title})

    @property
    def seeds(self) -> int:
        """How many seeds there are in all."""
        return len({one.seed for one in self.trials})

    def by_method(self) -> dict[str, list[Trial]]:
        """The trials of each method, in the order in which they were named."""
        names = dict.fromkeys(one.name for one in self.trials)
        return {name: [one for one in self.trials if one.name == name] for name in names}

    def rows(self) -> list[Row]:
        """A row for each method."""
        return [self._row(name, trials) for name, trials in self.by_method().items()]

    def to_json(self) -> dict[str, Any]:
        """The content of methods.json."""
        return {"methods": [asdict(row) for row in self.rows()], "trials": [asdict(one) for one in self.trials]}

    def __str__(self) -> str:
        """A table of at most 80 columns; where the numbers are too long for that, the last ones are left out."""
        lines = [("method", *_HEADS), *(_cells(row) for row in self.rows())]
        while len(lines[0]) > 2 and _wide(lines) > _WIDTH:
            lines = [line[:-1] for line in lines]
        left_out = _HEADS[len(lines[0]) - 1 :]
        notes = ["Win rate: over SFT. Gain: gold score less SFT's. KL: nats per answer, from SFT."]
        notes.append(
            f"Means over {self.seeds} seeds, ± half of Student's 95% interval."
            if self.seeds > 1
            else "One seed: nothing is known of how far another would differ."
        )
        if left_out:
            notes.append(f"Not shown, but in methods.json: {', '.join(left_out)}.")
        return "\n".join([*_table(lines), "", *textwrap.wrap(" ".join(notes), _WIDTH)])

    def _row(self, name: str, trials: Sequence[Trial]) -> Row:
        def over(field: str) -> Estimate:
            return Estimate.of([getattr(one, field) for one in trials])

        return Row(
            name, self.titles[name], len(trials), over("win_rate"), over("gain"), over("gold"), over("kl"),
            over("length"), over("seconds"),
        )  # fmt: skip


def student(degrees: int) -> float:
    """97.5 % quantile of Student's t; beyond nine degrees of freedom ν by its expansion about the normal quantile z,
    z + (z³ + z)/4ν + (5z⁵ + 16z³ + 3z)/96ν² + (3z⁷ + 19z⁵ + 17z³ − 15z)/384ν³, right to three digits there (Abramowitz
    and Stegun 26.7.5)."""
    z, v = _NORMAL, degrees
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return _STUDENT.get(v, z + first / v + second / v**2 + third / v**3)


_HEADS = ("win rate, %", "gain", "KL", "tokens", "seconds")


def _cells(row: Row) -> tuple[str, ...]:
    found = (
        (row.win_rate.times(100.0), ".1f"),
        (row.gain, "+.2f"),
        (row.kl, ".1f"),
        (row.length, ".0f"),
        (row.seconds, ".0f"),
    )
    return (row.name, *(_worded(one, form) for one, form in found))


def _worded(found: Estimate, form: str) -> str:
    if found.value is None:
        return "–"
    value = format(found.value, form)
    if float(value) == 0:  # −0.00 is a 0
        value = format(0.0, form)
    if found.high is None:
        return value
    return f"{value} ± {format(found.high - found.value, form.removeprefix('+'))}"


def _wide(lines: Sequence[Sequence[str]]) -> int:
    return max(len(line) for line in _table(lines))


def _table(lines: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return [
        "  ".join([name.ljust(widths[0]), *(one.rjust(wide) for one, wide in zip(cells, widths[1:], strict=True))])
        for name, *cells in lines
    ]
