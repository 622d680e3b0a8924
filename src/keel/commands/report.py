"""`keel report`: the page of a finished run, written anew; of several runs, the page that compares them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from keel.commands.arguments import Arguments
from keel.data.place import place
from keel.errors import UserError

COMPARISON = "compare.html"


def report(argv: Sequence[str]) -> None:
    """keel report RUN [RUN ...] [--out FILE] [--json]"""
    arguments = Arguments(
        "report",
        "Of one run: write RUN/report.html from what the stages left in its folder, and print the summary. Of several: "
        "write one page that compares them, and print what can be concluded.",
        "keel report runs/demo    keel report runs/dear runs/target --out compare.html",
    )
    arguments.add_argument("run", nargs="+", metavar="RUN", help="folder of a finished run; up to 8 are compared")
    arguments.add_argument(
        "--out", metavar="FILE", help=f"where to write the page that compares; without it, {COMPARISON}"
    )
    arguments.add_argument("--json", action="store_true", help="print the result as one JSON object, and nothing else")
    given = arguments.read(argv)
    runs = [place(run) for run in given.run]
    if len(runs) > 1:
        _compare(runs, place(given.out if given.out is not None else COMPARISON), given.json)
    elif given.out is not None:
        raise UserError("--out is for a comparison of several runs; the page of one run is report.html in its folder")
    else:
        _report(runs[0], given.json)


def _report(run: Path, as_json: bool) -> None:
    from keel.diagnostics.report import write_report
    from keel.summary import Summary

    path = write_report(run)
    summary = Summary.read(path.with_name("summary.json"))
    print(json.dumps({"report": str(path)} | summary.to_json(), indent=2) if as_json else summary)


def _compare(runs: Sequence[Path], out: Path, as_json: bool) -> None:
    from keel.diagnostics.versus.compared import Compared
    from keel.diagnostics.versus.page import write_comparison

    compared = Compared.read(runs)
    write_comparison(compared, out)
    if as_json:
        print(json.dumps({"report": str(out)} | compared.to_json(), indent=2))
    else:
        print(f"{compared}\n\nThe page is in {out}")
