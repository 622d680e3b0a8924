"""The loss of an online algorithm on one micro-batch, as its share of the whole step's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from keel.config import Dpo
from keel.data.forest import Forest
from keel.maths.losses import cispo, over_branches, policy_gradient, ppo_clip, ppo_clipped
from keel.maths.reduce import mean_over, sequence_mean
from keel.training.algorithm import Algorithm, Clipped, InLoss, Paired, Plain, Weighted
from keel.training.credit import Group, estimate
from keel.training.pairs import Answers, Pairs, pair_losses
from keel.types import Sample


@dataclass(frozen=True)
class Whole:
    """What a whole optimizer step holds, for the denominators: sampled tokens, answers, drawn prompts; and the most
    tokens that an answer may have."""

    tokens: int
    answers: int
    groups: int
    longest: int

    @classmethod
    def of(cls, batch: Sequence[Group], longest: int) -> Whole:
        """Counted."""
        samples = [sample for group in batch for sample in group]
        return cls(sum(len(one.logprobs) for one in samples), len(samples), len(batch), longest)


@dataclass(frozen=True)
class Objective:
    """An algorithm's loss, with β = `coef` where its KL stands in the loss, and the loss of pairs where it has one.

        1/N·Σ_m [ w_m·surrogate_m + β·v_m·kl_m ]

    w = the importance weight, v = 1 or π/π_old, N by the algorithm's mean. Of pairs it is the mean over the step's.
    """

    algorithm: Algorithm
    coef: float
    pairs: Dpo

    def share(self, logprobs: Float[Tensor, " M"], forest: Forest, part: Sequence[Sample], whole: Whole) -> Tensor:
        """The share of the samples `part`, whose branches stand in the forest in this order. Scalar."""
        reference = forest.column([one.reference_logprobs for one in part])
        if isinstance(self.algorithm.surrogate, Paired):
            return mean_over(self._contests(logprobs, reference, forest), whole.groups)
        loss = forest.column([one.weights for one in part]) * self._surrogate(logprobs, forest, part)
        if isinstance(self.algorithm.kl, InLoss) and self.coef:
            kl = estimate(self.algorithm.kl.estimator, logprobs, reference)
            if self.algorithm.kl.weight == "ratio":
                kl = kl * (logprobs - _columns(forest, part)[0]).exp()
            loss = loss + self.coef * kl
        match self.algorithm.mean:
            case "token":
                return mean_over(loss, whole.tokens)
            case "sequence":
                return sequence_mean(loss, forest.branch, whole.answers)
            case "constant":
                return mean_over(loss, whole.answers * whole.longest)

    def clipped(
        self, logprobs: Float[Tensor, " M"], forest: Forest, part: Sequence[Sample]
    ) -> Bool[Tensor, " M"] | None:
        """Which tokens the surrogate gives no gradient, or (weighted) a bounded one, for their ratio has moved too far;
        None where it has no bound."""
        old, advantages = _columns(forest, part)
        match self.algorithm.surrogate:
            case Clipped(low, high) as way:
                return ppo_clipped(*_by_ratio(way, logprobs, old, forest), advantages, low, high)
            case Weighted(high):
                return (logprobs - old).exp() > 1 + high
            case Plain() | Paired():
                return None

    def _surrogate(self, logprobs: Tensor, forest: Forest, part: Sequence[Sample]) -> Float[Tensor, " M"]:
        old, advantages = _columns(forest, part)
        match self.algorithm.surrogate:
            case Clipped(low, high) as way:
                return ppo_clip(*_by_ratio(way, logprobs, old, forest), advantages, low, high)
            case Weighted(high):
                return cispo(logprobs, old, advantages, high)
            case Plain():
                return policy_gradient(logprobs, advantages)
            case Paired():
                raise ValueError("pairs have no surrogate of single tokens")

    def _contests(self, logprobs: Tensor, reference: Tensor, forest: Forest) -> Float[Tensor, " P"]:
        """Of every prompt its best answer against its worst, which stand side by side."""
        answers = Answers.of(forest, logprobs, reference)
        chosen = torch.arange(0, len(answers.policy), 2, device=logprobs.device)
        sure = torch.ones(len(chosen), device=logprobs.device)
        return pair_losses(self.pairs, answers, Pairs(chosen, chosen + 1, sure, torch.zeros_like(sure)))


def _columns(forest: Forest, part: Sequence[Sample]) -> tuple[Float[Tensor, " M"], Float[Tensor, " M"]]:
    """log π_old and the advantages of the forest's tokens."""
    return forest.column([one.logprobs for one in part]), forest.column([one.advantages for one in part])


def _by_ratio(way: Clipped, logprobs: Tensor, old: Tensor, forest: Forest) -> tuple[Tensor, Tensor]:
    """log π and log π_old, of each token or, at each token, the mean over its answer."""
    if way.ratio == "token":
        return logprobs, old
    return over_branches(logprobs, forest.branch), over_branches(old, forest.branch)
