"""Small roles, rollouts and settings; plain transformers to compare with; and how a gradient is seen from outside."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from keel.config import Online, Optimizer
from keel.data.chat import Chat
from keel.data.forest import Branch, Tree
from keel.display import SilentDisplay
from keel.models.heads import ScalarHead
from keel.models.roles import LanguageRole, Roles, ScalarRole, language_role, scalar_role, separate
from keel.rollout.local import LocalGenerator
from keel.rollout.score import FunctionReward, Scorer
from keel.stages.cast import RoleGenerator
from keel.training.online import Update, practise
from keel.training.records import Record
from keel.types import Annotated, Message, Prompt, Rollout, Scored, Valued
from models.small import CONFIGS, build, some, widen, words

WIDTH = 24
BARE = Optimizer(lr=1e12, eps=1e12, schedule="constant", max_grad_norm=1e12)
"""AdamW whose first step is −gradient: lr·g/(|g| + ε) with lr = ε far above |g|. Seen from outside, the step of a loop
is its gradient."""
BUDGETS = (1, 40, 100_000)
"""Micro-batches of one tree, of some trees, of everything."""


def plain(family: str = "llama", dtype: torch.dtype = torch.float64, seed: int = 0) -> PreTrainedModel:
    """A transformers model that no code of keel touches; in float64 it is so throughout."""
    model = _body(family, dtype, seed)
    if dtype == torch.float64:
        model.set_attn_implementation("by_the_book")
    return model


def _body(family: str, dtype: torch.dtype, seed: int) -> PreTrainedModel:
    config = copy.deepcopy(CONFIGS[family])  # a model keeps its config, and in it which attention it has
    model = build(config, dtype, seed)
    return widen(model) if dtype == torch.float64 else model


def head(dtype: torch.dtype = torch.float64, seed: int = 0) -> ScalarHead:
    return ScalarHead(ScalarHead.normal(WIDTH, torch.Generator().manual_seed(seed)).weight.detach().to(dtype))


def language(family: str = "llama", dtype: torch.dtype = torch.float64, seed: int = 0) -> LanguageRole:
    """Reads as `plain` with the same arguments does."""
    return language_role(_body(family, dtype, seed), None, 0)


def scalar(family: str = "llama", dtype: torch.dtype = torch.float64, seed: int = 0) -> ScalarRole:
    """`plain` with the same arguments, under `head`."""
    return scalar_role(_body(family, dtype, seed), head(dtype), None, 0)


def cast(family: str = "llama", dtype: torch.dtype = torch.float64) -> Roles:
    """Policy and reference as `plain`; the critic has weights of its own (seed 1)."""
    policy, reference = (_body(family, dtype, 0) for _ in range(2))
    return separate(policy, reference, (_body(family, dtype, 1), head(dtype)), None, None, seed=0)


def read(model: PreTrainedModel, tokens: Sequence[int], temperature: float = 1.0) -> Tensor:
    """log π(token t | tokens before) at t = 1, 2, …: the model's own forward of one sequence, and log-softmax."""
    logits = model(input_ids=torch.tensor([list(tokens)]), use_cache=False).logits[0, :-1] / temperature
    return logits.log_softmax(-1).gather(-1, torch.tensor(tokens[1:])[:, None])[:, 0]


def numbers(model: PreTrainedModel, weight: Tensor, tokens: Sequence[int]) -> Tensor:
    """w·h at every token of one sequence."""
    output = model(input_ids=torch.tensor([list(tokens)]), output_hidden_states=True, use_cache=False)
    return output.hidden_states[-1][0] @ weight


def steps_of(module: torch.nn.Module, go: Callable[[], object]) -> dict[str, Tensor]:
    """How far each weight goes down while `go` runs: the gradient, under `BARE`."""
    before = {name: parameter.detach().clone() for name, parameter in module.named_parameters()}
    go()
    return {name: before[name] - parameter.detach() for name, parameter in module.named_parameters()}


def gradients_of(model: torch.nn.Module, loss: Tensor) -> dict[str, Tensor]:
    """The gradient of an independent computation, by name; the model's gradients are cleared."""
    model.zero_grad(set_to_none=True)
    loss.backward()
    found = {
        name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()
        for name, parameter in model.named_parameters()
    }
    model.zero_grad(set_to_none=True)
    return found


def check_equal(ours: dict[str, Tensor], theirs: dict[str, Tensor], tolerance: float) -> None:
    """Every tensor of `theirs` is in `ours`, equal to `tolerance` of the largest entry of all."""
    scale = max(float(tensor.abs().max()) for tensor in theirs.values())
    assert scale > 1e-3
    for name, tensor in theirs.items():
        assert (ours[name] - tensor).abs().max() <= tolerance * scale, name


def record(directory: Path) -> Record:
    return Record(directory, SilentDisplay())


def rows_of(directory: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def demonstration_trees(chance: random.Random, count: int) -> list[Tree]:
    """Trees of one branch; the mask has holes."""
    trees = []
    for _ in range(count):
        length = chance.randrange(2, 9)
        mask = [chance.random() < 0.7 for _ in range(length)]
        mask[-1] = True
        trees.append(Tree(some(chance, chance.randrange(1, 7)), (Branch(some(chance, length), tuple(mask)),)))
    return trees


def pair_tree(trunk: Sequence[int], chosen: Sequence[int], rejected: Sequence[int]) -> Tree:
    return Tree(tuple(trunk), tuple(Branch(tuple(one), (True,) * len(one)) for one in (chosen, rejected)))


def prompts(count: int, length: int = 3) -> list[Prompt]:
    """Distinct prompts of a few words."""
    chance = random.Random("prompts")
    names = [f"w{token}" for token in range(40, 60)]  # none of them begins with the unknown token, w3
    asked = [" ".join(chance.choices(names, k=length)) for _ in range(count)]
    assert len(set(asked)) == count
    return [Prompt(f"p{place}", (Message("user", text),)) for place, text in enumerate(asked)]


def chat() -> Chat:
    return Chat(words(), template="plain")


def rollout(
    prompt: Sequence[int], tokens: Sequence[int], mask: Sequence[bool] | None = None, **changes: Any
) -> Rollout:
    """A rollout of these tokens; the sampler's log-probs are −1 unless given."""
    sampled = (True,) * len(tokens) if mask is None else tuple(mask)
    given: dict[str, Any] = {
        "prompt": Prompt("-".join(map(str, prompt)), (Message("user", "w3"),)),
        "prompt_tokens": tuple(prompt),
        "tokens": tuple(tokens),
        "mask": sampled,
        "logprobs": (-1.0,) * sum(sampled),
        "text": " ".join(f"w{token}" for token in tokens),
        "stop": "eos",
        "seed": 0,
        "version": 0,
    }
    return Rollout(**(given | changes))


def scored(one: Rollout, reward: float = 0.0) -> Scored:
    return Scored(one, reward, {"learned": reward})


def valued(
    reward: float,
    logprobs: Sequence[float],
    reference: Sequence[float],
    values: Sequence[float],
    mask: Sequence[bool] | None = None,
    **changes: Any,
) -> Valued:
    """A rollout with everything that credit needs; its tokens do not matter."""
    tokens = range(3, 3 + (len(logprobs) if mask is None else len(mask)))
    annotated = Annotated(scored(rollout((5,), tokens, mask, **changes), reward), tuple(logprobs), tuple(reference))
    return Valued(annotated.scored, annotated.logprobs, annotated.reference_logprobs, tuple(values))


def ppo(**changes: Any) -> Online:
    """PPO settings for a handful of short answers."""
    given: dict[str, Any] = {
        "updates": 1,
        "batch_size": 8,
        "samples_per_prompt": 2,
        "epochs": 1,
        "micro_tokens": 40,
        "sampling": {"max_tokens": 6},
        "kl": {"coef": 0.1},
        "critic": {"lr": 1e-3},
        "optimizer": {"lr": 1e-3},
    }
    for name, value in changes.items():
        given[name] = {**given[name], **value} if isinstance(value, dict) and name in given else value
    return Online.model_validate(given)


def length_reward(rollouts: Sequence[Rollout]) -> list[float]:
    """Something that varies: the mean token, and a little for each token."""
    return [sum(one.tokens) / len(one.tokens) / 30 - 1 + 0.1 * len(one.tokens) for one in rollouts]


def run_ppo(
    roles: Roles,
    settings: Online,
    directory: Path,
    asked: Sequence[Prompt] | None = None,
    scorer: Scorer | None = None,
    seed: int = 0,
) -> list[Update]:
    """`practise`, with the embedded sampler; what it kept, update by update."""
    updates: list[Update] = []
    tongue = chat()
    generator = RoleGenerator(roles.policy, LocalGenerator(roles.policy.select(), tongue.tokenizer))
    scorer = FunctionReward("length", length_reward) if scorer is None else scorer
    with record(directory) as written:
        given = prompts(5) if asked is None else asked
        practise(roles, generator, scorer, tongue, given, settings, seed, written, updates.append)
    return updates


def weights(module: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """A copy of a state."""
    return {name: tensor.detach().clone() for name, tensor in module}


def unequal(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    """Names of the tensors that are no longer the same, bit for bit."""
    assert before.keys() == after.keys()
    return {name for name, tensor in before.items() if not torch.equal(tensor, after[name])}
