"""The memory benchmark: both works run on a small case and leave what they claim, and a row says what it holds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks import memory
from benchmarks.growth import Case
from benchmarks.memory import HEAD, Peak, Row, ppo, prepare, sft
from keel.models.passes import Passes
from keel.training.learner import Learner, StepReport

CASE = Case(hidden=32, layers=1, vocabulary=64, length=24)


def test_a_row_by_hand() -> None:
    row = Row(256, 6, 6_800_000, Peak(400.0, 2.0), Peak(500.0, 4.0), Peak(200.0, 3.0), Peak(300.0, 5.0))
    assert row.ratio == 1.25
    assert str(row).split() == ["256", "×", "6", "6.8", "M", "400", "500", "1.25", "200", "300", "1.50", "1.25"]
    assert len(str(row)) == len(HEAD)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize(("work", "trained"), [(sft, 14), (ppo, 14 + 15)])
def test_adapters_alone_learn(
    work: object, trained: int, recompute: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seven layers of the one block, two matrices each; the critic's have a head besides."""
    monkeypatch.setattr(memory, "TEXTS", 4)
    monkeypatch.setattr(memory, "NEW", 8)
    prepare(CASE, tmp_path)
    learners: dict[int, int] = {}
    real = Learner.move

    def counted(self: Learner, loss: float) -> StepReport:
        learners[id(self)] = len(self.parameters)
        report = real(self, loss)
        assert report.grad_norm > 0
        return report

    monkeypatch.setattr(Learner, "move", counted)
    assert callable(work)
    work(CASE, tmp_path, Passes(torch.float32, recompute))
    assert sum(learners.values()) == trained
