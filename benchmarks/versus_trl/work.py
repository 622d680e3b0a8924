"""How much arithmetic a workload asks for, however it is done: multiply-adds of its matrix products, two FLOPs each.

Counted are the tokens themselves, without padding; a shared prompt once; the head where a token is predicted and
nowhere else; nothing that is computed a second time to save memory. So no implementation can do with less, and a
fraction of this limit says what is left to gain.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.versus_trl.inputs import Size
from benchmarks.versus_trl.workloads import Workload


@dataclass(frozen=True)
class Shape:
    """A tree by its lengths: tokens of the prompt, and of each completion."""

    trunk: int
    branches: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """Tokens read, the prompt once."""
        return self.trunk + sum(self.branches)

    @property
    def predicted(self) -> int:
        """Tokens whose log-prob is asked for: those of the completions."""
        return sum(self.branches)

    @property
    def looks(self) -> int:
        """How often a token looks at one before it, or at itself: causal, each completion at its prompt and itself."""
        return _causal(self.trunk) + sum(length * self.trunk + _causal(length) for length in self.branches)


@dataclass(frozen=True)
class Reader:
    """A model by what reading costs it."""

    size: Size
    vocabulary: int

    def body(self, shapes: Iterable[Shape]) -> float:
        """FLOPs of the decoder stack, forward: 2·weights per token, and 4·hidden·layers per look (QKᵀ and PV)."""
        attention = 4.0 * self.size.hidden * self.size.layers
        return sum(2.0 * self.size.body * shape.tokens + attention * shape.looks for shape in shapes)

    def head(self, positions: int) -> float:
        """FLOPs of the logits at so many positions, forward."""
        return 2.0 * self.vocabulary * self.size.hidden * positions

    def logprobs(self, shapes: Sequence[Shape]) -> float:
        """FLOPs of the log-probs of all completions, forward."""
        return self.body(shapes) + self.head(sum(shape.predicted for shape in shapes))


@dataclass(frozen=True)
class Work:
    """FLOPs of a step that large matrix products can do, and tokens that a decoder writes one after the other."""

    flops: float
    decoded: int = 0


def work_of(workload: Workload, reader: Reader, shapes: Sequence[Shape]) -> Work:
    """The least work of one step on these trees.

    A backward pass costs twice its forward, or once where the weights are frozen under adapters (whose own products
    are left out). First-epoch log-probs of the policy serve as the old ones; PPO's critic reads once more before it
    learns. A sampled token is decoded, but for the first of each completion, whose logits come with the prompt's.
    """
    train = 2.0 if workload.layout == "shared" else 3.0
    body, logprobs = reader.body(shapes), reader.logprobs(shapes)
    sampled = sum(shape.predicted for shape in shapes)
    completions = sum(len(shape.branches) for shape in shapes)
    prompts = [Shape(shape.trunk, ()) for shape in shapes]
    sampling = Work(reader.body(prompts) + reader.head(len(shapes)), sampled - completions)
    match workload.kind:
        case "sft":
            return Work(train * logprobs)
        case "reward":
            return Work(train * body)
        case "dpo":
            return Work((train + 1) * logprobs)
        case "generate":
            return sampling
        case "grpo":
            return Work(sampling.flops + (train * workload.epochs + 1) * logprobs, sampling.decoded)
        case "ppo":
            learning = workload.epochs * train * (logprobs + body)
            return Work(sampling.flops + logprobs + 2 * body + learning, sampling.decoded)


def limit_seconds(flops: float, decoded: int, gflops: float, decode_ms: float, batch: int) -> float:
    """The least time for the work on a machine: its best rate of matrix products, and a decoder's products alone.

        flops/(gflops·10⁹) + decoded·decode_ms/(1000·batch)

    `decode_ms` is the time of the products of one decoding step at `batch` rows, which wait for memory and not for
    arithmetic. A smaller batch is dearer per token, so this stays a lower bound where rows end early.
    """
    return flops / (gflops * 1e9) + decoded * decode_ms / (1e3 * batch)


def _causal(length: int) -> int:
    return length * (length + 1) // 2
