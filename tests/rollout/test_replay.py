"""A step that is recorded once and done again reads and writes the same tensors, as a CUDA graph will have it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from keel.rollout.llama import Llama, LlamaContext
from keel.rollout.replay import Eager, Graphs, Replay, replay_on
from models.small import CONFIGS, build


class Recorded:
    """Records the operations of a step, with every number of Python's as it is, and does them again: what a CUDA graph
    does, on any device."""

    recorded = True

    def __init__(self) -> None:
        self.recordings = self.replayed = 0
        self._layout: int | None = None
        self._graph: Any = None

    def run(self, step: Callable[[], Tensor], layout: int) -> Tensor:
        if layout != self._layout:
            step()
            self._graph = make_fx(lambda _: step())(torch.zeros(()))
            self._layout = layout
            self.recordings += 1
        self.replayed += 1
        found: Tensor = self._graph(torch.zeros(()))
        return found


def written(context: LlamaContext, prompts: list[tuple[int, ...]], rows: list[int], steps: int) -> list[Tensor]:
    """Logits of greedy steps; half-way through every other row is dropped, and later one is doubled."""
    logits = context.read(prompts)
    context.select(torch.tensor(rows))
    logits = logits[torch.tensor(rows)]
    found = [logits.clone()]
    for step in range(steps):
        tokens = logits.argmax(-1)
        logits = context.append(tokens, torch.ones(len(tokens), dtype=torch.bool))
        found.append(logits.clone())
        if step in (steps // 2, steps // 2 + 3):
            kept = torch.arange(0, len(tokens), 2) if step == steps // 2 else torch.tensor([0, 0, 1])
            context.select(kept)
            logits = logits[kept]
    return found


@pytest.mark.parametrize("shared", [True, False], ids=["rows share prompts", "a prompt each"])
@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_recorded_steps_give_what_steps_give(family: str, shared: bool) -> None:
    model = build(CONFIGS[family], torch.float64, 0)
    prompts = [(5, 6, 7), (9, 8), (11, 12, 13, 14), (20,)]
    rows = [0, 0, 0, 1, 1, 2] if shared else [0, 1, 2, 3]
    with torch.inference_mode():
        own = Llama.of(model, torch.float64)
        assert own is not None
        replay = Recorded()
        plain = written(LlamaContext(own, 40, Eager()), prompts, rows, 40)
        again = written(LlamaContext(own, 40, replay), prompts, rows, 40)
    for one, other in zip(plain, again, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
    assert replay.replayed == 40
    assert replay.recordings < 10  # at the start, as columns are added, and where rows change


def test_which_device_gets_what() -> None:
    assert isinstance(replay_on(torch.device("cpu")), Eager)
    assert isinstance(Eager(), Replay)
    assert isinstance(Graphs(torch.device("cpu")), Replay)
    assert [Eager.recorded, Graphs.recorded] == [False, True]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_graphs_give_what_steps_give() -> None:
    model = build(CONFIGS["llama"], torch.float32, 0).cuda()
    prompts = [(5, 6, 7), (9, 8)]
    with torch.inference_mode():
        own = Llama.of(model, torch.float32)
        assert own is not None
        found = []
        for replay in (Eager(), Graphs(torch.device("cuda"))):
            context = LlamaContext(own, 150, replay)
            logits = context.read(prompts)
            for _ in range(150):
                logits = context.append(logits.argmax(-1), torch.ones(2, dtype=torch.bool, device="cuda")).clone()
            found.append(logits)
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)
