"""Bradley–Terry with annotators: how reliable each is, and where they lean, beside the scores of the answers.

Chen et al. 2013 ("CrowdBT") with position bias and Rao–Kupper ties: annotator k answers the opposite of what they see
with probability 1 − η_k, leans to the left by b_k, and calls a tie where the scores are close:

    z = s_first − s_second + b_k·side                        side +1 where the first answer stood on the left, −1 right
    A(z) = σ(z − ln θ),  B(z) = σ(−z − ln θ),  tie = 1 − A − B = (θ² − 1)·A·B,   θ ≥ 1
    P(first) = η_k·A + (1 − η_k)·B,   P(second) = η_k·B + (1 − η_k)·A

with priors s ~ N(0, deviation²), b ~ N(0, 1), η ~ Beta(10, 1) over logit η, ln ln θ ~ N(−1, 1).

Departure from the source, which climbs to the maximum of everything at once. Where a pair has two or three votes, that
maximum has all scores near 0 and all annotators honest, whoever pressed at random: doubt costs nothing in a score that
only three votes speak of. So the people's numbers φ = (η, b, θ) are fitted with the scores integrated out, by EM, with
δ_n = s_first − s_second of pair n and N(cavity_n) what everything but the votes on n says of δ_n:

    E:  q_n(δ) ∝ N(δ; cavity_n) · Π_{votes on n} P(vote | δ, φ)
    M:  φ = argmin −Σ_votes E_q[log P(vote | δ, φ)] − log prior(φ)

The cavity is Laplace's, about the scores' maximum given φ with the votes' Fisher information as curvature. It is exact
where answers stand in one pair only: there it is the prior, N(0, 2·deviation²). In the end the scores are the maximum
of the posterior given φ.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from keel.preferences.bradley_terry import BradleyTerry, centred, compared, fitted, sigmoid, to_scores
from keel.preferences.judgement import Item, Votes

_HONEST = 10.0  # of the Beta(10, 1) prior on η, as a density over logit η: its mode is 10/11
_WIDTH = -1.0  # mode of the prior N(·, 1) on ln ln θ
_NODES = np.linspace(-6, 6, 25)  # in standard deviations of a curve that takes a quarter of the votes' information:
_SHARE = 1 / 4  # votes that disagree leave q wider than Laplace's curve
_NONE = 1e-12  # variance of the difference between an answer and itself


@dataclass(frozen=True, eq=False)
class CrowdBradleyTerry(BradleyTerry):
    """`reliability` is η; `bias[a]` is the lean to the left in log-odds, `tie_width` is ln θ (0: no ties).

    `probability` is E_q[σ(δ)], which is nearer to ½ than σ of the scores' difference where few votes speak of a pair.
    """

    bias: Float[np.ndarray, " A"]
    tie_width: float


def crowd_bradley_terry(
    items: Sequence[Item], votes: Votes, deviation: float = 1.5, tolerance: float = 1e-4, limit: int = 500
) -> CrowdBradleyTerry:
    """Fit reliabilities, position biases and the width of a tie by EM, and the scores given them.

    EM ends where a step moves no reliability and no probability by more than `tolerance`, and warns where that takes
    more than `limit` steps. Needs annotators who overlap or share answers; where nothing is shared the priors decide.
    The bias of somebody who presses at random is hardly determined. Warns as `bradley_terry` does.
    """
    model = _Model(votes, *compared(items, votes), deviation)
    scores, people, found = (
        np.zeros(model.size),
        model.start(),
        np.full(len(votes.pairs) + len(votes.annotators), np.inf),
    )
    for _ in range(limit):
        scores = model.best_scores(scores, people)
        points, weights = model.gaps(scores, people)
        probability, (honesty, bias, log_width) = (weights * sigmoid(points)).sum(axis=1), model.split(people)
        before, found = found, np.concatenate([probability, sigmoid(honesty)])
        if np.abs(found - before).max(initial=0.0) <= tolerance:
            break
        people = model.better_people(people, points, weights)
    else:
        warnings.warn(f"Bradley–Terry with annotators has not converged in {limit} steps of EM", stacklevel=2)
    return CrowdBradleyTerry(
        votes, probability, sigmoid(honesty), centred(scores, model.component), model.first, model.second,
        int(model.component.max(initial=-1)) + 1, bias, float(np.exp(log_width).sum()),
    )  # fmt: skip


class _Told(NamedTuple):
    """−log P of votes, its slopes in z, in logit η and in ln θ, and its curvature in z and in ln θ were it known who
    turned their vote round; each of z's shape."""

    surprise: np.ndarray
    by_z: np.ndarray
    by_honesty: np.ndarray
    by_width: np.ndarray
    bend: np.ndarray
    width_bend: np.ndarray


@dataclass(frozen=True, eq=False)
class _Model:
    """Negative log posteriors, in nats up to a constant, with their gradients.

    Scores are [S]; people are logit η [A], b [A], ln ln θ [0 or 1], one after the other.
    """

    votes: Votes
    first: np.ndarray
    second: np.ndarray
    component: np.ndarray
    size: int
    deviation: float

    @property
    def tied(self) -> bool:
        """Without a tie among the votes θ is 1 and no parameter."""
        return bool((self.votes.label == 1).any())

    def start(self) -> np.ndarray:
        annotators = len(self.votes.annotators)
        honesty = np.full(annotators, np.log(_HONEST))
        return np.concatenate([honesty, np.zeros(annotators), np.full(int(self.tied), _WIDTH)])

    def split(self, people: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        annotators = len(self.votes.annotators)
        honesty, bias, width = np.split(people, [annotators, 2 * annotators])
        return honesty, bias, width

    def of_scores(self, scores: np.ndarray, people: np.ndarray) -> tuple[float, np.ndarray]:
        """The scores', given the people."""
        told = self._votes(scores[self.first] - scores[self.second], people)
        prior = scores / self.deviation**2
        slope = to_scores(self._by_pair(told.by_z), self.first, self.second, self.size)
        return float(told.surprise.sum() + 0.5 * scores @ prior), slope + prior

    def best_scores(self, start: np.ndarray, people: np.ndarray) -> np.ndarray:
        return fitted(lambda scores: self.of_scores(scores, people), start)

    def better_people(
        self, people: np.ndarray, points: Float[np.ndarray, "N Q"], weights: Float[np.ndarray, "N Q"]
    ) -> np.ndarray:
        """The M step, where each pair's δ has these weights, which sum to 1, on these points.

        Who turned a vote round is hidden as δ is, so that η has its closed form; b and ln ln θ make a step of Newton's.
        """
        votes, (honesty, bias, log_width) = self.votes, self.split(people)
        told = self._votes(points, people)
        share = weights[votes.pair]
        by_z, by_honesty, by_width, bend, width_bend = (
            (one * share).sum(axis=1) for one in (told.by_z, told.by_honesty, told.by_width, told.bend, told.width_bend)
        )

        def of_everybody(of_votes: np.ndarray) -> np.ndarray:
            return np.bincount(votes.annotator, weights=of_votes, minlength=len(bias))

        decided = of_everybody((votes.label != 1).astype(float))
        saw = decided * sigmoid(honesty) - of_everybody(by_honesty)
        reliability = (saw + _HONEST) / (decided + _HONEST + 1)
        lean = bias - (of_everybody(by_z * votes.side) + bias) / (of_everybody(bend) + 1)
        width = np.exp(log_width)
        slope, steep = by_width.sum() * width + log_width - _WIDTH, width_bend.sum() * width**2 + 1
        return np.concatenate([np.log(reliability) - np.log1p(-reliability), lean, log_width - slope / steep])

    def gaps(self, scores: np.ndarray, people: np.ndarray) -> tuple[Float[np.ndarray, "N Q"], Float[np.ndarray, "N Q"]]:
        """Points of every pair's δ, and q_n on them: `scores` are the maximum of their posterior given the people."""
        gap = scores[self.first] - scores[self.second]
        slope = -self._by_pair(self._votes(gap, people).by_z)
        curvature = self._by_pair(self._information(gap, people))
        variance = self._variances(curvature)
        precision = 1 / variance - curvature  # of the cavity, as is its mean: Laplace's less the votes on this pair
        mean = (gap / variance - curvature * gap - slope) / precision
        points = gap[:, None] + _NODES / np.sqrt(precision + _SHARE * curvature)[:, None]
        log_q = -0.5 * precision[:, None] * (points - mean[:, None]) ** 2
        np.subtract.at(log_q, self.votes.pair, self._votes(points, people).surprise)
        weights = np.exp(log_q - log_q.max(axis=1, keepdims=True, initial=-np.inf))
        return points, weights / weights.sum(axis=1, keepdims=True)

    def _votes(
        self,
        gap: Float[np.ndarray, " N"] | Float[np.ndarray, "N Q"],
        people: np.ndarray,
        label: Int[np.ndarray, " V"] | None = None,
    ) -> _Told:
        """`_told` of every vote, [V] or [V, Q], for these differences of pairs; `label`: had this been said."""
        votes = self.votes
        label = votes.label if label is None else label
        honesty, bias, width = self.split(people)
        across = (slice(None), *(None,) * (gap.ndim - 1))
        z = gap[votes.pair] + (bias[votes.annotator] * votes.side)[across]
        return _told(label[across], z, honesty[votes.annotator][across], float(np.exp(width).sum()))

    def _information(self, gap: np.ndarray, people: np.ndarray) -> np.ndarray:
        """Fisher's, of each vote about z: Σ_outcomes P·(∂log P/∂z)²."""
        outcomes = (0, 1, 2) if self.tied else (0, 2)
        found = np.zeros(len(self.votes.pair))
        for label in outcomes:
            told = self._votes(gap, people, np.full(len(found), label))
            found += np.exp(-told.surprise) * told.by_z**2
        return found

    def _variances(self, curvature: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
        """Of every pair's δ under Laplace's bell curve, from the votes' information about it."""
        variance = 1 / (1 / (2 * self.deviation**2) + curvature)
        for pairs, answers in self._connected:
            one, other = np.searchsorted(answers, self.first[pairs]), np.searchsorted(answers, self.second[pairs])
            precision = np.eye(len(answers)) / self.deviation**2
            for row, column, sign in ((one, one, 1), (other, other, 1), (one, other, -1), (other, one, -1)):
                np.add.at(precision, (row, column), sign * curvature[pairs])
            covariance = np.linalg.inv(precision)
            variance[pairs] = covariance[one, one] + covariance[other, other] - 2 * covariance[one, other]
        return np.where(self.first == self.second, _NONE, variance)

    @cached_property
    def _connected(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """The pairs, and the answers, of every component that has more than one pair."""
        of_pair = self.component[self.first]
        order = np.argsort(of_pair, kind="stable")
        groups = np.split(order, np.flatnonzero(np.diff(of_pair[order])) + 1)
        return [(pairs, np.unique([self.first[pairs], self.second[pairs]])) for pairs in groups if len(pairs) > 1]

    def _by_pair(self, of_votes: np.ndarray) -> np.ndarray:
        return np.bincount(self.votes.pair, weights=of_votes, minlength=len(self.votes.pairs)).astype(float)


def _told(label: np.ndarray, z: np.ndarray, honesty: np.ndarray, width: float) -> _Told:
    tie, turn = label == 1, np.where(label == 2, -1.0, 1.0)
    # of what was said, if honest and if inverted, with η; for a tie: of A and B
    log_toward, log_against = -np.logaddexp(0, width - turn * z), -np.logaddexp(0, width + turn * z)
    log_honest, log_inverted = log_toward - np.logaddexp(0, -honesty), log_against - np.logaddexp(0, honesty)
    said = np.logaddexp(log_honest, log_inverted)
    honest = np.where(tie, 1.0, np.exp(log_honest - said))
    inverted = np.where(tie, 1.0, 1 - honest)  # a tie is A and B at once
    toward, against = np.exp(log_toward), np.exp(log_against)
    rise, fall = honest * (1 - toward), inverted * (1 - against)
    bend = rise * toward + fall * against
    told = _Told(-said, turn * (fall - rise), sigmoid(honesty) - honest, rise + fall, bend, bend)
    if not tie.any():
        return told
    grown = np.expm1(2 * width)
    return told._replace(
        surprise=np.where(tie, -log_toward - log_against - np.log(grown), told.surprise),
        by_honesty=np.where(tie, 0.0, told.by_honesty),
        by_width=np.where(tie, told.by_width - 2 - 2 / grown, told.by_width),
        width_bend=np.where(tie, bend + 4 * (1 + grown) / grown**2, bend),
    )
