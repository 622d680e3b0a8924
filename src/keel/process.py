"""What Keel asks of the libraries below it, once per process."""

from __future__ import annotations

from keel.allocator import keep_freed_memory
from keel.prepared import keep_few_products


def set_up() -> bool:
    """Call it before the first large tensor and the first product; True where the allocator took its settings."""
    keep_few_products()
    return keep_freed_memory()
