"""Pictures of several runs: letters that do not overlap, shared scales, colours that everybody can tell apart."""

from __future__ import annotations

import json
import math
import re
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest

import keel.diagnostics
from keel.diagnostics.curves import spread
from keel.diagnostics.geometry import OVERLAID, RUNS, Chart, Line, badges, figure
from keel.diagnostics.pictures import distance_charts, overlay_chart, tone_of
from keel.diagnostics.smoothing import smooth
from keel.diagnostics.versus.overlays import distances, overlays
from keel.diagnostics.versus.rivals import read_rivals

from .beside import leave_lineages
from .finished import finished_run
from .test_pictures import curve, drawn, inside

CSS = (Path(keel.diagnostics.__file__).parent / "templates" / "report.css").read_text(encoding="utf-8")
LINEAR_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
WITHOUT_RED = [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
WITHOUT_GREEN = [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
SEEN_BY = {
    "most people": np.eye(3),
    "people without red": np.array(WITHOUT_RED),
    "people without green": np.array(WITHOUT_GREEN),
}
"""Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB."""


def line(letter: str, x: float, y: float) -> Line:
    return Line("M0,0", tone_of(letter), letter, (x, y))


def overlapping(chart: Chart) -> list[tuple[str, str]]:
    return [
        (one.letter, other.letter)
        for one, other in combinations(chart.badges, 2)
        if math.hypot(one.x - other.x, one.y - other.y) < 17
    ]


def test_each_run_has_its_line_its_tone_and_its_letter() -> None:
    chart = overlay_chart("KL", "", "nats", {"A": curve(0.0, 1.0, 2.0), "C": curve(0.0, 2.0, 4.0)})
    assert [(one.label, one.tone) for one in chart.lines] == [("A", "run-A"), ("C", "run-C")]
    assert {one.letter: one.home for one in chart.badges} == {one.label: one.end for one in chart.lines}
    assert inside(chart)
    a, c = (drawn(one.path) for one in chart.lines)
    assert (
        [x for x, _ in a] == [x for x, _ in c] == [OVERLAID.left, (OVERLAID.left + OVERLAID.x_end) / 2, OVERLAID.x_end]
    )
    start, half, end = a[0][1], a[2][1], c[2][1]
    assert start - half == pytest.approx(half - end, abs=0.02)  # 2 is half way between 0 and 4
    assert "A: 0 at update 1, 2.00 at update 3. C: 0 at update 1, 4.00 at update 3." in chart.description


def test_a_shorter_run_ends_earlier() -> None:
    chart = overlay_chart("KL", "", "", {"A": curve(*np.arange(11.0)), "B": curve(*np.arange(6.0))})
    (_, long), (_, short) = ((one.label, one.end[0]) for one in chart.lines)
    assert long == OVERLAID.x_end
    assert short == (OVERLAID.left + OVERLAID.x_end) / 2


@pytest.mark.parametrize("heights", [[100.0] * 8, [256.0] * 8, [10.0] * 8, [100.0, 105.0, 250.0, 254.0, 256.0]])
def test_letters_never_overlap_and_stay_in_the_picture(heights: list[float]) -> None:
    lines = [line("ABCDEFGH"[place], 400.0, y) for place, y in enumerate(heights)]
    found = badges(lines, OVERLAID)
    ys = sorted(one.y for one in found)
    assert min(b - a for a, b in pairwise(ys)) >= 17
    assert max(ys) <= OVERLAID.y_end
    assert min(ys) >= 0
    assert sorted(one.letter for one in found) == sorted(one.label for one in lines)


def test_letters_of_runs_that_end_early_stay_in_the_picture() -> None:
    found = badges([*(line(letter, 100.0, 230.0) for letter in "ABC"), line("D", 400.0, 240.0)], OVERLAID)
    assert max(one.y for one in found) <= OVERLAID.y_end


def test_letters_that_are_apart_do_not_move() -> None:
    found = badges([line("A", 400.0, 50.0), line("B", 400.0, 90.0), line("C", 200.0, 52.0)], OVERLAID)
    assert {one.letter: (one.x, one.y) for one in found} == {"A": (412.0, 50.0), "B": (412.0, 90.0), "C": (212.0, 52.0)}


def test_proxy_and_gold_are_on_the_same_scales() -> None:
    kl = {"A": curve(0.0, 1.0, 4.0), "B": curve(0.0, 4.0, 9.0)}
    rise = {"A": np.array([0.0, 1.0, 2.0]), "B": np.array([0.0, 1.0, 3.0])}
    reward, gold = distance_charts(kl, {"Reward": rise, "Gold": {"A": rise["A"] / 2}})
    assert (reward.x_ticks, reward.y_ticks) == (gold.x_ticks, gold.y_ticks)
    assert [one.label for one in gold.lines] == ["A"]
    assert inside(reward)
    assert inside(gold)


def test_a_picture_for_each_metric_that_two_runs_have(tmp_path: Path) -> None:
    directories = [
        finished_run(tmp_path / "a", updates=30),
        finished_run(tmp_path / "b", updates=20, gold=False),
        finished_run(tmp_path / "c", stages=("sft",)),
    ]
    charts, numbers = overlays(read_rivals(directories))
    assert [one.title for one in charts] == ["Reward", "KL", "Length", "Entropy", "Clip fraction"]
    assert all(one.about.endswith("Not logged in C.") for one in charts)
    assert all([line.label for line in one.lines] == ["A", "B"] for one in charts)
    assert all(inside(one) and not overlapping(one) for one in charts)
    assert {row.letter for row in numbers} == {"A", "B"}
    assert len({one.id for one in charts}) == len(charts)


def test_rewards_of_different_models_are_not_of_one_scale(tmp_path: Path) -> None:
    directories = [finished_run(tmp_path / name, updates=10) for name in "ab"]
    for directory in directories:
        leave_lineages(directory)
    words = "The runs do not have the same reward, so compare the shapes, not the heights."
    assert words not in overlays(read_rivals(directories))[0][0].about
    leave_lineages(directories[1], reward="another")
    assert words in overlays(read_rivals(directories))[0][0].about


def widen_gold(directory: Path, factor: float) -> None:
    """Other gold scores among the recorded answers; those of the updates stay as they are."""
    path = directory / "ppo" / "rollouts.jsonl"
    rows = [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]
    wider = [row | {"parts": row["parts"] | {"gold": factor * row["parts"]["gold"]}} for row in rows]
    path.write_text("".join(json.dumps(row) + "\n" for row in wider), encoding="utf-8")


def heights(chart: Chart) -> dict[str, float]:
    """How high each line ends above zero, measured in the picture with its own ticks."""
    low, high = chart.y_ticks[0], chart.y_ticks[-1]
    labels = [float(one.label.replace("−", "-")) for one in (low, high)]
    step = (low.at - high.at) / (labels[1] - labels[0])
    return {one.label: (chart.rules[0].y - one.end[1]) / step for one in chart.lines}


def test_gold_has_one_unit_for_all_runs(tmp_path: Path) -> None:
    directories = [finished_run(tmp_path / name, updates=30, seed=seed) for seed, name in enumerate("ab")]
    widen_gold(directories[1], 4.0)
    rivals = read_rivals(directories)
    found = distances(rivals)
    assert found is not None
    assert [one.title for one in found.charts] == ["Reward (proxy)", "Gold score"]
    assert list(found.words) == ["A", "B"]
    assert all(inside(one) for one in found.charts)
    one, other = (spread(rival.run.attempts)[1] for rival in rivals)
    assert other > 3 * one
    unit = math.sqrt((one**2 + other**2) / 2)
    gold = {rival.letter: rival.run.metrics["ppo"].curve("reward/gold").values for rival in rivals}
    ends = {letter: smooth(values - values[:3].mean(), 30 / 25)[-1] / unit for letter, values in gold.items()}
    assert heights(found.charts[1]) == pytest.approx(ends, abs=0.01)
    for letter, end in ends.items():
        assert f"{letter} ends {figure(float(end))} standard deviations" in found.charts[1].description


def test_a_run_without_gold_does_not_change_the_unit_of_gold(tmp_path: Path) -> None:
    """It has no deviation that could count."""
    directories = [finished_run(tmp_path / name, updates=30, seed=seed) for seed, name in enumerate("ab")]
    for directory in directories:
        widen_gold(directory, 0.1)
    two = distances(read_rivals(directories))
    three = distances(read_rivals([*directories, finished_run(tmp_path / "c", updates=30, gold=False)]))
    assert two is not None
    assert three is not None
    assert [line.label for line in three.charts[1].lines] == ["A", "B"]
    assert three.charts[1].description == two.charts[1].description


def test_no_distances_of_runs_without_ppo(tmp_path: Path) -> None:
    assert distances(read_rivals([finished_run(tmp_path / name, stages=("sft",)) for name in "ab"])) is None


def palette(scheme: str) -> tuple[str, list[str]]:
    """The card's colour and those of the runs, A to H."""
    light, dark = (
        CSS.split("@media (prefers-color-scheme: dark)")[0],
        CSS.split("@media (prefers-color-scheme: dark)")[1],
    )
    text = light if scheme == "light" else dark.split("* {")[0]
    colours = [re.search(rf"--run-{letter}: (#[0-9a-f]{{6}})", text) for letter in "abcdefgh"]
    card = re.search(r"--card: (#[0-9a-f]{6})", text)
    assert card
    assert all(colours)
    return card[1], [one[1] for one in colours if one]


def linear(colour: str) -> np.ndarray:
    shares = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    return np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)


def lab(colour: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of linear RGB, D65."""
    xyz = LINEAR_TO_XYZ @ np.clip(colour, 0, 1) / np.array([0.95047, 1.0, 1.08883])
    x, y, z = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def contrast(one: str, other: str) -> float:
    """WCAG 2's ratio."""
    bright, dark = sorted((float(linear(colour) @ LINEAR_TO_XYZ[1]) for colour in (one, other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_colours_of_runs_can_be_told_apart(scheme: str) -> None:
    card, colours = palette(scheme)
    assert [colour for colour in colours if contrast(colour, card) < 3] == []
    for whom, matrix in SEEN_BY.items():
        seen = [lab(matrix @ linear(colour)) for colour in colours]
        near = [
            ("ABCDEFGH"[i] + "ABCDEFGH"[j], round(float(np.linalg.norm(seen[i] - seen[j]))))
            for i, j in combinations(range(8), 2)
            if np.linalg.norm(seen[i] - seen[j]) < 15
        ]
        assert near == [], whom


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_without_colour_the_first_runs_are_of_other_brightness(scheme: str) -> None:
    _, colours = palette(scheme)
    brightness = [float(lab(linear(colour))[0]) for colour in colours[:3]]
    assert min(abs(a - b) for a, b in combinations(brightness, 2)) > 8


def test_every_run_has_a_dash_of_its_own() -> None:
    dashes = {tone: re.search(rf"\.{tone} {{[^}}]*--dash: ([\d. ]+)", CSS) for tone in RUNS}
    assert [tone for tone, found in dashes.items() if found is None] == ["run-A"]  # a whole line
    assert len({found[1] for found in dashes.values() if found}) == len(RUNS) - 1
