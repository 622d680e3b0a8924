"""Whether what will be optimised is what its name promises."""

from __future__ import annotations

from collections.abc import Iterator

from keel.config import Online
from keel.config.cautions import cautions
from keel.diagnostics.findings import Finding


def objective(settings: Online) -> Iterator[Finding]:
    """A biased gradient, or another optimum than that of a KL penalty, each a finding of its own."""
    found = cautions(settings)
    for caution in found:
        yield Finding("Objective", "amber", caution.says, caution.remedy)
    if not found:
        yield Finding("Objective", "ok", "Gradient and optimum are what the KL promises.", "")
