"""What the preflight found: a table for people, one object for programs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from keel.diagnostics.findings import Finding, Level
from keel.preflight.example import Example, visible
from keel.stages.workspace import StageName
from keel.summary import STAGES, WIDTH, fold

SEVERITY: tuple[Level, ...] = ("red", "amber", "ok")
_STYLES = {"red": "bold red", "amber": "yellow", "ok": "green"}
_NAME = 20
_INDENT = " " * 9


@dataclass(frozen=True)
class Preflight:
    """What was found before step 1 of a stage: red findings first, then amber, then what passed.

    `example` is one row as the stage will learn from it; None where the stage learns from none or there is none yet.
    """

    stage: StageName
    findings: tuple[Finding, ...]
    example: Example | None

    def __str__(self) -> str:
        """The table without colours, for `Display.note`."""
        return "\n".join(line.plain.rstrip() for line in self.lines(colours=False))

    def brief(self) -> str:
        """For a run that goes on: what did not pass in full, and how many checks did."""
        passed = sum(one.verdict == "ok" for one in self.findings)
        checks = f"{passed} of {len(self.findings)} checks passed"
        if passed == len(self.findings):
            return f"{STAGES[self.stage]}: {checks}"
        told = [line for one in self.findings if one.verdict != "ok" for line in _told(one)]
        return "\n".join([f"{STAGES[self.stage]}: {checks}; the others:", *(line.plain.rstrip() for line in told)])

    def lines(self, colours: bool) -> Iterator[Text]:
        """The table: one line for what passed, the whole message and the remedy for what did not."""
        yield Text(f"BEFORE STEP 1: {STAGES[self.stage]}", style="bold")
        for one in self.findings:
            yield from _told(one)
        if self.example is not None:
            yield from self.example.lines(colours)


@dataclass(frozen=True)
class Checked:
    """The preflight of every stage of a recipe, in order."""

    stages: tuple[Preflight, ...]

    @property
    def verdict(self) -> Level:
        """The worst of all."""
        found = {one.verdict for stage in self.stages for one in stage.findings}
        return next((level for level in SEVERITY if level in found), "ok")

    def to_json(self) -> dict[str, Any]:
        """`verdict`, the worst of all; `findings`, each with its `stage`; `examples` by stage, in pieces of text."""
        return {
            "verdict": self.verdict,
            "findings": [{"stage": stage.stage, **asdict(one)} for stage in self.stages for one in stage.findings],
            "examples": {
                stage.stage: [asdict(piece) for piece in stage.example.pieces]
                for stage in self.stages
                if stage.example is not None
            },
        }

    def __str__(self) -> str:
        return "\n".join(line.plain.rstrip() for line in self.lines(colours=False))

    def lines(self, colours: bool) -> Iterator[Text]:
        """The tables of all stages, and how many findings there are of each kind."""
        for stage in self.stages:
            if stage.findings:
                yield from stage.lines(colours)
                yield Text("")
        verdicts = [one.verdict for stage in self.stages for one in stage.findings]
        counts = {level: verdicts.count(level) for level in SEVERITY}
        yield Text.assemble(
            *((f"{'' if level == 'red' else ', '}{count} {level}", _STYLES[level]) for level, count in counts.items()),
            ". Nothing was written."
            if counts["red"] == 0
            else ". Mend what is red before you run; nothing was written.",
        )


def sorted_by_severity(found: Iterable[Finding]) -> tuple[Finding, ...]:
    """Red first, then amber, then what passed; otherwise in the order of the checks."""
    return tuple(sorted(found, key=lambda one: SEVERITY.index(one.verdict)))


def _told(one: Finding) -> Iterator[Text]:
    """One line, or the message and the remedy in full under it."""
    head = Text.assemble("  ", (f"{one.verdict:7}", _STYLES[one.verdict]))
    message, name = visible(one.message), f"{one.check:{_NAME}}"
    if one.verdict == "ok":
        room = WIDTH - len(_INDENT) - _NAME
        short = message if cell_len(message) <= room else f"{set_cell_size(message, room - 1)}…"
        yield head.append(name).append(short, style="dim")
        return
    yield head.append(one.check, style="bold")
    for text, style in ((message, ""), (f"→ {visible(one.remedy)}", "italic")):
        yield from (Text(_INDENT).append(line, style) for line in fold(text, WIDTH - len(_INDENT)))
