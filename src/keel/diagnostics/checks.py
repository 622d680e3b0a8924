"""All that was found about a run: before its stages began, in what they left, and in how one follows from another."""

from __future__ import annotations

from collections.abc import Iterator

from keel.diagnostics.findings import Finding, findings
from keel.diagnostics.provenance import stale
from keel.diagnostics.recorded import Recorded
from keel.summary import STAGES

_SEVERITY = ("red", "amber", "ok")


def checks(run: Recorded) -> list[Finding]:
    """Red ones first, then amber, then those that passed; of the same kind, those of the finished run come first."""
    return _sorted([*findings(run), *_stale(run), *before_step_one(run)])


def before_step_one(run: Recorded) -> list[Finding]:
    """What the preflight of each stage found, where it left that."""
    return _sorted(
        [
            Finding(f"Before {STAGES[one.stage]}: {one.check}", one.verdict, one.message, one.remedy)
            for one in run.prechecks
        ]
    )


def _stale(run: Recorded) -> Iterator[Finding]:
    for one in stale(run.origins):
        name = STAGES[one.stage]
        yield Finding(
            f"What {name} follows from",
            "amber",
            f"{one.source} has been made anew since {name} was made from it, so the two do not belong together.",
            "Run the recipe again with `keel run`: it makes anew what follows from what has changed, and keeps the "
            "rest.",
        )


def _sorted(found: list[Finding]) -> list[Finding]:
    return sorted(found, key=lambda one: _SEVERITY.index(one.verdict))
