"""Attention over a forest on processors, by the library's fused kernel, with a backward pass that keeps little.

    O = softmax(scale·QKᵀ) V

Autograd, left to itself, gathers Q, K and V in the format of the kernel, keeps each block of them padded, and adds the
gradients of gathered rows up one by one. Here the rows themselves are kept, in the format they came in, and gathered
again. The kernel always gets float32: in half precision it is slower here, and the gradient loses half of its digits
(docs/adr/0011); for the same reason queries and keys may come in float32 beside values in bfloat16.

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


def flash_attention(
    query: Float[Tensor, "T H D"],
    key: Float[Tensor, "T G D"],
    value: Float[Tensor, "T G D"],
    blocks: Blocks,
    masks: Sequence[Tensor | None],
    scale: float,
) -> Float[Tensor, "T H D"]:
    """What each row sees, mixed, in the format of the values. `masks` has one for each block: bool [q, k], or None for
    plain causal attention."""
    return _Attention.apply(query, key, value, blocks, masks, scale)  # type: ignore[no-any-return, no-untyped-call]


@dataclass(frozen=True)
class _Call:
    """One call of the kernel: a block's sequences, which of all slots are theirs, and 0 or −∞ for each pair.

    `bias` is None for plain causal attention, which the kernel knows.
    """

    sequences: int
    trunk: int
    queries: slice
    keys: slice
    bias: Float[Tensor, "q k"] | None


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
        calls = list(_calls(blocks, masks, torch.promote_types(query.dtype, torch.float32)))
        outs, kept = [], []
        for call in calls:
            q, k, v = _gathered(call, blocks, query, key, value)
            out, log_sum = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
                q, k, v, 0.0, call.bias is None, attn_mask=call.bias, scale=scale
            )
            outs.append(_slots(out).to(value.dtype))
            kept += [out, log_sum]
        ctx.save_for_backward(query, key, value, *kept)
        ctx.calls, ctx.blocks, ctx.scale = calls, blocks, scale
        return torch.cat(outs).index_select(0, blocks.slots)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, *kept = ctx.saved_tensors
        blocks: Blocks = ctx.blocks
        # what is computed in a sequence's padding is never read, so its gradient is 0
        spread = grad.new_zeros(len(blocks.queries), *grad.shape[1:]).index_copy_(0, blocks.slots, grad)
        found: tuple[list[Tensor], list[Tensor], list[Tensor]] = ([], [], [])
        for place, call in enumerate(ctx.calls):
            q, k, v = _gathered(call, blocks, query, key, value)
            above = _heads(spread[call.queries], call.sequences)
            out, log_sum = kept[2 * place : 2 * place + 2]
            parts = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
                above, q, k, v, out, log_sum, 0.0, call.bias is None, attn_mask=call.bias, scale=ctx.scale
            )
            for gradients, part in zip(found, parts, strict=True):
                gradients.append(_slots(part))
        for_query = torch.cat(found[0]).index_select(0, blocks.slots).to(query.dtype)
        for_key = _to_rows(found[1], ctx.calls, blocks, key.shape[1]).to(key.dtype)
        for_value = _to_rows(found[2], ctx.calls, blocks, key.shape[1]).to(value.dtype)
        return for_query, for_key, for_value, None, None, None


def _calls(blocks: Blocks, masks: Sequence[Tensor | None], format: torch.dtype) -> Iterator[_Call]:
    query = key = 0
    for block, mask in zip(blocks.shapes, masks, strict=True):
        ends = query + block.sequences * block.queries, key + block.sequences * (block.trunk + block.queries)
        bias = None
        if mask is not None:
            bias = torch.zeros(mask.shape, dtype=format, device=mask.device).masked_fill_(~mask, -torch.inf)
        yield _Call(block.sequences, block.trunk, slice(query, ends[0]), slice(key, ends[1]), bias)
        query, key = ends


def _gathered(call: _Call, blocks: Blocks, query: Tensor, key: Tensor, value: Tensor) -> Iterator[Tensor]:
    """Q, K and V of one call, [n, H, q or k, D] in the kernel's format; keys and values once for each query head."""
    shared = query.shape[1] // key.shape[1]
    rows = blocks.keys[call.keys]
    yield _heads(query.index_select(0, blocks.queries[call.queries]), call.sequences)
    for part in (key, value):
        heads = _heads(part.index_select(0, rows), call.sequences)
        yield heads if shared == 1 else heads.repeat_interleave(shared, dim=1)


def _heads(slots: Float[Tensor, "nq H D"], sequences: int) -> Float[Tensor, "n H q D"]:
    wide = slots.to(torch.promote_types(slots.dtype, torch.float32))
    return wide.view(sequences, -1, *slots.shape[1:]).transpose(1, 2)


def _slots(heads: Float[Tensor, "n H q D"]) -> Float[Tensor, "nq H D"]:
    return heads.transpose(1, 2).flatten(0, 1)


def _to_rows(parts: Sequence[Tensor], calls: Sequence[_Call], blocks: Blocks, groups: int) -> Float[Tensor, "T G D"]:
    """Gradients of key slots → of rows: of a row's own slot, and of the trunk that stands before each branch."""
    parts = [part.view(len(part), groups, -1, part.shape[2]).sum(2) for part in parts]
    summed = torch.cat(list(parts)).index_select(0, blocks.own)
    for part, call in zip(parts, calls, strict=True):
        if call.trunk:
            rows = blocks.keys[call.keys].view(call.sequences, -1)[:, : call.trunk]
            shown = part.view(call.sequences, -1, *part.shape[1:])[:, : call.trunk]
            summed.index_add_(0, rows.flatten(), shown.flatten(0, 1))
    return summed
