"""The nouns that travel between stages; one frozen type per stage.

Nothing here imports torch, so that `preferences`, the labelling page and the data readers can use
it. The packed batch (`Forest`) holds tensors and lives in `keel.data.forest`.

A worked example. The user says "Facts: bake sale, Friday. Write a note." and the policy answers
"Bake sale on Friday.<eos>":

    Prompt.messages        (Message("user", "Facts: bake sale, Friday. Write a note."),)
    Rollout.prompt_tokens  ids of   <|user|> Facts: ... note. <|end|> <|assistant|>
    Rollout.tokens         ids of   Bake  sale  on  Friday  .  <eos>
    Rollout.mask                    1     1     1   1       1  1        1 = sampled by the policy
    Rollout.logprobs               -0.2  -0.0  -1.1 -0.3   -0.1 -0.0   one per sampled token
    Scored.reward          0.83                                        one scalar for the rollout
    Annotated.*            one number per sampled token: policy, reference (and critic) read once
    Sample.advantages      one number per sampled token

Text that an environment inserts (a search result) stands in `tokens` with mask 0, and has no entry
in `logprobs`, `advantages` or any other per-token field.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

StopReason = Literal["eos", "stop", "length"]
"""Why a completion ended: the end-of-text token, a stop string, or the token limit."""


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: str
    content: str


Conversation = tuple[Message, ...]


@dataclass(frozen=True)
class Demonstration:
    """A conversation whose assistant turns are to be imitated (supervised fine-tuning)."""

    messages: Conversation


@dataclass(frozen=True)
class Vote:
    """What one annotator said about two answers.

    `preferred` is 1 for the chosen answer, 0 for the rejected one, ½ for a tie; `side` is +1 where the chosen one stood
    on the left, −1 on the right.
    """

    annotator: str
    preferred: float
    side: int


@dataclass(frozen=True)
class Preference:
    """Two answers to one prompt and how likely a person is to prefer the first.

    `probability` is P(chosen is preferred), in [0, 1]: 1 for a plain label, ½ for a tie, something
    between after aggregating annotators. `margin` is the stated strength of the preference in units
    of reward (0 = not stated). `votes` are those behind it, none where only the outcome is known.
    """

    prompt: Conversation
    chosen: Conversation
    rejected: Conversation
    probability: float = 1.0
    margin: float = 0.0
    votes: tuple[Vote, ...] = ()


@dataclass(frozen=True)
class Ranking:
    """K ≥ 2 answers to one prompt, best first."""

    prompt: Conversation
    completions: tuple[Conversation, ...]


@dataclass(frozen=True)
class Rated:
    """One answer to a prompt, and whether people want such answers."""

    prompt: Conversation
    answer: Conversation
    desirable: bool


@dataclass(frozen=True)
class Prompt:
    """A conversation that waits for the assistant's turn.

    `columns` carries whatever else the data row held; reward functions receive it.
    """

    id: str
    messages: Conversation
    columns: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Rollout:
    """One completion as it was sampled: token in, token out, never re-tokenised.

    len(mask) == len(tokens); len(logprobs) == sum(mask). `logprobs` are the sampler's, in nats, at
    the sampling temperature over the whole vocabulary. `text` is the decoded completion, without
    special tokens, for people and reward functions.
    """

    prompt: Prompt
    prompt_tokens: tuple[int, ...]
    tokens: tuple[int, ...]
    mask: tuple[bool, ...]
    logprobs: tuple[float, ...]
    text: str
    stop: StopReason
    seed: int
    version: int

    def __post_init__(self) -> None:
        if len(self.mask) != len(self.tokens):
            raise ValueError(f"rollout {self.prompt.id}: {len(self.mask)} mask entries for {len(self.tokens)} tokens")
        if len(self.logprobs) != sum(self.mask):
            raise ValueError(
                f"rollout {self.prompt.id}: {len(self.logprobs)} log-probs for {sum(self.mask)} sampled tokens"
            )


@dataclass(frozen=True)
class Scored:
    """A rollout and its reward; `parts` are the unweighted terms that the reward is the sum of."""

    rollout: Rollout
    reward: float
    parts: Mapping[str, float]


@dataclass(frozen=True)
class Annotated:
    """A scored rollout, read once by the policy and by the frozen reference, per sampled token (nats)."""

    scored: Scored
    logprobs: tuple[float, ...]
    reference_logprobs: tuple[float, ...]


@dataclass(frozen=True)
class UnreadAnnotated(Annotated):
    """One that the policy is yet to read, as it learns: until then log-probs are the sampler's."""


@dataclass(frozen=True)
class Valued(Annotated):
    """An annotated rollout that the critic has read too: V of the state before each sampled token."""

    values: tuple[float, ...]


@dataclass(frozen=True)
class Sample:
    """What the policy learns from, per sampled token: the advantage, and what it weighs (1 unless sampler and trainer
    differ)."""

    rollout: Rollout
    logprobs: tuple[float, ...]
    reference_logprobs: tuple[float, ...]
    advantages: tuple[float, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True)
class UnreadSample(Sample):
    """What comes of an `UnreadAnnotated`: log-probs are the sampler's, and weights 1, until the policy reads it."""


@dataclass(frozen=True)
class CriticSample(Sample):
    """What policy and critic learn from: the values that were predicted and the returns that came."""

    values: tuple[float, ...]
    returns: tuple[float, ...]
