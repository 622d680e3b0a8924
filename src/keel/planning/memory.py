"""What a stage holds, by role: arithmetic over the weights, and what a pass was measured to keep.

trained weights   4 bytes each, 4 for the gradient, 8 for AdamW's two moments
frozen weights    4, and 2 in the linear layers where a role of its own reads them in bfloat16
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
from keel.data.place import place
from keel.models.adapters import Lora
from keel.models.backbone import stack_of
from keel.models.llama import is_of_the_family
from keel.planning.hops import Hop
from keel.prepared import PRODUCTS
from keel.rollout.local import BATCH
from keel.rollout.memory import STEP
from keel.stages.cast import fits_the_supervised_model
from keel.stages.judges import members_of
from keel.stages.selecting import reads_candidates
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
    """A language model by numbers of weights; `head` = 0 where it is tied to the embedding, `narrow` = those that a
    frozen role keeps in the format of its products."""

    total: int
    head: int
    linear: int
    narrow: int
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
        linear = sum(one.weight.numel() for _, one in named)
        width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
        groups = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
        return cls(
            total=total,
            head=total - sum(one.numel() for one in stack.parameters()),
            linear=linear,
            narrow=linear if is_of_the_family(stack) else 0,
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
    passes = [_pass(hop, held[hop.name], space) for hop in hops if hop.kind.startswith("learn")]
    sampling = [_sampling(hop, space, model) for hop in hops if hop.kind == "sample"]
    # one hop after the other: only the largest counts
    parts = [*_weights(stage, space, model), *max([*passes, *sampling], key=_sum, default=[])]
    parts = max(parts, _alone(stage, space, model), key=_sum)
    if space.dtype == torch.bfloat16 and space.device.type == "cpu":
        parts.append(Part("all", "products in bfloat16, made ready", PREPARED))
    return parts


def _weights(stage: StageName, space: Workspace, model: Model) -> list[Part]:
    lora = space.recipe.model.tuning == "lora"
    match stage:
        case "preferences":
            return [Part("SFT model", "weights", 4 * model.total)]
        case "evaluation":
            return [Part("a model and its reference", "weights", 2 * _frozen(space, model, model.total))]
        case "sft" | "reward" | "dpo":
            others = space.recipe.reward.members - 1 if stage == "reward" else 0
            size = model.adapters if lora else model.total
            waiting = [Part("other members", "adapters" if lora else "weights", 4 * others * size)] if others else []
            if lora:
                return [*_adapted("model", model.total, model.adapters), *waiting]
            return [*_trained("model", model.total, model.stack if stage == "reward" else model.total), *waiting]
        case _:
            own_critic = space.recipe.rl.has_critic and space.recipe.rl.critic.body == "own"
            learning = ("policy", "critic") if own_critic else ("policy",)
            if space.recipe.model.layout == "shared":
                return [*_shared(space, model, learning), *_judges(space, model, on_base=True)]
            body = model.stack if space.recipe.rl.critic.init == "reward" else model.total
            parts = [Part("reference", "weights", _frozen(space, model, model.total))]
            for role, weights, trained in [("policy", model.total, model.total), ("critic", body, model.stack)]:
                if role in learning:
                    parts += _adapted(role, weights, model.adapters) if lora else _trained(role, weights, trained)
            return [*parts, *_judges(space, model, on_base=False)]


def _shared(space: Workspace, model: Model, learning: Sequence[str]) -> list[Part]:
    """One base, and an adapter for each role that learns; a critic that starts from averaged reward models has theirs,
    of so many times the rank."""
    parts = [Part("base of all roles", "weights", 4 * model.total)]
    for role in learning:
        copied = role == "critic" and space.recipe.rl.critic.init == "reward"
        ranks = _ranks(space, _named(space)[0]) if copied and _named(space) else 1
        parts += _adapted(role, 0, ranks * model.adapters)
    return parts


def _judges(space: Workspace, model: Model, on_base: bool) -> list[Part]:
    """The reward models of the policy's stage, each folder once; `on_base`: the first is adapters on the base of all
    roles."""
    sizes = []
    for number, path in enumerate(_named(space)):
        if on_base and number == 0:
            adapters = members_of(space, path) * _ranks(space, path)
            sizes.append(Part("reward model", "adapter", 4 * adapters * model.adapters))
        else:
            sizes.append(_judge("reward model", space, model, path))
    return sizes


def _named(space: Workspace) -> list[str | None]:
    """The reward models that the terms name; None is the run's own."""
    return list(dict.fromkeys(term.path for term in space.recipe.rl.reward if term.kind == "model"))


def _ranks(space: Workspace, path: str | None) -> int:
    """How many times the recipe's rank an adapter has: that of averaged members holds them all."""
    settings = space.recipe.reward
    return settings.members if path is None and settings.combine == "weights" else 1


def _judge(role: str, space: Workspace, model: Model, path: str | None) -> Part:
    """A reward model that is loaded by itself; several with adapters on the supervised model are so on one copy."""
    members = members_of(space, path)
    if members > 1 and _fits(space, path):
        return Part(role, "weights and adapters", 4 * (model.total + members * model.adapters))
    return Part(role, "weights", members * _frozen(space, model, model.stack))


def _fits(space: Workspace, path: str | None) -> bool:
    """Whether several reward models are adapters on the model that this run starts its policy from."""
    if path is None and ("reward" in space.stages or not space.model("reward").is_dir()):
        return space.recipe.model.tuning == "lora"
    if "sft" in space.stages:  # what was trained before is on another model
        return False
    return fits_the_supervised_model(space, space.model("reward") if path is None else place(path))


def _alone(stage: StageName, space: Workspace, model: Model) -> list[Part]:
    """What a stage holds while it only reads scores: reward models, and no model beside them."""
    if stage == "preferences" and reads_candidates(space):
        return [_judge("scorer", space, model, space.recipe.preferences.scorer)]
    if stage == "evaluation" and ("reward" in space.stages or space.model("reward").is_dir()):
        return [_judge("reward model", space, model, None)]
    return []


def _frozen(space: Workspace, model: Model, weights: int) -> int:
    """Bytes of so many weights, the linear layers among them (`keel.models.backbone.Backbone.narrow`)."""
    return 4 * weights - (2 * model.narrow if space.dtype == torch.bfloat16 else 0)


def _sum(parts: Sequence[Part]) -> int:
    return sum(part.size for part in parts)


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
