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
    if not found and settings.credit == "pair":
        yield Finding("Objective", "ok", "What holds the policy is dpo.beta.", "")
    elif not found and settings.kl.coef == 0:
        yield Finding("Objective", "ok", "No KL holds the policy, which optimises the reward alone.", "")
    elif not found:
        yield Finding("Objective", "ok", "Gradient and optimum are what the KL promises.", "")
