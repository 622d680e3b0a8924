"""Memory for a cache: large, written bit by bit, and gone after a batch."""

from __future__ import annotations

import mmap

import torch
from torch import Tensor


def block(size: int, format: torch.dtype, device: torch.device) -> Tensor:
    """So many zeros, [size].

    A processor's come from the kernel, page by page as they are first written to, and go back to it with the tensor.
    Keel's heap keeps what was freed (`keel.allocator`), in holes that the next batch's blocks would not fit.
    """
    if device.type != "cpu" or size == 0:
        return torch.zeros(size, dtype=format, device=device)
    return torch.frombuffer(mmap.mmap(-1, size * format.itemsize), dtype=format)
