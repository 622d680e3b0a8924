"""Laid-out weights against the plain linear layer, for every number format and both ways of multiplying."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import linear, silu

import keel.rollout.matrix
from keel.rollout.matrix import Matrix

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2}


def parts(seed: int, biased: bool) -> list[tuple[Tensor, Tensor | None]]:
    """Two layers over one input of 24 numbers, the first with a bias if any has one."""
    draw = torch.Generator().manual_seed(seed)
    weights = [torch.randn(rows, 24, generator=draw, dtype=torch.float64) / 5 for rows in (40, 17)]
    return [(weights[0], torch.randn(40, generator=draw, dtype=torch.float64) if biased else None), (weights[1], None)]


@pytest.mark.parametrize("laid_out", [True, False])
@pytest.mark.parametrize("rows", [1, 7, 300])
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("format", TOLERANCE)
def test_products_are_those_of_the_layers(
    format: torch.dtype, biased: bool, rows: int, laid_out: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not laid_out:
        monkeypatch.setattr(keel.rollout.matrix, "_packs", lambda weight: False)
    draw = torch.Generator().manual_seed(rows)
    given = parts(3, biased)
    x, factor = (torch.randn(rows, n, generator=draw, dtype=torch.float64) for n in (24, 57))
    expected = torch.cat([linear(x, weight, bias) for weight, bias in given], dim=1)
    with torch.inference_mode():
        matrix = Matrix(given, format)
        found = matrix(x), matrix.silu(x), matrix.times(x, factor.to(format))
    for one, other in zip(found, (expected, silu(expected), expected * factor), strict=True):
        assert one.dtype == format
        assert torch.allclose(one.double(), other, rtol=TOLERANCE[format], atol=TOLERANCE[format])
