"""How long a hop takes, and what it holds, measured on a short model of the run's own shape.

All of a decoder's layers cost the same, so a model of one layer and one of three tell what one of L costs:

    cost(L) = cost(1) + (L − 1)·(cost(3) − cost(1))/2

Weights are random: what is computed does not depend on them. The same code runs as in the stages themselves.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Protocol

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from keel.config import Optimizer
from keel.data.forest import Branch, Tree, plan
from keel.models.adapters import Lora
from keel.models.heads import ScalarHead
from keel.models.passes import Passes
from keel.models.roles import LanguageRole, PolicyCritic, ScalarRole, language_role, scalar_role
from keel.planning.hops import Hop, Kind
from keel.planning.live import Live
from keel.rollout.generator import Request, Sampling
from keel.rollout.local import LocalGenerator
from keel.training.batches import micro_batches
from keel.training.learner import Learner

SHORT, LONG = 1, 3
"""Layers of the two models."""
PASSES = 2
"""Passes of a batch that are timed; more of them take as much longer."""
PATIENCE = 3.0
"""Seconds that one timing is repeated for."""


@dataclass(frozen=True)
class Cost:
    """Of one batch: seconds, and the most bytes that a pass holds besides weights and their gradients (of a hop that
    does not learn: none)."""

    seconds: float
    held: float


class Measurable(Protocol):
    """Whatever tells what a batch costs."""

    def cost(self, kind: Kind, trees: Sequence[Tree], budget: int | None) -> Cost: ...

    def held(self, kind: Kind, trees: Sequence[Tree], budget: int | None) -> float: ...


class Probe:
    """The models of a run, shortened; `models` makes them from a configuration (`Models`)."""

    def __init__(self, config: PreTrainedConfig, models: Callable[[PreTrainedConfig], Measurable]) -> None:
        self._layers: int = config.get_text_config().num_hidden_layers
        self._vocabulary: int = config.get_text_config().vocab_size
        lengths = [self._layers] if self._layers <= LONG else [SHORT, LONG]
        self._models = [models(_shortened(config, count)) for count in lengths]

    def cost(self, hop: Hop, budget: int | None) -> Cost:
        """Of one of the hop's batches."""
        trees = self._random(hop.trees)
        found = [models.cost(hop.kind, trees, budget) for models in self._models]
        if len(found) == 1:
            return found[0]
        short, long = found
        return Cost(*(self._extended(getattr(short, name), getattr(long, name)) for name in ("seconds", "held")))

    def held(self, hop: Hop, budget: int | None) -> float:
        """`Cost.held` of a hop that learns, without timing anything."""
        trees = self._random(hop.trees)
        found = [models.held(hop.kind, trees, budget) for models in self._models]
        return found[0] if len(found) == 1 else self._extended(*found)

    def _extended(self, short: float, long: float) -> float:
        return max(long, short + (self._layers - SHORT) * (long - short) / (LONG - SHORT))

    def _random(self, trees: Sequence[Tree]) -> list[Tree]:
        """Random tokens in trees of the same shape."""
        draw = torch.Generator().manual_seed(0)

        def some(count: int) -> tuple[int, ...]:
            return tuple(torch.randint(self._vocabulary, (count,), generator=draw).tolist())

        return [
            Tree(some(len(tree.trunk)), tuple(Branch(some(len(one.tokens)), one.mask) for one in tree.branches))
            for tree in trees
        ]


class Models:
    """One model in each part that it may play; `lora` and `passes` are as in the run."""

    def __init__(
        self,
        config: PreTrainedConfig,
        tokenizer: PreTrainedTokenizerBase,
        lora: Lora | None,
        passes: Passes,
        device: torch.device,
    ) -> None:
        def made() -> PreTrainedModel:
            model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32).to(device)
            return model

        with torch.random.fork_rng():
            torch.manual_seed(0)
            width = config.get_text_config().hidden_size
            models = made(), made()
        self.language: LanguageRole = language_role(models[0], lora, 0, passes)
        self.scalar: ScalarRole = scalar_role(models[1], ScalarHead.zero(width), lora, 0, passes)
        self._both = PolicyCritic(self.language, width)
        self._generator = LocalGenerator(models[0], tokenizer, eos_ids=(), products=passes.products)
        self._learners = {role: Learner(role.parameters(), Optimizer(), 1000) for role in (self.language, self.scalar)}

    def cost(self, kind: Kind, trees: Sequence[Tree], budget: int | None) -> Cost:
        """Of one batch, by a few of its passes where it has many."""
        budget = budget or self.language.pass_tokens
        if kind == "sample":
            return Cost(_seconds(partial(self._sample, trees)), 0.0)
        some = _passes(trees, budget)
        share = sum(tree.size for tree in some) / sum(tree.size for tree in trees)
        if kind.startswith("read"):
            return Cost(_seconds(partial(self._read, kind, some, budget)) / share, 0.0)
        held = self.held(kind, some, budget)
        return Cost(_seconds(partial(self._learn, kind, some, budget)) / share, held)

    def held(self, kind: Kind, trees: Sequence[Tree], budget: int | None) -> float:
        """The most bytes that the largest pass of a hop that learns holds, forward or backward."""
        budget = budget or self.language.pass_tokens
        places = max(plan(trees, budget), key=lambda places: sum(trees[place].size for place in places))
        largest = [trees[place] for place in places]

        def passed() -> None:
            for share in self._shares(kind, largest, budget):
                share.backward()  # type: ignore[no-untyped-call]

        passed()  # from here on the gradients are there
        with Live() as live:
            passed()
        for role in self._learners:
            for one in role.parameters():
                one.grad = None
        return float(live.peak)

    def _sample(self, trees: Sequence[Tree]) -> None:
        self._generator.generate(
            [
                Request(tree.trunk, number, Sampling(len(branch.tokens)))
                for tree in trees
                for number, branch in enumerate(tree.branches)
            ]
        )

    def _read(self, kind: Kind, trees: Sequence[Tree], budget: int) -> None:
        with torch.no_grad():
            for _ in self._shares(kind, trees, budget):
                pass

    def _learn(self, kind: Kind, trees: Sequence[Tree], budget: int) -> None:
        role = self.scalar if kind in ("learn values", "learn scores") else self.language
        self._learners[role].step(self._shares(kind, trees, budget))

    def _shares(self, kind: Kind, trees: Sequence[Tree], budget: int) -> Iterator[Tensor]:
        for micro in micro_batches(trees, budget, self.language):
            if kind.endswith("values"):
                yield self.scalar.values(micro.forest).square().mean()
            elif kind.endswith("scores"):
                yield self.scalar.scores(micro.forest).square().mean()
            elif kind == "learn both":
                read, values = self._both.read(micro.forest, 1.0)
                yield read.logprobs.mean() + values.mean()
            elif kind == "learn policy":
                yield self.language.read(micro.forest, 1.0).logprobs.mean()
            else:
                yield self.language.logprobs(micro.forest, 1.0).mean()


def _passes(trees: Sequence[Tree], budget: int) -> list[Tree]:
    """As many of the trees as fill `PASSES` passes."""
    chosen = [place for places in plan(trees, budget)[:PASSES] for place in places]
    return [trees[place] for place in chosen]


def _shortened(config: PreTrainedConfig, layers: int) -> PreTrainedConfig:
    short = type(config).from_dict(config.to_dict())
    text = short.get_text_config()
    text.num_hidden_layers = layers
    if getattr(text, "layer_types", None):
        text.layer_types = text.layer_types[:layers]
    return short


def _seconds(work: Callable[[], None]) -> float:
    """The median of a few repetitions, after one that is not counted."""
    work()
    found: list[float] = []
    start = time.perf_counter()
    while len(found) < 5 and (not found or time.perf_counter() - start < PATIENCE):
        before = time.perf_counter()
        work()
        found.append(time.perf_counter() - before)
    return median(found)
