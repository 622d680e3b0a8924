"""What a report takes from the run's own folder: the limits of its recipe, and when it was gone on with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from keel.config import Guards, dump_recipe, load_recipe
from keel.diagnostics.curves import practice_curves
from keel.diagnostics.findings import findings, limits_of
from keel.diagnostics.provenance import interruptions, read_origins
from keel.diagnostics.recorded import read_run
from keel.diagnostics.report import write_report
from keel.errors import UserError
from keel.stages.lineage import go_on

from .beside import leave_lineages
from .finished import finished_run
from .page import Page

NAMES = {
    "kl": "Distance from SFT (KL)",
    "length": "Length of answers",
    "entropy": "Variety (entropy)",
    "truncated": "Answers cut off",
    "clip_fraction": "Clipped tokens",
    "explained_variance": "Critic",
    "sampler_kl": "Sampler against trainer",
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    directory = finished_run(tmp_path / "run", updates=12)
    leave_lineages(directory)
    return directory


def guarded(run: Path, limits: str) -> dict[str, str]:
    """The verdicts of the guards' checks where the recipe has these limits."""
    (run / "resolved.yaml").write_text(f"ppo:\n  guards: {{{limits}}}\n", encoding="utf-8")
    found = {one.check: one.verdict for one in findings(read_run(run))}
    return {guard: found[name] for guard, name in NAMES.items()}


def test_a_run_is_judged_by_the_limits_of_its_own_recipe(run: Path) -> None:
    assert set(guarded(run, "").values()) == {"ok"}
    strict = (
        "kl: [0.1, 0.2], length: [1.001, 1.002], entropy: [0.01, 0.02], truncated: [0.001, 0.002], "
        "clip_fraction: 0.001, explained_variance: 0.99, sampler_kl: 1.0e-16"
    )
    assert guarded(run, strict) == {
        "kl": "red", "length": "red", "entropy": "red", "truncated": "red", "clip_fraction": "amber",
        "explained_variance": "amber", "sampler_kl": "amber",
    }  # fmt: skip
    assert guarded(run, "kl: [0.1, 900.0]")["kl"] == "amber"


def test_sentences_name_the_limits_of_the_recipe(run: Path) -> None:
    guarded(run, "kl: [0.25, 0.5], explained_variance: 0.99")
    said = {one.check: one.message for one in findings(read_run(run))}
    assert "(a look is due from 0.25, alarm from 0.5)" in said[NAMES["kl"]]
    assert said[NAMES["explained_variance"]].endswith("(a look is due below 99%).")
    assert "very far from where it started" in Page(write_report(run).read_text(encoding="utf-8")).text


def test_the_lines_in_the_curves_are_those_of_the_recipe() -> None:
    limits = Guards(kl=(0.25, 0.5), truncated=(0.1, 0.2), clip_fraction=0.3, explained_variance=0.4)
    drawn = {one.metric: [line.value for line in one.thresholds] for one in practice_curves(limits) if one.thresholds}
    assert drawn == {
        "kl": [0.25, 0.5], "truncated": [10.0, 20.0], "policy/clip_fraction": [30.0],
        "value/explained_variance": [40.0],
    }  # fmt: skip


def test_the_window_is_that_of_the_recipe(run: Path) -> None:
    """A single wild update counts for itself where the window is 1."""
    path = run / "ppo" / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    rows[6]["kl"] = 12.0
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert guarded(run, "window: 5")["kl"] == "ok"
    assert guarded(run, "window: 1")["kl"] == "amber"


def test_limits_come_back_as_they_were_written(run: Path) -> None:
    limits = {"rl.guards": {"kl": (1.0, 2.0), "on_red": "stop", "gold": 3.0}}
    (run / "resolved.yaml").write_text(dump_recipe(load_recipe(None, limits)), encoding="utf-8")
    assert limits_of(read_run(run)) == Guards(kl=(1.0, 2.0), on_red="stop", gold=3.0)
    (run / "resolved.yaml").write_text("ppo: {guards: {kl: [3, 1]}}\n", encoding="utf-8")
    assert limits_of(read_run(run)) == Guards()
    (said,) = [one for one in findings(read_run(run)) if one.check == "Limits of the recipe"]
    assert said.verdict == "amber"
    assert "kl must be amber and then red" in said.message


def test_each_stage_that_was_gone_on_with_stands_in_one_line(run: Path) -> None:
    assert interruptions(read_origins(run, ["sft", "ppo"])) == ""
    assert "gone on with" not in write_report(run).read_text(encoding="utf-8")
    go_on(run / "sft", 12)
    for step in (300, 1400):
        go_on(run / "ppo", step)
    written = json.loads((run / "ppo" / "lineage.json").read_text(encoding="utf-8"))
    written["resumed"][1]["at"] = "2026-11-25T20:41:07+00:00"
    (run / "ppo" / "lineage.json").write_text(json.dumps(written), encoding="utf-8")
    said = interruptions(read_origins(run, ["sft", "ppo"]))
    assert said.startswith("SFT after step 12 (20")
    assert said.endswith("; PPO 2 times, last after step 1,400 (2026-11-25 20:41 UTC)")
    assert f"Stopped on the way and gone on with: {said}." in Page(write_report(run).read_text(encoding="utf-8")).text


def test_a_resumption_that_is_damaged_is_a_sentence(run: Path) -> None:
    path = run / "ppo" / "lineage.json"
    written = json.loads(path.read_text(encoding="utf-8")) | {"resumed": [{"at": "yesterday", "step": 3}]}
    path.write_text(json.dumps(written), encoding="utf-8")
    with pytest.raises(UserError, match=r"lineage\.json is damaged \(Invalid isoformat"):
        read_run(run)
