"""Dawid & Skene (1979): every annotator has a confusion matrix, every pair a hidden true label.

    P(true label c | votes) = T_nc ∝ p_c · Π_votes π^a_{c,y}

with p the shares of the labels (first is better, tie, second is better) and π^a_{c,y} the probability that annotator a
says y where c is true. EM: T from (p, π), then (p, π) from T. π has a Dirichlet prior of `smoothing` pseudo-votes per
cell, without which an annotator with few votes is taken for certain.
"""

import warnings
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from keel.preferences.aggregate import Aggregate
from keel.preferences.judgement import Votes

LABELS = 3


@dataclass(frozen=True, eq=False)
class DawidSkene(Aggregate):
    """`reliability` is P(an annotator says the true label) = Σ_c p_c π_cc.

    `objective` holds, for every EM step, the log-likelihood of the votes plus the log prior (up to a constant): it
    never falls. Without smoothing it is the log-likelihood.
    """

    shares: Float[np.ndarray, "3"]
    confusion: Float[np.ndarray, "A 3 3"]
    objective: tuple[float, ...]

    def spam_score(self) -> Float[np.ndarray, " A"]:
        """(TPR + TNR − 1)² between first and second, ties aside (Raykar & Yu 2012): 0 is somebody who does not read."""
        decided = self.confusion[:, ::2, ::2] / self.confusion[:, ::2, ::2].sum(axis=2, keepdims=True)
        return np.asarray((decided[:, 0, 0] + decided[:, 1, 1] - 1) ** 2)


def dawid_skene(votes: Votes, smoothing: float = 0.1, tolerance: float = 1e-8, limit: int = 1000) -> DawidSkene:
    """Fit by EM from the shares of the votes until a step gains less than `tolerance` nats per vote.

    `probability` is T_first + ½·T_tie. Warns where that takes more than `limit` steps.
    """
    if smoothing < 0:
        raise ValueError(f"smoothing of {smoothing} pseudo-votes: must not be negative")
    truth = votes.counts() / votes.counts().sum(axis=1, keepdims=True)
    objective: list[float] = []
    while True:
        shares, confusion = _maximise(votes, truth, smoothing)
        truth, likelihood = _expect(votes, shares, confusion)
        prior = smoothing * (np.log(shares).sum() + np.log(confusion).sum()) if smoothing > 0 else 0.0
        objective.append(float(likelihood + prior))
        if len(objective) > 1 and objective[-1] - objective[-2] <= tolerance * len(votes.pair):
            break
        if len(objective) == limit:
            warnings.warn(f"Dawid–Skene has not converged in {limit} steps", stacklevel=2)
            break
    reliability = np.einsum("c,acc->a", shares, confusion)
    return DawidSkene(votes, truth @ [1.0, 0.5, 0.0], reliability, shares, confusion, tuple(objective))


def _maximise(votes: Votes, truth: np.ndarray, smoothing: float) -> tuple[np.ndarray, np.ndarray]:
    """Shares [3] and confusion matrices [A, 3, 3] given the labels' probabilities [N, 3]."""
    annotators = len(votes.annotators)
    counts = np.empty((annotators, LABELS, LABELS))
    for label in range(LABELS):
        cells = np.bincount(
            votes.annotator * LABELS + votes.label, weights=truth[votes.pair, label], minlength=annotators * LABELS
        )
        counts[:, label] = cells.reshape(annotators, LABELS)
    counts += smoothing
    seen = counts.sum(axis=2, keepdims=True)
    # a row that no vote speaks about is uniform: it multiplies nothing
    confusion = np.divide(counts, seen, out=np.full_like(counts, 1 / LABELS), where=seen > 0)
    shares = truth.sum(axis=0) + smoothing
    return shares / shares.sum(), confusion


def _expect(votes: Votes, shares: np.ndarray, confusion: np.ndarray) -> tuple[np.ndarray, float]:
    """The labels' P [N, 3] given shares and confusion matrices; the log-likelihood of the votes (nats)."""
    with np.errstate(divide="ignore"):
        log_confusion, log_joint = np.log(confusion), np.tile(np.log(shares), (len(votes.pairs), 1))
    for label in range(LABELS):
        spoken = log_confusion[votes.annotator, label, votes.label]
        log_joint[:, label] += np.bincount(votes.pair, weights=spoken, minlength=len(votes.pairs))
    best = log_joint.max(axis=1, keepdims=True)
    joint = np.exp(log_joint - best)
    total = joint.sum(axis=1, keepdims=True)
    return joint / total, float((best + np.log(total)).sum())
