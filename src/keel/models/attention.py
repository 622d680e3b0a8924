"""Attention over a forest, as an attention function of the transformers library.

Linear layers run on the packed row of tokens, and attention reads its sequences as they lie there: run by run on
processors (`keel.models.flash`), in one call on a GPU in half precision. Where no kernel for that will do, it gathers
the blocks that were laid out when the forest grew. The blocks travel as a keyword argument of the model's forward
(`keel_blocks`), which transformers hands down to the attention function; no state is kept anywhere. A call without
blocks (decoding with a cache) is the library's own.

Shape suffixes: T rows, H query heads, G key/value heads, D and E head widths, n sequences of a block, q and k its
slots.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from keel.data.forest import Block, Blocks, Spans
from keel.models.flash import flash_attention

NAME = "keel_forest"


def forest_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    softcap: float | None = None,
    sliding_window: int | None = None,
    keel_blocks: Blocks | None = None,
    **others: Any,  # the library's calling convention: every layer passes what it has
) -> tuple[Tensor, None]:
    """Attention of one layer, [1, H, T, D] → [1, T, H, D].

    Raises ValueError for attention dropout (a batch must be computable twice, with the same result) and for layers
    whose window is not told, because the mask could then not be right.
    """
    if dropout:
        raise ValueError("attention dropout is on; keel computes every pass without dropout")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if keel_blocks is not None:
        window = _window(module, sliding_window)
        attended = attend(query[0], key[0], value[0], keel_blocks, scale, softcap, window)
        return attended[None].to(query.dtype), None
    if softcap is None:
        out: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scale, **others
        )
        return out
    length, seen = query.shape[2], key.shape[2]
    visible = attention_mask
    if visible is None:  # the library leaves out a mask that is plainly causal
        visible = torch.ones(length, seen, dtype=torch.bool, device=query.device).tril(seen - length)
    return _capped(query, key, value, visible, scale, softcap).transpose(1, 2), None


def attend(
    query: Float[Tensor, "H T D"],
    key: Float[Tensor, "G T D"],
    value: Float[Tensor, "G T E"],
    blocks: Blocks,
    scale: float,
    softcap: float | None,
    window: int | None,
) -> Float[Tensor, "T H E"]:
    """softmax(softcap·tanh(scale·QKᵀ/softcap)) V over the keys that a row's blocks show, at most `window` − 1 back.

    In the format of the values. Without `softcap` the scores are scale·QKᵀ; without `window` a row sees all of its
    trunk and branch so far.
    """
    width = torch.promote_types(query.dtype, value.dtype)
    plain = softcap is None and query.shape[-1] == value.shape[-1]
    with torch.autocast(query.device.type, enabled=False):
        if plain and query.device.type == "cpu":
            q, k, v = (part.transpose(0, 1) for part in (query, key, value))
            return flash_attention(q, k, v, blocks.spans, scale, window)
        if plain and _takes_spans(query.device, width, query.shape[-1]):
            q, k, v = (part.transpose(0, 1).to(width) for part in (query, key, value))
            return _spanned(q, k, v, blocks.spans, scale, window).to(value.dtype)
        if query.device.type == "cpu":
            width = torch.promote_types(width, torch.float32)
        rows_q = query.transpose(0, 1).to(width).index_select(0, blocks.queries)
        rows_k = key.transpose(0, 1).to(width).index_select(0, blocks.keys)
        rows_v = value.transpose(0, 1).to(width).index_select(0, blocks.keys)
        sizes = [block.sequences * block.queries for block in blocks.shapes]
        shown = [block.sequences * (block.trunk + block.queries) for block in blocks.shapes]
        slices = (torch.split(rows_q, sizes), torch.split(rows_k, shown), torch.split(rows_v, shown))
        parts = zip(blocks.shapes, *slices, strict=True)
        out = torch.cat([_block(block, q, k, v, scale, softcap, window) for block, q, k, v in parts])
        return out.index_select(0, blocks.slots).to(value.dtype)


def _takes_spans(device: torch.device, format: torch.dtype, head: int) -> bool:
    """Whether PyTorch has its kernel of FlashAttention 2 (2307.08691) for this device, format and width of a head."""
    if device.type != "cuda" or format.itemsize != 2 or head % 8 or head > 256:
        return False
    return torch.cuda.get_device_capability(device)[0] >= 8


def _spanned(
    query: Float[Tensor, "T H D"],
    key: Float[Tensor, "T G D"],
    value: Float[Tensor, "T G D"],
    spans: Spans,
    scale: float,
    window: int | None,
) -> Float[Tensor, "T H D"]:
    """All sequences in one call. Its causal mask is aligned at the ends of queries and keys: a query sees its trunk.

    Where nothing has a trunk it gathers nothing, and no shape of a batch needs a plan of its own: the library's other
    kernel for the purpose makes one for each, in some 30 ms.
    """
    if spans.shown is not None:
        key, value = (part.index_select(0, spans.shown) for part in (key, value))
    out: Tensor = torch.ops.aten._flash_attention_forward(
        query,
        key,
        value,
        spans.queries,
        spans.keys,
        spans.longest_query,
        spans.longest_key,
        dropout_p=0.0,
        is_causal=True,
        return_debug_mask=False,
        scale=scale,
        window_size_left=None if window is None else window - 1,
        window_size_right=None if window is None else 0,
    )[0]
    return out


def _block(
    block: Block, query: Tensor, key: Tensor, value: Tensor, scale: float, softcap: float | None, window: int | None
) -> Tensor:
    """One block, [slots, H, D] → [slots, H, E]."""
    q, k, v = (rows.view(block.sequences, -1, *rows.shape[1:]).transpose(1, 2) for rows in (query, key, value))
    visible = _mask(block, window, query.device)
    if softcap is not None:
        if visible is None:
            visible = torch.ones(block.queries, block.queries, dtype=torch.bool, device=query.device).tril()
        out = _capped(q, k, v, visible, scale, softcap)
    else:
        grouped = q.shape[1] != k.shape[1]
        if grouped and visible is not None and query.device.type != "cpu":
            # off the CPU no fused kernel takes grouped heads together with a mask
            k, v = (rows.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for rows in (k, v))
            grouped = False
        out = scaled_dot_product_attention(
            q, k, v, attn_mask=visible, is_causal=visible is None, scale=scale, enable_gqa=grouped
        )
    return out.transpose(1, 2).flatten(0, 1)


def _mask(block: Block, window: int | None, device: torch.device) -> Bool[Tensor, "q k"] | None:
    """Which key slots a query slot sees; None = all up to itself, without a trunk."""
    if window is None or window >= block.trunk + block.queries:
        return block.visible
    # slot numbers are positions: all sequences of a block have one trunk length and start at position 0
    back = torch.arange(block.queries, device=device)[:, None] + block.trunk
    back = back - torch.arange(block.trunk + block.queries, device=device)
    return (back >= 0) & (back < window)


def _capped(
    query: Float[Tensor, "n H q D"],
    key: Float[Tensor, "n G k D"],
    value: Float[Tensor, "n G k E"],
    visible: Bool[Tensor, "*batch q k"],
    scale: float,
    softcap: float,
) -> Float[Tensor, "n H q E"]:
    groups = query.shape[1] // key.shape[1]
    k, v = (rows.repeat_interleave(groups, dim=1) for rows in (key, value))
    scores = softcap * torch.tanh(query @ k.transpose(2, 3) * scale / softcap)
    # not −∞: a padding row that sees nothing must come out as some number, not as nan
    scores = scores.masked_fill(~visible, torch.finfo(scores.dtype).min)
    weights = torch.softmax(scores, dim=-1, dtype=torch.promote_types(scores.dtype, torch.float32))
    return weights.to(v.dtype) @ v


def _window(module: nn.Module, told: int | None) -> int | None:
    """How far back this layer looks; the configuration, where it lists its layers, has the last word."""
    config = getattr(module, "config", None)
    kinds = getattr(config, "layer_types", None)
    kind = None if kinds is None else kinds[module.layer_idx]
    if kind == "full_attention":
        return None
    if told is None and (kind == "sliding_attention" or getattr(config, "sliding_window", None) is not None):
        raise ValueError(f"{type(module).__name__} has a sliding window and does not say how far it reaches")
    return told


AttentionInterface.register(NAME, forest_attention)
AttentionMaskInterface.register(NAME, sdpa_mask)  # for calls without blocks; forests bring a mask that is passed on
