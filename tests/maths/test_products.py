"""A product in another format than its factors'."""

import torch

from keel.maths.products import product_in


def test_by_hand() -> None:
    left = torch.tensor([[1.0, 2.0], [0.0, -3.0]], dtype=torch.bfloat16)
    right = torch.tensor([[0.5], [4.0]], dtype=torch.bfloat16)
    for format in (torch.float32, torch.bfloat16):
        made = product_in(format, left, right)
        assert made.dtype == format
        assert made.tolist() == [[8.5], [-12.0]]
