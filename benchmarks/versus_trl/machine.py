"""Which machine this is: figures of one say nothing about another."""

from __future__ import annotations

import hashlib
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Machine:
    """`features` is a digest of what the processor says it can do (its flags)."""

    processor: str
    cores: int
    memory_gb: int
    features: str
    kernel: str

    @property
    def fingerprint(self) -> str:
        """Equal for equal machines."""
        return hashlib.sha256(repr(asdict(self)).encode()).hexdigest()[:12]


def this() -> Machine:
    """The machine that this runs on."""
    facts = _facts(Path("/proc/cpuinfo"))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    flags = " ".join(sorted(facts.get("flags", facts.get("Features", "")).split()))
    return Machine(
        processor=facts.get("model name", platform.processor() or platform.machine()),
        cores=os.cpu_count() or 1,
        memory_gb=round(memory / 2**30),
        features=hashlib.sha256(flags.encode()).hexdigest()[:8],
        kernel=platform.system(),
    )


def _facts(path: Path) -> dict[str, str]:
    """The first processor's lines, "key : value"."""
    if not path.exists():
        return {}
    first = path.read_text(encoding="utf-8", errors="replace").split("\n\n")[0]
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}
