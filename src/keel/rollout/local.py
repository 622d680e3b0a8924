"""The embedded sampler: a transformers causal language model that generates in this process."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import groupby

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from keel.errors import UserError
from keel.models.backbone import bare
from keel.models.load import context_of
from keel.rollout.context import Context
from keel.rollout.generator import Completion, Request, Sampling
from keel.rollout.sampling import next_tokens, uniforms
from keel.rollout.stops import StopStrings
from keel.types import StopReason


class LocalGenerator:
    """Samples completions with a key/value cache, in batches.

    A completion is a function of the model and of its own request: its random numbers are counted from its seed, and
    prompts, neighbours, their order and their ends change its logits by rounding only. Requests that draw alike are
    sorted by prompt and decoded in chunks of at most `batch` rows; a distinct prompt is read once for all its samples
    (once per chunk when it has more than `batch` of them). Rows that have ended are dropped from the batch as soon as
    they make up `compact_at` of it.

    `model` is a transformers causal language model or a peft model with the wanted adapter active; it may be trained
    between calls, and each call leaves it in the mode in which it was. It runs with the attention that it has, which
    for a model under `keel.models.decoder` is the library's own where no forest is given. `eos_ids` end a completion;
    None takes those of the model's generation config and the tokenizer's.

    Raises UserError when there is no end-of-text token to be found, and ValueError for settings outside their range.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        eos_ids: Collection[int] | None = None,
        batch: int = 256,
        compact_at: float = 0.25,
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
            for chunk in _chunks(requests, self._batch):
                done.update(zip(chunk, self._decode([requests[i] for i in chunk]), strict=True))
        return [done[i] for i in range(len(requests))]

    def _decode(self, requests: list[Request]) -> list[Completion]:
        """Complete requests that share their way of drawing, as one batch."""
        sampling = requests[0].sampling
        steps = max(request.sampling.max_tokens for request in requests)
        writings = [_Writing(request.sampling.max_tokens, self._watch(request.sampling.stop)) for request in requests]
        numbers = torch.from_numpy(uniforms([request.seed for request in requests], steps))

        prompts = list(dict.fromkeys(request.prompt for request in requests))
        place = {prompt: i for i, prompt in enumerate(prompts)}
        context = Context(self._model, self._pad, steps)
        logits = context.read(prompts)
        rows = torch.tensor([place[request.prompt] for request in requests], device=logits.device)
        context.select(rows)
        logits, numbers = logits[rows], numbers.to(logits.device)

        live = list(range(len(requests)))  # the completion that each row of the batch writes
        for step in range(steps):
            drawn = next_tokens(logits, sampling, numbers[live, step])
            for i, token, logprob in zip(live, drawn.tokens.tolist(), drawn.logprobs.tolist(), strict=True):
                writings[i].write(token, logprob, self.eos_ids)
            tokens = drawn.tokens
            going = torch.tensor([writings[i].stop is None for i in live], device=tokens.device)
            rows = going.nonzero().squeeze(-1)
            if len(rows) == 0:
                break
            if len(live) - len(rows) >= self._compact_at * len(live):
                context.select(rows)
                live, tokens, going = [live[row] for row in rows.tolist()], tokens[rows], going[rows]
            logits = context.append(tokens, going)
        return [writing.completion() for writing in writings]

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


@dataclass
class _Writing:
    """One completion while it is written."""

    limit: int
    stops: StopStrings
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    stop: StopReason | None = None

    def write(self, token: int, logprob: float, eos_ids: frozenset[int]) -> None:
        """Add a token and see whether it is the last; a completion that has ended takes no more."""
        if self.stop is not None:
            return
        self.tokens.append(token)
        self.logprobs.append(logprob)
        if token in eos_ids:
            self.stop = "eos"
        elif self.stops.completed_by(self.tokens):
            self.stop = "stop"
        elif len(self.tokens) == self.limit:
            self.stop = "length"

    def completion(self) -> Completion:
        if self.stop is None:
            raise ValueError("this completion has not ended")
        return Completion(tuple(self.tokens), tuple(self.logprobs), self.stop)


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
