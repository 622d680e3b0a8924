"""Decoding for the Llama family (Llama, Mistral, Qwen 2 and 3): the library's arithmetic in fewer, larger steps.

    x ← x + O·attention(rotate(Q·norm(x)), rotate(K·norm(x)), V·norm(x))
    x ← x + down·(silu(gate·norm(x)) ⊙ up·norm(x))        norm(x) = w ⊙ x / √(mean x² + ε)

Departures from the library, none of which changes a number by more than rounding: Q, K and V are one matrix; a rotation
is a complex product, for which the two numbers that turn together stand side by side (rows of Q and K change
places within their head, which no score notices); silu is taken of products that are not rounded yet; prompts are one
row of tokens without padding.

Shape suffixes: T tokens of all prompts, B rows, P prompts, H query heads, G key/value heads, D head width, E width of
the stream, V vocabulary, N any of T, B and P.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from peft.tuners.lora import LoraLayer
from torch import Tensor
from transformers import PreTrainedModel

from keel.data.forest import Branch, Tree, grow, plan
from keel.models.attention import attend
from keel.models.llama import FAMILY, is_of_the_family, is_plain
from keel.models.operations import wide_products
from keel.models.passes import pass_tokens
from keel.rollout.matrix import Matrix
from keel.rollout.memory import STEP, Memory, roomy
from keel.rollout.norm import Norm
from keel.rollout.replay import Replay, replay_on

LONG_PASS = 16384
"""Tokens of the prompts that a GPU reads at once: it would wait for Python between shorter passes."""


@dataclass(frozen=True)
class Layer:
    """The weights of one layer; `norm_q` and `norm_k` are those of Qwen 3."""

    norm_attention: Norm
    qkv: Matrix
    norm_q: Norm | None
    norm_k: Norm | None
    out: Matrix
    norm_mlp: Norm
    gate: Matrix
    up: Matrix
    down: Matrix


class Llama:
    """The weights of a model of the family, copied as decoding needs them; `of` says whether a model is one.

    `products` is the number format of matrix products and of the cache; norms, rotations, softmax and the stream
    between the layers keep the model's own format, fp32 at least.
    """

    def __init__(self, model: PreTrainedModel, products: torch.dtype) -> None:
        config = model.config
        stack = model.model
        eps: float = config.rms_norm_eps
        self.heads: int = config.num_attention_heads
        self.groups: int = config.num_key_value_heads
        self.width: int = stack.layers[0].self_attn.head_dim
        self.scale: float = self.width**-0.5
        self.cache = products
        self.stream = torch.promote_types(model.dtype, torch.float32)
        self.embedding = stack.embed_tokens.weight
        self.norm = Norm(stack.norm.weight, eps)
        self.head = Matrix([_effective(model.lm_head)], model.dtype)  # as `keel.models.decoder.Decoder.logits`
        self.layers = [_layer(layer, self.width, eps, products) for layer in stack.layers]
        self._frequencies = stack.rotary_emb.inv_freq
        self._scaling: float = stack.rotary_emb.attention_scaling

    @staticmethod
    def of(model: PreTrainedModel, products: torch.dtype) -> Llama | None:
        """The weights, or None for a model that is of another family or does something else than its family."""
        if model.config.model_type not in FAMILY or not hasattr(model, "lm_head"):
            return None
        if not is_of_the_family(model.model) or not is_plain(model.lm_head):
            return None
        return Llama(model, products)

    def rotations(self, positions: Int[Tensor, " N"]) -> Tensor:
        """exp(i·position·frequency), [N, D/2], complex."""
        angles = positions[:, None].float() * self._frequencies.float()
        return torch.complex(*((part * self._scaling).to(self.stream) for part in (angles.cos(), angles.sin())))

    def heads_of(
        self, layer: Layer, x: Float[Tensor, "N E"], turns: Tensor
    ) -> tuple[Float[Tensor, "N H D"], Float[Tensor, "N G D"], Float[Tensor, "N G D"]]:
        """Rotated queries, rotated keys, and values, all in the format of the cache."""
        made = layer.qkv(layer.norm_attention(x)).view(len(x), -1, self.width)
        turned, value = made[:, : self.heads + self.groups].to(self.stream), made[:, self.heads + self.groups :]
        if layer.norm_q is not None and layer.norm_k is not None:
            parts = (turned[:, : self.heads], layer.norm_q), (turned[:, self.heads :], layer.norm_k)
            turned = torch.cat([norm(part) for part, norm in parts], dim=1)
        pairs = torch.view_as_complex(turned.view(*turned.shape[:-1], -1, 2)) * turns[:, None]
        turned = torch.view_as_real(pairs).flatten(-2).to(made.dtype)
        return turned[:, : self.heads], turned[:, self.heads :], value

    def after(self, layer: Layer, x: Float[Tensor, "N E"], attended: Tensor) -> Float[Tensor, "N E"]:
        """The rest of a layer, from what attention gave."""
        x = x + layer.out(attended.reshape(len(x), -1))
        normed = layer.norm_mlp(x).to(layer.gate.format)
        return x + layer.down(layer.up.times(normed, layer.gate.silu(normed)))

    def logits(self, x: Float[Tensor, "N E"]) -> Float[Tensor, "N V"]:
        """The logits after the last layer, in the stream's format."""
        with wide_products(x, self.cache):
            return self.head(self.norm(x)).to(self.stream)


class LlamaContext:
    """What a batch of rows has read; the same three calls and the same `room` as
    `keel.rollout.context.LibraryContext`."""

    def __init__(self, model: Llama, room: int, replay: Replay | None = None) -> None:
        self._model = model
        self._room = room
        self._replay = replay_on(model.embedding.device) if replay is None else replay

    def read(self, prompts: Sequence[tuple[int, ...]]) -> Float[Tensor, "P V"]:
        """Logits of the token after each prompt; one row per prompt."""
        model, device = self._model, self._model.embedding.device
        lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
        width = -(-int(lengths.max()) // STEP) * STEP
        rows = len(prompts) * model.groups
        size = rows * roomy(width, self._room, device) * model.width

        def empty() -> Tensor:
            room = torch.empty(size, dtype=model.cache, device=device)[: rows * width * model.width]
            return room.view(len(prompts), model.groups, width, model.width).zero_()

        kept = [(empty(), empty()) for _ in model.layers]
        trees = [Tree((), (Branch(prompt, (False,) * len(prompt)),)) for prompt in prompts]
        tokens = LONG_PASS if device.type == "cuda" else pass_tokens(model.embedding.shape[1], device)
        parts = [self._read([trees[place] for place in places], places[0], kept) for places in plan(trees, tokens)]
        self._memory = Memory(kept, lengths, self._room, self._replay.recorded)
        kept.clear()  # so that a layer's first columns go as soon as longer ones are there
        self._next = lengths
        self._lay_out()
        return model.logits(torch.cat(parts))

    def _read(self, trees: Sequence[Tree], first: int, kept: Sequence[tuple[Tensor, Tensor]]) -> Float[Tensor, "P E"]:
        """The last states of some neighbouring prompts; their keys and values go to their places, `first` and after."""
        model, device = self._model, self._model.embedding.device
        forest = grow(trees).to(device)
        turns = model.rotations(forest.positions)
        x: Tensor = model.embedding[forest.tokens].to(model.stream)
        lengths = torch.diff(forest.ends, prepend=forest.ends.new_full((1,), -1))
        owner = first + torch.repeat_interleave(torch.arange(len(trees), device=device), lengths)
        place = forest.positions[: len(owner)]  # a forest may have some rows more, that are nobody's
        for layer, columns in zip(model.layers, kept, strict=True):
            query, key, value = model.heads_of(layer, x, turns)
            for cache, rows in zip(columns, (key, value), strict=True):
                cache[owner, :, place] = rows[: len(owner)]
            q, k, v = (part.transpose(0, 1) for part in (query, key, value))
            attended = attend(q, k, v, forest.blocks, model.scale, None, None)
            if layer is model.layers[-1]:
                x, attended = x[forest.ends], attended[forest.ends]
            x = model.after(layer, x, attended)
        return x

    def append(self, tokens: Int[Tensor, " B"], going: Bool[Tensor, " B"]) -> Float[Tensor, "B V"]:
        """Logits of the token after these, one token per row; rows that have ended keep their position in the text."""
        self._tokens.copy_(tokens)
        self._positions.copy_(self._next)
        self._next = self._next + going
        self._memory.advance()
        return self._replay.run(self._step, self._memory.layout)

    def _step(self) -> Float[Tensor, "B V"]:
        """The logits from `_tokens` at `_positions`; reads and writes nothing but tensors that stay where they are."""
        model = self._model
        turns = model.rotations(self._positions)
        x = model.embedding[self._tokens].to(model.stream)
        for number, layer in enumerate(model.layers):
            query, key, value = model.heads_of(layer, x, turns)
            grouped = query.reshape(len(x), model.groups, -1, model.width)
            x = model.after(layer, x, self._memory.attend(number, grouped, key, value, model.scale))
        return model.logits(x)

    def _lay_out(self) -> None:
        """Where a step finds its tokens and their positions."""
        self._tokens, self._positions = torch.zeros_like(self._next), torch.zeros_like(self._next)

    def select(self, rows: Int[Tensor, " b"]) -> None:
        """Go on with these rows, in this order; a row named n times is copied n times."""
        self._memory.select(rows)
        self._next = self._next[rows]
        self._lay_out()


def _layer(layer: Any, width: int, eps: float, products: torch.dtype) -> Layer:
    attention, mlp = layer.self_attn, layer.mlp
    turning = [_beside(_effective(each), width) for each in (attention.q_proj, attention.k_proj)]
    norm_q, norm_k = (getattr(attention, name, None) for name in ("q_norm", "k_norm"))
    return Layer(
        norm_attention=Norm(layer.input_layernorm.weight, eps),
        qkv=Matrix([*turning, _effective(attention.v_proj)], products),
        norm_q=None if norm_q is None else Norm(_interleaved(norm_q.weight, width), eps),
        norm_k=None if norm_k is None else Norm(_interleaved(norm_k.weight, width), eps),
        out=Matrix([_effective(attention.o_proj)], products),
        norm_mlp=Norm(layer.post_attention_layernorm.weight, eps),
        gate=Matrix([_effective(mlp.gate_proj)], products),
        up=Matrix([_effective(mlp.up_proj)], products),
        down=Matrix([_effective(mlp.down_proj)], products),
    )


def _beside(part: tuple[Tensor, Tensor | None], width: int) -> tuple[Tensor, Tensor | None]:
    weight, bias = part
    return _interleaved(weight, width), None if bias is None else _interleaved(bias, width)


def _interleaved(rows: Tensor, width: int) -> Tensor:
    """The two halves of each head's rows, one from each by turns: 0, D/2, 1, D/2 + 1, …"""
    return rows.view(-1, 2, width // 2, *rows.shape[1:]).transpose(1, 2).flatten(0, 2)


def _effective(module: Any) -> tuple[Tensor, Tensor | None]:
    """Weight and bias, with the adapters that are on."""
    if not isinstance(module, LoraLayer):
        return module.weight, module.bias
    base = module.get_base_layer()
    weight = base.weight
    if not module.disable_adapters and not module.merged:
        for name in module.active_adapters:
            if name in module.lora_A:
                weight = weight + module.get_delta_weight(name).to(weight.dtype)
    return weight, base.bias
