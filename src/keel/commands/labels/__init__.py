"""`keel labels`: what people said, measured, brought together, written to files and read from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module

from keel.data.nearest import did_you_mean
from keel.errors import UserError


@dataclass(frozen=True)
class Subcommand:
    """A line of `keel labels --help`, and the function that is called with the rest of the command line."""

    name: str
    about: str
    example: str
    function: str


SUBCOMMANDS = (
    Subcommand(
        "agreement",
        "how far annotators agree, with intervals",
        "keel labels agreement votes.csv",
        "agreement:agreement",
    ),
    Subcommand(
        "aggregate",
        "one probability per item, one reliability per person",
        "keel labels aggregate votes.csv --method dawid-skene",
        "aggregate:aggregate",
    ),
    Subcommand(
        "export",
        "judgements, pairs or training data of a database, as a file",
        "keel labels export runs/mine --out pairs.jsonl",
        "export:export",
    ),
    Subcommand(
        "import",
        "labels made elsewhere, into a database",
        "keel labels import votes.csv --to team.labels.db",
        "import_:import_",
    ),
)


def labels(argv: Sequence[str]) -> None:
    """keel labels COMMAND FILE [--json] ..."""
    name = argv[0] if argv else "--help"
    if name in {"-h", "--help", "help"}:
        print(usage())
        return
    for command in SUBCOMMANDS:
        if command.name == name:
            module, _, function = command.function.partition(":")
            getattr(import_module(f"keel.commands.labels.{module}"), function)(argv[1:])
            return
    guess = did_you_mean(name, [command.name for command in SUBCOMMANDS])
    raise UserError(f"there is no command 'labels {name}'{guess}; `keel labels --help` lists them")


def usage() -> str:
    """The page of `keel labels --help`."""
    lines = [
        "usage: keel labels COMMAND FILE ...",
        "",
        "What people said of two answers, measured and brought together.",
        "",
    ]
    for command in SUBCOMMANDS:
        lines += [f"  {command.name:12}{command.about}", f"              $ {command.example}"]
    lines += ["", "FILE is a table of votes, a preference database, or the folder of a run.", ""]
    lines += ["keel labels COMMAND --help says more."]
    return "\n".join(lines)
