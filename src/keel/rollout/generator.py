"""What a generator of completions is: token ids in, token ids and their log-probs out.

Whoever asks does not see how generation runs: in this process (`keel.rollout.local`) or in an inference server.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from keel.types import StopReason


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn, and when a completion ends.

    The distribution is softmax(logits / temperature); `top_k` (0 = off), `top_p` (1 = off) and `min_p` (0 = off) then
    drop tokens, in this order (`keel.rollout.sampling.allowed`). Temperature 0 is greedy: the most likely token.

    A completion ends with an end-of-text token, with the token that completes one of the strings in `stop` (which is
    kept, so the text may run a few characters past the stop string), or after `max_tokens` tokens.

    Raises ValueError for a value outside its range.
    """

    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens is {self.max_tokens}; it must be at least 1")
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise ValueError(f"temperature is {self.temperature}; it must be finite and not negative (0 is greedy)")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}; it must be in (0, 1] (1 keeps every token)")
        if self.top_k < 0:
            raise ValueError(f"top_k is {self.top_k}; it must not be negative (0 keeps every token)")
        if not 0 <= self.min_p <= 1:
            raise ValueError(f"min_p is {self.min_p}; it must be in [0, 1] (0 keeps every token)")
        if "" in self.stop:
            raise ValueError("a stop string is empty; it would end every completion at its first token")


@dataclass(frozen=True)
class Request:
    """One completion to sample: prompt ids, the seed that it alone depends on (taken modulo 2⁶⁴), and the settings."""

    prompt: tuple[int, ...]
    seed: int
    sampling: Sampling


@dataclass(frozen=True)
class Completion:
    """What was sampled, with the end-of-text token when `stop` is "eos".

    `logprobs` has one entry per token, in nats: the log-softmax of logits / temperature over the whole vocabulary, as
    it was before top-k, top-p and min-p, so that a trainer can recompute it. Greedy completions record temperature 1.
    """

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]
    stop: StopReason


@runtime_checkable
class Generator(Protocol):
    """Answers requests, in their order; each completion depends on its own request only."""

    def generate(self, requests: Sequence[Request]) -> list[Completion]: ...
