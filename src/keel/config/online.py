"""The section of the online methods: an algorithm is a choice of credit, surrogate, KL and mean."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from keel.config.guards import Guards
from keel.config.parts import Critic, KLPenalty, Optimizer, RewardTerm, Sampling
from keel.config.preferences import Columns
from keel.config.section import Count, Fraction, NonNegative, NoPlace, Positive, Section, Whole

Credit = Literal["gae", "return", "group-std", "group-mean", "leave-one-out", "best", "pair"]
GROUPED: tuple[Credit, ...] = ("group-std", "group-mean", "leave-one-out", "best", "pair")
"""The kinds of credit that compare the answers to one prompt."""


class Online(Section):
    """The policy practises against the reward. The method fills in what its source chooses; what is given stands."""

    prompts: NoPlace = None
    """Prompts to practise on: file, folder or data-set name; null = the task's own."""

    columns: Columns = Field(default_factory=dict)
    """Keel's name for a column: the name in your data."""

    limit: Count | None = None
    """Use at most this many prompts; null = all of them (of a built-in task: 4000)."""

    updates: Count = 1000
    """Rounds of sampling and learning. 2403.17031 makes 1M answers, some 2000 rounds of 512."""

    batch_size: Count = 512
    """Answers per update, in all, however many devices share them. Source: 512 in InstructGPT and 2403.17031."""

    samples_per_prompt: Count = 1
    """Answers to each prompt of an update; a prompt is read once for all of them. Source: 1 in 1909.08593."""

    epochs: Count = 4
    """Passes over the answers of an update. Source: 4 in lm-human-preferences (1909.08593) and 2403.17031."""

    minibatches: Count = 1
    """Optimizer steps in one pass; each learns from its share of the prompts. Source: 1 in 1909.08593."""

    micro_tokens: Count | None = None
    """Most tokens in one forward pass; null = by the model's width. It bounds memory and changes speed, and results
    by rounding only."""

    sampling: Sampling = Sampling(temperature=0.7)

    reward: Annotated[tuple[RewardTerm, ...], Field(min_length=1)] = (RewardTerm(),)
    """Terms of the reward; default: the reward model that this run trains."""

    reward_normalisation: Literal["none", "demonstrations", "standard"] = "standard"
    """standard = learned scores have mean 0 and deviation 1 over answers of the model that PPO starts from
    (1909.08593), demonstrations = demonstrations score 0 on average (InstructGPT), none = as it comes. Measured once,
    then fixed."""

    missing_eos_score: float | None = -1.0
    """Reward of an answer that was cut off, in place of its own (the weighted sum, normalised); null = its own. Mind
    that an unnormalised reward may lie below it, so that being cut off would pay. Source: −1 in 2403.17031."""

    overlong_buffer: Whole = 0
    """Tokens before sampling.max_tokens over which an answer loses up to 1 for its length; 0 = off. Source: DAPO
    (2503.14476), 4096 of 20480."""

    redraws: Whole = 0
    """Times that an update may draw prompts anew in place of those whose answers all score alike, from which a group
    learns nothing; 0 = they stay. Source: dynamic sampling of DAPO, which has no bound."""

    credit: Credit = "gae"
    """Who is to be thanked for the score: gae = the critic tells token by token; return = all tokens before it;
    group-std = the answer, against the others to its prompt, in standard deviations; group-mean = likewise, not
    divided; leave-one-out = against the mean of the others; best = only the best answer of each prompt is learnt from;
    pair = the best is preferred to the worst (dpo.loss)."""

    gamma: Fraction = 1.0
    """Discount per token. Source: 1 in all PPO papers on language."""

    lam: Fraction = 0.95
    """λ of generalised advantage estimation (1506.02438): 1 = low bias, 0 = low variance. Source: .95 in 1909.08593."""

    whiten: Literal["advantages", "none"] = "advantages"
    """advantages = scaled to mean 0 and variance 1 over the sampled tokens of an update. Source: 1909.08593."""

    surrogate: Literal["clipped", "weighted", "plain", "pair"] = "clipped"
    """How an advantage moves the policy: clipped = by the clipped ratio to the policy that sampled (PPO), weighted = by
    log π under that ratio, cut off above (CISPO), plain = by log π alone (REINFORCE), pair = by dpo.loss."""

    ratio: Literal["token", "sequence"] = "token"
    """Clipped only: a ratio for each token, or the geometric mean of an answer's (GSPO, 2507.18071)."""

    clip: Annotated[float, Field(gt=0, le=1)] = 0.2
    """ε: beyond 1 ± ε a probability ratio earns nothing more. Source: .2 in 1707.06347."""

    clip_high: Positive | None = None
    """ε above 1, where it is another than below; null = the same. Source: .28 in DAPO (2503.14476)."""

    mean: Literal["token", "sequence", "constant"] = "token"
    """Over what the loss is a mean: token = all sampled tokens of a step, sequence = each answer's own mean, and then
    the answers (GRPO: a token of a long answer weighs less), constant = answers times max_tokens (Dr. GRPO)."""

    importance_cap: Annotated[float, Field(ge=1)] | None = 2.0
    """Most that a token counts for where sampler and trainer differ, π_trainer/π_sampler cut off here; null = each
    counts for 1. Source: 2 in truncated importance sampling (Yao et al., 2025)."""

    value_clip: Positive = 0.2
    """Most that a value may move from its old prediction within an update. Source: .2 in 1909.08593."""

    value_coef: NonNegative = 0.1
    """Weight of the value loss. Source: .1 in 1909.08593."""

    kl: KLPenalty = KLPenalty()

    critic: Critic = Critic()

    optimizer: Optimizer = Optimizer()

    guards: Guards = Guards()

    @model_validator(mode="after")
    def _splits(self) -> Online:
        if self.batch_size % self.samples_per_prompt:
            raise PydanticCustomError(
                "keel", "{key} must divide batch_size", {"key": "samples_per_prompt", "found": self.samples_per_prompt}
            )
        if self.minibatches > self.batch_size // self.samples_per_prompt:
            raise PydanticCustomError(
                "keel",
                "{key} must leave each minibatch a prompt (batch_size / samples_per_prompt of them)",
                {"key": "minibatches", "found": self.minibatches},
            )
        if self.sampling.temperature == 0:
            raise PydanticCustomError(
                "keel",
                "{key} must be above 0: of greedy answers there is nothing to learn",
                {"key": "sampling.temperature", "found": self.sampling.temperature},
            )
        if self.kl.controller == "adaptive" and self.batch_size >= 5 * self.kl.horizon:
            raise PydanticCustomError(
                "keel", "{key} must be more than batch_size / 5", {"key": "kl.horizon", "found": self.kl.horizon}
            )
        return self

    @model_validator(mode="after")
    def _is_an_algorithm(self) -> Online:
        faults = (
            (
                self.credit in GROUPED and self.samples_per_prompt < 2,
                "{key} must be at least 2: credit compares the answers to one prompt",
                "samples_per_prompt",
            ),
            (
                (self.credit == "pair") != (self.surrogate == "pair"),
                "{key}: pair is credit and surrogate at once; set rl.credit and rl.surrogate to it, or neither",
                "surrogate",
            ),
            (
                self.ratio == "sequence" and self.surrogate != "clipped",
                "{key}: only a clipped surrogate has a ratio for a whole answer; use rl.surrogate: clipped",
                "ratio",
            ),
            (
                self.critic.body == "policy" and not self.has_critic,
                "{key}: only rl.credit: gae has a critic; leave it out",
                "critic.body",
            ),
            (
                self.overlong_buffer > self.sampling.max_tokens,
                "{key} cannot exceed sampling.max_tokens",
                "overlong_buffer",
            ),
            (
                self.kl.place == "loss" and self.credit in ("best", "pair"),
                "{key}: learning from chosen answers only, it would charge those alone; use rl.kl.place: reward",
                "kl.place",
            ),
            (
                self.kl.controller == "adaptive" and self.kl.coef == 0,
                "{key}: an adaptive controller multiplies, and 0 stays 0; start above it",
                "kl.coef",
            ),
            (
                self.kl.weight == "ratio" and self.kl.place == "reward",
                "{key}: only a KL in the loss is weighted; use rl.kl.place: loss",
                "kl.weight",
            ),
            (
                self.redraws > 0 and self.credit not in GROUPED,
                "{key}: only where credit compares the answers to one prompt can they all score alike",
                "redraws",
            ),
        )
        for fault in faults:
            self.refuse(*fault)
        return self

    @property
    def has_critic(self) -> bool:
        """Whether a critic predicts the rest of the reward."""
        return self.credit == "gae"
