"""How the work of one decoding step is done again and again: op by op, or on a GPU as one recorded graph.

At a batch of some dozens of rows a GPU is done with an operation sooner than Python can ask for the next. A graph is
recorded once and then started as a whole; what it reads and writes are the very tensors of the recording, so a step
must find its inputs where they were, and leave its result where it was.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class Replay(Protocol):
    """Does a step's work on the device.

    `layout` changes whenever a tensor that the step reads or writes has been replaced by another; while it stays, the
    step reads and writes the same tensors and, where it is `recorded`, holds no number of Python's that would differ
    the next time. The result is valid until the next run.
    """

    recorded: bool
    """Whether what a step does is kept, and done again without its Python."""

    def run(self, step: Callable[[], Tensor], layout: int) -> Tensor: ...


class Eager:
    """Op by op."""

    recorded = False

    def run(self, step: Callable[[], Tensor], layout: int) -> Tensor:
        """The step's result."""
        return step()


class Graphs:
    """A CUDA graph for each layout, recorded when the layout is met; the step must give the same when it is done twice.

    Recording runs the step once before, on a stream of its own, so that libraries make what they keep.
    """

    recorded = True

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._layout: int | None = None
        self._graph: torch.cuda.CUDAGraph | None = None
        self._result: Tensor | None = None

    def run(self, step: Callable[[], Tensor], layout: int) -> Tensor:
        """The step's result, in a tensor that the next run writes over."""
        if layout != self._layout or self._graph is None or self._result is None:
            self._graph, self._result = self._record(step)
            self._layout = layout
        self._graph.replay()
        return self._result

    def _record(self, step: Callable[[], Tensor]) -> tuple[torch.cuda.CUDAGraph, Tensor]:
        self._graph = self._result = None  # their memory goes before the next is recorded
        current = torch.cuda.current_stream(self._device)
        aside = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        aside.wait_stream(current)
        with torch.cuda.stream(aside):
            step()
        current.wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = step()
        return graph, result


def replay_on(device: torch.device) -> Replay:
    """Graphs on a CUDA device, op by op elsewhere."""
    return Graphs(device) if device.type == "cuda" else Eager()
