"""docs/algorithms.md says what the presets say."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

from keel.config import ONLINE, PRESETS, Dpo, Recipe
from keel.config.algorithms import departures, table

PAGE = (Path(__file__).parents[2] / "docs" / "algorithms.md").read_text(encoding="utf-8")


def test_the_table_is_that_of_the_presets() -> None:
    assert table() in PAGE
    assert departures() in PAGE
    assert len(table().splitlines()) == 2 + len(ONLINE)


def test_every_loss_has_its_row() -> None:
    section = PAGE.split("## From preferences")[1].split("\n## ")[0]
    losses = get_args(Dpo.model_fields["loss"].annotation)
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == [
        "dpo",
        "cdpo",
        "robust",
        "ipo",
        "kto",
        "orpo",
        "simpo",
    ]
    assert set(losses) == {"dpo", "cdpo", "robust", "ipo", "kto", "orpo", "simpo"}


def test_every_field_that_the_page_names_is_one() -> None:
    named = set(re.findall(r"`((?:rl|dpo|preferences)\.[a-z_.]+)`", PAGE))
    assert len(named) > 8
    for dotted in named:
        section, name = dotted.split(".")[:2]
        assert name in type(getattr(Recipe(), section)).model_fields, dotted


def test_every_method_has_a_source() -> None:
    assert all(PRESETS[name].source and PRESETS[name].title for name in ONLINE)
    assert len({PRESETS[name].title for name in PRESETS}) == len(PRESETS)
