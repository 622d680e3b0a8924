"""What a checkpoint knows of each part of a training loop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from torch import Tensor


@dataclass(frozen=True)
class State:
    """What is to be known of a part: JSON values and tensors, by name."""

    numbers: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, Tensor] = field(default_factory=dict)


@runtime_checkable
class Part(Protocol):
    """Something that changes from step to step, such as weights with their optimizer."""

    def state(self) -> State:
        """All that `restore` needs; tensors may be the part's own, they are written before the next step."""

    def restore(self, state: State) -> None:
        """Be as when `state` was taken. ValueError where the state is not of such a part."""


def fitting(tensor: Tensor | None, into: Tensor, name: str) -> Tensor:
    """A tensor of a checkpoint that is to take the place of another; ValueError where there is none of that shape."""
    if tensor is None or tensor.shape != into.shape:
        found = "missing" if tensor is None else f"of shape {tuple(tensor.shape)}"
        raise ValueError(f"{name} is {found}, not of shape {tuple(into.shape)}")
    return tensor
