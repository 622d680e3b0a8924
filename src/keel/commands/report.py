"""`keel report`: the page of a finished run, written anew."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from keel.commands.arguments import Arguments


def report(argv: Sequence[str]) -> None:
    """keel report RUN [--json]"""
    arguments = Arguments(
        "report",
        "Write RUN/report.html from what the stages of a finished run left in their folders, and print the summary.",
        "keel report runs/demo",
    )
    arguments.add_argument("run", metavar="RUN", help="folder of a finished run")
    arguments.add_argument("--json", action="store_true", help="print the result as one JSON object, and nothing else")
    given = arguments.read(argv)

    from keel.diagnostics.report import write_report
    from keel.summary import Summary

    path = write_report(Path(given.run))
    summary = Summary.read(path.with_name("summary.json"))
    print(json.dumps({"report": str(path)} | summary.to_json(), indent=2) if given.json else summary)
