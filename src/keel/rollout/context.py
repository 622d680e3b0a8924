"""What a model has read so far, row by row: prompts first, then one token per row at a time.

Shape suffixes: B rows, L tokens read (padding included), V vocabulary, H heads, D head width.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicCache, DynamicLayer


class ReservedLayer(DynamicLayer):  # type: ignore[misc]  # the library is untyped
    """Keys and values of one layer in buffers with room to grow.

    The library's own layer copies everything read so far at each token; here a token writes one column. `keys` and
    `values` are views on what is filled, so all that the library does with them still holds.
    """

    def __init__(self, room: int) -> None:
        super().__init__()
        self.keys: Tensor
        self.values: Tensor
        self._room = room
        self._buffers: tuple[Tensor, Tensor] | None = None

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Append [B, H, n, D] keys and values and return all of them (the library's signature)."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        filled = self.get_seq_length()
        end = filled + key_states.shape[-2]
        if self._buffers is None or end > self._buffers[0].shape[-2]:
            self._buffers = (self._grown(self.keys, key_states, end), self._grown(self.values, value_states, end))
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, filled:end] = states
        self.keys, self.values = (buffer[:, :, :end] for buffer in self._buffers)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep these rows, in this order; a row may be named more than once."""
        super().batch_select_indices(indices)
        self._buffers = None

    def _grown(self, filled: Tensor, states: Tensor, length: int) -> Tensor:
        batch, heads, _, width = states.shape
        buffer = states.new_empty(batch, heads, length + self._room, width)
        if filled.numel():
            buffer[:, :, : filled.shape[-2]] = filled
        return buffer


@runtime_checkable
class Context(Protocol):
    """What a batch of rows has read so far: prompts first, then one token per row at a time."""

    def read(self, prompts: Sequence[tuple[int, ...]]) -> Float[Tensor, "B V"]:
        """Logits of the token after each prompt; one row per prompt. Called once, first."""

    def append(self, tokens: Int[Tensor, " B"], going: Bool[Tensor, " B"]) -> Float[Tensor, "B V"]:
        """Logits of the token after these, one token per row; rows that have ended keep their position in the text."""

    def select(self, rows: Int[Tensor, " R"]) -> None:
        """Go on with these rows, in this order; a row named n times is copied n times."""


class LibraryContext:
    """Any transformers causal language model, through its own forward, for the rows of one batch.

    It keeps a key/value cache, its attention mask and the position that comes next. The model runs as it stands: mode,
    gradients and attention implementation are the caller's; `products` is the number format of its matrix products.
    `room` is how many tokens will be appended, a hint for memory. Prompts are padded on the left with `pad`, which is
    masked out: its value changes nothing.
    """

    def __init__(self, model: PreTrainedModel, pad: int, room: int, products: torch.dtype | None = None) -> None:
        self._model = model
        self._products = model.dtype if products is None else products
        self._pad = pad
        self._device = model.device
        parameters = inspect.signature(model.forward).parameters
        self._takes_positions = "position_ids" in parameters
        self._takes_keep = "logits_to_keep" in parameters
        self._cache = DynamicCache(config=model.config)
        # Sliding windows and recurrent states keep the library's layers; only the plain growing ones are replaced.
        self._cache.layers = [
            ReservedLayer(room) if type(layer) is DynamicLayer else layer for layer in self._cache.layers
        ]
        self._next = torch.empty(0, dtype=torch.long, device=self._device)
        self._mask: Tensor | None = None

    def read(self, prompts: Sequence[tuple[int, ...]]) -> Float[Tensor, "B V"]:
        """Logits of the token after each prompt; one row per prompt."""
        length = max(len(prompt) for prompt in prompts)
        tokens = torch.tensor([[self._pad] * (length - len(p)) + list(p) for p in prompts], device=self._device)
        self._next = torch.tensor([len(prompt) for prompt in prompts], device=self._device)
        positions = torch.arange(length, device=self._device) - (length - self._next)[:, None]
        self._mask = (positions >= 0).long() if any(len(prompt) < length for prompt in prompts) else None
        return self._forward(tokens, positions.clamp(min=0))

    def append(self, tokens: Int[Tensor, " B"], going: Bool[Tensor, " B"]) -> Float[Tensor, "B V"]:
        """Logits of the token after these, one token per row; rows that have ended keep their position in the text."""
        if self._mask is not None:
            self._mask = torch.cat([self._mask, self._mask.new_ones(len(tokens), 1)], dim=1)
        positions = self._next[:, None]
        self._next = self._next + going
        return self._forward(tokens[:, None], positions)

    def select(self, rows: Int[Tensor, " R"]) -> None:
        """Go on with these rows, in this order; a row named n times is copied n times."""
        self._cache.batch_select_indices(rows)
        self._next = self._next[rows]
        if self._mask is not None:
            self._mask = self._mask[rows]

    def _forward(self, tokens: Int[Tensor, "B n"], positions: Int[Tensor, "B n"]) -> Float[Tensor, "B V"]:
        optional: dict[str, Tensor | int] = {}
        if self._takes_positions:
            optional["position_ids"] = positions
        if self._takes_keep:
            optional["logits_to_keep"] = 1
        mixed = self._products != self._model.dtype
        with torch.autocast(self._device.type, dtype=self._products) if mixed else nullcontext():
            output = self._model(
                input_ids=tokens, attention_mask=self._mask, past_key_values=self._cache, use_cache=True, **optional
            )
        logits: Tensor = output.logits
        return logits[:, -1]
