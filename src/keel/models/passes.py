"""How the passes of a model over forests are computed."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Passes:
    """`products` is the number format of matrix products; bfloat16 takes weights in float32 to bfloat16 for each
    product, so that what an optimizer moves keeps its precision.

    With `recompute` the backward pass finds only the input of each layer and computes the rest of the layer again: the
    same numbers in less memory, for about a third more time.
    """

    products: torch.dtype = torch.float32
    recompute: bool = False


_LARGE = 40e9
"""Bytes from which a CUDA device has room for passes of twice the length."""


def pass_tokens(width: int, device: torch.device) -> int:
    """How many tokens a model of this width reads in one pass, unless it is told.

        2²⁷ / width², at least 768 and at most 2048
        2³⁴ / width², at least 2048 and at most 16384, on a CUDA device of 40 GB and more; 2³³ / width² on others

    A pass holds memory for every token, and costs time for every call. On a processor the calls no longer weigh where
    each product has some 10⁸ multiply-adds: 2048 tokens at width 256, and at width 512 the 768 that hold two pairs of
    some 300 tokens each; on a GPU where it has some 10¹⁰ (docs/performance.md).
    """
    if device.type == "cuda":
        products = 2**34 if torch.cuda.get_device_properties(device).total_memory >= _LARGE else 2**33
        return min(16384, max(2048, products // width**2))
    return min(2048, max(768, 2**27 // width**2))


EXACT = Passes()
"""Products in the weights' own precision, and nothing computed twice."""
