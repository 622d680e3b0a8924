"""How far annotators agree, how sure we are of that, and the best accuracy that it allows.

Every statistic is a function of `counts`, [N, C]: how many annotators gave item i the label c. An item with one vote
says nothing about agreement and counts only towards the shares of the labels. `draws`, [B, N], says how often each item
was drawn: ones for the data itself, multinomial counts for a bootstrap over items; results are [B], nan where undefined
(one label only, or no item with two votes).

With n_i the votes on item i, P_i = Σ_c n_ic(n_ic − 1) / n_i(n_i − 1) the share of its pairs of votes that agree (over
items with n_i ≥ 2), π_c the mean of n_ic/n_i over items, and q the number of labels:

    observed   p_a = mean P_i
    Fleiss     κ = (p_a − Σ π_c²) / (1 − Σ π_c²)                                        Fleiss 1971
    Gwet       AC1 = (p_a − p_e) / (1 − p_e),  p_e = Σ π_c(1 − π_c) / (q − 1)            Gwet 2008
    alpha      α = 1 − (n − 1)·Σ o_ck δ_ck² / Σ n_c n_k δ_ck²,                           Krippendorff 2011
               o_ck = Σ_i n_ic(n_ik − [c = k]) / (n_i − 1),  n_c = Σ_k o_ck,  n = Σ_c n_c
    Cohen      κ of two annotators over the items that both judged, shares from each      Cohen 1960

With the same number of votes on every item Fleiss' κ is the textbook's; the means over items are Gwet's extension.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from keel.preferences.judgement import STRONGEST, Votes

Statistic = Callable[[np.ndarray, np.ndarray], np.ndarray]
_BLOCK = 4_000_000  # numbers in one block of draws: bounds the memory of a bootstrap
_LABELS = 3


@dataclass(frozen=True)
class Estimate:
    """A statistic and its percentile bootstrap interval over items; nan where it is undefined."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class CohenPair:
    """Cohen's κ of two annotators, and how many items they share."""

    kappa: Estimate
    items: int


@dataclass(frozen=True)
class Agreement:
    """Every statistic of one set of votes. `items` have two votes or more; `votes` are all votes on those items.

    `cohen_pairs` lists the pairs of annotators that share at least as many items as was asked for; `cohen` is their
    mean, each pair weighted by the items it shares. `alpha` is nominal over first, tie, second; `alpha_ordinal` is over
    −3…+3.
    """

    observed: Estimate
    observed_without_ties: Estimate
    unanimous: Estimate
    cohen: Estimate
    fleiss: Estimate
    alpha: Estimate
    alpha_ordinal: Estimate
    ac1: Estimate
    cohen_pairs: Mapping[tuple[str, str], CohenPair]
    items: int
    votes: int


def measure(votes: Votes, resamples: int = 1000, level: float = 0.95, seed: int = 0, shared: int = 10) -> Agreement:
    """All statistics with intervals at `level`; Cohen's κ for pairs of annotators that share `shared` items or more."""
    labels = votes.counts().astype(float)
    rows = len(votes.pairs)
    steps = np.bincount(
        votes.pair * (2 * STRONGEST + 1) + votes.strength + STRONGEST, minlength=rows * (2 * STRONGEST + 1)
    )
    strengths = steps.reshape(rows, 2 * STRONGEST + 1).astype(float)

    def estimate(statistic: Statistic, counts: np.ndarray) -> Estimate:
        return bootstrap(statistic, counts, resamples, level, seed)

    meetings = _meetings(votes, shared)
    overlapping = labels.sum(axis=1) >= 2
    return Agreement(
        observed=estimate(observed, labels),
        observed_without_ties=estimate(observed, labels[:, ::2]),
        unanimous=estimate(unanimous, labels),
        cohen=_mean_cohen(meetings, rows, resamples, level, seed),
        fleiss=estimate(fleiss_kappa, labels),
        alpha=estimate(nominal_alpha, labels),
        alpha_ordinal=estimate(ordinal_alpha, strengths),
        ac1=estimate(gwet_ac1, labels),
        cohen_pairs=_cohen_pairs(votes, meetings, resamples, level, seed),
        items=int(overlapping.sum()),
        votes=int(labels[overlapping].sum()),
    )


def bootstrap(
    statistic: Statistic, counts: Float[np.ndarray, "N C"], resamples: int, level: float, seed: int
) -> Estimate:
    """The statistic and its percentile interval over items drawn with replacement. Seeded, so that it repeats."""
    counts = counts[counts.sum(axis=1) > 0]
    if len(counts) == 0:
        return Estimate(np.nan, np.nan, np.nan)
    value = float(statistic(counts, np.ones((1, len(counts))))[0])
    drawn = [statistic(counts, draws) for draws in _draws(len(counts), resamples, seed)]
    return Estimate(value, *_interval(np.concatenate(drawn), level))


def observed(counts: Float[np.ndarray, "N C"], draws: Float[np.ndarray, "B N"]) -> Float[np.ndarray, " B"]:
    """p_a: two annotators drawn at random from one item say the same. Leave a column out to ask it of the others."""
    n = counts.sum(axis=1)
    agreeing = (counts * (counts - 1)).sum(axis=1)
    return _ratio(draws @ (agreeing / np.maximum(n * (n - 1), 1)), draws @ (n >= 2))


def unanimous(counts: Float[np.ndarray, "N C"], draws: Float[np.ndarray, "B N"]) -> Float[np.ndarray, " B"]:
    """The share of items with two votes or more on which all votes are the same."""
    n = counts.sum(axis=1)
    return _ratio(draws @ ((n >= 2) & (counts.max(axis=1) == n)), draws @ (n >= 2))


def fleiss_kappa(counts: Float[np.ndarray, "N C"], draws: Float[np.ndarray, "B N"]) -> Float[np.ndarray, " B"]:
    """Chance agreement from the shares of the labels over all annotators."""
    return _beyond_chance(observed(counts, draws), (_shares(counts, draws) ** 2).sum(axis=1))


def gwet_ac1(counts: Float[np.ndarray, "N C"], draws: Float[np.ndarray, "B N"]) -> Float[np.ndarray, " B"]:
    """Does not collapse where one label dominates. q counts the labels that occur in `counts`."""
    shares = _shares(counts, draws)
    q = int((counts.sum(axis=0) > 0).sum())
    chance = (shares * (1 - shares)).sum(axis=1) / max(q - 1, 1)
    return _beyond_chance(observed(counts, draws), chance if q > 1 else np.ones(len(draws)))


def nominal_alpha(counts: Float[np.ndarray, "N C"], draws: Float[np.ndarray, "B N"]) -> Float[np.ndarray, " B"]:
    """Krippendorff's α with δ² = 1 between different labels."""
    coincidence = _coincidence(counts, draws)
    return _alpha(coincidence, np.broadcast_to(1 - np.eye(counts.shape[1]), coincidence.shape))


def ordinal_alpha(counts: Float[np.ndarray, "N C"], draws: Float[np.ndarray, "B N"]) -> Float[np.ndarray, " B"]:
    """Krippendorff's α for ordered labels: δ_ck = Σ_{g=c}^{k} n_g − (n_c + n_k)/2."""
    coincidence = _coincidence(counts, draws)
    size = coincidence.sum(axis=2)
    middle = np.cumsum(size, axis=1) - size / 2
    return _alpha(coincidence, (middle[:, :, None] - middle[:, None, :]) ** 2)


def cohen_kappa(tables: Float[np.ndarray, "B C C"]) -> Float[np.ndarray, " B"]:
    """κ of two annotators from how often one said c (rows) while the other said k (columns), for B such tables."""
    total = tables.sum(axis=(1, 2))
    same = np.trace(tables, axis1=1, axis2=2)
    chance = (tables.sum(axis=1) * tables.sum(axis=2)).sum(axis=1)
    return _beyond_chance(_ratio(same, total), _ratio(chance, total**2))


@dataclass(frozen=True)
class Ceiling:
    """`spread` is s, the standard deviation of the score differences; `accuracy` the best that can be expected."""

    spread: float
    accuracy: float


def ceiling(agreement: float) -> Ceiling:
    """The best accuracy against single votes that this pairwise agreement (without ties) allows.

    Score differences Δ ~ N(0, s²), votes with Bradley–Terry noise. Two annotators agree with probability
    E[σ² + (1 − σ)²], σ = σ(Δ), which is solved for s; who knows every Δ is right with probability E[max(σ, 1 − σ)].
    At or below an agreement of ½ the spread is 0; at 1 it is infinite. A reward model above the ceiling means leakage.
    """
    if not 0 <= agreement <= 1:
        raise ValueError(f"agreement of {agreement}: a share between 0 and 1")
    if agreement <= 0.5 or agreement == 1:
        return Ceiling(0.0, 0.5) if agreement < 1 else Ceiling(float("inf"), 1.0)
    low, high = 0.0, 1.0
    while _expected(high)[0] < agreement:
        low, high = high, 2 * high
    for _ in range(60):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if _expected(middle)[0] < agreement else (low, middle)
    return Ceiling(high, _expected(high)[1])


def _expected(spread: float) -> tuple[float, float]:
    """Agreement and best accuracy at a spread, by the midpoint rule over |Δ|/s (both integrands are even in Δ)."""
    width = 1e-3
    z = np.arange(0.5 * width, 9, width)
    density = 2 * width * np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    better = 0.5 * (1 + np.tanh(0.5 * spread * z))
    return float(density @ (better**2 + (1 - better) ** 2)), float(density @ better)


def _draws(items: int, resamples: int, seed: int) -> list[np.ndarray]:
    """How often each item is drawn, [resamples, items], in blocks."""
    rng = np.random.default_rng(seed)
    block = max(1, _BLOCK // items)
    share = np.full(items, 1 / items)
    sizes = [min(block, resamples - start) for start in range(0, resamples, block)]
    return [rng.multinomial(items, share, size).astype(float) for size in sizes]


def _interval(values: np.ndarray, level: float) -> tuple[float, float]:
    defined = values[~np.isnan(values)]
    if len(defined) == 0:
        return np.nan, np.nan
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    """above / below, nan where below is 0."""
    result = np.full(np.shape(below), np.nan)
    np.divide(above, below, out=result, where=below > 0)
    return result


def _beyond_chance(agreeing: np.ndarray, chance: np.ndarray) -> np.ndarray:
    """(p_a − p_e)/(1 − p_e), nan where chance alone agrees always."""
    return _ratio(agreeing - chance, np.where(chance < 1 - 1e-12, 1 - chance, 0))


def _shares(counts: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """π, [B, C]."""
    n = counts.sum(axis=1, keepdims=True)
    return _ratio(draws @ (counts / np.maximum(n, 1)), np.repeat(draws @ (n > 0), counts.shape[1], axis=1))


def _coincidence(counts: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """o, [B, C, C]."""
    n = counts.sum(axis=1)
    pairs = counts[:, :, None] * (counts[:, None, :] - np.eye(counts.shape[1]))
    per_item = np.where((n >= 2)[:, None, None], pairs / np.maximum(n - 1, 1)[:, None, None], 0)
    summed: np.ndarray = draws @ per_item.reshape(len(counts), -1)
    return summed.reshape(len(draws), *per_item.shape[1:])


def _alpha(coincidence: np.ndarray, distance: np.ndarray) -> np.ndarray:
    size = coincidence.sum(axis=2)
    seen = (coincidence * distance).sum(axis=(1, 2))
    by_chance = (size[:, :, None] * size[:, None, :] * distance).sum(axis=(1, 2))
    return np.asarray(1 - (size.sum(axis=1) - 1) * _ratio(seen, by_chance))


@dataclass(frozen=True, eq=False)
class _Meetings:
    """Two votes on one item, M times: whose (an index into `pairs`), on which item, and the cell 3·label + label."""

    pairs: Int[np.ndarray, "P 2"]
    who: Int[np.ndarray, " M"]
    item: Int[np.ndarray, " M"]
    cell: Int[np.ndarray, " M"]


def _meetings(votes: Votes, shared: int) -> _Meetings:
    """All meetings of the pairs of annotators that meet on `shared` items or more.

    Votes are sorted by item, then annotator: two votes of one item are d apart for some d < the most on an item.
    """
    found = [np.empty((0, 4), dtype=np.int64)]
    most = int(np.bincount(votes.pair).max(initial=0))
    for apart in range(1, most):
        early = np.flatnonzero(votes.pair[:-apart] == votes.pair[apart:])
        late = early + apart
        cell = votes.label[early] * _LABELS + votes.label[late]
        found.append(np.stack([votes.annotator[early], votes.annotator[late], votes.pair[early], cell], axis=1))
    columns = np.concatenate(found)
    who, times = np.unique(columns[:, :2], axis=0, return_inverse=True, return_counts=True)[1:]
    columns = columns[times[who.reshape(-1)] >= shared]
    pairs, who = np.unique(columns[:, :2], axis=0, return_inverse=True)
    return _Meetings(pairs, who.reshape(-1), columns[:, 2], columns[:, 3])


def _tables(meetings: _Meetings, weight: np.ndarray | None) -> np.ndarray:
    """One contingency table per pair of annotators, [P, 3, 3]."""
    pairs = len(meetings.pairs)
    cells = np.bincount(meetings.who * _LABELS**2 + meetings.cell, weights=weight, minlength=pairs * _LABELS**2)
    return cells.reshape(pairs, _LABELS, _LABELS).astype(float)


def _mean_cohen(meetings: _Meetings, items: int, resamples: int, level: float, seed: int) -> Estimate:
    if len(meetings.who) == 0:
        return Estimate(np.nan, np.nan, np.nan)

    def weighted(tables: np.ndarray) -> float:
        kappa, shared = cohen_kappa(tables), tables.sum(axis=(1, 2))
        defined = ~np.isnan(kappa)
        return float((kappa * shared)[defined].sum() / shared[defined].sum()) if defined.any() else np.nan

    drawn = [
        weighted(_tables(meetings, times[meetings.item])) for draws in _draws(items, resamples, seed) for times in draws
    ]
    return Estimate(weighted(_tables(meetings, None)), *_interval(np.array(drawn), level))


def _cohen_pairs(
    votes: Votes, meetings: _Meetings, resamples: int, level: float, seed: int
) -> dict[tuple[str, str], CohenPair]:
    """Drawing n shared items with replacement is drawing the table's n entries: a multinomial."""
    rng = np.random.default_rng(seed)
    found = {}
    for (one, other), table in zip(meetings.pairs.tolist(), _tables(meetings, None), strict=True):
        items = int(table.sum())
        drawn = rng.multinomial(items, table.reshape(-1) / items, resamples).reshape(-1, _LABELS, _LABELS)
        kappa = Estimate(float(cohen_kappa(table[None])[0]), *_interval(cohen_kappa(drawn.astype(float)), level))
        found[votes.annotators[one], votes.annotators[other]] = CohenPair(kappa, items)
    return found
