"""The benchmarks of labels: their arithmetic by hand, and both of them whole, with tiny counts."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import pytest

from benchmarks import annotators, selection
from keel.config import Recipe, load_recipe
from keel.preferences.select import Strategy
from keel.types import Message, Preference

TINY: Mapping[str, Any] = {
    "sft.max_steps": 2,
    "preferences.sampling.max_tokens": 16,
    "reward.max_steps": 2,
    "reward.batch_size": 4,
}


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo's recipe with few steps and short answers."""

    def load(path: Path, changes: Mapping[str, Any]) -> Recipe:
        return load_recipe(path, {**changes, **TINY})

    for module in (annotators, selection):
        monkeypatch.setattr(module, "load_recipe", load)
    monkeypatch.setattr(selection, "UNSEEN", 8)
    monkeypatch.setattr(selection, "ROUNDS", (4, 8, 12))
    monkeypatch.setattr(selection, "PROMPTS", 8)


@pytest.mark.parametrize(
    ("accuracies", "target", "labels"),
    [
        ((0.5, 0.7, 0.8), 0.6, 150),  # half way from 100 to 200
        ((0.5, 0.7, 0.8), 0.775, 350),  # three quarters from 200 to 400
        ((0.5, 0.7, 0.8), 0.5, 100),
        ((0.5, 0.7, 0.8), 0.8, 400),
        ((0.5, 0.7, 0.8), 0.81, None),
        ((0.5, 0.4, 0.8), 0.6, 300),  # past a fall
    ],
)
def test_where_a_curve_reaches_a_target(accuracies: tuple[float, ...], target: float, labels: float | None) -> None:
    found = selection.reached((100, 200, 400), accuracies, target)
    assert found == (None if labels is None else pytest.approx(labels))


def test_the_table_counts_by_seed_and_on_the_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "ROUNDS", (100, 200))
    curves = {"random": {0: [0.5, 0.7], 1: [0.6, 0.8]}, "disagreement": {0: [0.6, 0.8], 1: [0.6, 0.7]}}
    rows = selection.table(curves).splitlines()
    assert rows[2] == "| random | 0.550 | 0.750 | 200, 200 | 200 |"
    # seed 0: .7 is half way; seed 1 never reaches .8; means .6 and .75 reach .75 at the end
    assert rows[3] == "| disagreement | 0.600 | 0.750 | 150, more | 200 |"


def test_the_interval_is_students() -> None:
    mean, half = annotators.interval([0.01, 0.03, 0.05])
    assert mean == pytest.approx(0.03)
    assert half == pytest.approx(4.303 * 0.02 / math.sqrt(3))
    assert math.isnan(annotators.interval([0.01])[1])


def test_labels_are_held_against_gold() -> None:
    """Of five labels one says nothing of answers that are alike in gold; two are right, one wrong, one half."""
    space = SimpleNamespace(task=SimpleNamespace(gold=lambda _, text: float(text)))

    def label(chosen: str, rejected: str, probability: float) -> Preference:
        return Preference(
            (Message("user", "x"),), (Message("assistant", chosen),), (Message("assistant", rejected),), probability
        )

    labels = [
        label("2", "1", 0.9),
        label("1", "2", 0.2),
        label("1", "2", 1.0),
        label("3", "1", 0.5),
        label("1", "1", 1.0),
    ]
    assert annotators.right_of(space, labels) == 2.5 / 4


@pytest.mark.usefixtures("tiny", "unchecked_shapes")
def test_selection_runs_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert selection.main(["--seeds", "3", "--members", "2", "--out", str(tmp_path)]) == 0
    told = json.loads((tmp_path / "selection.json").read_text(encoding="utf-8"))
    assert told["labels"] == [4, 8, 12]
    assert set(told["accuracy"]) == set(get_args(Strategy))
    curves = [seeds["3"] for seeds in told["accuracy"].values()]
    assert all(len(curve) == 3 and all(0 <= one <= 1 for one in curve) for curve in curves)
    # the first labels are the same for all, and so is the model trained on them
    assert len({curve[0] for curve in curves}) == 1
    assert "| random |" in capsys.readouterr().out


@pytest.mark.usefixtures("tiny", "unchecked_shapes")
def test_annotators_runs_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        annotators.main(["--seeds", "3", "--pairs", "12", "--models", "2", "--unseen", "8", "--out", str(tmp_path)])
        == 0
    )
    told = json.loads((tmp_path / "annotators.json").read_text(encoding="utf-8"))
    setting = {"pairs": 12, "spammers": 4, "noise": 1.0, "epochs": 2, "models": 2, "unseen": 8}
    assert told["setting"] == setting
    assert set(told["accuracy"]["3"]) == set(annotators.METHODS)
    assert all(0 <= one <= 1 and not np.isnan(one) for one in told["accuracy"]["3"].values())
    assert "over majority" in capsys.readouterr().out
