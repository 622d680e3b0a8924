"""A product of two matrices, in another number format than theirs."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def product_in(format: torch.dtype, left: Float[Tensor, "N I"], right: Float[Tensor, "I O"]) -> Float[Tensor, "N O"]:
    """left·right, its sums rounded to `format`.

    Of factors in half precision a GPU rounds the sums to float32 at once; elsewhere they are rounded to the factors'
    format first.
    """
    if left.is_cuda and left.dtype.itemsize == 2 and format == torch.float32:
        return torch.mm(left, right, out_dtype=format)
    return (left @ right).to(format)
