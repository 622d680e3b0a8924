"""Attention over a forest on processors, by the library's fused kernel, with a backward pass that keeps little.

    O = softmax(scale·QKᵀ) V

Autograd, left to itself, keeps every block's padded Q, K, V and O in the format of the kernel, and adds up the gradients
of gathered rows one by one. Here the rows themselves are kept, in the format they came in, and gathered again; the kernel
always gets float32, because it is slower and less exact in half precision. Where the rows come in bfloat16, O is rounded
to it before the backward pass reads it, as on GPUs.

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

from keel.data.forest import Block, Blocks


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
    """One call of the kernel: a block, which of all slots are its own, and 0 or −∞ for each pair (None: causal)."""

    block: Block
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
        calls = list(_calls(blocks, masks, _wide(query.dtype)))
        outs, sums = [], []
        for call in calls:
            q, k, v = _gathered(call, blocks, query, key, value)
            out, log_sum = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
                q, k, v, 0.0, call.bias is None, attn_mask=call.bias, scale=scale
            )
            outs.append(_slots(out).to(query.dtype))
            sums.append(log_sum)
        attended = torch.cat(outs).index_select(0, blocks.slots)
        ctx.save_for_backward(query, key, value, attended, *sums)
        ctx.calls, ctx.blocks, ctx.scale = calls, blocks, scale
        return attended

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, attended, *sums = ctx.saved_tensors
        blocks: Blocks = ctx.blocks
        # what is computed in a sequence's padding is never read, so its gradient is 0
        spread = grad.new_zeros(len(blocks.queries), *grad.shape[1:]).index_copy_(0, blocks.slots, grad)
        found: tuple[list[Tensor], list[Tensor], list[Tensor]] = ([], [], [])
        for call, log_sum in zip(ctx.calls, sums, strict=True):
            q, k, v = _gathered(call, blocks, query, key, value)
            out = _heads(attended.index_select(0, blocks.queries[call.queries]), call.block.sequences, q.dtype)
            above = _heads(spread[call.queries], call.block.sequences, q.dtype)
            parts = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
                above, q, k, v, out, log_sum, 0.0, call.bias is None, attn_mask=call.bias, scale=ctx.scale
            )
            for gradients, part in zip(found, parts, strict=True):
                gradients.append(_slots(part))
        for_query = torch.cat(found[0]).index_select(0, blocks.slots).to(query.dtype)
        for_key, for_value = (_to_rows(part, ctx.calls, blocks, key.shape[1]).to(key.dtype) for part in found[1:])
        return for_query, for_key, for_value, None, None, None


def _wide(format: torch.dtype) -> torch.dtype:
    return torch.promote_types(format, torch.float32)


def _calls(blocks: Blocks, masks: Sequence[Tensor | None], format: torch.dtype) -> Iterator[_Call]:
    query = key = 0
    for block, mask in zip(blocks.shapes, masks, strict=True):
        ends = query + block.sequences * block.queries, key + block.sequences * (block.trunk + block.queries)
        bias = None
        if mask is not None:
            bias = torch.zeros(mask.shape, dtype=format, device=mask.device).masked_fill_(~mask, -torch.inf)
        yield _Call(block, slice(query, ends[0]), slice(key, ends[1]), bias)
        query, key = ends


def _gathered(call: _Call, blocks: Blocks, query: Tensor, key: Tensor, value: Tensor) -> Iterator[Tensor]:
    """Q, K and V of one call, [n, H, q or k, D] in the kernel's format; keys and values once for each query head."""
    shared = query.shape[1] // key.shape[1]
    rows = blocks.keys[call.keys]
    yield _heads(query.index_select(0, blocks.queries[call.queries]), call.block.sequences, _wide(query.dtype))
    for part in (key, value):
        heads = _heads(part.index_select(0, rows), call.block.sequences, _wide(query.dtype))
        yield heads if shared == 1 else heads.repeat_interleave(shared, dim=1)


def _heads(slots: Float[Tensor, "nq H D"], sequences: int, format: torch.dtype) -> Float[Tensor, "n H q D"]:
    return slots.to(format).view(sequences, -1, *slots.shape[1:]).transpose(1, 2)


def _slots(heads: Float[Tensor, "n H q D"]) -> Float[Tensor, "nq H D"]:
    return heads.transpose(1, 2).flatten(0, 1)


def _to_rows(parts: Sequence[Tensor], calls: Sequence[_Call], blocks: Blocks, groups: int) -> Float[Tensor, "T G D"]:
    """Gradients of key slots → of rows: of a row's own slot, and of the trunk that stands before each branch."""
    parts = [part.unflatten(1, (groups, -1)).sum(2) if part.shape[1] != groups else part for part in parts]
    summed = torch.cat(list(parts)).index_select(0, blocks.own)
    for part, call in zip(parts, calls, strict=True):
        if call.block.trunk:
            rows = blocks.keys[call.keys].view(call.block.sequences, -1)[:, : call.block.trunk]
            shown = part.view(call.block.sequences, -1, *part.shape[1:])[:, : call.block.trunk]
            summed.index_add_(0, rows.flatten(), shown.flatten(0, 1))
    return summed
