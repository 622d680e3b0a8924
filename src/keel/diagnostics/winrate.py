"""How often one model's answer beats another's, or by how much, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev


@dataclass(frozen=True)
class WinRate:
    """`rate` in [0, 1] with ties as half wins; [`low`, `high`] covers it with the confidence asked for."""

    rate: float
    low: float
    high: float
    wins: int
    ties: int
    losses: int


def win_rate(
    ours: Sequence[float], theirs: Sequence[float], confidence: float = 0.95, prompts: Sequence[Hashable] | None = None
) -> WinRate:
    """Compare two models' scores answer by answer: the higher score wins, equal scores tie.

        rate = (wins + ties/2)/n

    Scores [n] each, in the same order; `prompts` [n] names the prompt of each (None: every answer has a prompt of its
    own). The interval is that of `interval`; a tie varies less than a win or a loss does, so with ties it is on the
    wide side. Raises ValueError unless all hold the same n ≥ 1 entries.
    """
    if len(ours) != len(theirs) or not ours:
        raise ValueError(f"a win rate needs as many scores on both sides, not {len(ours)} and {len(theirs)}")
    outcomes = [
        1.0 if mine > other else 0.5 if mine == other else 0.0 for mine, other in zip(ours, theirs, strict=True)
    ]
    low, high = interval(outcomes, range(len(ours)) if prompts is None else prompts, confidence)
    return WinRate(fmean(outcomes), low, high, outcomes.count(1.0), outcomes.count(0.5), outcomes.count(0.0))


def interval(outcomes: Sequence[float], prompts: Sequence[Hashable], confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's interval for a mean of outcomes in [0, 1], of which those of one prompt are alike.

        (p + z²/2n ± z·√(p(1−p)/n + z²/4n²)) / (1 + z²/n),    n = N / (1 + (m − 1)·ρ)

    N outcomes of mean p; m = Σ_k m_k²/N, the size of a prompt as an outcome sees it; ρ = `likeness`. n is how many
    independent outcomes tell as much (Kish's design effect). One outcome per prompt: m = 1, n = N, plain Wilson. For a
    few prompts it is too narrow, as ρ is then hardly known. Source: Wilson (1927); with clusters Saha, Miller and Wang
    (2016), Int. J. Biostatistics 12. Raises ValueError unless there are as many outcomes as prompts, and at least one.
    """
    if len(outcomes) != len(prompts) or not outcomes:
        raise ValueError(f"an interval needs a prompt for each outcome, not {len(prompts)} for {len(outcomes)}")
    total, p = len(outcomes), fmean(outcomes)
    size = sum(len(group) ** 2 for group in _grouped(outcomes, prompts)) / total
    n = total / (1 + (size - 1) * likeness(outcomes, prompts))
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    reach = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, centre - reach), min(1.0, centre + reach)


@dataclass(frozen=True)
class Gain:
    """`mean` of what one model scores above another, in [`low`, `high`]; one prompt gives no interval."""

    mean: float
    low: float | None
    high: float | None


def gain(ours: Sequence[float], theirs: Sequence[float], prompts: Sequence[Hashable], confidence: float = 0.95) -> Gain:
    """The paired difference of two models' scores, by prompt.

        d̄ ± z·s/√K,    d_k = the mean of ours − theirs over the answers to prompt k, s their deviation (over K − 1)

    Scores [n] each, in the same order; `prompts` [n] names the prompt of each. Where prompts have different numbers of
    answers, each prompt weighs the same. Raises ValueError unless all hold the same n ≥ 1 entries.
    """
    if not len(ours) == len(theirs) == len(prompts) or not ours:
        raise ValueError(f"a gain needs a prompt and two scores each: {len(prompts)}, {len(ours)}, {len(theirs)}")
    differences = [mine - other for mine, other in zip(ours, theirs, strict=True)]
    means = [fmean(group) for group in _grouped(differences, prompts)]
    if len(means) == 1:
        return Gain(means[0], None, None)
    reach = NormalDist().inv_cdf(0.5 + confidence / 2) * stdev(means) / math.sqrt(len(means))
    return Gain(fmean(means), fmean(means) - reach, fmean(means) + reach)


def likeness(outcomes: Sequence[float], prompts: Sequence[Hashable]) -> float:
    """The correlation ρ of two outcomes of one prompt, in [0, 1], estimated by analysis of variance.

        ρ = (B − W) / (B + (m₀ − 1)·W),    B = Σ_k m_k·(p_k − p)²/(K − 1),    W = Σ_k Σ_i (y_ki − p_k)²/(N − K)
        m₀ = (N − Σ_k m_k²/N)/(K − 1)

    N outcomes over K prompts, prompt k with m_k of them and their mean p_k. An estimate below 0 counts as 0. Where
    nothing can be estimated (one prompt, no prompt with two outcomes, or all outcomes equal) it is 1: outcomes that are
    never seen to differ within a prompt count once. Source: Ridout, Demétrio and Firth (1999), Biometrics 55.
    """
    groups = _grouped(outcomes, prompts)
    total, count, p = len(outcomes), len(groups), fmean(outcomes)
    if count in (1, total):
        return 1.0
    means = [fmean(group) for group in groups]
    between = sum(len(group) * (mean - p) ** 2 for group, mean in zip(groups, means, strict=True)) / (count - 1)
    within = sum((one - mean) ** 2 for group, mean in zip(groups, means, strict=True) for one in group) / (
        total - count
    )
    typical = (total - sum(len(group) ** 2 for group in groups) / total) / (count - 1)
    spread = between + (typical - 1) * within
    return max(0.0, (between - within) / spread) if spread > 0 else 1.0


def _grouped(outcomes: Sequence[float], prompts: Sequence[Hashable]) -> list[list[float]]:
    groups: dict[Hashable, list[float]] = {}
    for prompt, outcome in zip(prompts, outcomes, strict=True):
        groups.setdefault(prompt, []).append(outcome)
    return list(groups.values())
