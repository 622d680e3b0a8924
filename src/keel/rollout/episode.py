"""Conversations with the policy: prompts in, rollouts out, token by token as they were sampled.

A prompt is rendered once. What the policy samples is appended as tokens and never decoded and encoded again; what an
environment says will be appended the same way, with mask 0, before the policy is asked to go on.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from keel.data.chat import Chat
from keel.rollout.generator import Completion, Generator, Request, Sampling
from keel.types import Prompt, Rollout, StopReason


@dataclass(frozen=True)
class Episode:
    """A conversation while it goes on: the rendered prompt, and all that came after it.

    As in `Rollout`: one mask entry per token (True = sampled by the policy), one log-prob per sampled token.
    """

    prompt: Prompt
    prompt_tokens: tuple[int, ...]
    seed: int
    tokens: tuple[int, ...] = ()
    mask: tuple[bool, ...] = ()
    logprobs: tuple[float, ...] = ()

    def request(self, sampling: Sampling) -> Request:
        """Asks the policy to go on from here."""
        return Request(self.prompt_tokens + self.tokens, self.seed, sampling)

    def sampled(self, completion: Completion) -> Episode:
        """The episode with what the policy said."""
        return replace(
            self,
            tokens=self.tokens + completion.tokens,
            mask=self.mask + (True,) * len(completion.tokens),
            logprobs=self.logprobs + completion.logprobs,
        )

    def rollout(self, chat: Chat, stop: StopReason, version: int) -> Rollout:
        """The finished episode; its text is decoded here, once, for people and reward functions."""
        return Rollout(
            prompt=self.prompt,
            prompt_tokens=self.prompt_tokens,
            tokens=self.tokens,
            mask=self.mask,
            logprobs=self.logprobs,
            text=chat.decode(self.tokens),
            stop=stop,
            seed=self.seed,
            version=version,
        )


def converse(
    prompts: Sequence[Prompt],
    generator: Generator,
    chat: Chat,
    sampling: Sampling,
    seed: int,
    version: int,
    samples_per_prompt: int,
    drawn: Counter[str] | None = None,
) -> list[Rollout]:
    """`samples_per_prompt` rollouts of one turn for each prompt, prompt by prompt.

    `version` is that of the policy's weights. Each rollout has a seed of its own (`episode_seed`), so a prompt gets the
    same answers whatever the prompts beside it and their order; drawn twice, it gets further samples. `drawn` counts
    the answers by prompt from one call to the next, where a version is asked more than once; it is moved on.

    Raises ValueError for fewer than one sample, UserError for a prompt that cannot be rendered or does not fit.
    """
    if samples_per_prompt < 1:
        raise ValueError(f"samples_per_prompt is {samples_per_prompt}; it must be at least 1")
    drawn = Counter() if drawn is None else drawn
    episodes: list[Episode] = []
    for prompt in prompts:
        prompt_tokens = chat.prompt(prompt.messages)
        for _ in range(samples_per_prompt):
            episodes.append(Episode(prompt, prompt_tokens, episode_seed(seed, version, prompt.id, drawn[prompt.id])))
            drawn[prompt.id] += 1
    completions = generator.generate([episode.request(sampling) for episode in episodes])
    return [
        episode.sampled(completion).rollout(chat, completion.stop, version)
        for episode, completion in zip(episodes, completions, strict=True)
    ]


def episode_seed(seed: int, version: int, prompt: str, sample: int) -> int:
    """63 bits from the run's seed, the policy's version, the prompt's id and the number of its sample.

    The first 8 bytes of BLAKE2b over all four, so equal arguments alone give equal seeds, in any process.
    """
    key = repr((seed, version, prompt, sample)).encode()
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest()) >> 1
