"""The recipe: all that a run depends on, one tree for YAML, flags and Python."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from keel.config.guards import Guards
from keel.config.parts import Critic, KLPenalty, Model, Optimizer, RewardTerm, Sampling
from keel.config.preferences import Columns, Preferences
from keel.config.section import (
    Count,
    Fraction,
    NonNegative,
    NoPlace,
    Positive,
    Section,
    Several,
    Share,
    Whole,
)


class Supervised(Section):
    """What the two stages that learn from a data set have in common."""

    data: NoPlace = None
    """Rows to learn from: file (jsonl, json, csv, parquet), folder or data-set name; null = the task's own. Paths are
    relative to the folder you are in."""

    columns: Columns = Field(default_factory=dict)
    """Keel's name for a column: the name in your data, such as {prompt: question}. Usual names are found without."""

    limit: Count | None = None
    """Use at most this many rows; null = all of them (of a built-in task: 2000 demonstrations)."""

    epochs: Count = 1
    """Passes over the data. Source: one in 2403.17031 and for InstructGPT's reward model."""

    max_steps: Count | None = None
    """Stop after this many optimizer steps, even within an epoch; null = when the epochs are over."""

    batch_size: Count = 128
    """Examples per optimizer step, in all, however many devices share them."""

    micro_tokens: Count | None = None
    """Most tokens in one forward pass; null = by the model's width. It bounds memory and changes speed, and results
    by rounding only."""

    optimizer: Optimizer = Optimizer()

    held_out: Share = 0.05
    """Share of the rows that is kept for evaluation and never trained on."""

    log_every: Count = 10
    """Optimizer steps from one logged line to the next."""


class Sft(Supervised):
    """Supervised fine-tuning: the model learns to write the demonstrations."""

    batch_size: Count = 128
    """Demonstrations per optimizer step, in all, however many devices share them. Source: 128 in 2403.17031."""


class Reward(Supervised):
    """The reward model: a scalar read off the last token, fitted to the preferences."""

    batch_size: Count = 64
    """Prompts per optimizer step, each with all its pairs, in all, however many devices share them. Each prompt weighs
    the same. Source: 64 in InstructGPT (2203.02155)."""

    optimizer: Optimizer = Optimizer(lr=9e-6)

    annotators: Literal["aggregated", "learned"] = "aggregated"
    """aggregated = each pair has one probability, from preferences.aggregate; learned = the model predicts every single
    vote, and learns how reliable each annotator is and to which side they lean along with it."""

    margin: Literal["none", "stated"] = "none"
    """stated = the difference must exceed the stated strength of the preference. Llama 2 gained half a point by it."""

    centring: NonNegative = 0.01
    """c in + c·mean((r_chosen + r_rejected)²), which keeps scores around 0. Source: 0.01 (2312.09244)."""


class Ppo(Section):
    """Proximal policy optimisation (Schulman et al., 1707.06347) against the reward, with four roles."""

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

    gamma: Fraction = 1.0
    """Discount per token. Source: 1 in all PPO papers on language."""

    lam: Fraction = 0.95
    """λ of generalised advantage estimation (1506.02438): 1 = low bias, 0 = low variance. Source: .95 in 1909.08593."""

    whiten: Literal["advantages", "none"] = "advantages"
    """advantages = scaled to mean 0 and variance 1 over the sampled tokens of an update. Source: 1909.08593."""

    clip: Annotated[float, Field(gt=0, le=1)] = 0.2
    """ε: beyond 1 ± ε a token's probability ratio earns nothing more. Source: .2 in 1707.06347."""

    value_clip: Positive = 0.2
    """Most that a value may move from its old prediction within an update. Source: .2 in 1909.08593."""

    value_coef: NonNegative = 0.1
    """Weight of the value loss. Source: .1 in 1909.08593."""

    kl: KLPenalty = KLPenalty()

    critic: Critic = Critic()

    optimizer: Optimizer = Optimizer()

    guards: Guards = Guards()

    @model_validator(mode="after")
    def _splits(self) -> Ppo:
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


class Evaluation(Section):
    """Every stage's model answers the same prompts; win rates compare PPO with SFT."""

    prompts: NoPlace = None
    """Prompts that no stage trains on (the report says how many are): file, folder or data-set name; null = the task's
    own."""

    columns: Columns = Field(default_factory=dict)
    """Keel's name for a column: the name in your data."""

    count: Several = 200
    """How many prompts. 200 put the 95 % interval of a win rate at about ±7 points."""

    samples: Count = 1
    """Answers per prompt and model. Those to one prompt are alike, and the win rate's interval allows for it."""

    sampling: Sampling = Sampling(temperature=0.7)

    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    """Coverage of the intervals."""

    judge: Literal["auto", "gold", "reward"] = "auto"
    """Who says which answer is better: gold = the task's hidden score, reward = the reward model that was trained on;
    auto = gold where there is a task."""


class Checkpoints(Section):
    """Progress that outlives the process: a run that was stopped goes on with the same command."""

    minutes: NonNegative = 5.0
    """Minutes from one checkpoint of a stage to the next; 0 = after every step. It never changes the result."""

    keep: Count = 2
    """How many of them, the newest, while a stage runs. When it is done they are removed."""


class Log(Section):
    """Where a run can be looked at while it goes on; none of it changes the run. metrics.jsonl is written anyway."""

    to: tuple[Literal["tensorboard", "wandb", "mlflow", "trackio"], ...] = ("tensorboard",)
    """Boards that show it; [] = none. Nothing leaves this machine unless an environment variable of the tracker says
    so, such as WANDB_MODE=online."""

    project: Annotated[str, Field(min_length=1)] = "keel"
    """The project under which wandb, mlflow and trackio file the run."""

    samples: Count = 4
    """Answers of PPO that are shown each time, with their prompts and rewards. All of them are in rollouts.jsonl."""

    samples_every: Whole = 10
    """Updates from one such showing to the next, beginning with the first; 0 = never."""


class Recipe(Section):
    """All that a run depends on."""

    task: Literal["town_desk"] | None = "town_desk"
    """Built-in task that brings base model, data, annotators and gold score; null = model and data are your own."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Every random choice of the run follows from it."""

    dir: NoPlace = None
    """Folder that the run fills; null = runs/ and the recipe's name."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where the models run; auto = a GPU if there is one."""

    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Number format of the matrix products; weights and optimizer stay in float32. auto = bfloat16 where it is fast."""

    threads: Annotated[int, Field(ge=0, le=4096)] = 0
    """CPU threads of one operation; 0 = PyTorch's own choice."""

    preflight: Literal["stop", "say", "off"] = "stop"
    """What would spoil a stage is looked for before its first step: stop = something red ends the run, say = it is said
    and the run goes on, off = nothing is looked for. `keel check` does nothing else."""

    checkpoints: Checkpoints = Checkpoints()

    log: Log = Log()

    model: Model = Model()

    sft: Sft = Sft()

    preferences: Preferences = Preferences()

    reward: Reward = Reward()

    ppo: Ppo = Ppo()

    evaluation: Evaluation = Evaluation()

    @model_validator(mode="after")
    def _fits_together(self) -> Recipe:
        crowd = self.preferences
        faults = (
            (
                self.model.layout == "shared" and self.model.tuning != "lora",
                "{key}: shared puts adapters on one frozen base and needs model.tuning: lora",
                "model.layout",
            ),
            *(
                (
                    self.task is not None and getattr(self, section).prompts is not None,
                    "{key}: a built-in task brings its own prompts; set task: null to use yours",
                    f"{section}.prompts",
                )
                for section in ("ppo", "preferences", "evaluation")
            ),
            (
                self.ppo.critic.warmup_updates >= self.ppo.updates,
                "{key} must be more than ppo.critic.warmup_updates, or the policy never learns",
                "ppo.updates",
            ),
            (
                self.task is None and self.evaluation.judge == "gold",
                "{key}: gold is a score of the built-in tasks; use reward where task is null",
                "evaluation.judge",
            ),
            (
                self.reward.data is not None and crowd.labels.data is not None,
                "{key} and preferences.labels.data are both given; keep the one to learn from",
                "reward.data",
            ),
            (
                self.reward.margin == "stated" and self.reward.annotators == "learned",
                "{key}: a margin belongs to an outcome, and learned annotators to single votes; keep one of the two",
                "reward.margin",
            ),
            (
                crowd.judges == "people" and (self.reward.data is not None or crowd.labels.data is not None),
                "{key}: people are asked, and yet there are labels already; keep one of the two",
                "preferences.judges",
            ),
            (
                crowd.judges == "people" and self.task is None and crowd.prompts is None,
                "{key}: people need something to compare; give preferences.prompts",
                "preferences.judges",
            ),
            (
                crowd.judges == "simulated" and crowd.votes > crowd.annotators,
                "{key} cannot exceed preferences.annotators",
                "preferences.votes",
            ),
            (crowd.spammers > crowd.annotators, "{key} cannot exceed preferences.annotators", "preferences.spammers"),
        )
        for wrong, sentence, key in faults:
            if wrong:
                section, name = key.split(".")
                found = getattr(getattr(self, section), name)
                raise PydanticCustomError("keel", sentence, {"key": key, "found": found})
        return self
