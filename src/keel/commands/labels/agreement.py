"""`keel labels agreement`: how far annotators agree, how sure that is, and what it allows a reward model to reach."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from keel.commands.arguments import Arguments
from keel.commands.labels.shown import cell, estimate, interval, name, paragraph, table, votes_counted
from keel.commands.labels.source import add_source, read_source
from keel.errors import UserError

if TYPE_CHECKING:
    from keel.preferences.agreement import Agreement
    from keel.preferences.judgement import Votes
    from keel.preferences.votes_file import VotesFile

MEASURES = {
    "observed": "two annotators say the same",
    "observed_without_ties": "the same, where both decide",
    "unanimous": "all annotators of an item say the same",
    "cohen": "Cohen's κ, mean over pairs of annotators",
    "fleiss": "Fleiss' κ",
    "alpha": "Krippendorff's α",
    "ac1": "Gwet's AC1",
}
"""What is printed, in this order, and what it is. The first three are shares; the others are 0 at chance, 1 at best."""
SHARED = 10
"""Items that two annotators must share before their κ is told, where any two share as many."""
_PAIRS_SHOWN = 10
_WORDS = ((0.0, "worse than chance"), (0.2, "slight"), (0.4, "fair"), (0.6, "moderate"), (0.8, "substantial"))
_SKEWED = 0.2  # AC1 above α by this much: one label dominates


def agreement(argv: Sequence[str]) -> None:
    """keel labels agreement FILE [--json] ..."""
    arguments = Arguments(
        "labels agreement",
        "How far annotators agree: shares and chance-corrected coefficients, each with its bootstrap interval.",
        "keel labels agreement votes.csv --annotators kim,lee --values left=first,same=tie,right=second",
    )
    add_source(arguments)
    arguments.add_argument("--resamples", metavar="N", type=int, default=1000, help="of the bootstrap [default: 1000]")
    arguments.add_argument("--level", metavar="P", type=float, default=0.95, help="of the intervals [default: 0.95]")
    arguments.add_argument("--seed", metavar="N", type=int, default=0, help="of the bootstrap [default: 0]")
    arguments.add_argument(
        "--shared",
        metavar="N",
        type=int,
        help="items that two annotators must share for Cohen's κ [default: 10, or fewer where no two share so many]",
    )
    arguments.add_argument("--json", action="store_true", help="print the result as one JSON object, and nothing else")
    given = arguments.read(argv)
    _check(given)
    source = read_source(given)

    from keel.preferences.agreement import measure
    from keel.preferences.judgement import collect

    votes = collect(source.judgements)
    shared = given.shared or max(1, min(SHARED, most_shared(votes)))
    found = measure(votes, given.resamples, given.level, given.seed, shared)
    if given.json:
        settings = {"level": given.level, "resamples": given.resamples, "seed": given.seed, "shared": shared}
        print(json.dumps(as_json(source, votes, found) | settings, indent=2, ensure_ascii=False, allow_nan=False))
    else:
        show(votes, found, given.level, shared)


def most_shared(votes: Votes) -> int:
    """On how many pairs of answers the two annotators who met most often have both voted."""
    from collections import Counter
    from itertools import combinations, groupby

    rows = zip(votes.pair.tolist(), votes.annotator.tolist(), strict=True)
    met: Counter[tuple[int, int]] = Counter()
    for _, said in groupby(rows, key=lambda row: row[0]):
        met.update(combinations([annotator for _, annotator in said], 2))
    return max(met.values(), default=0)


def as_json(source: VotesFile, votes: Votes, found: Agreement) -> dict[str, Any]:
    """All statistics for programs; what is undefined is null."""
    return {
        "file": source.source,
        "form": source.form,
        "items": len({pair.item for pair in votes.pairs}),
        "pairs": len(votes.pairs),
        "votes": len(votes.pair),
        "annotators": len(votes.annotators),
        "shared_pairs": found.items,
        "shared_votes": found.votes,
        "declined": dict(votes.declined),
        **{measure: estimate(getattr(found, measure)) for measure in (*MEASURES, "alpha_ordinal")},
        "ceiling": _ceiling(found.observed_without_ties.value),
        "cohen_pairs": [
            {"annotators": list(pair), "items": each.items, **estimate(each.kappa)}
            for pair, each in found.cohen_pairs.items()
        ],
    }


def show(votes: Votes, found: Agreement, level: float, shared: int) -> None:
    """The same for people: sentences, then tables."""
    paragraph(in_words(votes, found))
    rows = [(what, getattr(found, measure)) for measure, what in MEASURES.items()]
    if abs(votes.strength).max(initial=0) > 1:
        rows.append(("Krippendorff's α of −3 … +3", found.alpha_ordinal))
    header = ("measure", "value", f"{100 * level:g} % interval")
    table("Agreement", header, [(what, cell(each.value), interval(each)) for what, each in rows])
    pairs = sorted(found.cohen_pairs.items(), key=lambda pair: -pair[1].items)
    if pairs:
        table(
            f"Cohen's κ of two annotators who share {shared} items or more",
            ("annotators", "items", "κ", header[2]),
            [
                (" and ".join(map(name, who)), f"{each.items:,}", cell(each.kappa.value), interval(each.kappa))
                for who, each in pairs[:_PAIRS_SHOWN]
            ],
        )
    if len(pairs) > _PAIRS_SHOWN:
        print(f"and {len(pairs) - _PAIRS_SHOWN:,} more pairs; --json lists them all.")


def in_words(votes: Votes, found: Agreement) -> str:
    """What the numbers mean, for somebody who has never heard of κ."""
    declined = "".join(f", {count:,} × {kind.replace('_', ' ')}" for kind, count in sorted(votes.declined.items()))
    said = [f"{votes_counted(votes)}{declined}."]
    if found.items == 0:
        return said[0] + " No pair has two votes, so nothing can be said about agreement."
    said.append(
        f"On {found.items:,} pairs with two votes or more, two annotators say the same {found.observed.value:.1%} of "
        f"the time, and all of them do on {found.unanimous.value:.1%} of the pairs."
    )
    alpha = found.alpha.value
    if math.isfinite(alpha):
        words = next((words for limit, words in _WORDS if alpha <= limit), "almost perfect")
        said.append(f"Beyond chance that is {words} agreement (α {alpha:.2f}, in Landis & Koch's words).")
        if found.ac1.value - alpha > _SKEWED:
            said.append(f"One verdict is so frequent that α and κ understate it; AC1 ({found.ac1.value:.2f}) does not.")
    else:
        said.append("Only one verdict occurs, so that agreement beyond chance is undefined.")
    best = _ceiling(found.observed_without_ties.value)
    if best is not None and best < 1:
        said.append(
            f"Who knew what people prefer would still agree with a single vote only {best:.1%} of the time, ties "
            "aside: no reward model can be expected to do better on votes like these."
        )
    return " ".join(said)


def _ceiling(decided: float) -> float | None:
    """The best accuracy against single votes, where it is known."""
    from keel.preferences.agreement import ceiling

    return ceiling(decided).accuracy if math.isfinite(decided) else None


def _check(given: argparse.Namespace) -> None:
    if given.resamples < 1:
        raise UserError(f"--resamples must be at least 1, found {given.resamples}")
    if not 0 < given.level < 1:
        raise UserError(f"--level must lie between 0 and 1, found {given.level:g}")
    if given.seed < 0:
        raise UserError(f"--seed must not be negative, found {given.seed}")
    if given.shared is not None and given.shared < 1:
        raise UserError(f"--shared must be at least 1, found {given.shared}")
