"""Checkpoints by themselves: what goes in comes out, bit for bit, and what is not whole or not ours is passed over."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import keel.training.checkpoint as module
from keel.config import Optimizer
from keel.errors import Stopped, UserError
from keel.training.checkpoint import Checkpoints, Pace, discard, newest_of, steps_in
from keel.training.learner import Learner
from keel.training.randomness import Randomness, seed_process
from keel.training.records import Lines
from keel.training.state import Part, State

EVERY = Pace(0.0, 2)


class Saying:
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.steps: list[int] = []


def checkpoints(
    folder: Path, saying: Saying, parts: Mapping[str, Part] | None = None, key: str = "ours", pace: Pace = EVERY
) -> Checkpoints:
    return Checkpoints(folder, key, pace, parts or {}, saying.notes.append, saying.steps.append)


def learner(seed: int = 0) -> Learner:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1, bias=False))
    return Learner(model.parameters(), Optimizer(lr=0.05, weight_decay=0.1, schedule="cosine", warmup_ratio=0.2), 9)


def moved(one: Learner, steps: int) -> list[torch.Tensor]:
    """The weights after so many more steps on losses that depend on the weights and on the process's random numbers."""
    for _ in range(steps):
        total = sum(
            (parameter * torch.randn(parameter.shape)).sum() + parameter.square().sum() for parameter in one.parameters
        )
        assert isinstance(total, torch.Tensor)
        one.step([total])
    return [parameter.detach().clone() for parameter in one.parameters]


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_learner_goes_on_bit_for_bit(tmp_path: Path) -> None:
    seed_process(0, "sft")
    whole = moved(learner(), 7)
    seed_process(0, "sft")
    first = learner()
    moved(first, 3)
    saying = Saying()
    with checkpoints(tmp_path / "kept", saying) as kept:
        assert kept.resume({"policy": first}) == 0
        kept.after(3)
    moved(first, 2)  # lost when the process is killed
    other = learner(seed=1)
    with checkpoints(tmp_path / "kept", saying) as kept:
        assert kept.resume({"policy": other}) == 3
    assert saying.steps == [3]
    assert same(moved(other, 4), whole)
    assert not same(moved(learner(), 4), whole)  # so it was not by chance


@pytest.mark.parametrize("part", ["weight", "exp_avg", "exp_avg_sq", "step", "taken", "random"])
def test_nothing_of_a_learner_can_be_left_out(part: str, tmp_path: Path) -> None:
    """Each part of the state matters for the steps that follow."""
    seed_process(0, "sft")
    first = learner()
    moved(first, 3)
    state, chance = first.state(), Randomness().state()
    whole = moved(first, 2)
    fresh = learner(seed=1)
    moved(fresh, 1)
    held = fresh.state()
    tensors = {name: tensor.clone() for name, tensor in state.tensors.items()}
    numbers = dict(state.numbers)
    if part == "taken":
        numbers["taken"] = 1
    if part != "random":
        Randomness().restore(chance)
    tensors |= {name: one for name, one in held.tensors.items() if name.endswith(f"/{part}")}
    other = learner()
    other.restore(State(numbers, tensors))
    assert not same(moved(other, 2), whole)


def test_random_numbers_go_on(tmp_path: Path) -> None:
    def drawn() -> tuple[float, float]:
        # `random` itself is drawn from by the type checks of the tests; test_resume has it in a process without them.
        return float(np.random.normal()), float(torch.rand(()))

    seed_process(5, "ppo")
    drawn()
    with checkpoints(tmp_path / "kept", Saying()) as kept:
        kept.resume({})
        kept.after(1)
    expected = [drawn(), drawn()]
    seed_process(6, "ppo")
    with checkpoints(tmp_path / "kept", Saying()) as kept:
        assert kept.resume({}) == 1
    assert [drawn(), drawn()] == expected
    seed_process(5, "sft")
    assert drawn() != expected[0]


def test_tensors_are_spread_over_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SHARD", 40)
    first = learner()
    expected = moved(first, 2)
    with checkpoints(tmp_path / "kept", Saying()) as kept:
        kept.resume({"policy": first})
        kept.after(2)
    (folder,) = steps_in(tmp_path / "kept")
    assert len(list(folder.glob("tensors-*.safetensors"))) > 5
    other = learner(seed=1)
    with checkpoints(tmp_path / "kept", Saying()) as kept:
        assert kept.resume({"policy": other}) == 2
    assert same([parameter.detach() for parameter in other.parameters], expected)


def test_checkpoints_of_another_key_are_not_ours(tmp_path: Path) -> None:
    first = learner()
    with checkpoints(tmp_path / "kept", Saying()) as kept:
        kept.resume({"policy": first})
        kept.after(1)
    before = moved(learner(), 0)
    other, saying = learner(), Saying()
    with checkpoints(tmp_path / "kept", saying, key="theirs") as kept:
        assert kept.resume({"policy": other}) == 0
    assert (saying.notes, saying.steps) == ([], [])
    assert same(moved(other, 0), before)
    assert newest_of(tmp_path / "kept", "ours") == 1
    assert newest_of(tmp_path / "kept", "theirs") is None
    discard(tmp_path / "kept")
    assert newest_of(tmp_path / "kept", "ours") is None


def test_a_checkpoint_of_another_model_is_said_and_changes_nothing(tmp_path: Path) -> None:
    with checkpoints(tmp_path / "kept", Saying()) as kept:
        kept.resume({"policy": learner()})
        kept.after(1)
    wide = Learner([nn.Parameter(torch.zeros(4, 7)), *learner().parameters[1:]], Optimizer(), 9)
    before, saying = [one.detach().clone() for one in wide.parameters], Saying()
    with checkpoints(tmp_path / "kept", saying) as kept:
        assert kept.resume({"policy": wide}) == 0
    assert "weight 0 is of shape (4, 3), not of shape (4, 7)" in saying.notes[0]
    assert same([one.detach() for one in wide.parameters], before)


def test_the_pace_says_when_and_how_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    with checkpoints(tmp_path / "kept", Saying(), pace=Pace(10.0, 3)) as kept:
        kept.resume({})
        for step in range(1, 13):
            now[0] += 4
            kept.after(step)
    # 4 s a step: one is due after 12, 24, 36 and 48 s, and the newest three are kept.
    assert [int(folder.name) for folder in steps_in(tmp_path / "kept")] == [6, 9, 12]
    with checkpoints(tmp_path / "kept", Saying()) as kept:
        kept.resume({})
        assert kept.seconds == 48


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_the_step_and_the_second_does_not(by: signal.Signals, tmp_path: Path) -> None:
    saying = Saying()
    before = signal.getsignal(by)

    def stopped_in_the_second_step() -> None:
        with checkpoints(tmp_path / "kept", saying, pace=Pace(3600.0, 2)) as kept:
            kept.resume({"policy": learner()})
            kept.after(1)
            signal.raise_signal(by)
            assert steps_in(tmp_path / "kept") == []
            kept.after(2)

    def stopped_twice() -> None:
        with checkpoints(tmp_path / "other", Saying()):
            signal.raise_signal(by)
            signal.raise_signal(by)

    with pytest.raises(Stopped) as stopped:
        stopped_in_the_second_step()
    assert (stopped.value.step, stopped.value.signal) == (2, by)
    assert [int(folder.name) for folder in steps_in(tmp_path / "kept")] == [2]
    assert saying.notes == ["stopping after this step, with all that was learnt kept; Ctrl-C again stops at once"]
    assert signal.getsignal(by) is before
    with pytest.raises(KeyboardInterrupt):
        stopped_twice()
    assert signal.getsignal(by) is before


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_signal_while_nobody_reads_what_is_said(tmp_path: Path) -> None:
    def nobody(_: str) -> None:
        raise BrokenPipeError

    def stopped() -> None:
        with Checkpoints(tmp_path / "kept", "ours", Pace(3600.0, 2), {}, nobody, lambda step: None) as kept:
            kept.resume({})
            signal.raise_signal(signal.SIGTERM)
            kept.after(1)

    with pytest.raises(Stopped):
        stopped()


def test_a_signal_in_the_last_step_is_not_forgotten(tmp_path: Path) -> None:
    def stopped_after_the_loop() -> None:
        with checkpoints(tmp_path / "kept", Saying(), pace=Pace(3600.0, 2)) as kept:
            kept.resume({})
            kept.after(5)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(Stopped):
        stopped_after_the_loop()
    assert newest_of(tmp_path / "kept", "ours") == 5


def spoilt(folder: Path) -> None:
    (folder / "state.json").write_text("{}", encoding="utf-8")


@pytest.mark.parametrize("keep", [1, 2])
def test_damaged_checkpoints_of_later_steps_take_nobodys_place(keep: int, tmp_path: Path) -> None:
    """The stage begins anew, and what it then writes is kept although there are higher numbers."""
    pace = Pace(0.0, keep)
    with checkpoints(tmp_path, Saying(), pace=pace) as kept:
        kept.resume({})
        for step in (8, 9):
            kept.after(step)
    for folder in steps_in(tmp_path):
        spoilt(folder)
    with checkpoints(tmp_path, Saying(), pace=pace) as kept:
        assert kept.resume({}) == 0
        kept.after(1)
        assert [int(folder.name) for folder in steps_in(tmp_path)] == [1]
        kept.after(2)
        assert [int(folder.name) for folder in steps_in(tmp_path)] == [1, 2][-keep:]
    with checkpoints(tmp_path, Saying(), pace=pace) as kept:
        assert kept.resume({}) == 2


def test_a_checkpoint_that_cannot_be_used_leaves_nothing_of_itself(tmp_path: Path) -> None:
    """One file was cut short after it; the other, the random numbers and the weights are as if it had not been."""
    names, saying = ("rows", "record"), Saying()

    def told(who: str, cut_short: bool) -> Learner:
        files = [Lines(tmp_path / f"{name}.jsonl") for name in names]
        policy = learner()
        seed_process(3, "ppo")
        drawn = [float(torch.rand(())) for _ in range(2)]
        seed_process(3, "ppo")
        with files[0], files[1], checkpoints(tmp_path / "kept", saying) as kept:
            assert kept.resume({"policy": policy, **dict(zip(names, files, strict=True))}) == 0
            assert float(torch.rand(())) == drawn[0]
            for lines in files:
                lines.write({"of": who})
            if not cut_short:
                moved(policy, 1)
                kept.after(1)
        return policy

    told("the first", cut_short=False)
    (tmp_path / "record.jsonl").write_text("{", encoding="utf-8")
    policy = told("the second", cut_short=True)
    assert "record.jsonl has 1 bytes" in saying.notes[0]
    assert same(moved(policy, 0), moved(learner(), 0))
    assert policy.state().numbers == {"taken": 0}
    for name in names:
        assert (tmp_path / f"{name}.jsonl").read_text(encoding="utf-8") == '{"of": "the second"}\n'


def test_a_learner_refuses_a_state_before_it_takes_any_of_it() -> None:
    one, other = learner(), learner(seed=1)
    moved(other, 1)
    held = other.state()
    last = f"{len(one.parameters) - 1}/weight"
    before = moved(one, 0)
    with pytest.raises(ValueError, match="is missing"):
        one.restore(State(held.numbers, {name: tensor for name, tensor in held.tensors.items() if name != last}))
    assert same(moved(one, 0), before)
    assert one.taken == 0


def test_rows_that_cannot_be_made_safe_are_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk may find out that it is full when the rows are to outlive a power cut."""

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with Lines(tmp_path / "rows.jsonl") as lines, checkpoints(tmp_path / "kept", Saying()) as kept:
        kept.resume({"rows": lines})
        lines.write({"a": 1})
        monkeypatch.setattr("os.fsync", full)
        with pytest.raises(UserError, match=r"cannot be written .No space left on device."):
            kept.after(1)


def test_a_disk_that_refuses_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with checkpoints(tmp_path / "kept", Saying()) as kept:
        kept.resume({"policy": learner()})
        kept.after(1)
        monkeypatch.setattr(module, "save_file", full)
        with pytest.raises(
            UserError, match=r"cannot be written .No space left on device.; that of step 1 is kept: free"
        ):
            kept.after(2)
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["00000001"]
    with checkpoints(tmp_path / "none", Saying()) as kept:
        kept.resume({"policy": learner()})
        with pytest.raises(UserError, match="there is none before it"):
            kept.after(1)
