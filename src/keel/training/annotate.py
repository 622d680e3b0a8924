"""Rollouts, read once by every role before anything is learnt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from itertools import groupby

import torch
from torch import Tensor

from keel.data.forest import Branch, Forest, Tree
from keel.models.roles import Critic, LanguageRole
from keel.training.batches import micro_batches
from keel.types import Annotated, Rollout, Sample, Scored, UnreadAnnotated, Valued


def trees_of(rollouts: Sequence[Rollout]) -> list[Tree]:
    """Neighbouring rollouts of one prompt become branches of one tree; branches stand in the order of the rollouts."""
    return [tree_of(list(group)) for _, group in groupby(rollouts, key=lambda one: one.prompt_tokens)]


def tree_of(group: Sequence[Rollout]) -> Tree:
    """Rollouts of one prompt as branches of one tree, in their order."""
    return Tree(group[0].prompt_tokens, tuple(Branch(one.tokens, one.mask) for one in group))


def annotate(
    scored: Sequence[Scored],
    policy: LanguageRole | None,
    reference: LanguageRole,
    temperature: float,
    budget: int | None,
) -> list[Annotated]:
    """Log-probs of every sampled token under the policy and the frozen reference, at the sampling temperature.

    Without `policy` those that the sampler recorded stand for its own, until `settled`.
    """
    rollouts = [one.rollout for one in scored]
    frozen = _read(rollouts, reference, temperature, budget)
    if policy is None:
        return [UnreadAnnotated(one, one.rollout.logprobs, theirs) for one, theirs in zip(scored, frozen, strict=True)]
    own = _read(rollouts, policy, temperature, budget)
    return [Annotated(one, mine, theirs) for one, mine, theirs in zip(scored, own, frozen, strict=True)]


def settled(annotated: Sequence[Annotated], samples: Sequence[Sample]) -> list[Annotated]:
    """The same with the log-probs of their samples, as the policy read them while it learnt."""
    own = {id(one.rollout): one.logprobs for one in samples}
    return [Annotated(one.scored, own[id(one.scored.rollout)], one.reference_logprobs) for one in annotated]


def value(annotated: Sequence[Annotated], critic: Critic, budget: int | None) -> list[Valued]:
    """The critic's value of the state before every sampled token."""
    rollouts = [one.scored.rollout for one in annotated]
    values = _per_rollout(rollouts, critic, critic.values, budget)
    return [
        Valued(**{field.name: getattr(one, field.name) for field in fields(one)}, values=mine)
        for one, mine in zip(annotated, values, strict=True)
    ]


def _read(
    rollouts: Sequence[Rollout], role: LanguageRole, temperature: float, budget: int | None
) -> list[tuple[float, ...]]:
    return _per_rollout(rollouts, role, lambda forest: role.logprobs(forest, temperature), budget)


def _per_rollout(
    rollouts: Sequence[Rollout], role: LanguageRole | Critic, read: Callable[[Forest], Tensor], budget: int | None
) -> list[tuple[float, ...]]:
    """One number per sampled token, cut back into rollouts."""
    with torch.no_grad():
        parts = [read(micro.forest) for micro in micro_batches(trees_of(rollouts), budget, role)]
    flat = torch.cat(parts).float().cpu()
    return [tuple(part.tolist()) for part in torch.split(flat, [len(one.logprobs) for one in rollouts])]
