"""One optimizer step: the same however its loss is split, clipped once, and never taken on a broken gradient."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from keel.config import Optimizer
from keel.training.learner import Learner, StepReport, schedule

from .small import unequal, weights

ROWS = 12


def network(dtype: torch.dtype = torch.float64) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1)).to(dtype)


def shares(model: nn.Module, split: Sequence[Sequence[int]], scale: float = 1.0) -> Iterator[Tensor]:
    """The mean squared error over ROWS rows, in the parts that `split` names."""
    draw = torch.Generator().manual_seed(2)
    dtype = next(model.parameters()).dtype
    inputs, targets = (torch.randn(ROWS, n, generator=draw, dtype=torch.float64).to(dtype) for n in (3, 1))
    for part in split:
        places = torch.tensor(part)
        yield scale * (model(inputs[places]) - targets[places]).square().sum() / ROWS


def steps(split: Sequence[Sequence[int]], dtype: torch.dtype, count: int = 3) -> tuple[nn.Module, list[StepReport]]:
    model = network(dtype)
    learner = Learner(model.parameters(), Optimizer(lr=0.05, max_grad_norm=0.3, weight_decay=0.1), count)
    return model, [learner.step(shares(model, split)) for _ in range(count)]


@settings(max_examples=25, deadline=None)
@given(order=st.permutations(range(ROWS)), cuts=st.sets(st.integers(1, ROWS - 1)))
def test_a_step_is_the_same_however_its_loss_is_split(order: list[int], cuts: set[int]) -> None:
    ends = [0, *sorted(cuts), ROWS]
    split = [order[begin:end] for begin, end in itertools.pairwise(ends)]
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-6)):
        whole, reports = steps([range(ROWS)], dtype)
        parts, others = steps(split, dtype)
        for one, other in zip(whole.parameters(), parts.parameters(), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=tolerance)
        for mine, theirs in zip(reports, others, strict=True):
            assert mine.loss == pytest.approx(theirs.loss, rel=1e-6)
            assert mine.grad_norm == pytest.approx(theirs.grad_norm, rel=1e-5)
            assert (mine.lr, mine.skipped) == (theirs.lr, 0)


def test_what_is_reported_is_the_loss_of_the_batch_and_its_gradient_before_the_clip() -> None:
    model = network()
    (loss,) = shares(copy.deepcopy(model), [range(ROWS)])
    twin = copy.deepcopy(model)
    (other,) = shares(twin, [range(ROWS)])
    other.backward()
    norm = math.sqrt(sum(float(p.grad.square().sum()) for p in twin.parameters()))
    report = Learner(model.parameters(), Optimizer(lr=0.5, max_grad_norm=0.01), 10).step(
        shares(model, [range(5), range(5, ROWS)])
    )
    assert norm > 0.01
    assert report.loss == pytest.approx(loss.item(), rel=1e-12)
    assert report.grad_norm == pytest.approx(norm, rel=1e-12)
    assert (report.lr, report.skipped) == (0.5, 0)  # linear: the first step has the peak rate


@pytest.mark.parametrize("norm", [0.05, 1e6])
def test_the_clip_is_over_the_sum_of_the_shares(norm: float) -> None:
    """Against torch's AdamW on the whole loss, scaled down by hand."""
    model, twin = network(), network()
    chosen = Optimizer(lr=0.05, max_grad_norm=norm, weight_decay=0.1, betas=(0.8, 0.9), eps=1e-3, schedule="constant")
    learner = Learner(model.parameters(), chosen, 4)
    plain = torch.optim.AdamW(twin.parameters(), lr=0.05, weight_decay=0.1, betas=(0.8, 0.9), eps=1e-3)
    for scale in (1.0, 3.0, 0.5, 10.0):
        learner.step(shares(model, [[place] for place in range(ROWS)], scale))
        plain.zero_grad()
        sum(shares(twin, [range(ROWS)], scale)).backward()
        length = math.sqrt(sum(float(p.grad.square().sum()) for p in twin.parameters()))
        for parameter in twin.parameters():
            parameter.grad *= min(1.0, norm / length)
        plain.step()
    for one, other in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=0)  # torch's clip adds 1e-6 to the norm


def test_no_gradient_is_left_over_for_the_next_step() -> None:
    once, twice = network(), network()
    rates = Optimizer(lr=0.05, schedule="constant")
    other = Learner(once.parameters(), rates, 2)
    learner = Learner(twice.parameters(), rates, 2)
    learner.step(shares(twice, [range(ROWS)]))
    assert all(parameter.grad is None for parameter in twice.parameters())
    other.step(shares(once, [range(ROWS)]))
    learner.step(iter(()))  # nothing to learn from: nothing moves
    assert not unequal(weights(once.named_parameters()), weights(twice.named_parameters()))


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e200])  # the last has a gradient, but its norm overflows
def test_a_gradient_that_is_no_number_moves_nothing_and_is_counted(bad: float) -> None:
    model = network()
    learner = Learner(model.parameters(), Optimizer(lr=0.05, weight_decay=0.1), 10)
    learner.step(shares(model, [range(ROWS)]))
    before, state = weights(model.named_parameters()), copy.deepcopy(learner.optimizer.state_dict()["state"])

    def broken() -> Iterator[Tensor]:
        yield from shares(model, [range(6)])
        yield from (bad * share for share in shares(model, [range(6, ROWS)]))

    report = learner.step(broken())
    assert report.skipped == 1
    assert not math.isfinite(report.grad_norm)
    assert not unequal(before, weights(model.named_parameters()))
    after = learner.optimizer.state_dict()["state"]
    assert after.keys() == state.keys()
    assert not any(unequal(state[place], after[place]) for place in state)
    assert all(parameter.grad is None for parameter in model.parameters())
    # and the run goes on: the schedule has moved, the next step counts
    report = learner.step(shares(model, [range(ROWS)]))
    assert report.skipped == 0
    assert report.lr == pytest.approx(0.05 * 0.8)
    assert len(unequal(before, weights(model.named_parameters()))) == len(before)


def factors(name: str, warmup: float, count: int) -> list[float]:
    chosen = Optimizer(schedule=name, warmup_ratio=warmup)
    return [schedule(chosen, taken, count) for taken in range(count)]


def test_schedules_by_hand() -> None:
    assert factors("constant", 0.0, 4) == [1.0] * 4
    assert factors("linear", 0.0, 4) == [1.0, 0.75, 0.5, 0.25]
    root = math.sqrt(0.5)
    assert factors("cosine", 0.0, 4) == pytest.approx([1.0, (1 + root) / 2, 0.5, (1 - root) / 2])
    # two of eight steps warm up: a third, two thirds, then the peak, then down over six steps
    third = [1 / 3, 2 / 3]
    assert factors("constant", 0.25, 8) == pytest.approx([*third, 1, 1, 1, 1, 1, 1])
    assert factors("linear", 0.25, 8) == pytest.approx([*third, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6])
    assert factors("cosine", 0.25, 8) == pytest.approx(
        [*third, *((1 + math.cos(math.pi * step / 6)) / 2 for step in range(6))]
    )
    assert factors("linear", 0.1, 5) == pytest.approx([0.5, 1, 0.75, 0.5, 0.25])  # a part of a step is a step


@settings(max_examples=100, deadline=None)
@given(
    name=st.sampled_from(["constant", "linear", "cosine"]),
    warmup=st.floats(0, 1, exclude_max=True),
    count=st.integers(1, 50),
)
def test_no_step_has_rate_0_and_none_exceeds_the_peak(name: str, warmup: float, count: int) -> None:
    found = factors(name, warmup, count)
    assert all(0 < factor <= 1 for factor in found)
    peak = found.index(max(found))
    assert found[: peak + 1] == sorted(found[: peak + 1])
    assert found[peak:] == sorted(found[peak:], reverse=True)


def test_the_learner_uses_the_schedule() -> None:
    model = network()
    chosen = Optimizer(lr=0.2, schedule="linear", warmup_ratio=0.25)
    learner = Learner(model.parameters(), chosen, 8)
    rates = [learner.step(shares(model, [range(ROWS)])).lr for _ in range(8)]
    assert rates == pytest.approx([0.2 * factor for factor in factors("linear", 0.25, 8)])
    assert [group["lr"] for group in learner.optimizer.param_groups] == [rates[-1]]
