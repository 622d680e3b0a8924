"""From measurements to a result: medians over the pairs, ratios, and the table of all workloads."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from benchmarks.versus_trl.limits import Limits
from benchmarks.versus_trl.measure import Measurement
from benchmarks.versus_trl.work import limit_seconds
from benchmarks.versus_trl.workloads import Workload


@dataclass(frozen=True)
class Result:
    """One row of the table. Tokens per second and peaks are medians of the processes of a side.

    `ratio` is the median of the ratios of the pairs (ours / peer's), which cancels what slows a machine down for a
    while; `memory_ratio` that of the medians of the peaks, MiB above what the processes held after their imports.
    `fraction_of_limit` is the least time that the machine could do the work in over the time that ours took.
    `peer_least_mb` is the lowest peak of any setting of the peer's that was tried, fast or not.
    """

    workload: str
    model: str
    peer: str
    ours_tokens_per_s: float
    peer_tokens_per_s: float
    ratio: float
    ratio_low: float
    ratio_high: float
    target: float
    ours_peak_mb: float
    peer_peak_mb: float
    peer_least_mb: float
    memory_ratio: float
    memory_target: float
    fraction_of_limit: float
    pairs: int
    setting: Mapping[str, object]

    def write(self, folder: Path) -> Path:
        """One file of one JSON object; returns its path."""
        folder.mkdir(parents=True, exist_ok=True)
        other = "" if self.peer == "trl" else f"-{self.peer}"
        path = folder / f"{self.workload}-{self.model}{other}.json"
        path.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")
        return path


def fraction_of_limit(measurement: Measurement, limits: Limits) -> float:
    """The least time for the work of all laps over the time that they took."""
    flops = sum(lap.flops for lap in measurement.laps)
    decoded = sum(lap.decoded for lap in measurement.laps)
    return limit_seconds(flops, decoded, limits.gflops, limits.floor_ms, limits.batch) / measurement.seconds


def compare(
    workload: Workload,
    pairs: Sequence[tuple[Measurement, Measurement]],
    limits: Limits,
    least_mb: float,
    peer: str,
    machine: Mapping[str, object],
) -> Result:
    """The result of the pairs (ours, peer's)."""
    ours, theirs = zip(*pairs, strict=True)
    ratios = [mine.tokens_per_s / other.tokens_per_s for mine, other in pairs]
    ours_mb, peer_mb = (median(one.peak_mb for one in side) for side in (ours, theirs))
    model = ours[0].model
    return Result(
        workload=workload.name,
        model=model,
        peer=peer,
        ours_tokens_per_s=round(median(one.tokens_per_s for one in ours), 1),
        peer_tokens_per_s=round(median(one.tokens_per_s for one in theirs), 1),
        ratio=round(median(ratios), 3),
        ratio_low=round(min(ratios), 3),
        ratio_high=round(max(ratios), 3),
        target=workload.target(model, peer),
        ours_peak_mb=round(ours_mb),
        peer_peak_mb=round(peer_mb),
        peer_least_mb=round(min(least_mb, peer_mb)),
        memory_ratio=round(ours_mb / peer_mb, 3),
        memory_target=workload.memory,
        fraction_of_limit=round(median(fraction_of_limit(one, limits) for one in ours), 3),
        pairs=len(pairs),
        setting={
            "ours": {**ours[0].setting, **ours[0].versions},
            "peer": {**theirs[0].setting, **theirs[0].versions},
            "limits": asdict(limits),
            "machine": machine,
        },
    )


_HEAD = (
    "| workload | model | peer | ours tok/s | peer tok/s | ratio (low–high) | at least | ours MB | peer MB | ratio "
    "| at most | of limit |"
)


def table(results: Sequence[Result]) -> str:
    """All results in Markdown; a ratio that does not reach its target is marked. Memory is held to its own at small."""
    lines = [_HEAD, "|" + " --- |" * (_HEAD.count("|") - 1)]
    for row in results:
        asked = row.model == "small" and row.peer == "trl"
        speed = _marked(f"{row.ratio:.2f}", row.ratio >= row.target)
        memory = _marked(f"{row.memory_ratio:.2f}", not asked or row.memory_ratio <= row.memory_target)
        cells = (
            *(row.workload, row.model, row.peer),
            *(f"{row.ours_tokens_per_s:.0f}", f"{row.peer_tokens_per_s:.0f}"),
            f"{speed} ({row.ratio_low:.2f}–{row.ratio_high:.2f})",
            f"{row.target:g}",
            *(f"{row.ours_peak_mb:.0f}", f"{row.peer_peak_mb:.0f}", memory),
            f"{row.memory_target:g}" if asked else "",
            f"{row.fraction_of_limit:.2f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _marked(text: str, reached: bool) -> str:
    return text if reached else f"**{text}** ✗"
