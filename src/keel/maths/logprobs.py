"""Log-probabilities of tokens, read from hidden states without ever holding a large [tokens, vocabulary]."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

T = TypeVar("T")
_ROWS = 1024
_NUMBERS = 1 << 25
_KEPT = 1 << 24
_ROWS_CUDA = 8192
_NUMBERS_CUDA = 1 << 28
_KEPT_CUDA = 1 << 28


@dataclass(frozen=True)
class Hold:
    """How much of [M, V] may be there at once.

    The logits of `rows` rows. For the backward pass nothing is kept and logits are made again, unless a call reads at
    most `kept` rows: then what it needs of their softmax is kept, in `format` (None: that of the logits, fp32 at
    least), in which case the gradient of the logits is rounded to it.
    """

    rows: int = _ROWS
    kept: int = 0
    format: torch.dtype | None = None

    @staticmethod
    def of(vocabulary: int, format: torch.dtype | None, device: torch.device) -> Hold:
        """At most 1024 rows, and where the vocabulary is large at most 2²⁵ logits (128 MiB in fp32) at once and 2²⁴
        numbers kept. On a GPU at most 8192 rows, 2²⁸ logits (1 GiB) and 2²⁸ numbers: every chunk reads and writes the
        whole head for its gradient.
        """
        rows, numbers, kept = (
            (_ROWS_CUDA, _NUMBERS_CUDA, _KEPT_CUDA) if device.type == "cuda" else (_ROWS, _NUMBERS, _KEPT)
        )
        return Hold(max(1, min(rows, numbers // vocabulary)), kept // vocabulary, format)


BY_ROWS = Hold()
"""1024 rows at once, and nothing kept."""


class TokenLogprobs(NamedTuple):
    """log π(label) and the entropy of π at M positions, in nats; `entropy` carries no gradient."""

    logprobs: Float[Tensor, " M"]
    entropy: Float[Tensor, " M"]


def token_logprobs(
    hidden: Float[Tensor, "M D"],
    head: Callable[[Tensor], Tensor],
    labels: Int[Tensor, " M"],
    temperature: float = 1.0,
    hold: Hold = Hold(),  # frozen
) -> Float[Tensor, " M"]:
    """Log-probability of each label.

        log π_m = z_m[label_m]/τ − log Σ_v exp(z_m[v]/τ),   z = head(hidden)

    `head` maps [m, D] to logits [m, V] and sees at most `hold.rows` rows at once, so the peak is a few
    [rows, V] and never [M, V]; `hold` also says what is kept for the backward pass. Gradients reach
    `hidden` and the parameters of `head`. Under `no_grad` nothing is kept.
    Logits are widened to float32 (float64 stays) before τ and the softmax.

    Shapes: hidden [M, D], labels [M] (int64) → [M]. Units: nats. τ is the temperature at which the
    tokens were sampled; dividing by it is what makes the trainer agree with the sampler.
    Raises ValueError unless τ > 0 and hold.rows ≥ 1.
    Source: the definition; recomputation as in Chen et al. (1604.06174).
    """
    return torch.cat(_in_chunks(_picked, hidden, head, labels, temperature, hold))


def token_logprobs_and_entropy(
    hidden: Float[Tensor, "M D"],
    head: Callable[[Tensor], Tensor],
    labels: Int[Tensor, " M"],
    temperature: float = 1.0,
    hold: Hold = Hold(),  # frozen
) -> TokenLogprobs:
    """Log-probability of each label as `token_logprobs` gives it, and the entropy of what it was drawn from.

        H_m = −Σ_v π_m(v) log π_m(v)

    Shapes, units, errors and gradients as there; twice [M], the entropy without a gradient. It costs a
    few readings of the logits more: ask for it only where somebody reads it.
    """
    parts = _in_chunks(_picked_and_entropy, hidden, head, labels, temperature, hold)
    return TokenLogprobs(torch.cat([logprobs for logprobs, _ in parts]), torch.cat([entropy for _, entropy in parts]))


def _in_chunks(
    read: Callable[[Tensor, Callable[[Tensor], Tensor], Tensor, float, torch.dtype | None], T],
    hidden: Tensor,
    head: Callable[[Tensor], Tensor],
    labels: Tensor,
    temperature: float,
    hold: Hold,
) -> list[T]:
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0 to have log-probabilities, not {temperature}")
    if hold.rows < 1:
        raise ValueError(f"hold.rows must be at least 1, not {hold.rows}")
    chunks = zip(torch.split(hidden, hold.rows), torch.split(labels, hold.rows), strict=True)
    if len(hidden) <= hold.kept:
        return [read(rows, head, ids, temperature, hold.format) for rows, ids in chunks]
    return [checkpoint(read, rows, head, ids, temperature, hold.format, use_reentrant=False) for rows, ids in chunks]


def _picked(
    hidden: Tensor, head: Callable[[Tensor], Tensor], labels: Tensor, temperature: float, format: torch.dtype | None
) -> Tensor:
    return _of_labels(_tempered(head(hidden), temperature), labels, format)


def _picked_and_entropy(
    hidden: Tensor, head: Callable[[Tensor], Tensor], labels: Tensor, temperature: float, format: torch.dtype | None
) -> tuple[Tensor, Tensor]:
    logits = _tempered(head(hidden), temperature)
    logprobs = _of_labels(logits, labels, format)
    # Last, so that the recomputation in the backward pass stops before it.
    probabilities = logits.detach().softmax(-1)
    logs = probabilities.clamp(min=torch.finfo(probabilities.dtype).tiny).log_()  # 0·log 0 is 0
    return logprobs, -logs.mul_(probabilities).sum(-1)


def _tempered(logits: Tensor, temperature: float) -> Tensor:
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return logits if temperature == 1 else logits / temperature


def _of_labels(logits: Tensor, labels: Tensor, format: torch.dtype | None) -> Tensor:
    return _OfLabels.apply(logits, labels, format)  # type: ignore[no-any-return, no-untyped-call]


class _OfLabels(torch.autograd.Function):
    """log softmax(z)[label]; of [m, V] it keeps one number each, −∂/∂z = softmax(z) − onehot(label)."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor, format: torch.dtype | None) -> Tensor:
        probabilities = logits.softmax(-1)
        # log Σ exp z = max z − log max π, without another pass of exponentials
        at = labels[:, None]
        logprobs = logits.gather(-1, at) - logits.amax(-1, keepdim=True) + probabilities.amax(-1, keepdim=True).log()
        if ctx.needs_input_grad[0]:
            slope = probabilities if format is None else probabilities.to(format)
            # π − 1 of the label is computed before it is rounded, or nothing would be left of it near 1
            ctx.save_for_backward(slope.scatter_(-1, at, logprobs.expm1().to(slope.dtype)))
        return logprobs.squeeze(-1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (slope,) = ctx.saved_tensors
        return slope * -grad[:, None], None, None
