"""Agreement of each annotator with all the others (leave-one-out), ties aside."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from keel.preferences.judgement import Judgement, collect
from keel.preferences.quality.binomial import Share, share
from keel.preferences.quality.discovery import adjusted
from keel.preferences.quality.limits import Limits

_FEWEST_PEOPLE = 3  # below that, nobody knows who of two is the odd one


@dataclass(frozen=True)
class WithOthers:
    """`share`: how often another annotator of the same pair, drawn at random, made the same choice, over the items.

    Who does not read agrees on ½, since sides are drawn by a fair coin. `usual` is the median of the others' shares.
    `p` is P(the annotator's agreement ≥ usual | its items), `adjusted` across annotators; None where too few people or
    items are there to compare with.
    """

    share: Share
    usual: float | None
    p: float | None
    adjusted: float | None


def agreements(judgements: Sequence[Judgement], limits: Limits) -> dict[str, WithOthers]:
    """The agreement of everybody who decided on an item that somebody else has decided too.

        x_i = the mean over i's pairs of (others who chose alike) / (others who chose),   Σ x_i / n over n items

    An item counts once, whatever it holds: the pairs of one ranking hang together. The interval takes x_i as a 0 or 1
    (see `Share`). p comes from the same posterior, for those with `Limits.fewest` items, three people or more.
    """
    shares = {name: share(total, items, limits.level) for name, (total, items) in _agreeing(judgements).items()}
    enough = [name for name, each in shares.items() if each.trials >= limits.fewest]
    usual: dict[str, float] = {}
    if len(enough) >= _FEWEST_PEOPLE:
        usual = {name: median(shares[other].value for other in enough if other != name) for name in enough}
    p = {name: 1 - shares[name].below(usual[name]) for name in usual}
    across = adjusted(p)
    return {name: WithOthers(each, usual.get(name), p.get(name), across.get(name)) for name, each in shares.items()}


def _agreeing(judgements: Sequence[Judgement]) -> dict[str, tuple[float, int]]:
    """For each annotator, Σ x_i and how many items."""
    votes = collect(judgements)
    counts = votes.counts()
    others = counts[votes.pair].astype(float)
    others[np.arange(len(votes.pair)), votes.label] -= 1
    deciding = others[:, 0] + others[:, 2]
    kept = (votes.label != 1) & (deciding > 0)
    alike = others[np.arange(len(votes.pair)), votes.label] / np.maximum(deciding, 1)
    per_item: dict[tuple[str, str], list[float]] = {}
    for pair, who, x in zip(votes.pair[kept], votes.annotator[kept], alike[kept].tolist(), strict=True):
        per_item.setdefault((votes.annotators[who], votes.pairs[pair].item), []).append(x)
    found: dict[str, tuple[float, int]] = {}
    for (name, _), values in per_item.items():
        total, items = found.get(name, (0.0, 0))
        found[name] = (total + sum(values) / len(values), items + 1)
    return found
