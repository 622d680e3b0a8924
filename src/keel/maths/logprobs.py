"""Log-probabilities of tokens, read from hidden states without ever holding [tokens, vocabulary]."""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

T = TypeVar("T")
CHUNK = 1024
"""Rows whose logits are held at once, where the vocabulary is small."""
_NUMBERS = 1 << 25


def rows_at_once(vocabulary: int) -> int:
    """How many rows make a chunk: at most `CHUNK`, and at most 2²⁵ logits (128 MiB in float32) where there are more."""
    return max(1, min(CHUNK, _NUMBERS // vocabulary))


class TokenLogprobs(NamedTuple):
    """log π(label) and the entropy of π at M positions, in nats; `entropy` carries no gradient."""

    logprobs: Float[Tensor, " M"]
    entropy: Float[Tensor, " M"]


def token_logprobs(
    hidden: Float[Tensor, "M D"],
    head: Callable[[Tensor], Tensor],
    labels: Int[Tensor, " M"],
    temperature: float = 1.0,
    chunk: int = CHUNK,
) -> Float[Tensor, " M"]:
    """Log-probability of each label.

        log π_m = z_m[label_m]/τ − log Σ_v exp(z_m[v]/τ),   z = head(hidden)

    `head` maps [m, D] to logits [m, V] and sees at most `chunk` rows at once; its logits are thrown
    away and computed again in the backward pass, so the peak is a few [chunk, V] and never [M, V].
    Gradients reach `hidden` and the parameters of `head` exactly. Under `no_grad` nothing is kept.
    Logits are widened to float32 (float64 stays) before τ and the softmax.

    Shapes: hidden [M, D], labels [M] (int64) → [M]. Units: nats. τ is the temperature at which the
    tokens were sampled; dividing by it is what makes the trainer agree with the sampler.
    Raises ValueError unless τ > 0 and chunk ≥ 1.
    Source: the definition; recomputation as in Chen et al. (1604.06174).
    """
    return torch.cat(_in_chunks(_picked, hidden, head, labels, temperature, chunk))


def token_logprobs_and_entropy(
    hidden: Float[Tensor, "M D"],
    head: Callable[[Tensor], Tensor],
    labels: Int[Tensor, " M"],
    temperature: float = 1.0,
    chunk: int = CHUNK,
) -> TokenLogprobs:
    """Log-probability of each label as `token_logprobs` gives it, and the entropy of what it was drawn from.

        H_m = −Σ_v π_m(v) log π_m(v)

    Shapes, units, errors and gradients as there; twice [M], the entropy without a gradient. It costs a
    few readings of the logits more: ask for it only where somebody reads it.
    """
    parts = _in_chunks(_picked_and_entropy, hidden, head, labels, temperature, chunk)
    return TokenLogprobs(torch.cat([logprobs for logprobs, _ in parts]), torch.cat([entropy for _, entropy in parts]))


def _in_chunks(
    read: Callable[[Tensor, Callable[[Tensor], Tensor], Tensor, float], T],
    hidden: Tensor,
    head: Callable[[Tensor], Tensor],
    labels: Tensor,
    temperature: float,
    chunk: int,
) -> list[T]:
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0 to have log-probabilities, not {temperature}")
    if chunk < 1:
        raise ValueError(f"chunk must be at least 1 row, not {chunk}")
    return [
        checkpoint(read, rows, head, ids, temperature, use_reentrant=False)
        for rows, ids in zip(torch.split(hidden, chunk), torch.split(labels, chunk), strict=True)
    ]


def _picked(hidden: Tensor, head: Callable[[Tensor], Tensor], labels: Tensor, temperature: float) -> Tensor:
    return _of_labels(_log_softmax(hidden, head, temperature), labels)


def _picked_and_entropy(
    hidden: Tensor, head: Callable[[Tensor], Tensor], labels: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    logs = _log_softmax(hidden, head, temperature)
    logprobs = _of_labels(logs, labels)
    # Last, so that the recomputation in the backward pass stops before it.
    logs = logs.detach()
    entropy = -(logs.exp() * logs.clamp(min=torch.finfo(logs.dtype).min)).sum(-1)  # 0·log 0 is 0
    return logprobs, entropy


def _of_labels(logs: Tensor, labels: Tensor) -> Tensor:
    return logs.gather(-1, labels[:, None]).squeeze(-1)


def _log_softmax(hidden: Tensor, head: Callable[[Tensor], Tensor], temperature: float) -> Tensor:
    logits = head(hidden)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return (logits if temperature == 1 else logits / temperature).log_softmax(-1)
