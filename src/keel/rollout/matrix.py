"""A linear layer whose weights lie as the processor's matrix product wants them."""

from __future__ import annotations

import platform
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import linear, silu


class Matrix:
    """y = x·Wᵀ + b for W [O, I], in W's number format; several W over one x may be given, and are one.

    `torch.nn.functional.linear` brings W into the layout of the product's kernel at every call, which for 64 rows takes
    as long as a third to a half of the product. Here that is done once, where oneDNN does the products: on x86, for
    float32 and bfloat16. What is computed is the same.
    """

    def __init__(self, parts: Sequence[tuple[Tensor, Tensor | None]], format: torch.dtype) -> None:
        weights = [weight.detach().to(format) for weight, _ in parts]
        weight = weights[0] if len(weights) == 1 else torch.cat(weights)
        self.format = format
        self._bias = None
        if any(bias is not None for _, bias in parts):
            biases = [weight.new_zeros(len(weight)) if bias is None else bias for weight, bias in parts]
            self._bias = torch.cat([bias.detach().to(format) for bias in biases])
        self._packed = _packs(weight)
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight, None) if self._packed else weight

    def __call__(self, x: Float[Tensor, "N I"]) -> Float[Tensor, "N O"]:
        """x·Wᵀ + b in `format`, to which x is rounded."""
        return self._pointwise(x, "none") if self._packed else self._linear(x)

    def silu(self, x: Float[Tensor, "N I"]) -> Float[Tensor, "N O"]:
        """silu(x·Wᵀ + b), of the product before it is rounded where the kernel can."""
        return self._pointwise(x, "swish") if self._packed else silu(self._linear(x))

    def times(self, x: Float[Tensor, "N I"], factor: Float[Tensor, "N O"]) -> Float[Tensor, "N O"]:
        """(x·Wᵀ + b) ⊙ factor, the factor in `format`."""
        if not self._packed:
            return self._linear(x) * factor
        product: Tensor = torch.ops.mkldnn._linear_pointwise.binary(
            x.to(self.format), factor, self._weight, self._bias, "mul"
        )
        return product

    def _pointwise(self, x: Tensor, then: str) -> Tensor:
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x.to(self.format), self._weight, self._bias, then, [], "")
        return product

    def _linear(self, x: Tensor) -> Tensor:
        return linear(x.to(self.format), self._weight, self._bias)


def _packs(weight: Tensor) -> bool:
    """Whether oneDNN multiplies by this matrix, and torch shows how to lay it out once."""
    if weight.device.type != "cpu" or platform.machine() not in ("x86_64", "AMD64"):
        return False
    there = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")  # type: ignore[no-untyped-call]
    if weight.dtype == torch.bfloat16:
        return there and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return there and weight.dtype == torch.float32
