"""An RMS norm in as few kernels as PyTorch has for it."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import rms_norm


class Norm:
    """norm(x) = w ⊙ x / √(mean x² + ε), computed in fp32 whatever the format of x, as the library does.

    With E numbers in a row that is √E·w ⊙ x / hypot(‖x‖, √(E·ε)): four kernels where the equation as it stands takes
    seven, each of which costs a decoding step what its call costs. CUDA has the equation as one kernel.
    """

    def __init__(self, weight: Float[Tensor, " E"], eps: float) -> None:
        self._eps = eps
        self._weight = weight
        self._scaled = weight.to(torch.float32) * math.sqrt(len(weight))
        self._least = torch.tensor(math.sqrt(len(weight) * eps), device=weight.device)

    def __call__(self, x: Float[Tensor, "*n E"]) -> Float[Tensor, "*n E"]:
        """In the format of x."""
        if x.is_cuda:
            wide = x.to(torch.float32)
            return rms_norm(wide, self._weight.shape, self._weight.to(torch.float32), self._eps).to(x.dtype)
        if x.dtype != torch.float32:  # to the last bit as the library rounds
            wide = x.to(torch.float32)
            return self._weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self._eps)).to(x.dtype)
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        return (x / torch.hypot(length, self._least)).mul_(self._scaled)
