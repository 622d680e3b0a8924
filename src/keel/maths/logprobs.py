"""Log-probabilities of tokens, read from hidden states without ever holding a large [tokens, vocabulary]."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import linear
from torch.utils.checkpoint import checkpoint

from keel.maths.products import product_in

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


@dataclass(frozen=True)
class LinearHead:
    """z = h·Wᵀ as `product` makes it of h [m, D] and W [V, D]; the products of the gradient are made in `format`.

    A head that says it is this has a gradient which reads what is kept of [m, V] once, and writes none of that size.
    """

    weight: Float[Tensor, "V D"]
    format: torch.dtype
    product: Callable[[Tensor, Tensor], Tensor] = linear

    def __call__(self, hidden: Float[Tensor, "m D"]) -> Float[Tensor, "m V"]:
        """The logits."""
        return self.product(hidden, self.weight)


Head = LinearHead | Callable[[Tensor], Tensor]
"""What makes logits [m, V] of hidden states [m, D]."""


class TokenLogprobs(NamedTuple):
    """log π(label) and the entropy of π at M positions, in nats; `entropy` carries no gradient."""

    logprobs: Float[Tensor, " M"]
    entropy: Float[Tensor, " M"]


def token_logprobs(
    hidden: Float[Tensor, "M D"],
    head: Head,
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
    return torch.cat([logprobs for logprobs, _ in _in_chunks(_nothing, hidden, head, labels, temperature, hold)])


def token_logprobs_and_entropy(
    hidden: Float[Tensor, "M D"],
    head: Head,
    labels: Int[Tensor, " M"],
    temperature: float = 1.0,
    hold: Hold = Hold(),  # frozen
) -> TokenLogprobs:
    """Log-probability of each label as `token_logprobs` gives it, and the entropy of what it was drawn from.

        H_m = −Σ_v π_m(v) log π_m(v)

    Shapes, units, errors and gradients as there; twice [M], the entropy without a gradient. It costs two
    readings of the probabilities more: ask for it only where somebody reads it.
    """
    parts = _in_chunks(_entropy, hidden, head, labels, temperature, hold)
    return TokenLogprobs(torch.cat([logprobs for logprobs, _ in parts]), torch.cat([entropy for _, entropy in parts]))


def _in_chunks(
    also: Callable[[Tensor], Tensor],
    hidden: Tensor,
    head: Head,
    labels: Tensor,
    temperature: float,
    hold: Hold,
) -> list[tuple[Tensor, Tensor]]:
    """Log-probabilities, chunk by chunk, and what `also` says of all probabilities of each row."""
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0 to have log-probabilities, not {temperature}")
    if hold.rows < 1:
        raise ValueError(f"hold.rows must be at least 1, not {hold.rows}")
    chunks = zip(torch.split(hidden, hold.rows), torch.split(labels, hold.rows), strict=True)
    if len(hidden) <= hold.kept:
        return [_picked(rows, head, ids, temperature, hold.format, also) for rows, ids in chunks]
    rest = (temperature, hold.format, also)
    return [checkpoint(_picked, rows, head, ids, *rest, use_reentrant=False) for rows, ids in chunks]


def _picked(
    hidden: Tensor,
    head: Head,
    labels: Tensor,
    temperature: float,
    format: torch.dtype | None,
    also: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Tensor]:
    if isinstance(head, LinearHead):
        return _OfLinear.apply(hidden, head.weight, head, labels, temperature, format, also)  # type: ignore[no-any-return, no-untyped-call]
    return _OfLabels.apply(_tempered(head(hidden), temperature), labels, format, also)  # type: ignore[no-any-return, no-untyped-call]


def _nothing(probabilities: Tensor) -> Tensor:
    return probabilities.new_empty(0)


def _entropy(probabilities: Tensor) -> Tensor:
    surprise: Tensor = torch.special.entr(probabilities)  # −p·log p, and 0 of 0
    return surprise.sum(-1)


def _tempered(logits: Tensor, temperature: float) -> Tensor:
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return logits if temperature == 1 else logits / temperature


class _OfLabels(torch.autograd.Function):
    """log softmax(z)[label]; of [m, V] it keeps one number each, −∂/∂z = softmax(z) − onehot(label)."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, labels: Tensor, format: torch.dtype | None, also: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor]:
        logprobs, beside, probabilities = _read(logits, labels, also)
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(_slope(probabilities, labels, logprobs, format))
        ctx.mark_non_differentiable(beside)
        return logprobs, beside

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        (slope,) = ctx.saved_tensors
        return slope * -grad[:, None], None, None, None


class _OfLinear(torch.autograd.Function):
    """The same of z = h·Wᵀ/τ, with s = softmax(z) − onehot(label) kept, and g the gradient of what it gives:

    ∂h = −g/τ ⊙ (s·W),   ∂W = sᵀ·(−g/τ ⊙ h)
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        head: LinearHead,
        labels: Tensor,
        temperature: float,
        format: torch.dtype | None,
        also: Callable[[Tensor], Tensor],
    ) -> tuple[Tensor, Tensor]:
        logprobs, beside, probabilities = _read(_tempered(head(hidden), temperature), labels, also)
        if any(ctx.needs_input_grad[:2]):
            ctx.save_for_backward(hidden, weight, _slope(probabilities, labels, logprobs, format))
        ctx.temperature, ctx.format = temperature, head.format
        ctx.mark_non_differentiable(beside)
        return logprobs, beside

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, slope = ctx.saved_tensors
        share, slope = grad[:, None] / -ctx.temperature, slope.to(ctx.format)
        for_hidden = for_weight = None
        if ctx.needs_input_grad[0]:
            for_hidden = (product_in(share.dtype, slope, weight.to(ctx.format)) * share).to(hidden.dtype)
        if ctx.needs_input_grad[1]:
            for_weight = product_in(weight.dtype, slope.T, (hidden * share).to(ctx.format))
        return for_hidden, for_weight, None, None, None, None, None


def _read(
    logits: Tensor, labels: Tensor, also: Callable[[Tensor], Tensor]
) -> tuple[Float[Tensor, " m"], Tensor, Float[Tensor, "m V"]]:
    """Log-probabilities of the labels, what `also` says, and all probabilities."""
    probabilities = logits.softmax(-1)
    # log Σ exp z = max z − log max π, without another pass of exponentials
    picked = logits.gather(-1, labels[:, None]) - logits.amax(-1, keepdim=True)
    logprobs = picked + probabilities.amax(-1, keepdim=True).log()
    return logprobs.squeeze(-1), also(probabilities), probabilities


def _slope(probabilities: Tensor, labels: Tensor, logprobs: Tensor, format: torch.dtype | None) -> Tensor:
    """softmax − onehot, in place of the probabilities where the format is theirs."""
    slope = probabilities if format is None else probabilities.to(format)
    # π − 1 of the label is computed before it is rounded, or nothing would be left of it near 1
    return slope.scatter_(-1, labels[:, None], logprobs[:, None].expm1().to(slope.dtype))
