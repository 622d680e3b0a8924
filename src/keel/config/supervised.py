"""The sections of the stages that learn from a data set: demonstrations, or preferences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from keel.config.parts import Optimizer
from keel.config.preferences import Columns
from keel.config.section import Count, NonNegative, NoPlace, Positive, Section, Share

Loss = Literal["dpo", "ipo", "cdpo", "robust", "kto", "orpo", "simpo"]
USED_BY: Mapping[str, tuple[Loss, ...]] = {
    "flips": ("cdpo", "robust"),
    "gamma": ("simpo",),
    "length": ("ipo",),
    "margin": ("dpo", "cdpo"),
    "desirable_weight": ("kto",),
    "undesirable_weight": ("kto",),
}
"""Fields of dpo that only these losses have a use for."""


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

    loss: Literal["pairs", "plackett-luce"] = "pairs"
    """pairs = Bradley–Terry, the mean over all pairs of a prompt (2203.02155); plackett-luce = how likely each whole
    ranking is. Of two answers both are the same."""

    annotators: Literal["aggregated", "learned"] = "aggregated"
    """aggregated = each pair has one probability, from preferences.aggregate; learned = the model predicts every single
    vote, and learns how reliable each annotator is and to which side they lean along with it."""

    margin: Literal["none", "stated"] = "none"
    """stated = the difference must exceed the stated strength of the preference. Llama 2 gained half a point by it."""

    centring: NonNegative = 0.01
    """c in + c·mean((r_chosen + r_rejected)²), which keeps scores around 0. Source: 0.01 (2312.09244)."""

    members: Annotated[int, Field(ge=1, le=100)] = 1
    """Reward models that are trained, one after the other, on the same data in orders of their own. Source: 4 to 5 in
    2310.02743."""

    combine: Literal["scores", "weights"] = "scores"
    """What becomes of several members: scores = all are kept, each from a head (and adapters) of its own, and
    rl.reward's aggregate says how their scores become one; weights = they start alike, and one model with the mean of
    their weights is kept (WARM, 2401.12187)."""

    @model_validator(mode="after")
    def _has_an_outcome_to_learn(self) -> Reward:
        ranked, learned = self.loss == "plackett-luce", self.annotators == "learned"
        faults = (
            (
                ranked and learned,
                "{key}: plackett-luce reads whole rankings, and learned annotators single votes; use pairs with them",
                "loss",
            ),
            (
                ranked and self.margin == "stated",
                "{key}: a ranking says who comes first, not by how much; use pairs where margin is stated",
                "loss",
            ),
            (
                learned and self.members > 1,
                "{key}: annotators are learnt along with one model; use aggregated with several members",
                "annotators",
            ),
            (
                self.combine == "weights" and self.members == 1,
                "{key}: weights are averaged over several models; ask for them with reward.members",
                "combine",
            ),
        )
        for fault in faults:
            self.refuse(*fault)
        return self

    @property
    def kept(self) -> int:
        """How many reward models there are in the end: all members, or one with the mean of their weights."""
        return self.members if self.combine == "scores" else 1


class Dpo(Supervised):
    """The policy straight from preferences, without a reward model: DPO (2305.18290) and its family."""

    data: NoPlace = None
    """Preferences, or for kto answers with a label: file, folder or data-set name; null = the run's own preferences."""

    batch_size: Count = 64
    """Prompts per optimizer step, each with all its pairs (kto: answers), in all. Source: 64 in 2305.18290."""

    optimizer: Optimizer = Optimizer(lr=1e-6, warmup_ratio=0.1)

    loss: Loss = "dpo"
    """dpo; ipo = a finite goal for each pair (2310.12036); cdpo and robust = some labels are wrong (Mitchell 2023,
    2403.00409); kto = single answers, good or bad (2402.01306); orpo (2403.07691) and simpo (2405.14734) = without a
    reference."""

    beta: Positive | None = None
    """Strength of the pull to the reference: β, of ipo τ, of simpo the scale of its reward, of orpo the weight λ of the
    odds ratio; null = that of the source, 0.1 (simpo: 2)."""

    flips: Annotated[float, Field(ge=0, lt=0.5)] = 0.1
    """cdpo and robust only: share of the labels that are wrong. Source: 0.1 in 2403.00409."""

    gamma: NonNegative = 1.0
    """simpo only: the margin that is demanded. Source: .5 to 1.5 times β/2 in 2405.14734."""

    length: Literal["sum", "mean"] = "sum"
    """ipo only: log-ratios summed over an answer's tokens, as in the source, or their mean, as in TRL."""

    margin: Literal["none", "stated"] = "none"
    """dpo and cdpo only: stated = the difference must exceed the stated strength of the preference (2402.10571)."""

    desirable_weight: NonNegative = 1.0
    """kto only: weight of good answers. Source: so that good and bad ones weigh alike, within 1 to 4/3."""

    undesirable_weight: NonNegative = 1.0
    """kto only: weight of bad answers."""

    @model_validator(mode="after")
    def _has_a_use_for_all(self) -> Dpo:
        for name, losses in USED_BY.items():
            found = getattr(self, name)
            if self.loss not in losses and found != type(self).model_fields[name].default:
                raise PydanticCustomError(
                    "keel",
                    f"{{key}} changes nothing with dpo.loss: {self.loss}, but only with {' or '.join(losses)}; leave "
                    "it out or choose that loss",
                    {"key": name, "found": found},
                )
        return self

    @property
    def strength(self) -> float:
        """`beta`, or that of the loss's source."""
        return self.beta if self.beta is not None else 2.0 if self.loss == "simpo" else 0.1

    @property
    def has_reference(self) -> bool:
        """Whether the frozen model has a part in the loss."""
        return self.loss not in ("orpo", "simpo")
