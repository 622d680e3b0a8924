"""The right name for a mistyped one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, options: Iterable[str]) -> str:
    """ " (did you mean 'x'?)" for the option that is spelt most like `name`; empty when none is close."""
    known = {option.lower(): option for option in options}
    close = difflib.get_close_matches(name.lower(), known, n=1)
    return f" (did you mean '{known[close[0]]}'?)" if close else ""
