"""The best of n on a run: by hand where the numbers are given, by enumeration where they are sampled."""

from __future__ import annotations

import json
import math
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from keel import pipeline
from keel.best_of import BestOf, Mean, Point, _point, best_of_n
from keel.cli import run as command
from keel.config import dump_recipe, load_recipe
from keel.config.load import changed
from keel.display import SilentDisplay
from keel.errors import UserError


def test_a_point_is_the_mean_over_prompts_of_the_mean_over_subsets() -> None:
    """Two prompts with three answers each; of all pairs the one that the reward likes better."""
    scores, golds = [1.0, 3.0, 2.0, 5.0, 4.0, 6.0], [10.0, 0.0, 7.0, 1.0, 2.0, 3.0]
    found = _point(2, scores, golds, 3)
    expected = [
        sum(max((scores[i], golds[i]) for i in pair)[1] for pair in combinations(range(first, first + 3), 2)) / 3
        for first in (0, 3)
    ]
    assert found.gold is not None
    assert found.gold.value == pytest.approx(sum(expected) / 2)
    assert found.kl == pytest.approx(math.log(2) - 0.5)
    spread = abs(expected[0] - expected[1]) / math.sqrt(2)
    assert found.gold.high == pytest.approx(sum(expected) / 2 + 1.96 * spread / math.sqrt(2))
    assert _point(1, scores, None, 3).gold is None
    assert _point(1, scores, None, 3).reward.value == pytest.approx(3.5)


def test_one_prompt_has_no_interval() -> None:
    assert Mean.of([2.0]) == Mean(2.0, None, None)
    one = BestOf((Point(1, 0.0, Mean(2.0, None, None), None),), 1, 4)
    assert "2.00" in str(one)
    assert "[" not in str(one)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("best") / "run"
    few: dict[str, Any] = {
        "log.to": [], "preflight": "off", "sft.limit": 64, "sft.batch_size": 8, "preferences.count": 24,
        "preferences.sampling.max_tokens": 16, "reward.batch_size": 8, "evaluation.count": 6,
        "evaluation.sampling.max_tokens": 16,
    }  # fmt: skip
    pipeline.run_before(load_recipe("recipes/smoke.yaml", few), directory, SilentDisplay())
    return directory


def test_on_a_run(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = best_of_n(finished, [4, 1, 2, 4], 4, 5, None, SilentDisplay())
    assert (found.prompts, found.samples) == (5, 4)
    assert [one.n for one in found.points] == [1, 2, 4]
    rewards = [one.reward.value for one in found.points]
    assert rewards == sorted(rewards)
    assert rewards[0] < rewards[2]
    assert command(["best-of", str(finished), "--n", "1,2,4", "--samples", "4", "--prompts", "5", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(found.to_json()))


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ("--n 8 --samples 4", "n must lie between 1 and the number of samples, 4; found 8"),
        ("--n 1,x", "--n 1,x: give whole numbers"),
        ("--n ²", "--n ²: give whole numbers"),
        ("--n -1", "--n -1: give whole numbers"),
        ("--prompts 0", "--prompts must be at least 1, found 0"),
        ("--reward nowhere", "there is no reward model in nowhere; name one with --reward PATH"),
    ],
)
def test_refusals(given: str, sentence: str, finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["best-of", str(finished), *given.split()]) == 2
    assert sentence in capsys.readouterr().err


def test_greedy_answers_and_folders_that_hold_no_run(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no recipe"):
        best_of_n(tmp_path, [1], 2, 1, None, SilentDisplay())
    greedy = changed(load_recipe(finished / "resolved.yaml"), {"evaluation.sampling.temperature": 0.0})
    place = tmp_path / "greedy"
    place.mkdir()
    (place / "resolved.yaml").write_text(dump_recipe(greedy), encoding="utf-8")
    with pytest.raises(UserError, match="the best of greedy answers"):
        best_of_n(place, [1], 2, 1, finished / "reward" / "model", SilentDisplay())


def test_a_run_on_own_data_without_prompts_to_answer(finished: Path, tmp_path: Path) -> None:
    own = changed(load_recipe(finished / "resolved.yaml"), {"task": None})
    (tmp_path / "resolved.yaml").write_text(dump_recipe(own), encoding="utf-8")
    with pytest.raises(UserError, match="prompts is missing, so there is nothing to answer; name a file"):
        best_of_n(tmp_path, [1], 2, 1, finished / "reward" / "model", SilentDisplay())
