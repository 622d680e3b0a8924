"""Attention over a forest on processors, by the library's fused kernel, with a backward pass that keeps little.

    O = softmax(scale·QKᵀ) V

Neighbouring sequences of one shape are one call of the kernel, which reads their queries, and where there is no trunk
their keys and values too, from the rows themselves: nothing is gathered for it and nothing is padded. Autograd, left to
itself, would gather and keep copies, and add the gradients of gathered rows up one by one. Filler is not read.

The kernel always gets float32: in half precision it is slower here, and the gradient loses half of its digits
(docs/adr/0011); for the same reason queries and keys may come in float32 beside values in bfloat16.

Shape suffixes: T rows, H query heads, G key/value heads, D head width, n sequences of a run, q and k queries and keys
of each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from keel.data.forest import Spans


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
        kept = []
        for q, k, v, bias in _calls(spans, query, key, value, window):
            kept += torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
                q, k, v, 0.0, bias is None, attn_mask=bias, scale=scale
            )
        ctx.save_for_backward(query, key, value, *kept)
        ctx.spans, ctx.scale, ctx.window = spans, scale, window
        return _lay(value.new_empty(query.shape), spans, kept[::2])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, *kept = ctx.saved_tensors
        spans, wide = ctx.spans, _wide(query)
        above = _parts(grad.to(wide), spans)
        calls = _calls(spans, query, key, value, ctx.window)
        slopes = [
            torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
                up, q, k, v, out, log_sum, 0.0, bias is None, attn_mask=bias, scale=ctx.scale
            )
            for up, (q, k, v, bias), out, log_sum in zip(above, calls, kept[::2], kept[1::2], strict=True)
        ]
        for_query, for_key, for_value = zip(*slopes, strict=True)
        return (
            _lay(torch.empty_like(query), spans, for_query),
            _gathered(key, spans, for_key, wide),
            _gathered(value, spans, for_value, wide),
            None,
            None,
            None,
        )


def _calls(
    spans: Spans, query: Tensor, key: Tensor, value: Tensor, window: int | None
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor | None]]:
    """Q, K and V of each run, [n, H, q or k, D] in the kernel's format, keys and values once for each query head; and 0
    or −∞ for each pair, or None for plain causal attention, which the kernel knows."""
    wide, shared = _wide(query), query.shape[1] // key.shape[1]
    query, key, value = (part.to(wide) for part in (query, key, value))
    parts = (_parts(query, spans), _seen(key, spans), _seen(value, spans), _biases(spans, window, wide))
    for q, k, v, bias in zip(*parts, strict=True):
        if shared > 1:
            k, v = (part.repeat_interleave(shared, dim=1) for part in (k, v))
        yield q, k, v, bias


def _wide(query: Tensor) -> torch.dtype:
    return torch.promote_types(query.dtype, torch.float32)


def _parts(rows: Float[Tensor, "T H D"], spans: Spans) -> list[Float[Tensor, "_ H _ D"]]:
    """The rows of each run, where they are."""
    runs = spans.runs
    counts = [run.sequences * run.length for run in runs]
    *pieces, _ = torch.split(rows.transpose(0, 1)[None], [*counts, len(rows) - sum(counts)], dim=2)
    return [
        piece if run.sequences == 1 else torch.unflatten(piece[0], 1, (run.sequences, run.length)).transpose(0, 1)
        for run, piece in zip(runs, pieces, strict=True)
    ]


def _seen(rows: Float[Tensor, "T G D"], spans: Spans) -> Iterator[Float[Tensor, "_ G _ D"]]:
    """Of each run the trunk, then the rows of each sequence."""
    by_head = rows.transpose(0, 1)[None]
    for run, own in zip(spans.runs, _parts(rows, spans), strict=True):
        if not run.trunk:
            yield own
            continue
        yield torch.cat([by_head[:, :, run.roots].expand(run.sequences, -1, -1, -1), own], dim=2)


def _biases(spans: Spans, window: int | None, format: torch.dtype) -> Iterator[Float[Tensor, "_ _"] | None]:
    """Of each run. A row i after a trunk of t sees keys up to i + t, and of these the last `window`; that is the same
    for every run but for how far along t is, so all of them are cut from one."""
    plain = [not run.trunk and (window is None or window >= run.length) for run in spans.runs]
    others = [run for run, alone in zip(spans.runs, plain, strict=True) if not alone]
    trunk, length = (max((getattr(run, name) for run in others), default=0) for name in ("trunk", "length"))
    hidden = torch.full((length, trunk + length), -torch.inf, dtype=format)
    bias = hidden.triu(trunk + 1)
    if window is not None and window < trunk + length:
        bias += hidden.tril(trunk - window)
    for run, alone in zip(spans.runs, plain, strict=True):
        yield None if alone else bias[: run.length, trunk - run.trunk : trunk + run.length]


def _lay(
    rows: Float[Tensor, "T H D"], spans: Spans, parts: Sequence[Float[Tensor, "_ H _ D"]]
) -> Float[Tensor, "T H D"]:
    """The rows, with these in the places of the runs and 0 in the rows of none."""
    torch._foreach_copy_(_parts(rows, spans), list(parts))
    rows[spans.runs[-1].rows.stop :] = 0
    return rows


def _gathered(
    rows: Float[Tensor, "T G D"], spans: Spans, slopes: Sequence[Float[Tensor, "_ H _ D"]], wide: torch.dtype
) -> Float[Tensor, "T G D"]:
    """The gradient of rows from those of what each run has seen: its own rows', and added up those of its trunk."""
    heads = rows.shape[1]
    if slopes[0].shape[1] != heads:
        slopes = [slope.reshape(len(slope), heads, -1, *slope.shape[2:]).sum(2) for slope in slopes]
    branches = [(run, slope) for run, slope in zip(spans.runs, slopes, strict=True) if run.trunk]
    # trunks gather the gradients of their branches, and add them up, in the kernel's format
    made = torch.empty_like(rows, dtype=wide if branches else rows.dtype)
    _lay(made, spans, [slope[:, :, run.trunk :] for run, slope in zip(spans.runs, slopes, strict=True)])
    for run, slope in branches:
        made[run.roots] += slope[:, :, : run.trunk].sum(0).transpose(0, 1)
    return made.to(rows.dtype)
