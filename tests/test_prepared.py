"""Few products in bfloat16 are kept ready, and what the user has set himself stays."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from keel.prepared import PRODUCTS, keep_few_products
from keel.stages.workspace import dtype_of

NAMES = {"LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"}

GROWTH = """
import sys, torch
from keel.prepared import keep_few_products
if sys.argv[1] == "few":
    keep_few_products()

def resident():
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return int(status["VmRSS"].split()[0]) / 1024

weight, rows = torch.ones(64, 64, dtype=torch.bfloat16), torch.ones(2048, 64, dtype=torch.bfloat16)
(rows @ weight).sum()
before = resident()
for count in range(1, 2048, 8):
    rows[:count] @ weight
print(resident() - before)
"""


def test_what_the_user_has_set_stays() -> None:
    environment = {"LRU_CACHE_CAPACITY": "7"}
    keep_few_products(environment)
    assert environment == {"LRU_CACHE_CAPACITY": "7", "ONEDNN_PRIMITIVE_CACHE_CAPACITY": str(PRODUCTS)}


@pytest.mark.skipif(
    not sys.platform.startswith("linux") or dtype_of("auto", torch.device("cpu")) != torch.bfloat16,
    reason="needs /proc and a processor with products in bfloat16",
)
def test_many_shapes_take_little_memory() -> None:
    environment = {name: value for name, value in os.environ.items() if name not in NAMES}

    def grown(how: str) -> float:
        command = [sys.executable, "-c", GROWTH, how]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        return float(done.stdout)

    few, many = grown("few"), grown("many")
    assert many > 60  # MiB for 256 shapes: the libraries' own limit is far away
    assert few < many / 2
