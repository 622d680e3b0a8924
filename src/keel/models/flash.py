"""Attention over a forest on processors, by the library's fused kernel, with a backward pass that keeps little.

    O = softmax(scale·QKᵀ) V

Neighbouring sequences of one shape are one call of the kernel, which reads their queries, and where there is no trunk
their keys and values too, from the rows themselves: nothing is gathered for it and nothing is padded. Autograd, left to
itself, would gather and keep copies, and add the gradients of gathered rows up one by one.

The kernel always gets float32: in half precision it is slower here, and the gradient loses half of its digits
(docs/adr/0011); for the same reason queries and keys may come in float32 beside values in bfloat16.

Shape suffixes: T rows, H query heads, G key/value heads, D head width, n sequences of a run, q and k queries and keys
of each.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from keel.data.forest import Run, Spans


def flash_attention(
    query: Float[Tensor, "T H D"],
    key: Float[Tensor, "T G D"],
    value: Float[Tensor, "T G D"],
    spans: Spans,
    scale: float,
    window: int | None,
) -> Float[Tensor, "T H D"]:
    """What each row sees, at most `window` − 1 back, mixed; in the format of the values."""
    return _Attention.apply(query, key, value, spans, scale, window)  # type: ignore[no-any-return, no-untyped-call]


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, spans: Spans, scale: float, window: int | None
    ) -> Tensor:
        made = value.new_empty(query.shape)
        kept = []
        for run, q, k, v, bias in _calls(spans, query, key, value, window):
            out, log_sum = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
                q, k, v, 0.0, bias is None, attn_mask=bias, scale=scale
            )
            _heads(made[run.rows], run).copy_(out)
            kept += [out, log_sum]
        ctx.save_for_backward(query, key, value, *kept)
        ctx.spans, ctx.scale, ctx.window = spans, scale, window
        return made

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, *kept = ctx.saved_tensors
        wide = _wide(query)
        above = grad.to(wide)
        for_query = torch.empty_like(query)
        # where trunks gather the gradients of their branches these are added up in the kernel's format
        branched = any(run.trunk for run in ctx.spans.runs)
        found = [torch.empty_like(part, dtype=wide if branched else part.dtype) for part in (key, value)]
        for place, (run, q, k, v, bias) in enumerate(_calls(ctx.spans, query, key, value, ctx.window)):
            out, log_sum = kept[2 * place : 2 * place + 2]
            slope, *slopes = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
                _heads(above[run.rows], run), q, k, v, out, log_sum, 0.0, bias is None, attn_mask=bias, scale=ctx.scale
            )
            _heads(for_query[run.rows], run).copy_(slope)
            for rows, part in zip(found, slopes, strict=True):
                _give(rows, part, run)
        return for_query, found[0].to(key.dtype), found[1].to(value.dtype), None, None, None


def _calls(
    spans: Spans, query: Tensor, key: Tensor, value: Tensor, window: int | None
) -> Iterator[tuple[Run, Tensor, Tensor, Tensor, Tensor | None]]:
    """Each run with its Q, K and V, [n, H, q or k, D] in the kernel's format, keys and values once for each query head;
    and 0 or −∞ for each pair, or None for plain causal attention, which the kernel knows."""
    wide, shared = _wide(query), query.shape[1] // key.shape[1]
    query, key, value = (part.to(wide) for part in (query, key, value))
    for run in spans.runs:
        k, v = (_seen(part, run) for part in (key, value))
        if shared > 1:
            k, v = (part.repeat_interleave(shared, dim=1) for part in (k, v))
        yield run, _heads(query[run.rows], run), k, v, _bias(run, window, wide)


def _wide(query: Tensor) -> torch.dtype:
    return torch.promote_types(query.dtype, torch.float32)


def _heads(rows: Float[Tensor, "nq H D"], run: Run) -> Float[Tensor, "n H q D"]:
    return rows.view(run.sequences, run.length, *rows.shape[1:]).transpose(1, 2)


def _seen(rows: Float[Tensor, "T G D"], run: Run) -> Float[Tensor, "n G k D"]:
    """The trunk, then the rows of each sequence."""
    own = _heads(rows[run.rows], run)
    if not run.trunk:
        return own
    trunk = rows[run.roots].transpose(0, 1).expand(run.sequences, -1, -1, -1)
    return torch.cat([trunk, own], dim=2)


def _bias(run: Run, window: int | None, format: torch.dtype) -> Float[Tensor, "q k"] | None:
    near = window is None or window >= run.trunk + run.length
    if near and not run.trunk:
        return None
    hidden = torch.full((run.length, run.trunk + run.length), -torch.inf, dtype=format)
    bias = hidden.triu(run.trunk + 1)
    return bias if window is None or near else bias + hidden.tril(run.trunk - window)


def _give(rows: Float[Tensor, "T G D"], slopes: Float[Tensor, "n H k D"], run: Run) -> None:
    """Gradients of what a run has seen go to its own rows, and are added to those of its trunk, which come before."""
    if slopes.shape[1] != rows.shape[1]:
        slopes = slopes.reshape(len(slopes), rows.shape[1], -1, *slopes.shape[2:]).sum(2)
    _heads(rows[run.rows], run).copy_(slopes[:, :, run.trunk :])
    if run.trunk:
        rows[run.roots] += slopes[:, :, : run.trunk].sum(0).transpose(0, 1)
