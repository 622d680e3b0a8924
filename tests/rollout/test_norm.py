"""The norm of decoding against the library's and against arithmetic in float64."""

from __future__ import annotations

import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from keel.rollout.norm import Norm

EPS = 1e-5


@pytest.mark.parametrize("scale", [1e-4, 1e-2, 1.0, 1e3])
@pytest.mark.parametrize("width", [5, 256])
def test_it_is_the_equation(width: int, scale: float) -> None:
    """Also where ε is as large as the mean square, 1e-8, and outweighs it."""
    draw = torch.Generator().manual_seed(0)
    x, weight = torch.randn(7, 3, width, generator=draw) * scale, torch.randn(width, generator=draw)
    wide = x.double()
    expected = weight.double() * wide / (wide.square().sum(-1, keepdim=True) / width + EPS).sqrt()
    found = Norm(weight, EPS)(x)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=2e-6, atol=0)


@pytest.mark.parametrize(("format", "weights", "rtol"), [
    (torch.float32, torch.float32, 1e-6),
    (torch.float32, torch.bfloat16, 1e-6),
    (torch.float64, torch.float64, 0.0),
])  # fmt: skip
def test_it_is_the_librarys(format: torch.dtype, weights: torch.dtype, rtol: float) -> None:
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(9, 64, generator=draw, dtype=format)
    theirs = LlamaRMSNorm(64, EPS).to(weights)
    torch.nn.init.normal_(theirs.weight, generator=draw)
    with torch.no_grad():
        expected = theirs(x)
        torch.testing.assert_close(Norm(theirs.weight, EPS)(x), expected, rtol=rtol, atol=0)


def test_a_row_of_zeros_stays_zero() -> None:
    assert Norm(torch.ones(4), EPS)(torch.zeros(1, 4)).tolist() == [[0.0] * 4]


def test_what_is_no_number_shows() -> None:
    x = torch.tensor([[1.0, float("nan")], [1.0, 2.0]])
    found = Norm(torch.ones(2), EPS)(x)
    assert found.isnan().any(-1).tolist() == [True, False]
