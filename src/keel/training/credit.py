"""From rewards to advantages: who is to be thanked for the score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from keel.maths.advantages import group_centred, group_zscore, leave_one_out, whiten
from keel.maths.kl import k1, k2, k3
from keel.maths.losses import truncated_weight
from keel.maths.returns import gae
from keel.training.algorithm import GAE, Algorithm, Best, Contest, Estimator, Grouped, InReward, ToGo, Whitening
from keel.types import Annotated, CriticSample, Sample, UnreadAnnotated, UnreadSample, Valued

# Shape suffixes: B rollouts, T the longest one's sampled tokens.

Group = tuple[Sample, ...]
"""The answers to one drawn prompt that are learnt from."""


def estimate(estimator: Estimator, logprobs: Tensor, reference: Tensor) -> Tensor:
    """The estimator's KL of each token, nats; any shape."""
    return {"k1": k1, "k2": k2, "k3": k3}[estimator](logprobs, reference)


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
    cost = estimate(estimator, logprobs, reference)
    rewards = -coef * cost.where(mask, 0)
    last = mask.shape[1] - 1 - mask.flip(1).int().argmax(1)
    return rewards.index_put((torch.arange(len(scores)), last), scores, accumulate=True)


def settle(samples: Sequence[UnreadSample], logprobs: Float[Tensor, " M"], cap: float | None) -> list[Sample]:
    """The same samples with log π_old as the policy has just read it, token by token of one after the other, and with
    the importance weights that follow: what they would be had it read them before its first step."""
    found = []
    for sample, own in zip(samples, torch.split(logprobs, [len(one.logprobs) for one in samples]), strict=True):
        sampler = torch.tensor(sample.rollout.logprobs, device=own.device)
        weights = torch.ones_like(own) if cap is None else truncated_weight(own, sampler, cap)
        read = {"logprobs": tuple(own.tolist()), "weights": tuple(weights.tolist())}
        found.append(Sample(**{**vars(sample), **read}))
    return found


def credit(annotated: Sequence[Annotated], algorithm: Algorithm, coef: float, each: int = 1) -> list[Group]:
    """What the policy learns from an update's rollouts, `each` neighbours of which answer one drawn prompt.

    `coef` is β, in reward per nat. Where the algorithm puts the KL into the reward, the cost of each token is taken off
    first; what compares answers compares their sums. Whitening is over all sampled tokens of the update. Groups in
    order, and their samples too; what teaches nothing (`Best`, `Contest`) is left out. With GAE all must be `Valued`.
    Raises ValueError where they are not, and where the rollouts are no whole number of groups.
    """
    if len(annotated) % each:
        raise ValueError(f"{len(annotated)} rollouts cannot be {each} to a prompt")
    laid = _Laid.of(annotated, algorithm, coef)
    samples: Sequence[Sample]
    match algorithm.credit:
        case GAE() as way:
            valued = [one for one in annotated if isinstance(one, Valued)]
            if len(valued) < len(annotated):
                raise ValueError("advantages by GAE need the critic's values")
            values = _pad([one.values for one in valued])
            raw = gae(laid.rewards, values, laid.mask, way.gamma, way.lam)
            plain = laid.samples(annotated, _whitened(raw, laid.mask, way.whiten))
            samples = [
                CriticSample(**vars(sample), values=one.values, returns=tuple(row[: len(one.values)].tolist()))
                for sample, one, row in zip(plain, valued, raw + values, strict=True)
            ]
        case ToGo() as way:
            raw = gae(laid.rewards, torch.zeros_like(laid.rewards), laid.mask, way.gamma, 1.0)
            samples = laid.samples(annotated, _whitened(raw, laid.mask, way.whiten))
        case Grouped() as way:
            baseline = {"std": group_zscore, "mean": group_centred, "others": leave_one_out}[way.by]
            raw = baseline(laid.rewards.sum(1), torch.arange(len(annotated)) // each)
            spread = raw[:, None].expand_as(laid.rewards)
            samples = laid.samples(annotated, _whitened(spread, laid.mask, way.whiten))
        case Best() | Contest() as way:
            return _chosen(laid.samples(annotated, torch.ones_like(laid.rewards)), laid.rewards.sum(1), way, each)
    return [tuple(samples[first : first + each]) for first in range(0, len(samples), each)]


@dataclass(frozen=True)
class _Laid:
    """An update's rollouts side by side, each from its first sampled token on."""

    mask: Bool[Tensor, "B T"]
    rewards: Float[Tensor, "B T"]
    weights: Float[Tensor, "B T"]

    @classmethod
    def of(cls, annotated: Sequence[Annotated], algorithm: Algorithm, coef: float) -> _Laid:
        mask = _pad([[1.0] * len(one.logprobs) for one in annotated]).bool()
        logprobs, reference = (
            _pad([one.logprobs for one in annotated]),
            _pad([one.reference_logprobs for one in annotated]),
        )
        scores = torch.tensor([one.scored.reward for one in annotated], dtype=torch.float32)
        charged, estimator = (coef, algorithm.kl.estimator) if isinstance(algorithm.kl, InReward) else (0.0, "k1")
        rewards = shaped_rewards(scores, logprobs, reference, mask, charged, estimator)
        weights = torch.ones_like(logprobs)
        if algorithm.importance_cap is not None:
            sampler = _pad([one.scored.rollout.logprobs for one in annotated])
            flat = truncated_weight(logprobs.flatten(), sampler.flatten(), algorithm.importance_cap)
            weights = flat.view_as(logprobs)
        return cls(mask, rewards, weights)

    def samples(self, annotated: Sequence[Annotated], advantages: Float[Tensor, "B T"]) -> list[Sample]:
        """One for each rollout, in order."""
        return [
            (UnreadSample if isinstance(one, UnreadAnnotated) else Sample)(
                rollout=one.scored.rollout,
                logprobs=one.logprobs,
                reference_logprobs=one.reference_logprobs,
                advantages=tuple(mine[: len(one.logprobs)].tolist()),
                weights=tuple(weights[: len(one.logprobs)].tolist()),
            )
            for one, mine, weights in zip(annotated, advantages, self.weights, strict=True)
        ]


def _chosen(samples: Sequence[Sample], scores: Float[Tensor, " B"], way: Best | Contest, each: int) -> list[Group]:
    """Of each group its best answer, alone or before its worst, which gets advantages of −1."""
    groups: list[Group] = []
    for first, last in pairwise(range(0, len(samples) + 1, each)):
        among = scores[first:last]
        best = first + int(among.argmax())
        worst = first + int(among.argmin())
        if isinstance(way, Best):
            groups.append((samples[best],))
        elif among.max() > among.min():
            groups.append((samples[best], _negated(samples[worst])))
    return groups


def _negated(sample: Sample) -> Sample:
    return Sample(**{**vars(sample), "advantages": tuple(-x for x in sample.advantages)})


def _whitened(raw: Float[Tensor, "B T"], mask: Bool[Tensor, "B T"], how: Whitening) -> Float[Tensor, "B T"]:
    return whiten(raw, mask) if how == "advantages" else raw


def _pad(rows: Sequence[Sequence[float]]) -> Float[Tensor, "B T"]:
    """Right-padded with zeros."""
    padded = torch.zeros(len(rows), max(map(len, rows)))
    for place, row in enumerate(rows):
        padded[place, : len(row)] = torch.tensor(row)
    return padded
