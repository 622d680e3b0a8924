"""What a loss of the DPO family sees: answers as policy and reference read them, and the pairs among them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from keel.config import Dpo
from keel.data.forest import Forest
from keel.maths.preferences import dpo, ipo, odds_ratio, robust_dpo, simpo, smoothed


@dataclass(frozen=True)
class Answers:
    """Log-probs of whole answers, sums over their trained tokens, under the policy and the reference; nats, [B]."""

    policy: Float[Tensor, " B"]
    reference: Float[Tensor, " B"]
    tokens: Float[Tensor, " B"]

    @classmethod
    def of(cls, forest: Forest, policy: Float[Tensor, " M"], reference: Float[Tensor, " M"]) -> Answers:
        """The branches of a forest, from log-probs of their tokens."""
        ones = torch.ones_like(policy)
        return cls(*(over_answers(each, forest) for each in (policy, reference, ones)))

    @property
    def log_ratio(self) -> Float[Tensor, " B"]:
        """log π(y)/π_ref(y), nats."""
        return self.policy - self.reference

    @property
    def mean(self) -> Float[Tensor, " B"]:
        """Mean log-prob of the policy per token, nats."""
        return self.policy / self.tokens


@dataclass(frozen=True)
class Pairs:
    """Pairs by their places among answers; P(chosen is preferred), and the margin that is demanded."""

    chosen: Int[Tensor, " P"]
    rejected: Int[Tensor, " P"]
    probability: Float[Tensor, " P"]
    margin: Float[Tensor, " P"]


def over_answers(x: Float[Tensor, " M"], forest: Forest) -> Float[Tensor, " B"]:
    """Σ over the masked tokens of each branch."""
    return x.new_zeros(len(forest.ends)).index_add(0, forest.branch, x)


def gains(settings: Dpo, answers: Answers) -> Float[Tensor, " B"]:
    """What the recipe's loss compares of answers: log π/π_ref, of ipo with `length: mean` over the answer's tokens;
    without a reference the mean log-prob of the tokens."""
    if not settings.has_reference:
        return answers.mean
    if settings.loss == "ipo" and settings.length == "mean":
        return answers.log_ratio / answers.tokens
    return answers.log_ratio


def pair_losses(settings: Dpo, answers: Answers, pairs: Pairs) -> Float[Tensor, " P"]:
    """The loss of each pair by the recipe's choice (`keel.maths.preferences` has the equations); kto has no pairs.

    orpo adds the likelihood of the chosen answer, a mean over its tokens, to λ times the odds ratio; where the label is
    unsure, each answer's likelihood by its share.
    """
    p, beta = pairs.probability, settings.strength
    margin = pairs.margin if settings.margin == "stated" else torch.zeros_like(p)
    gained = gains(settings, answers)
    chosen, rejected = gained[pairs.chosen], gained[pairs.rejected]
    match settings.loss:
        case "dpo":
            return dpo(chosen, rejected, p, margin, beta)
        case "cdpo":
            return dpo(chosen, rejected, smoothed(p, settings.flips), margin, beta)
        case "robust":
            return robust_dpo(chosen, rejected, p, beta, settings.flips)
        case "ipo":
            return ipo(chosen, rejected, p, beta)
        case "simpo":
            return simpo(chosen, rejected, p, beta, settings.gamma)
        case "orpo":
            return -p * chosen - (1 - p) * rejected + beta * odds_ratio(chosen, rejected, p)
        case "kto":
            raise ValueError("kto learns from single answers, and has no pairs")
