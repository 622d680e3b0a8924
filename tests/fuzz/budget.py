"""How many cases a property is tried with: a fixed few in the suite, as many as KEEL_FUZZ says in a long run."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings

LONG = int(os.environ.get("KEEL_FUZZ", "0"))
"""Cases for each property; 0 = the suite's own number, the same cases every time."""


def cases(few: int) -> settings:
    """`few` cases that are always the same, or KEEL_FUZZ new ones."""
    return settings(
        max_examples=LONG or few,
        derandomize=not LONG,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
