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
    """What one method came to from one seed.

    `gain_low` and `gain_high` are the interval of its gain over the prompts of its evaluation. `seconds` are those of
    the method's own stage, and of the reward model's where it learns from the one that the run trains.
    """

    name: str
    seed: int
    judge: Literal["gold", "reward"] | None
    win_rate: float | None
    win_rate_low: float | None
    win_rate_high: float | None
    gold_before: float | None
    gold: float | None
    gain_low: float | None
    gain_high: float | None
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
    """A mean over `seeds` seeds, those that have the number, with Student's 95 % interval, which one seed does not
    give; None where nothing was measured."""

    value: float | None
    low: float | None
    high: float | None
    seeds: int

    @classmethod
    def of(cls, found: Sequence[float | None]) -> Estimate:
        """Of the seeds that have the number: mean ± t·s/√n, with t the 97.5 % quantile of Student's distribution with
        n − 1 degrees of freedom and s the deviation among seeds, of denominator n − 1."""
        known = [one for one in found if one is not None and math.isfinite(one)]
        if not known:
            return cls(None, None, None, 0)
        if len(known) == 1:
            return cls(known[0], None, None, 1)
        reach = student(len(known) - 1) * stdev(known) / math.sqrt(len(known))
        return cls(fmean(known), fmean(known) - reach, fmean(known) + reach, len(known))

    def times(self, factor: float) -> Estimate:
        """In another unit, such as percents."""
        value, low, high = (None if one is None else factor * one for one in (self.value, self.low, self.high))
        return Estimate(value, low, high, self.seeds)


@dataclass(frozen=True)
class Row:
    """One method over all seeds.

    `gain` is the mean of the trials' gains; `rate_ahead` and `gain_ahead` that of what its win rate and its gain are
    above those of the method that was named first, seed by seed, for the seeds that both have.
    """

    name: str
    title: str
    seeds: int
    win_rate: Estimate
    gain: Estimate
    gold: Estimate
    kl: Estimate
    length: Estimate
    seconds: Estimate
    rate_ahead: Estimate
    gain_ahead: Estimate


@dataclass(frozen=True)
class Bout:
    """All trials, seed by seed, within a seed in the order in which the methods were named; `titles` by name,
    in that order too.

    `shared` are the stages whose results all methods that have a use for them began with, `failures` a sentence for
    each trial that came to nothing.
    """

    trials: tuple[Trial, ...]
    titles: Mapping[str, str]
    shared: tuple[Literal["sft", "preferences", "reward"], ...] = ()
    failures: tuple[str, ...] = ()

    @property
    def seeds(self) -> int:
        """How many seeds there are in all."""
        return len({one.seed for one in self.trials})

    def by_method(self) -> dict[str, list[Trial]]:
        """The trials of each method, in the order in which they were named."""
        found = {name: [one for one in self.trials if one.name == name] for name in self.titles}
        return {name: trials for name, trials in found.items() if trials}

    def rows(self) -> list[Row]:
        """A row for each method."""
        methods = self.by_method()
        first = next(iter(methods.values()), [])
        return [self._row(name, trials, first) for name, trials in methods.items()]

    def to_json(self) -> dict[str, Any]:
        """The content of methods.json."""
        return {
            "methods": [asdict(row) for row in self.rows()],
            "trials": [asdict(one) for one in self.trials],
            "shared": list(self.shared),
            "failures": list(self.failures),
        }

    def __str__(self) -> str:
        """A table of at most 80 columns; where the numbers are too long for that, the last ones are left out."""
        rows = self.rows()
        lines = [("method", *_HEADS), *(_cells(row, self.seeds) for row in rows)]
        while len(lines[0]) > 2 and _wide(lines) > _WIDTH:
            lines = [line[:-1] for line in lines]
        left_out = _HEADS[len(lines[0]) - 1 :]
        notes = [
            "Win rate: over SFT. Gain: gold score less SFT's. KL: nats per answer, from SFT. Seconds: of training, its "
            "own reward model included."
        ]
        notes.append(
            f"Means over {self.seeds} seeds, ± half of Student's 95% interval."
            if self.seeds > 1
            else "One seed: nothing is known of how far another would differ."
        )
        if any(_MARK in cell for line in lines[1:] for cell in line):
            notes.append(f"{_MARK} Of fewer seeds.")
        if left_out:
            notes.append(f"Not shown, but in methods.json: {', '.join(left_out)}.")
        told = [" ".join(notes), _paired(rows) if self.seeds > 1 else _gained(self.trials)]
        return "\n".join([*_table(lines), "", *(line for one in told for line in textwrap.wrap(one, _WIDTH))])

    def _row(self, name: str, trials: Sequence[Trial], first: Sequence[Trial]) -> Row:
        def over(field: str) -> Estimate:
            return Estimate.of([getattr(one, field) for one in trials])

        def ahead(field: str) -> Estimate:
            others = {one.seed: getattr(one, field) for one in first}
            pairs = [(getattr(one, field), others.get(one.seed)) for one in trials]
            return Estimate.of([None if None in pair else pair[0] - pair[1] for pair in pairs])

        return Row(
            name, self.titles[name], len(trials), over("win_rate"), over("gain"), over("gold"), over("kl"),
            over("length"), over("seconds"), ahead("win_rate"), ahead("gain"),
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
_MARK = "*"


def _cells(row: Row, seeds: int) -> tuple[str, ...]:
    """A number of fewer seeds than there are is marked."""
    found = (
        (row.win_rate.times(100.0), ".1f"),
        (row.gain, "+.2f"),
        (row.kl, ".1f"),
        (row.length, ".0f"),
        (row.seconds, ".0f"),
    )
    return (row.name, *(_worded(one, form) + (_MARK if 0 < one.seeds < seeds else "") for one, form in found))


def _paired(rows: Sequence[Row]) -> str:
    """What each is ahead of the first, where seeds tell: the same seeds have the same SFT model and prompts."""
    told = [
        f"{row.name} {_worded(row.rate_ahead.times(100.0), '+.1f')}" for row in rows[1:] if row.rate_ahead.seeds > 1
    ]
    return f"Win rate less that of {rows[0].name}, %, paired by seed: {', '.join(told)}." if told else ""


def _gained(trials: Sequence[Trial]) -> str:
    """What one seed tells: how far the prompts of its evaluation agree on the gain."""
    told = [
        f"{one.name} {one.gain_low:+.2f} to {one.gain_high:+.2f}"
        for one in trials
        if one.gain_low is not None and one.gain_high is not None
    ]
    return f"Its gain, in 95% intervals over the prompts: {', '.join(told)}." if told else ""


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
