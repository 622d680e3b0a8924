"""The smaller sections of a recipe: model, optimizer, sampling, KL penalty, critic, terms of the reward."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from keel.config.section import (
    Count,
    Fraction,
    NonNegative,
    NoPlace,
    Place,
    Positive,
    Section,
    Several,
    Share,
    Whole,
)

EMBEDDED = "embedded"
"""The `model.path` that means the base model which ships with Keel."""


class Lora(Section):
    """Low-rank adapters, W + (alpha / rank)·B·A (Hu et al., 2106.09685). They have no dropout: a log-prob must come out
    the same each time a sequence is read."""

    rank: Annotated[int, Field(ge=1, le=65536)] = 16
    """Rank of A and B. Source: 2106.09685 finds 4 to 64 equally good; 16 is the usual middle."""

    alpha: Positive = 32.0
    """Scale of the update, divided by the rank. Default: twice the rank, as is usual."""

    target_modules: tuple[str, ...] = ()
    """Names of the linear layers that get adapters, such as [q_proj, v_proj]; [] = every linear layer of the blocks."""


class Model(Section):
    """The language model that everything starts from."""

    path: Place = EMBEDDED
    """Folder or hub name of a causal language model; embedded = the small base model that ships with Keel."""

    template: Place = "auto"
    """Chat template: auto = the tokenizer's own, plain = the turns as raw text, else the path of a Jinja file."""

    max_length: Several = 1024
    """Longest prompt with its answer, in tokens. An answer that is longer is cut, a prompt that leaves no room is left
    out; both are counted and reported."""

    tuning: Literal["full", "lora"] = "full"
    """full = all weights are trained, lora = adapters only (see model.lora)."""

    layout: Literal["separate", "shared"] = "separate"
    """separate = policy, reference, critic and reward model are four models; shared = adapters on one frozen base,
    at about a quarter of the memory (needs tuning: lora)."""

    recompute: bool = False
    """Keep only the input of each layer for the backward pass, and compute the rest of it again: less memory, about a
    third more time in training. Source: 1604.06174 (gradient checkpointing)."""

    lora: Lora = Lora()


class Optimizer(Section):
    """AdamW (Loshchilov & Hutter, 1711.05101), its learning-rate schedule and the gradient's clip."""

    lr: Positive = 3e-6
    """Peak learning rate. Source: 3e-6 in "N+ details" (2403.17031), 9e-6 for InstructGPT's reward model; smaller
    models take more."""

    schedule: Literal["constant", "linear", "cosine"] = "linear"
    """Learning rate after the warm-up: constant, or down to 0 at the last step. Source: linear in 2403.17031."""

    warmup_ratio: Share = 0.0
    """Share of the steps over which the learning rate rises from 0 to its peak."""

    weight_decay: NonNegative = 0.0
    """Decoupled weight decay, per step and unit of learning rate. Source: none in 2403.17031."""

    betas: tuple[Share, Share] = (0.9, 0.999)
    """Decay of the running mean of the gradient and of its square. AdamW's own defaults."""

    eps: Positive = 1e-5
    """Added to the root of the second moment. Source: 1e-5 in 2403.17031 (PyTorch's own is 1e-8)."""

    max_grad_norm: Positive = 1.0
    """The gradient of a step is scaled down to this 2-norm when it is longer."""


class Sampling(Section):
    """How answers are sampled."""

    max_tokens: Count = 128
    """Longest answer, in tokens."""

    temperature: NonNegative = 1.0
    """Logits are divided by it; 0 = always the most likely token."""

    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Sample from the fewest tokens that hold this probability; 1 = off."""

    top_k: Whole = 0
    """Sample from this many of the most likely tokens; 0 = off."""

    min_p: Fraction = 0.0
    """Leave out tokens less likely than this times the most likely one; 0 = off."""

    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Texts that end an answer, besides the end-of-text token."""


class KLPenalty(Section):
    """How the policy is held near the reference: reward_t −= coef·KL_t, or loss_t += coef·KL_t."""

    coef: NonNegative = 0.05
    """β, reward per nat (its start, if the controller is adaptive); 0 = nothing holds it. Source: .05 in 2403.17031,
    .02 in InstructGPT."""

    place: Literal["reward", "loss"] = "reward"
    """reward = each token's KL is taken off its reward, as in all PPO papers; loss = it is added to the loss, as in
    GRPO."""

    estimator: Literal["k1", "k2", "k3"] = "k1"
    """Estimate of the KL from one sampled token: k1 = log π − log π_ref, k2 = k1²/2, k3 = e^−k1 − 1 + k1. In the
    reward only k1 leads to π_ref·exp(r/β), in the loss k2 does, and with weight: ratio k1 and k3."""

    weight: Literal["none", "ratio"] = "none"
    """In the loss only: ratio = each token's estimate is multiplied by π/π_old, and its gradient runs through that too,
    as in DeepSeek-V3.2 (2512.02556) and by default in TRL; none = as in the source of GRPO."""

    controller: Literal["fixed", "adaptive"] = "fixed"
    """fixed = coef never changes; adaptive = it follows the measured KL towards target (Ziegler et al., 1909.08593)."""

    target: Positive = 6.0
    """Adaptive only: KL per answer to aim at, in nats. Source: 1909.08593."""

    horizon: Count = 10_000
    """Adaptive only: answers over which coef can move by a fifth. Source: 1909.08593."""


class Critic(Section):
    """The model that predicts the rest of the reward at every token."""

    body: Literal["own", "policy"] = "own"
    """own = weights of its own, as in 2403.17031; policy = a head on the policy's own states: one pass learns both, in
    little more than half the time, but the value loss moves the policy too (needs critic.init: zero)."""

    init: Literal["reward", "zero"] = "reward"
    """reward = start as a copy of the reward model, zero = the policy's body with a head of zeros. Source: 2403.17031
    copies the reward model."""

    lr: Positive = 3e-6
    """Peak learning rate of the critic; its other optimizer settings are those of rl.optimizer. Source: 2403.17031."""

    warmup_updates: Whole = 0
    """First updates in which only the critic learns, so that the policy never follows an untrained one."""

    @model_validator(mode="after")
    def _starts_from_what_it_reads(self) -> Critic:
        if self.body == "policy" and self.init == "reward":
            raise PydanticCustomError(
                "keel",
                "{key}: no reward model was trained on the policy's own states; critic.body: policy needs init: zero",
                {"key": "init", "found": self.init},
            )
        return self


Aggregated = Literal["mean", "worst", "uncertainty"]
"""How the scores of several reward models become one."""


class RewardTerm(Section):
    """One term of the reward; the reward of an answer is the weighted sum of the terms."""

    kind: Literal["model", "function"] = "model"
    """model = a learned reward model, function = a Python function of the prompt and the answer."""

    path: NoPlace = None
    """Folder of the model (null = the one that this run trains), or function as file.py:name or package.module:name."""

    weight: float = 1.0
    """Factor of this term in the sum."""

    aggregate: Aggregated = "mean"
    """How the scores of a model with several members (reward.members) become one: their mean, the lowest of them, or
    the mean less penalty times their variance. Source: 2310.02743."""

    penalty: NonNegative = 0.1
    """Of uncertainty: λ, per unit of reward. Source: 0.1 for PPO, 0.5 for the best of n in 2310.02743."""

    @model_validator(mode="after")
    def _has_function(self) -> RewardTerm:
        if self.kind == "function" and ":" not in (self.path or ""):
            raise PydanticCustomError(
                "keel", "{key} must name a function, as in rewards.py:brevity", {"key": "path", "found": self.path}
            )
        return self

    @model_validator(mode="after")
    def _has_a_use_for_all(self) -> RewardTerm:
        faults = (
            (
                self.kind == "function" and self.aggregate != "mean",
                "{key} brings the scores of reward models together, and a function gives one; leave it out",
                "aggregate",
            ),
            (
                self.penalty != type(self).model_fields["penalty"].default and self.aggregate != "uncertainty",
                f"{{key}} changes nothing with aggregate: {self.aggregate}, but only with uncertainty; leave it out or "
                "choose that",
                "penalty",
            ),
        )
        for fault in faults:
            self.refuse(*fault)
        return self

    @property
    def is_own(self) -> bool:
        """Whether it is the reward model that the run itself trains."""
        return self.kind == "model" and self.path is None
