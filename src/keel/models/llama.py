"""The decoder stack of the Llama family (Llama, Mistral, Qwen 2 and 3) over a forest.

    x ← x + O·attention(rotate(Q·norm(x)), rotate(K·norm(x)), V·norm(x))
    x ← x + down·(silu(gate·norm(x)) ⊙ up·norm(x))        norm(x) = w ⊙ x / √(mean x² + ε)

The same numbers as the library's own forward, up to rounding, from the same modules; less time and memory, by the
backward passes of `keel.models.operations`. The stream between the layers, norms and rotations keep the format of the
weights. Shape suffixes: T rows of a forest, M of which are asked for, E width of the
stream.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from keel.data.forest import Forest
from keel.models.attention import attend
from keel.models.operations import Weight, gated, product, rms_norm, rotate

FAMILY = ("llama", "mistral", "qwen2", "qwen3")


def is_of_the_family(stack: PreTrainedModel) -> bool:
    """Whether this decoder stack computes what the head of this page says, and nothing else."""
    config = stack.config
    if config.model_type not in FAMILY:
        return False
    windows = set(getattr(config, "layer_types", None) or ()) - {"full_attention"}
    if getattr(config, "sliding_window", None) is not None and config.model_type in ("llama", "mistral"):
        windows.add("sliding_attention")
    rope = getattr(stack.rotary_emb, "rope_type", "default")
    plain = config.hidden_act == "silu" and rope in ("default", "linear", "llama3", "yarn")
    return not windows and plain and all(is_plain(module) for layer in stack.layers for module in linears(layer))


def linears(layer: Any) -> list[nn.Module]:
    """The seven linear layers of a layer."""
    attention, mlp = layer.self_attn, layer.mlp
    projections = (attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj)
    return [*projections, mlp.gate_proj, mlp.up_proj, mlp.down_proj]


def is_plain(module: nn.Module) -> bool:
    """A linear layer, or one with adapters of the plain kind."""
    if isinstance(module, LoraLayer):
        return type(module.get_base_layer()) is nn.Linear and not any(
            module.use_dora.get(name, False) for name in module.active_adapters
        )
    return type(module) is nn.Linear


@dataclass(frozen=True)
class _Layer:
    """A layer, and its seven linear layers as they are read now: what is computed again later reads the same."""

    module: Any
    query: Weight
    key: Weight
    value: Weight
    out: Weight
    gate: Weight
    up: Weight
    down: Weight

    @staticmethod
    def of(module: Any) -> _Layer:
        return _Layer(module, *map(Weight.of, linears(module)))


def hidden(
    stack: Any, forest: Forest, rows: Int[Tensor, " M"], format: torch.dtype, recompute: bool = False
) -> Float[Tensor, "M E"]:
    """The last hidden state (after the final norm) of these rows, with matrix products in `format`.

    Of the last layer, what follows attention is computed for them alone. With `recompute` the backward pass finds the
    layers' inputs only (`keel.models.passes`).
    """
    x = stack.embed_tokens(forest.tokens)
    cos, sin = (part[0] for part in stack.rotary_emb(x[None], forest.positions[None]))
    for module in stack.layers:
        read = rows if module is stack.layers[-1] else None
        given = (_Layer.of(module), x, cos, sin, forest, read, format)
        x = checkpoint(_passed, *given, use_reentrant=False) if recompute else _passed(*given)
    return rms_norm(x, stack.norm.weight, stack.norm.variance_epsilon, x.dtype)


def _passed(
    layer: _Layer, x: Tensor, cos: Tensor, sin: Tensor, forest: Forest, rows: Tensor | None, format: torch.dtype
) -> Tensor:
    """The stream after a layer, of these rows alone or of all."""
    attended = _attended(layer, x, cos, sin, forest, format)
    if rows is not None:
        x, attended = x.index_select(0, rows), attended.index_select(0, rows)
    return _after(layer, x, attended, format)


def _attended(layer: _Layer, x: Tensor, cos: Tensor, sin: Tensor, forest: Forest, format: torch.dtype) -> Tensor:
    attention, norm = layer.module.self_attn, layer.module.input_layernorm
    normed = rms_norm(x, norm.weight, norm.variance_epsilon, format)
    query, key, value = (
        product(normed, weight).view(len(x), -1, attention.head_dim) for weight in (layer.query, layer.key, layer.value)
    )
    if hasattr(attention, "q_norm"):
        query, key = (
            rms_norm(part.to(x.dtype), norm.weight, norm.variance_epsilon, x.dtype)
            for part, norm in ((query, attention.q_norm), (key, attention.k_norm))
        )
    query, key = rotate(query, cos, sin), rotate(key, cos, sin)
    if (
        x.device.type != "cpu"
    ):  # where `attend` takes them as they are: rounded, they cost half of the gradient's digits
        query, key = query.to(format), key.to(format)
    query, key, value = (part.transpose(0, 1) for part in (query, key, value))
    return attend(query, key, value, forest.blocks, attention.scaling, None, None).flatten(1)


def _after(layer: _Layer, x: Tensor, attended: Tensor, format: torch.dtype) -> Tensor:
    norm = layer.module.post_attention_layernorm
    x = x + product(attended.to(format), layer.out)
    normed = rms_norm(x, norm.weight, norm.variance_epsilon, format)
    return x + gated(product(normed, layer.gate), product(normed, layer.up), layer.down)
