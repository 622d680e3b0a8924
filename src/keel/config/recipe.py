"""The recipe: all that a run depends on, one tree for YAML, flags and Python."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from keel.config.methods import ONLINE, Method, with_preset
from keel.config.online import Online
from keel.config.parts import Model, RewardTerm, Sampling
from keel.config.preferences import Columns, Preferences
from keel.config.section import (
    Count,
    NonNegative,
    NoPlace,
    Section,
    Several,
    Whole,
)
from keel.config.supervised import Dpo, Reward, Sft


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

    other_names = {"ppo": "rl"}  # noqa: RUF012

    task: Literal["town_desk"] | None = "town_desk"
    """Built-in task that brings base model, data, annotators and gold score; null = model and data are your own."""

    method: Method = "ppo"
    """How the policy learns. Online, by the choices of a source which every key of rl can replace: ppo, grpo, dr-grpo,
    dapo, gspo, cispo, rloo, reinforce, reinforce++, reinforce++-baseline, rft (imitates its best answers), online-dpo;
    or dpo, straight from preferences by dpo.loss. docs/algorithms.md is the table."""

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

    rl: Online = Online()

    dpo: Dpo = Dpo()

    evaluation: Evaluation = Evaluation()

    @model_validator(mode="before")
    @classmethod
    def _chosen(cls, given: Any) -> Any:
        """What the method's source chooses, wherever nothing is said."""
        return with_preset(given) if isinstance(given, Mapping) else given

    @model_validator(mode="after")
    def _fits_together(self) -> Recipe:
        crowd = self.preferences
        judges_itself = self.reward.data is None and crowd.labels.data is None
        judges_itself = judges_itself and (self.task is not None or crowd.judges == "people")
        ranked = judges_itself and self.reward.loss == "plackett-luce"
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
                for section in ("rl", "preferences", "evaluation")
            ),
            (
                self.method in ONLINE and self.rl.has_critic and self.rl.critic.warmup_updates >= self.rl.updates,
                "{key} must be more than rl.critic.warmup_updates, or the policy never learns",
                "rl.updates",
            ),
            (
                self.method in ONLINE and self.rl.surrogate == "pair" and self.dpo.loss == "kto",
                "{key}: kto learns from single answers, and method " + self.method + " from pairs; use another loss",
                "dpo.loss",
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
            (
                ranked and crowd.aggregate != "majority",
                "{key}: reward.loss: plackett-luce reads who comes before whom, and only majority says that for "
                "certain; use majority (with preferences.ties: drop), or reward.loss: pairs",
                "preferences.aggregate",
            ),
            (
                ranked and crowd.ties != "drop",
                "{key}: reward.loss: plackett-luce has no place for a tie; use drop, or reward.loss: pairs",
                "preferences.ties",
            ),
        )
        for fault in faults:
            self.refuse(*fault)
        return self

    @model_validator(mode="after")
    def _has_members_to_aggregate(self) -> Recipe:
        for term in self.rl.reward:
            if self.reward.kept == 1 and term.is_own and term.aggregate != "mean":
                raise PydanticCustomError(
                    "keel",
                    "{key}: aggregate brings several reward models together, and this run keeps one; set "
                    "reward.members to 3 or more (with reward.combine: scores), or leave aggregate out",
                    {"key": "rl.reward", "found": term.aggregate},
                )
        return self

    @property
    def own_term(self) -> RewardTerm:
        """The first term of the reward that is the run's own model; as a term is by default where there is none."""
        return next((term for term in self.rl.reward if term.is_own), RewardTerm())
