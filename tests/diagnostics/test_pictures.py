"""Where lines, dots and ticks lie, and what the smoothing does."""

from __future__ import annotations

import re

import numpy as np
import pytest

from keel.diagnostics.geometry import SMALL, SQUARE, WIDE, Chart, Threshold, figure, nice_ticks
from keel.diagnostics.over_optimisation import judge
from keel.diagnostics.pictures import calibration_chart, curve_chart, over_optimisation_chart
from keel.diagnostics.recorded import Curve
from keel.diagnostics.smoothing import running_mean, smooth


def curve(*values: float) -> Curve:
    return Curve(np.arange(1, len(values) + 1), np.array(values))


def drawn(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"(-?[\d.]+),(-?[\d.]+)", path)]


def inside(chart: Chart) -> bool:
    box = chart.box
    points = [point for line in chart.lines for point in drawn(line.path)] + [(dot.x, dot.y) for dot in chart.dots]
    return all(box.left <= x <= box.x_end and box.top <= y <= box.y_end for x, y in points)


def test_smoothing_by_hand() -> None:
    # width 1: weights 1, e^−½, e^−2, …
    e = np.exp(-0.5)
    values = np.array([1.0, 0.0])
    assert smooth(values, 1.0) == pytest.approx([1 / (1 + e), e / (1 + e)])
    assert smooth(np.full(30, 2.5), 3.0) == pytest.approx(np.full(30, 2.5))
    line = np.arange(40.0)
    assert smooth(line, 2.0)[15:25] == pytest.approx(line[15:25])  # away from the ends a line stays a line


def test_running_mean_by_hand() -> None:
    assert running_mean(np.array([1.0, 2, 6, 3]), 2) == pytest.approx([1.5, 4, 4.5])
    assert running_mean(np.array([1.0, 2, 6]), 5) == pytest.approx([3])


@pytest.mark.parametrize(
    ("low", "high", "about", "ticks"),
    [
        (0.0, 10.0, 5, [0, 2, 4, 6, 8, 10]),
        (0.13, 0.87, 4, [0.2, 0.4, 0.6, 0.8]),
        (-1.2, 2.3, 4, [-1, 0, 1, 2]),
        (0.0, 1000.0, 2, [0, 500, 1000]),
        (1.0, 100.0, 5, [20, 40, 60, 80, 100]),
    ],
)
def test_ticks_are_round(low: float, high: float, about: int, ticks: list[float]) -> None:
    assert nice_ticks(low, high, about) == pytest.approx(ticks)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (1.2345, "1.23"), (12.345, "12.3"), (123.45, "123"), (12345.6, "12,346"), (0.1234, "0.12"),
     (0.0123, "0.012"), (-0.5, "−0.50"), (4e-13, "4.0e−13"), (float("nan"), "–")],
)  # fmt: skip
def test_numbers_as_people_write_them(value: float, text: str) -> None:
    assert figure(value) == text


def test_a_rising_line_goes_from_bottom_left_to_top_right() -> None:
    chart = curve_chart("Loss", "", "nats", curve(1.0, 2.0, 3.0))
    points = drawn(chart.lines[0].path)
    assert [x for x, _ in points] == [SMALL.left, (SMALL.left + SMALL.x_end) / 2, SMALL.x_end]
    heights = [y for _, y in points]
    assert heights == sorted(heights, reverse=True)
    assert heights[0] - heights[1] == pytest.approx(heights[1] - heights[2], abs=0.02)
    assert inside(chart)
    assert chart.lines[0].end == points[-1]
    assert chart.latest == "3.00"
    assert "1.00 at update 1, 3.00 at update 3; lowest 1.00 at update 1, highest 3.00 at update 3" in chart.description


def test_a_threshold_is_drawn_where_the_values_come_near_it() -> None:
    limits = (Threshold(10.0, "look", "amber"), Threshold(30.0, "alarm", "red"))
    assert [rule.label for rule in curve_chart("KL", "", "", curve(0.0, 8.0, 9.0), thresholds=limits).rules] == ["look"]
    assert curve_chart("KL", "", "", curve(0.0, 1.0, 2.0), thresholds=limits).rules == ()
    both = curve_chart("KL", "", "", curve(0.0, 20.0, 40.0), thresholds=limits)
    assert [rule.label for rule in both.rules] == ["look", "alarm"]
    assert both.rules[0].y > both.rules[1].y  # 30 is higher up than 10
    # the curve starts at 0 and ends at 40: 10 has room at the right, 30 at the left
    assert [rule.side for rule in both.rules] == ["right", "left"]


@pytest.mark.parametrize("values", [(2.0, 2.0, 2.0), (0.0, 0.0), (-1.0, -1.0, -1.0), (1e-9, 2e-9)])
def test_a_flat_curve_is_a_flat_line(values: tuple[float, ...]) -> None:
    chart = curve_chart("Flat", "", "", curve(*values))
    assert inside(chart)
    assert len(chart.y_ticks) >= 1


def test_many_points_are_thinned_and_the_last_is_kept() -> None:
    values = np.sin(np.arange(5000) / 300)
    chart = curve_chart("Long", "", "", Curve(np.arange(1, 5001), values))
    assert len(chart.dots) <= 160
    assert chart.dots[-1].x == SMALL.x_end
    assert chart.dots[-1].tip.startswith("update 5000:")


def test_proxy_and_gold_share_a_scale_of_standard_deviations() -> None:
    n = 40
    over = np.linspace(0, 1, n)
    kl, proxy, gold = (Curve(np.arange(1, n + 1), values) for values in (9 * over**2, 4 * over, 10 * over))
    verdict = judge(proxy.values, gold.values)
    chart = over_optimisation_chart(kl, proxy, gold, (2.0, 5.0), verdict)
    blue, yellow = (drawn(line.path) for line in chart.lines)
    assert np.array(blue) == pytest.approx(np.array(yellow))  # both rise by two of their own standard deviations
    assert chart.marks == ()
    assert inside(chart)
    assert chart.box is WIDE


def test_the_peak_of_gold_is_marked_where_it_fell() -> None:
    n = 40
    over = np.linspace(0, 1, n)
    kl = Curve(np.arange(1, n + 1), 9 * over)
    proxy, gold = Curve(kl.steps, 3 * over), Curve(kl.steps, 1 - (over - 0.4) ** 2)
    verdict = judge(proxy.values, gold.values)
    chart = over_optimisation_chart(kl, proxy, gold, (1.0, 1.0), verdict)
    assert verdict.kind == "over-optimised"
    highest = min(y for _, y in drawn(chart.lines[1].path))
    assert chart.marks[0].y == pytest.approx(highest, abs=3)


def test_kl_below_zero_counts_as_no_distance() -> None:
    n = 10
    kl = Curve(np.arange(1, n + 1), np.linspace(-0.8, 4, n))
    line = Curve(kl.steps, np.linspace(0, 1, n))
    chart = over_optimisation_chart(kl, line, line, (1.0, 1.0), judge(line.values, line.values))
    assert inside(chart)
    assert [dot.x == WIDE.left for dot in chart.dots] == 2 * (kl.values <= 0).tolist()


def test_calibration_dots_lie_where_the_bins_say() -> None:
    chart = calibration_chart([(0.25, 0.75, 0.1), (1.0, 0.0, 0.4)])
    width, height = SQUARE.x_end - SQUARE.left, SQUARE.y_end - SQUARE.top
    assert (chart.dots[0].x, chart.dots[0].y) == (SQUARE.left + width / 4, SQUARE.top + height / 4)
    assert (chart.dots[1].x, chart.dots[1].y) == (SQUARE.x_end, SQUARE.y_end)
    assert chart.dots[1].radius > chart.dots[0].radius
    assert "25% predicted, 75% actual" in chart.description
