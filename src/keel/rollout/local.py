"""The embedded sampler: a transformers causal language model that generates in this process."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from keel.data.forest import few_sizes
from keel.errors import UserError
from keel.models.backbone import bare
from keel.models.load import context_of
from keel.rollout.context import Context, LibraryContext
from keel.rollout.generator import Completion, Request, Sampling
from keel.rollout.llama import Llama, LlamaContext
from keel.rollout.sampling import next_tokens, uniforms
from keel.rollout.stops import StopStrings
from keel.rollout.written import Written

BATCH = 256
"""Rows that are decoded at once."""
AHEAD = 8
"""Steps that a GPU is given before it is asked which rows have ended: it need not wait for the answer in between."""


class LocalGenerator:
    """Samples completions with a key/value cache, in batches.

    A completion is a function of the model and of its own request: its random numbers are counted from its seed, and
    prompts, neighbours, their order and their ends change its logits by rounding only. Requests that draw alike are
    sorted by prompt and decoded in chunks of at most `batch` rows; a distinct prompt is read once for all its samples
    (once per chunk when it has more than `batch` of them). Rows that have ended are dropped from the batch as soon as
    they make up `compact_at` of it.

    `model` is a transformers causal language model or a peft model with the wanted adapter active; it may be trained
    between calls, and each call leaves it in the mode in which it was. Models of the Llama family are decoded by
    `keel.rollout.llama`, others by their own forward with the attention that they have, which for a model under
    `keel.models.decoder` is the library's own where no forest is given. `products` is the number format of matrix
    products of weights in fp32, as in `keel.models.backbone.Backbone`. `eos_ids` end a completion; None takes those of
    the model's generation config and the tokenizer's.

    Raises UserError when there is no end-of-text token to be found, and ValueError for settings outside their range.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        eos_ids: Collection[int] | None = None,
        batch: int = BATCH,
        compact_at: float = 0.25,
        products: torch.dtype = torch.float32,
    ) -> None:
        if batch < 1:
            raise ValueError(f"batch is {batch}; at least one row must be decoded at once")
        if not compact_at > 0:
            raise ValueError(f"compact_at is {compact_at}; it must be positive (above 1 never drops a row)")
        self._model = bare(model)
        self._tokenizer = tokenizer
        self.eos_ids = end_of_text(self._model, tokenizer) if eos_ids is None else frozenset(eos_ids)
        self._pad = 0 if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        self._batch = batch
        # Weights in another format than fp32 are read in that.
        self._products = products if self._model.dtype == torch.float32 else self._model.dtype
        self._compact_at = compact_at
        self._stops: dict[tuple[str, ...], StopStrings] = {}

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """One completion per request, in the order of the requests.

        Raises ValueError for an empty prompt; UserError where a prompt and its completion exceed the context, and where
        the model's logits are not numbers.
        """
        self._check(requests)
        done: dict[int, Completion] = {}
        with torch.inference_mode(), _evaluating(self._model):
            own = Llama.of(self._model, self._products)
            for chunk in _chunks(requests, self._batch):
                asked = [requests[i] for i in chunk]
                steps = max(request.sampling.max_tokens for request in asked)
                context: Context = (
                    LibraryContext(self._model, self._pad, steps, self._products)
                    if own is None
                    else LlamaContext(own, steps)
                )
                done.update(zip(chunk, self._decode(asked, steps, context), strict=True))
        return [done[i] for i in range(len(requests))]

    def _decode(self, requests: list[Request], steps: int, context: Context) -> list[Completion]:
        """Complete requests that share their way of drawing, as one batch."""
        prompts = list(dict.fromkeys(request.prompt for request in requests))
        place = {prompt: i for i, prompt in enumerate(prompts)}
        logits = context.read(prompts)
        device = logits.device
        rows = torch.tensor([place[request.prompt] for request in requests], device=device)
        context.select(rows)
        logits = logits[rows]
        numbers = torch.from_numpy(uniforms([request.seed for request in requests], steps)).to(device)
        written = Written(requests, self.eos_ids, [self._watch(one.sampling.stop) for one in requests], logits)
        live = torch.arange(len(requests), device=device)  # the completion that each row of the batch writes
        ahead = _ahead_on(device)
        for step in range(steps):
            drawn = next_tokens(logits, requests[0].sampling, numbers[live, step])
            going, tokens = written.write(live, drawn), drawn.tokens
            if step + 1 == steps:  # nobody writes more than that
                break
            if (step + 1) % ahead == 0:
                written.require_numbers()
                rows = going.nonzero().squeeze(-1)
                if len(rows) == 0:
                    break
                size = few_sizes(len(rows))
                if len(live) - size >= self._compact_at * len(live):
                    ended = (~going).nonzero().squeeze(-1)
                    rows = torch.cat([rows, ended[: size - len(rows)]])
                    context.select(rows)
                    live, tokens, going = live[rows], tokens[rows], going[rows]
            logits = context.append(tokens, going)
        written.require_numbers()
        return written.completions()

    def _watch(self, stop: tuple[str, ...]) -> StopStrings:
        return self._stops.setdefault(stop, StopStrings(self._tokenizer, stop))

    def _check(self, requests: Sequence[Request]) -> None:
        room = context_of(self._model.config)
        for request in requests:
            if not request.prompt:
                raise ValueError("a prompt has no tokens; there is nothing to continue")
            if room is not None and len(request.prompt) + request.sampling.max_tokens > room:
                raise UserError(
                    f"a prompt of {len(request.prompt)} tokens and up to {request.sampling.max_tokens} new ones exceed "
                    f"the model's context of {room} tokens: shorten the prompt or lower max_tokens."
                )


def _ahead_on(device: torch.device) -> int:
    return AHEAD if device.type == "cuda" else 1


def end_of_text(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """The ids that end a completion: those of the model's generation config (one or several) and the tokenizer's.

    Raises UserError when neither names one.
    """
    configured = model.generation_config.eos_token_id
    ids = set(configured) if isinstance(configured, list) else {configured}
    ids = (ids | {tokenizer.eos_token_id}) - {None}
    if not ids:
        raise UserError(
            "neither the model's generation config nor the tokenizer names an end-of-text token, so no answer would "
            "ever end: set eos_token in tokenizer_config.json."
        )
    return frozenset(ids)


def _chunks(requests: Sequence[Request], batch: int) -> Iterator[list[int]]:
    """Indices of requests that are decoded together: the same way of drawing, the samples of a prompt side by side.

    Prompts are taken by length, so that little padding is read, and a prompt is cut only when a chunk cannot hold it.
    """
    drawing: dict[Sampling, list[int]] = {}
    for i, request in enumerate(requests):
        drawing.setdefault(replace(request.sampling, max_tokens=1, stop=()), []).append(i)
    for alike in drawing.values():
        chunk: list[int] = []
        alike.sort(key=lambda i: (len(requests[i].prompt), requests[i].prompt))
        for _, samples in groupby(alike, key=lambda i: requests[i].prompt):
            same = list(samples)
            if chunk and len(chunk) + len(same) > batch:
                yield chunk
                chunk = []
            chunk += same
            while len(chunk) > batch:
                yield chunk[:batch]
                chunk = chunk[batch:]
        if chunk:
            yield chunk


@contextmanager
def _evaluating(model: PreTrainedModel) -> Iterator[None]:
    """Dropout off, and afterwards every module in the mode that it was in."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
