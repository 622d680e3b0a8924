"""Attention over a forest on processors, with a backward pass that keeps little.

    S = scale·QKᵀ,   P = softmax(S),   O = PV
    dV = PᵀdO,   dP = dOVᵀ,   dS = P ⊙ (dP − Σ P ⊙ dP),   dQ = scale·dS·K,   dK = scale·dSᵀQ

Autograd, left to itself, keeps each block's padded Q, K, V and O in the format of the kernel, and adds the gradients of
gathered rows up one by one. Here the rows themselves are kept, in the format they came in, and gathered again.

Two ways to compute a block, each the faster one where it is taken. The library's fused kernel, always in float32,
because in half precision it is slower and less exact. And, for many short sequences in bfloat16, the products as they
stand above: scores and softmax in float32, P, O and the gradients in bfloat16, as flash attention has it on GPUs; P is
kept. Where the rows come in bfloat16, O is rounded to it before the backward pass of the first way reads it.

Shape suffixes: T rows, H query heads, G key/value heads, D head width, n sequences of a block, q and k slots of each,
Q and K slots of all blocks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from keel.data.forest import Blocks

SHORT = 256
"""Keys that a row may see where P is kept: beyond it P outweighs the rest that attention keeps."""
MANY = 1 << 20
"""Scores of a block from which its products pay for being laid out anew."""
AT_ONCE = 1 << 22
"""Scores that are held at once: 16 MB."""


def flash_attention(
    query: Float[Tensor, "T H D"],
    key: Float[Tensor, "T G D"],
    value: Float[Tensor, "T G D"],
    blocks: Blocks,
    masks: Sequence[Tensor | None],
    scale: float,
) -> Float[Tensor, "T H D"]:
    """What each row sees, mixed. `masks` has one for each block: bool [q, k], or None for plain causal attention."""
    return _Attention.apply(query, key, value, blocks, masks, scale)  # type: ignore[no-any-return, no-untyped-call]


@dataclass(frozen=True)
class _Call:
    """Some sequences of one block, which of all slots are theirs, and 0 or −∞ for each pair.

    `bias` is None for causal attention in the fused kernel, which knows it; `products` chooses the other way.
    """

    sequences: int
    trunk: int
    queries: slice
    keys: slice
    bias: Float[Tensor, "q k"] | None
    products: bool


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        blocks: Blocks,
        masks: Sequence[Tensor | None],
        scale: float,
    ) -> Tensor:
        calls = list(_calls(blocks, masks, query.shape[1], query.dtype))
        outs, kept = [], []
        for call in calls:
            q, k, v = _gathered(call, blocks, query, key, value)
            out, rest = _forward(call, q, k, v, scale)
            outs.append(_slots(out).to(query.dtype))
            kept.append(rest)
        attended = torch.cat(outs).index_select(0, blocks.slots)
        ctx.save_for_backward(query, key, value, attended, *kept)
        ctx.calls, ctx.blocks, ctx.scale = calls, blocks, scale
        return attended

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, attended, *kept = ctx.saved_tensors
        blocks: Blocks = ctx.blocks
        # what is computed in a sequence's padding is never read, so its gradient is 0
        spread = grad.new_zeros(len(blocks.queries), *grad.shape[1:]).index_copy_(0, blocks.slots, grad)
        found: tuple[list[Tensor], list[Tensor], list[Tensor]] = ([], [], [])
        for call, rest in zip(ctx.calls, kept, strict=True):
            q, k, v = _gathered(call, blocks, query, key, value)
            above = _heads(spread[call.queries], call.sequences, q.dtype)
            if call.products:
                parts = _backward_by_products(above, q, k, v, rest, ctx.scale)
            else:
                out = _heads(attended.index_select(0, blocks.queries[call.queries]), call.sequences, q.dtype)
                parts = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
                    above, q, k, v, out, rest, 0.0, call.bias is None, attn_mask=call.bias, scale=ctx.scale
                )
            for gradients, part in zip(found, parts, strict=True):
                gradients.append(_slots(part))
        for_query = torch.cat(found[0]).index_select(0, blocks.slots).to(query.dtype)
        for_key, for_value = (_to_rows(part, ctx.calls, blocks, key.shape[1]).to(key.dtype) for part in found[1:])
        return for_query, for_key, for_value, None, None, None


def _forward(call: _Call, q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """O, and what the backward pass needs beside Q, K, V and O: P, or the logarithm of the softmax's denominator."""
    if not call.products:
        out: tuple[Tensor, Tensor] = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            q, k, v, 0.0, call.bias is None, attn_mask=call.bias, scale=scale
        )
        return out
    assert call.bias is not None
    bias = call.bias.expand(q.shape[0] * q.shape[1], -1, -1)
    wide_q, wide_k = (part.flatten(0, 1).to(bias.dtype) for part in (q, k))
    scores = torch.baddbmm(bias, wide_q, wide_k.transpose(1, 2), alpha=scale)
    weights = torch.softmax(scores, dim=-1).to(v.dtype)
    return torch.bmm(weights, v.flatten(0, 1)).view(q.shape), weights


def _backward_by_products(
    above: Tensor, q: Tensor, k: Tensor, v: Tensor, weights: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    do, flat_q, flat_k, flat_v = (part.flatten(0, 1) for part in (above, q, k, v))
    for_weights = torch.bmm(do, flat_v.transpose(1, 2))
    for_scores = torch._softmax_backward_data(for_weights, weights, -1, weights.dtype)
    for_query = torch.bmm(for_scores, flat_k).mul_(scale).view(q.shape)
    for_key = torch.bmm(for_scores.transpose(1, 2), flat_q).mul_(scale).view(k.shape)
    return for_query, for_key, torch.bmm(weights.transpose(1, 2), do).view(v.shape)


def _calls(blocks: Blocks, masks: Sequence[Tensor | None], heads: int, format: torch.dtype) -> Iterator[_Call]:
    query = key = 0
    for block, mask in zip(blocks.shapes, masks, strict=True):
        seen = block.trunk + block.queries
        each = heads * block.queries * seen
        products = _by_products(format, seen, each * block.sequences)
        if products and mask is None:
            mask = torch.ones(block.queries, seen, dtype=torch.bool, device=blocks.queries.device).tril()
        bias = None
        if mask is not None:
            wide = torch.promote_types(format, torch.float32)
            bias = torch.zeros(mask.shape, dtype=wide, device=mask.device).masked_fill_(~mask, -torch.inf)
        most = max(1, AT_ONCE // each) if products else block.sequences
        for count in _counts(block.sequences, most) if products else [block.sequences]:
            ends = query + count * block.queries, key + count * seen
            yield _Call(count, block.trunk, slice(query, ends[0]), slice(key, ends[1]), bias, products)
            query, key = ends


def _counts(sequences: int, most: int) -> Iterator[int]:
    """How many sequences are computed at once: at most so many, and in few sizes, for which `filled` has the reason."""
    while sequences:
        count = min(most, sequences)
        count -= count % max(1, (1 << (count.bit_length() - 1)) // 2)
        yield count
        sequences -= count


def _by_products(format: torch.dtype, seen: int, scores: int) -> bool:
    """Which way a block goes: by how many keys its rows see, and by how many scores it has."""
    return format == torch.bfloat16 and seen <= SHORT and scores >= MANY


def _gathered(call: _Call, blocks: Blocks, query: Tensor, key: Tensor, value: Tensor) -> Iterator[Tensor]:
    """Q, K and V of one call, [n, H, q or k, D] in its format; keys and values once for each query head."""
    format = query.dtype if call.products else torch.promote_types(query.dtype, torch.float32)
    shared = query.shape[1] // key.shape[1]
    rows = blocks.keys[call.keys]
    parts = (query, blocks.queries[call.queries], 1), (key, rows, shared), (value, rows, shared)
    for part, places, times in parts:
        heads = _heads(part.index_select(0, places), call.sequences, format)
        heads = heads if times == 1 else heads.repeat_interleave(times, dim=1)
        yield heads.contiguous() if call.products else heads


def _heads(slots: Float[Tensor, "nq H D"], sequences: int, format: torch.dtype) -> Float[Tensor, "n H q D"]:
    return slots.to(format).view(sequences, -1, *slots.shape[1:]).transpose(1, 2)


def _slots(heads: Float[Tensor, "n H q D"]) -> Float[Tensor, "nq H D"]:
    return heads.transpose(1, 2).flatten(0, 1)


def _to_rows(parts: Sequence[Tensor], calls: Sequence[_Call], blocks: Blocks, groups: int) -> Float[Tensor, "T G D"]:
    """Gradients of key slots → of rows: of a row's own slot, and of the trunk that stands before each branch."""
    parts = [part.view(len(part), groups, -1, part.shape[2]).sum(2) for part in parts]
    format = torch.promote_types(parts[0].dtype, torch.float32)
    summed = torch.cat(list(parts)).index_select(0, blocks.own)
    if any(call.trunk for call in calls):
        summed = summed.to(format)
    for part, call in zip(parts, calls, strict=True):
        if call.trunk:
            rows = blocks.keys[call.keys].view(call.sequences, -1)[:, : call.trunk]
            shown = part.view(call.sequences, -1, *part.shape[1:])[:, : call.trunk]
            summed.index_add_(0, rows.flatten(), shown.flatten(0, 1).to(format))
    return summed
