"""The peer's best setting: the fastest of number format and micro-batch, found by a step of each, then kept.

Its threads sleep while they wait, or spin, whichever is faster. They sleep at first: on a machine that is
not quiet, spinning can make a step thirty times as long.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from benchmarks.versus_trl.measure import Measurement
from benchmarks.versus_trl.workloads import Workload

CLOSE = 0.95
"""Settings this near to the fastest count as fast; of these the peer gets the one with the lowest peak."""


@dataclass(frozen=True)
class Choice:
    """Number format, micro-batch, adapters on the policy, and OpenMP's waiting policy ("" = its own, spinning)."""

    dtype: str
    micro: int
    lora: bool = False
    wait: str = "PASSIVE"

    def arguments(self) -> list[str]:
        """As `peer` takes them."""
        return ["--dtype", self.dtype, "--micro", str(self.micro), *(["--lora"] if self.lora else [])]


@dataclass(frozen=True)
class Best:
    """The choice, and the lowest peak that any choice had (MiB)."""

    choice: Choice
    least_mb: float


Try = Callable[[Choice], Measurement | None]
"""Measures one setting; None where the peer cannot run with it."""


def choices(workload: Workload) -> list[Choice]:
    """All that is tried. In the shared layout the peer may put adapters on its policy, as ours does, or not."""
    adapters = (True, False) if workload.layout == "shared" else (False,)
    return [Choice(dtype, micro, lora) for lora in adapters for dtype in ("fp32", "bf16") for micro in workload.micros]


def best(tried: Mapping[Choice, Measurement]) -> Best:
    """The fastest; among those as good as it, the one with the lowest peak. ValueError where nothing ran."""
    if not tried:
        raise ValueError("the peer ran with none of its settings")
    fastest = max(one.tokens_per_s for one in tried.values())
    close = [choice for choice, one in tried.items() if one.tokens_per_s >= CLOSE * fastest]
    choice = min(close, key=lambda choice: tried[choice].peak_mb)
    return Best(choice, min(one.peak_mb for one in tried.values()))


def find(workload: Workload, attempt: Try) -> Best:
    """Try every choice once, then the best one with threads that spin while they wait."""
    tried = _tried(choices(workload), attempt)
    spinning = replace(best(tried).choice, wait="")
    return best(tried | _tried([spinning], attempt))


def remembered(path: Path, key: str, look: Callable[[], Best]) -> Best:
    """What was found before under this key (machine, versions, workload, model), or what `look` finds now."""
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if key not in known:
        found = look()
        known[key] = asdict(found)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")
    return Best(Choice(**known[key]["choice"]), known[key]["least_mb"])


def _tried(wanted: Sequence[Choice], attempt: Try) -> dict[Choice, Measurement]:
    found = {}
    for choice in wanted:
        measurement = attempt(choice)
        said = "does not run" if measurement is None else f"{measurement.tokens_per_s:.0f} tokens/s"
        print(f"  peer with {choice}: {said}", file=sys.stderr)
        if measurement is not None:
            found[choice] = measurement
    return found
