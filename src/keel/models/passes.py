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


EXACT = Passes()
"""Products in the weights' own precision, and nothing computed twice."""
