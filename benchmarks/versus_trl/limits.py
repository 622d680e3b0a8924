"""What this machine can do at best: rates of large matrix products, and the products of one decoding step.

    python -m benchmarks.versus_trl.limits INPUTS MODEL BATCH

prints one line of JSON, as `Limits`.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch.nn.functional import linear

from benchmarks.versus_trl.inputs import Inputs, Size

_FORMATS = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Limits:
    """`gemm`: the best GFLOP/s over several large shapes; `decode_ms`: milliseconds of the matrix products of one
    decoding step of the model at `batch` rows. Both by number format."""

    model: str
    batch: int
    gemm: dict[str, float]
    decode_ms: dict[str, float]

    @property
    def gflops(self) -> float:
        """The better format's rate."""
        return max(self.gemm.values())

    @property
    def floor_ms(self) -> float:
        """The better format's decoding step."""
        return min(self.decode_ms.values())


def measure(model: str, size: Size, vocabulary: int, batch: int) -> Limits:
    """Some ten seconds of matrix products."""
    with torch.inference_mode():
        gemm = {name: _gemm(size, dtype) for name, dtype in _FORMATS.items()}
        decode = {name: _decode(size, vocabulary, batch, dtype) for name, dtype in _FORMATS.items()}
    return Limits(model, batch, gemm, decode)


def _gemm(size: Size, dtype: torch.dtype) -> float:
    """GFLOP/s of the best of squares of 1024 and 2048 and the model's own layer on 4096 tokens."""
    shapes = ((1024, 1024, 1024), (2048, 2048, 2048), (4096, size.hidden, size.inter))
    return max(_rate(*shape, dtype) for shape in shapes)


def _rate(rows: int, inner: int, columns: int, dtype: torch.dtype) -> float:
    left, right = torch.randn(rows, inner).to(dtype), torch.randn(columns, inner).to(dtype)
    return 2e-9 * rows * inner * columns / _seconds(lambda: linear(left, right), 15)


def _decode(size: Size, vocabulary: int, batch: int, dtype: torch.dtype) -> float:
    """Milliseconds of every layer's seven products and the head's, each on weights of its own."""
    square, wide = (size.hidden, size.hidden), (size.inter, size.hidden)
    shapes = [square] * 4 + [wide] * 2 + [wide[::-1]]
    weights = [torch.randn(*shape).to(dtype) for shape in shapes * size.layers + [(vocabulary, size.hidden)]]
    rows = {width: torch.randn(batch, width).to(dtype) for width in (size.hidden, size.inter)}

    def step() -> None:
        for weight in weights:
            linear(rows[weight.shape[1]], weight)

    return 1e3 * _seconds(step, 40)


def _seconds(work: Callable[[], object], times: int) -> float:
    """The shortest time of a call: what the machine can do is what it did once."""
    found = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return min(found)


def main(argv: list[str]) -> None:
    """Measures the limits for one model, and prints them."""
    folder, model, batch = argv
    inputs = Inputs(Path(folder))
    found = measure(model, inputs.size(model), inputs.vocabulary(model), int(batch))
    print(json.dumps(asdict(found)))


if __name__ == "__main__":
    main(sys.argv[1:])
