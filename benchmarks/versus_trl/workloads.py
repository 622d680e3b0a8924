"""What is timed: one row per workload, with the ratios that Keel has to reach. Imports neither torch nor Keel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["sft", "reward", "dpo", "generate", "grpo", "ppo"]

NEW_TOKENS = 64
"""Longest completion, in tokens."""
ENDINGS = 128
"""How many of the 4096 tokens end a completion where ends are random: an untrained model spreads its probability nearly
evenly, so a completion goes on with probability 31/32 at each token. Both sides are given the same ids, which costs
neither of them anything (a bias on the logits of one token would be a change of the model for one side and another step
of sampling for the other)."""


@dataclass(frozen=True)
class Workload:
    """One row of the table.

    `tiny` and `small` are the least ratios of tokens per second (ours / peer's, medians) with the model of that name;
    `memory` the largest ratio of peak memory, with small; `vllm` the least ratio to vLLM on CPU, where it can do this.

    `batch` counts what one optimizer step or one call of the sampler takes: demonstrations, pairs or completions.
    `samples` of them share a prompt. `epochs` are the optimizer steps on one batch of completions. `micros` are the
    micro-batches that the peer may choose from (demonstrations, pairs or completions). `steps` are timed after
    `warmup` steps, in each process.
    """

    name: str
    kind: Kind
    data: Literal["sft", "pairs-peer", "pairs-human", "prompts"]
    tiny: float
    small: float
    memory: float
    batch: int
    micros: tuple[int, ...]
    warmup: int
    steps: int
    samples: int = 1
    endings: Literal["none", "random"] = "none"
    epochs: int = 1
    layout: Literal["separate", "shared"] = "separate"
    vllm: float | None = None

    def target(self, model: str, peer: str) -> float:
        """The least ratio of tokens per second that will do."""
        if peer == "vllm":
            if self.vllm is None:
                raise ValueError(f"no ratio to vLLM is asked of {self.name}")
            return self.vllm
        return self.tiny if model == "tiny" else self.small

    def rows(self, steps: int) -> int:
        """How many rows of the data `steps` steps use."""
        return steps * self.batch // self.samples


def _pairs(
    name: str, kind: Literal["reward", "dpo"], data: Literal["pairs-peer", "pairs-human"], tiny: float, small: float
) -> Workload:
    return Workload(name, kind, data, tiny, small, 0.5, 16, (16, 8, 4), 1, 3)


WORKLOADS: Sequence[Workload] = (
    Workload("generate", "generate", "prompts", 3, 3, 0.5, 64, (64,), 1, 3, vllm=1.5),
    Workload("generate-ends", "generate", "prompts", 4, 4, 0.5, 64, (64,), 1, 3, endings="random"),
    Workload("generate-groups", "generate", "prompts", 3.5, 3.5, 0.5, 64, (64,), 1, 3, samples=8),
    Workload("sft", "sft", "sft", 2.5, 2, 0.5, 16, (16, 8, 4), 1, 4),
    _pairs("reward", "reward", "pairs-peer", 2.5, 2),
    _pairs("reward-human", "reward", "pairs-human", 3, 2.5),
    _pairs("dpo", "dpo", "pairs-peer", 2.5, 2),
    _pairs("dpo-human", "dpo", "pairs-human", 3, 2.5),
    Workload("grpo-1", "grpo", "prompts", 3, 3, 0.5, 64, (64, 16), 1, 2, samples=8),
    Workload("grpo-4", "grpo", "prompts", 3, 3, 0.5, 64, (64, 16), 1, 1, samples=8, epochs=4),
    Workload("ppo-separate", "ppo", "prompts", 2, 2, 0.5, 64, (64, 16), 1, 1, epochs=4),
    Workload("ppo-shared", "ppo", "prompts", 4, 4, 0.2, 64, (64, 16), 1, 1, epochs=4, layout="shared"),
)


def find(name: str) -> Workload:
    """The row of this name; ValueError where there is none."""
    for workload in WORKLOADS:
        if workload.name == name:
            return workload
    raise ValueError(f"no workload is called {name!r}; there are {', '.join(row.name for row in WORKLOADS)}")
