"""`keel best-of`: the best of n answers, without any training."""

from __future__ import annotations

import re
from collections.abc import Sequence

from keel.commands.arguments import Arguments
from keel.commands.recipes import display_of, report
from keel.data.place import place
from keel.errors import UserError

_SIZES = "1,2,4,8,16,32"


def best_of(argv: Sequence[str]) -> None:
    """keel best-of RUN [--n 1,2,4] [--samples N] [--prompts N] [--reward PATH] [--json]"""
    arguments = Arguments(
        "best-of",
        "What choosing the best of n answers by the reward model brings, and costs in KL, without training: sampled "
        "from the supervised model of a run, on the prompts of its evaluation.",
        "keel best-of runs/demo --n 1,4,16,64 --samples 64",
    )
    arguments.add_argument("run", metavar="RUN", help="folder of a run with a reward model")
    arguments.add_argument("--n", metavar="N,M", default=_SIZES, help=f"default: {_SIZES}")
    arguments.add_argument("--samples", metavar="N", type=int, default=32, help="answers to each prompt [default: 32]")
    arguments.add_argument("--prompts", metavar="N", type=int, default=100, help="at most so many [default: 100]")
    arguments.add_argument("--reward", metavar="PATH", help="another reward model than the run's")
    arguments.add_argument("--json", action="store_true", help="print the result as one JSON object, and nothing else")
    given = arguments.read(argv)
    words = [one.strip() for one in given.n.split(",")]
    if not all(re.fullmatch("[0-9]{1,9}", one) for one in words):
        raise UserError(f"--n {given.n}: give whole numbers, as in {_SIZES}")
    if given.prompts < 1:
        raise UserError(f"--prompts must be at least 1, found {given.prompts}")

    from keel.best_of import best_of_n

    reward = None if given.reward is None else place(given.reward)
    found = best_of_n(place(given.run), list(map(int, words)), given.samples, given.prompts, reward, display_of(given))
    report(found, given)
