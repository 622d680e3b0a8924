"""A causal language model as the trainer sees it: hidden states of a forest, and logits of the few rows that need them.

Shape suffixes: T rows of a forest, m rows of interest, D hidden width, V vocabulary.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from keel.data.forest import Forest, Layout
from keel.errors import UserError
from keel.maths.logprobs import Head, LinearHead
from keel.models.backbone import Backbone
from keel.models.operations import wide_product
from keel.models.passes import EXACT, Passes

Finish = Callable[[Tensor], Tensor]


class Decoder:
    """A transformers causal language model, or the peft model around one, split at its last hidden state.

    What the model does to its logits after the head (a soft cap, a scale) is read from its configuration, and checked
    at construction against the logits of the model's own forward. `layout` and `passes` are as in
    `keel.models.backbone.Backbone`.

    Raises UserError for a model without an output head, or whose own logits cannot be reproduced.
    """

    def __init__(self, model: nn.Module, passes: Passes = EXACT) -> None:
        self.backbone = Backbone(model, passes)
        inner = self.backbone.model
        head = inner.get_output_embeddings()
        if head is None:
            raise UserError(
                f"{type(inner).__name__} has no output head, so it is no causal language model; load one that is."
            )
        self._head: Any = head
        products = self.backbone.passes.products
        self._products = products if products.itemsize < 4 == head.weight.dtype.itemsize else head.weight.dtype
        self._plain_head = type(head) is nn.Linear and head.bias is None
        self._finish = self._find_finish(inner)

    @property
    def model(self) -> PreTrainedModel:
        """The transformers model itself, for the sampler and for saving."""
        return self.backbone.model

    @property
    def layout(self) -> Layout:
        """How forests must be grown for this model."""
        return self.backbone.layout

    def hidden(self, forest: Forest, rows: Int[Tensor, " m"] | None = None) -> Float[Tensor, "m D"]:
        """The last hidden state of these rows, or of all; see `Backbone.hidden`."""
        return self.backbone.hidden(forest, rows)

    @property
    def head(self) -> Head:
        """What makes logits of hidden states, for log-probabilities: `logits`, or what is known to be that."""
        if self._plain_head and self._finish is _as_it_is:
            return LinearHead(self._head.weight, self._products, partial(wide_product, format=self._products))
        return self.logits

    def logits(self, hidden: Float[Tensor, "m D"]) -> Float[Tensor, "m V"]:
        """The model's logits for these hidden states, as its own forward would give them.

        It makes [m, V] numbers: pass a chunk of the rows at a time. Whatever `passes` says, the head's product is in
        the format of its weights: rounded to bfloat16, logits of 8 to 16 nats would be steps of a sixteenth of a nat,
        as large as what an update moves them. The products of its gradient are in `passes.products`.
        """
        if self._plain_head:
            return self._finish(wide_product(hidden, self._head.weight, self._products))
        return self._finish(self._head(hidden))

    @torch.no_grad()
    def _find_finish(self, model: PreTrainedModel) -> Finish:
        ids = torch.arange(3, 11, device=model.device)[None] % model.config.get_text_config().vocab_size
        theirs = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[0].float()
        hidden = model.base_model(
            input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False
        ).last_hidden_state[0]
        raw = self._head(hidden)
        bound = (1e-5 if raw.dtype in (torch.float32, torch.float64) else 2e-2) * theirs.abs().max()
        for finish in _finishes(model):
            if bool(((finish(raw).float() - theirs).abs() <= bound).all()):
                return finish
        raise UserError(
            f"the logits of {type(model).__name__} are neither its output head applied to its last hidden state nor a "
            "known scale or soft cap of that, so keel cannot train it; use another architecture."
        )


def _finishes(model: PreTrainedModel) -> Iterator[Finish]:
    """What may follow the head: what the configuration declares first, nothing last."""
    config = model.config.get_text_config()
    cap = getattr(config, "final_logit_softcapping", None) or getattr(config, "logits_soft_cap", None)
    factors = [1.0]
    for name in ("logit_scale", "logits_scaling", "lm_head_multiplier"):
        scale = getattr(config, name, None)
        if isinstance(scale, float | int) and scale not in (0, 1):
            factors = [float(scale), 1 / float(scale), *factors]  # some architectures divide by it
    for factor in factors:
        if cap is not None:
            yield _capped(factor, float(cap))
    for factor in factors:
        yield _scaled(factor)


def _scaled(factor: float) -> Finish:
    return _as_it_is if factor == 1 else (lambda logits: logits * factor)


def _as_it_is(logits: Tensor) -> Tensor:
    return logits


def _capped(factor: float, cap: float) -> Finish:
    return lambda logits: cap * torch.tanh(logits * factor / cap)
