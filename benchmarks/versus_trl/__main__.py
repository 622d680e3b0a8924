"""python -m benchmarks.versus_trl [--workload NAME …] [--model tiny|small|both] [--pairs N] [--peer trl|vllm]"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.versus_trl import environments, pairs
from benchmarks.versus_trl.inputs import CACHE, Spec
from benchmarks.versus_trl.making import make
from benchmarks.versus_trl.pairs import Opponent, Plan
from benchmarks.versus_trl.result import Result, table
from benchmarks.versus_trl.workloads import WORKLOADS, Workload, find

RESULTS = Path(__file__).resolve().parents[1] / "results"


def main(argv: Sequence[str]) -> int:
    """Measures the workloads that are asked for, writes one file for each, and prints the table."""
    given = _arguments().parse_args(argv)
    plan = Plan(given.pairs, given.steps, given.warmup)
    models = ("tiny", "small") if given.model == "both" else (given.model,)
    workloads = [row for row in asked(given.workload) if given.peer == "trl" or row.vllm is not None]
    inputs = make(Spec(), CACHE)
    install = environments.vllm if given.peer == "vllm" else environments.trl
    opponent = Opponent(given.peer, install(CACHE), CACHE / "settings.json")
    results: list[Result] = []
    for model in models:
        limits = pairs.limits_of(inputs, model, WORKLOADS[0].batch)
        for workload in workloads:
            result = pairs.measure(workload, inputs, model, plan, opponent, limits)
            print(f"wrote {result.write(given.results)}", file=sys.stderr)
            results.append(result)
    print(table(results))
    return 0


def asked(names: Sequence[str]) -> list[Workload]:
    """The workloads with these names; all where there are none."""
    return [find(name) for name in names] or list(WORKLOADS)


def _arguments() -> argparse.ArgumentParser:
    names = ", ".join(row.name for row in WORKLOADS)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.versus_trl", description=__doc__)
    parser.add_argument("--workload", nargs="*", default=[], metavar="NAME", help=f"default: all of {names}")
    parser.add_argument("--model", choices=("tiny", "small", "both"), default="both", help="default: %(default)s")
    parser.add_argument("--pairs", type=int, default=3, help="processes of either side; default: %(default)s")
    parser.add_argument("--steps", type=int, help="timed steps of a process; default: the workload's own")
    parser.add_argument("--warmup", type=int, help="steps before them; default: the workload's own")
    parser.add_argument("--peer", choices=("trl", "vllm"), default="trl", help="default: %(default)s")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON files")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
