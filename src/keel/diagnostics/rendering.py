"""Templates, filled so that whatever a model, a data file or a file name says stays text."""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from keel.diagnostics.geometry import figure
from keel.display import duration
from keel.summary import confidence_in_words, percent


def filled(template: str, **values: Any) -> str:
    """The page; a value that the template asks for and does not get is a mistake of ours."""
    return _environment().get_template(template).render(**values)


def points(value: float) -> str:
    """A score with two digits and a true minus sign."""
    return f"{value:.2f}".replace("-", "−")


def whole(value: float | int) -> str:
    """A number without decimals, thousands apart."""
    return f"{value:,.0f}"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("keel.diagnostics"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "confidence": confidence_in_words,
        "figure": figure,
        "points": points,
        "duration": duration,
        "whole": whole,
    }
    return environment
