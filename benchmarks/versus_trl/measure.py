"""What one process measures and how it says so: laps, memory, one line of JSON. Imports neither torch nor Keel."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Lap:
    """One step: wall-clock seconds, and the useful tokens that it dealt with. Padding never counts.

        sft          tokens of the demonstrations
        reward, dpo  tokens of prompt + chosen and of prompt + rejected, once each, whoever reads them how often
        others       sampled tokens, the end-of-text token included

    `flops` and `decoded` are the least work that the step asks for, by `work`; 0 where a side does not count it.
    """

    seconds: float
    tokens: int
    flops: float = 0.0
    decoded: int = 0


@dataclass(frozen=True)
class Measurement:
    """What one process found: the laps after warm-up, and its peak memory (`Memory.peak_mb`).

    `setting` says what was chosen: number format, micro-batch, allocator; `versions` those of the libraries.
    """

    workload: str
    model: str
    side: str
    setting: Mapping[str, object]
    laps: Sequence[Lap]
    peak_mb: float
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def tokens_per_s(self) -> float:
        """Useful tokens of all laps over their seconds."""
        return sum(lap.tokens for lap in self.laps) / self.seconds

    @property
    def seconds(self) -> float:
        """Wall-clock time of all laps."""
        return sum(lap.seconds for lap in self.laps)

    def line(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def read(cls, output: str) -> Measurement:
        """The last line of what a process printed; ValueError where that is no measurement."""
        lines = output.strip().splitlines()
        if not lines or not lines[-1].startswith("{"):
            raise ValueError(f"the process printed no measurement but {output[-300:]!r}")
        found = json.loads(lines[-1])
        return cls(**{**found, "laps": [Lap(**lap) for lap in found["laps"]]})


class Stopwatch:
    """Cuts the time of a process into laps; the first begins where `start` is called."""

    def __init__(self) -> None:
        self.laps: list[Lap] = []
        self._last = 0.0

    def start(self) -> None:
        """Time counts from here; once started it goes on."""
        self._last = self._last or time.perf_counter()

    def lap(self, tokens: int, flops: float = 0.0, decoded: int = 0) -> None:
        """A step has ended, and the next begins."""
        now = time.perf_counter()
        self.laps.append(Lap(now - self._last, tokens, flops, decoded))
        self._last = now


class Memory:
    """Peak resident memory above what the process held when this was made, right after its imports; MiB.

    Where Linux lets a process reset its high-water mark (VmHWM), the peak is that since then. Elsewhere it is the peak
    of the whole process, the imports included, so too high by what they let go of.
    """

    def __init__(self) -> None:
        self.held = _resident_mb()
        self.reset = _forget_peak()

    def peak_mb(self) -> float:
        """The most that the process has held since, less what it held then."""
        peak = _status_mb("VmHWM") if self.reset else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        return peak - self.held


def _resident_mb() -> float:
    return _status_mb("VmRSS") if _STATUS.exists() else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _status_mb(key: str) -> float:
    for line in _STATUS.read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"{_STATUS} does not tell {key}")


def _forget_peak() -> bool:
    try:
        _CLEAR_REFS.write_text("5", encoding="ascii")
    except OSError:
        return False
    return True
