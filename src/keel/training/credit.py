"""From rewards to advantages: who is to be thanked for the score."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from keel.maths.advantages import whiten
from keel.maths.kl import k1, k2, k3
from keel.maths.returns import gae
from keel.training.algorithm import Algorithm, Estimator
from keel.types import CriticSample, Valued

# Shape suffixes: B rollouts, T the longest one's sampled tokens.


def shaped_rewards(
    scores: Float[Tensor, " B"],
    logprobs: Float[Tensor, "B T"],
    reference: Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    coef: float,
    estimator: Estimator,
) -> Float[Tensor, "B T"]:
    """Reward per token: a KL cost at each, the score at the last.

        r_t = −β·k(log π_t, log π_ref,t) + 1[t = T]·R

    Shapes: scores [B], the others [B, T] → [B, T], units of reward; 0 where `mask` is False. Every row must have a
    sampled token; `mask` marks them. Source: Ziegler et al. (1909.08593), equation 2, spread over the tokens.
    """
    if not bool(mask.any(1).all()):
        raise ValueError("a rollout without a sampled token cannot carry a reward")
    cost = _estimate(estimator, logprobs, reference)
    rewards = -coef * cost.where(mask, 0)
    last = mask.shape[1] - 1 - mask.flip(1).int().argmax(1)
    return rewards.index_put((torch.arange(len(scores)), last), scores, accumulate=True)


def credit(valued: Sequence[Valued], algorithm: Algorithm, coef: float) -> list[CriticSample]:
    """Shaped rewards, then GAE over the whole update, then whitening; one sample per rollout, in order.

    `coef` is β, in reward per nat. Advantages are whitened over all sampled tokens of the update, returns are not.
    """
    mask = _pad([[1.0] * len(one.values) for one in valued]).bool()
    logprobs, reference = _pad([one.logprobs for one in valued]), _pad([one.reference_logprobs for one in valued])
    values = _pad([one.values for one in valued])
    scores = torch.tensor([one.scored.reward for one in valued], dtype=torch.float32)
    rewards = shaped_rewards(scores, logprobs, reference, mask, coef, algorithm.kl.estimator)
    raw = gae(rewards, values, mask, algorithm.credit.gamma, algorithm.credit.lam)
    returns = raw + values
    advantages = whiten(raw, mask) if algorithm.credit.whiten == "advantages" else raw
    return [
        CriticSample(
            rollout=one.scored.rollout,
            logprobs=one.logprobs,
            advantages=tuple(advantages[row, : len(one.values)].tolist()),
            values=one.values,
            returns=tuple(returns[row, : len(one.values)].tolist()),
        )
        for row, one in enumerate(valued)
    ]


def _estimate(estimator: Estimator, logprobs: Tensor, reference: Tensor) -> Tensor:
    return {"k1": k1, "k2": k2, "k3": k3}[estimator](logprobs, reference)


def _pad(rows: Sequence[Sequence[float]]) -> Float[Tensor, "B T"]:
    """Right-padded with zeros."""
    padded = torch.zeros(len(rows), max(map(len, rows)))
    for place, row in enumerate(rows):
        padded[place, : len(row)] = torch.tensor(row)
    return padded
