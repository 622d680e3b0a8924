"""Numbers on a scale, drawn as a bar or as a mark in its interval."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Gauge:
    """A number on a scale from 0 to 100 (percent of the width), with its interval where it has one."""

    label: str
    at: float
    low: float | None
    high: float | None
    text: str
    tone: str


def gauge(label: str, value: float, low: float | None, high: float | None, tone: str, floor: float = 0.0) -> Gauge:
    """A share between `floor` and 1 on a gauge."""

    def place(share: float) -> float:
        return round(100 * min(max((share - floor) / (1 - floor), 0.0), 1.0), 2)

    text = f"{100 * value:.1f}%"
    if low is None or high is None:
        return Gauge(label, place(value), None, None, text, tone)
    return Gauge(label, place(value), place(low), place(high), f"{text} ({100 * low:.0f}–{100 * high:.0f}%)", tone)
