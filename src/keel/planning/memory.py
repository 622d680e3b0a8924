"""What a stage holds, by role: arithmetic over the weights, and what a pass was measured to keep.

trained weights   4 bytes each, 4 for the gradient, 8 for AdamW's two moments
frozen weights    4
a pass            all else that is there during the largest pass, as measured (`keel.planning.probe`), and on processors
                  the holes that its blocks leave in the heap
sampling          weights laid out for the products, keys and values of the rows that are decoded at once, their logits
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedConfig

from keel.data.forest import Tree
from keel.models.adapters import Lora
from keel.models.backbone import stack_of
from keel.planning.hops import Hop
from keel.prepared import PRODUCTS
from keel.rollout.local import BATCH
from keel.rollout.memory import STEP
from keel.stages.workspace import StageName, Workspace

PREPARED = PRODUCTS * 650_000
"""What oneDNN keeps ready for products in bfloat16, by measurement (`keel.prepared`)."""

HOLES = 1.5
"""Bytes of holes in the heap for each byte of a pass, after some dozens of steps, by measurement: 1.3 to 2.6 in six
runs with glibc 2.36, whose aligned blocks seldom fit where another of their size has been."""


@dataclass(frozen=True)
class Part:
    """Something that a role holds, in bytes."""

    role: str
    what: str
    size: int


@dataclass(frozen=True)
class Model:
    """A language model by numbers of weights; `head` = 0 where it is tied to the embedding."""

    total: int
    head: int
    linear: int
    adapters: int
    layers: int
    column: int
    vocabulary: int

    @classmethod
    def of(cls, config: PreTrainedConfig, lora: Lora) -> Model:
        """Counted on a model without memory; `adapters` are those of `lora` on it."""
        text = config.get_text_config()
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
        _, stack = stack_of(model)
        named = [(name.rpartition(".")[2], one) for name, one in stack.named_modules() if isinstance(one, nn.Linear)]
        wanted = [one for name, one in named if not lora.target_modules or name in lora.target_modules]
        total = sum(one.numel() for one in model.parameters())
        width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        groups = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
        return cls(
            total=total,
            head=total - sum(one.numel() for one in stack.parameters()),
            linear=sum(one.weight.numel() for _, one in named),
            adapters=sum(lora.rank * (one.in_features + one.out_features) for one in wanted),
            layers=text.num_hidden_layers,
            column=2 * groups * width,
            vocabulary=text.vocab_size,
        )

    @property
    def stack(self) -> int:
        """Weights below the head."""
        return self.total - self.head


def parts_of(
    stage: StageName, space: Workspace, model: Model, hops: Sequence[Hop], held: Mapping[str, float]
) -> list[Part]:
    """What a stage holds at its peak; `held` are the bytes of a pass, by the name of its hop."""
    parts = [*_weights(stage, space, model)]
    passes = [_pass(hop, held[hop.name], space) for hop in hops if hop.kind.startswith("learn")]
    sampling = [_sampling(hop, space, model) for hop in hops if hop.kind == "sample"]
    # one hop after the other: only the largest counts
    parts += max([*passes, *sampling], key=lambda some: sum(part.size for part in some), default=[])
    if space.dtype == torch.bfloat16 and space.device.type == "cpu":
        parts.append(Part("all", "products in bfloat16, made ready", PREPARED))
    return parts


def _weights(stage: StageName, space: Workspace, model: Model) -> list[Part]:
    lora = space.recipe.model.tuning == "lora"
    match stage:
        case "preferences":
            return [Part("SFT model", "weights", 4 * model.total)]
        case "evaluation":
            return [Part("a model and its reference", "weights", 8 * model.total)]
        case "sft" | "reward" | "dpo":
            if lora:
                return _adapted("model", model.total, model.adapters)
            return _trained("model", model.total, model.stack if stage == "reward" else model.total)
        case _:
            learned = any(term.kind == "model" for term in space.recipe.rl.reward)
            own_critic = space.recipe.rl.has_critic and space.recipe.rl.critic.body == "own"
            learning = ("policy", "critic") if own_critic else ("policy",)
            if space.recipe.model.layout == "shared":
                parts = [Part("base of all roles", "weights", 4 * model.total)]
                parts += [part for role in learning for part in _adapted(role, 0, model.adapters)]
                return [*parts, *([Part("reward model", "adapter", 4 * model.adapters)] if learned else [])]
            body = model.stack if space.recipe.rl.critic.init == "reward" else model.total
            parts = [Part("reference", "weights", 4 * model.total)]
            for role, weights, trained in [("policy", model.total, model.total), ("critic", body, model.stack)]:
                if role in learning:
                    parts += _adapted(role, weights, model.adapters) if lora else _trained(role, weights, trained)
            return [*parts, *([Part("reward model", "weights", 4 * model.stack)] if learned else [])]


def _trained(role: str, weights: int, trained: int) -> list[Part]:
    return [
        Part(role, "weights", 4 * weights),
        Part(role, "gradients", 4 * trained),
        Part(role, "optimizer", 8 * trained),
    ]


def _adapted(role: str, weights: int, adapters: int) -> list[Part]:
    frozen = [Part(role, "weights", 4 * weights)] if weights else []
    return [*frozen, Part(role, "adapter, its gradients and optimizer", 16 * adapters)]


def _pass(hop: Hop, size: float, space: Workspace) -> list[Part]:
    held = Part(hop.name, "a pass", round(size))
    return [held, Part(hop.name, "holes in the heap", round(HOLES * size))] if space.device.type == "cpu" else [held]


def _sampling(hop: Hop, space: Workspace, model: Model) -> list[Part]:
    answered = _at_once(hop.trees)
    bytes_each = 2 if space.dtype == torch.bfloat16 else 4
    copies = bytes_each * model.linear + 4 * (model.head or model.total - model.linear)
    return [
        Part(hop.name, "weights laid out", copies),
        Part(hop.name, "keys and values", _columns(answered) * model.layers * model.column * bytes_each),
        Part(hop.name, "logits and probabilities", 2 * 4 * model.vocabulary * len(_answers(answered))),
    ]


def _at_once(trees: Sequence[Tree]) -> list[Tree]:
    """The largest batch that is decoded together."""
    rows, answered = 0, list[Tree]()
    for tree in sorted(trees, key=lambda tree: len(tree.trunk)):
        if answered and rows + len(tree.branches) > BATCH:
            break
        answered.append(tree)
        rows += len(tree.branches)
    return answered


def _columns(answered: Sequence[Tree]) -> int:
    """Those of its prompts, once, and of all rows while the longest answer is written."""
    rows = len(_answers(answered))
    prompt, answer = (_rounded(max(lengths)) for lengths in ([len(t.trunk) for t in answered], _answers(answered)))
    return len(answered) * prompt + rows * answer


def _answers(trees: Sequence[Tree]) -> list[int]:
    return [len(branch.tokens) for tree in trees for branch in tree.branches]


def _rounded(length: int) -> int:
    return -(-length // STEP) * STEP
