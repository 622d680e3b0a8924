"""Keeps few of the matrix products that oneDNN has made ready.

For every shape of a product in bfloat16 oneDNN writes machine code, which takes some 0.6 MB and a millisecond. PyTorch
keeps the last 1024 of them and oneDNN 1024 of its own, which in training, where each length of a batch brings a dozen
shapes, comes to more than many models. One pass needs a few dozen, again and again in all layers.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping

PRODUCTS = 32
"""How many are kept: those of a pass, forward and backward, and of the sampler's step."""
_SETTINGS = ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY")


def keep_few_products(environment: MutableMapping[str, str] = os.environ) -> None:
    """Call it before the first product in bfloat16; what the user has set himself stays."""
    for name in _SETTINGS:
        environment.setdefault(name, str(PRODUCTS))
