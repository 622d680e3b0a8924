"""Keel's side: its public parts with their defaults, as a recipe would set them up on this machine.

    python -m benchmarks.versus_trl.ours INPUTS WORKLOAD MODEL [--steps N] [--warmup N]

runs one workload and prints one line of JSON, a `Measurement`. DPO and GRPO are put together here from Keel's sampler,
roles, learner and maths, as they were before it had loops for them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from benchmarks.versus_trl.inputs import Inputs, endings
from benchmarks.versus_trl.measure import Lap, Measurement, Memory, Stopwatch
from benchmarks.versus_trl.work import Reader, Shape, work_of
from benchmarks.versus_trl.workloads import ENDINGS, NEW_TOKENS, Workload, find
from keel.config import Online, Optimizer, Reward, Sft
from keel.config import Sampling as SamplingSection
from keel.data.chat import Chat
from keel.data.forest import Branch, Tree
from keel.display import SilentDisplay
from keel.maths.advantages import group_zscore
from keel.maths.kl import k3
from keel.maths.losses import ppo_clip
from keel.maths.reduce import mean_over
from keel.models.adapters import Lora
from keel.models.heads import ScalarHead
from keel.models.load import load_language_model, load_reward_model, load_tokenizer
from keel.models.passes import Passes, pass_tokens
from keel.models.roles import LanguageRole, Roles, frozen_language_role, language_role, scalar_role, separate, shared
from keel.process import set_up
from keel.rollout.generator import Completion, Generator, Request, Sampling
from keel.rollout.local import LocalGenerator
from keel.rollout.score import LearnedReward
from keel.stages.cast import RoleGenerator
from keel.stages.workspace import dtype_of
from keel.training.batches import MicroBatch, micro_batches
from keel.training.comparisons import Comparisons, Pair
from keel.training.learner import Learner
from keel.training.online import Update, practise
from keel.training.order import visits
from keel.training.records import Record
from keel.training.reward import fit_reward
from keel.training.sft import fine_tune
from keel.types import Message, Prompt

CPU = torch.device("cpu")
BETA = 0.1
"""Of DPO; the peer's default."""
KL = 0.04
"""Coefficient of GRPO's KL term, so that there is a reference to read."""
CLIP = 0.2
T = TypeVar("T")


@dataclass(frozen=True)
class Bench:
    """One workload at work: its inputs, how many steps it makes in all, and the stopwatch that every step laps."""

    workload: Workload
    inputs: Inputs
    model: str
    steps: int
    watch: Stopwatch

    @property
    def passes(self) -> Passes:
        """With the number format of matrix products that a recipe without `dtype` gets here."""
        return Passes(dtype_of("auto", CPU))

    def language(self) -> PreTrainedModel:
        """The language model, weights in fp32."""
        return load_language_model(self.inputs.model(self.model), torch.float32, CPU)

    def scalar(self, role: str) -> tuple[PreTrainedModel, ScalarHead]:
        """The classifier of this role ("reward", "value") and its head."""
        model = load_reward_model(self.inputs.model(f"{self.model}-{role}"), torch.float32, CPU)
        return model, ScalarHead.of(model)

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer that all models share."""
        return load_tokenizer(self.inputs.model(self.model))

    def generator(self, model: PreTrainedModel) -> LocalGenerator:
        """The sampler; completions never end, or end at random (see `ENDINGS`)."""
        never = self.workload.endings == "none"
        ids = () if never else endings(self.inputs.vocabulary(self.model), ENDINGS)
        return LocalGenerator(model, self.tokenizer(), eos_ids=ids, products=self.passes.products)

    def lap(self, tokens: int, shapes: Sequence[Shape]) -> None:
        """A step on these trees is over."""
        reader = Reader(self.inputs.size(self.model), self.inputs.vocabulary(self.model))
        work = work_of(self.workload, reader, shapes)
        self.watch.lap(tokens, work.flops, work.decoded)

    def chunks(self, rows: Sequence[T]) -> list[Sequence[T]]:
        """The rows of each step, in the order of the data; ValueError where there are too few."""
        size = self.workload.rows(1)
        if len(rows) < size * self.steps:
            raise ValueError(f"{self.steps} steps of {size} rows, but the data has {len(rows)}")
        return [rows[start : start + size] for start in range(0, size * self.steps, size)]


def run(workload: Workload, inputs: Inputs, model: str, steps: int) -> list[Lap]:
    """All steps of one workload, the first ones included."""
    bench = Bench(workload, inputs, model, steps, Stopwatch())
    kinds = {"sft": sft, "reward": reward, "dpo": dpo, "generate": generate, "grpo": grpo, "ppo": ppo}
    kinds[workload.kind](bench)
    return bench.watch.laps


class _Laps:
    """A watcher of a training loop: the loop logs every step, and every step is a lap."""

    def __init__(self, bench: Bench, trees: Sequence[Sequence[Tree]], tokens: Sequence[int]) -> None:
        self._bench, self._trees, self._tokens = bench, trees, tokens

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        """Steps count from 1."""
        self._bench.lap(self._tokens[step - 1], [shape_of(tree) for tree in self._trees[step - 1]])


def sft(bench: Bench) -> None:
    """`keel.training.sft.fine_tune`."""
    role = language_role(bench.language(), None, 0, bench.passes)
    rows = bench.chunks(bench.inputs.demonstrations())
    trees = [[Tree(row.tokens[:1], (trained(row.tokens[1:]),)) for row in step] for step in rows]
    settings = Sft(batch_size=bench.workload.batch, log_every=1)
    laps = _Laps(bench, trees, [sum(len(row.tokens) for row in step) for step in rows])
    with tempfile.TemporaryDirectory() as folder, Record(Path(folder), laps) as record:
        bench.watch.start()
        fine_tune(role, arranged(trees, 0), [], settings, 0, record)


def reward(bench: Bench) -> None:
    """`keel.training.reward.fit_reward`."""
    role = scalar_role(*bench.scalar("reward"), None, 0, bench.passes)
    trees, tokens = pair_trees(bench)
    pairs = [[Comparisons(tree, (Pair(0, 1, 1.0, 0.0),)) for tree in step] for step in trees]
    settings = Reward(batch_size=bench.workload.batch, log_every=1)
    laps = _Laps(bench, trees, tokens)
    with tempfile.TemporaryDirectory() as folder, Record(Path(folder), laps) as record:
        bench.watch.start()
        fit_reward(role, arranged(pairs, 0), [], settings, 0, record)


def dpo(bench: Bench) -> None:
    """−log σ(β·h), h = difference of the policy/reference log-ratios of chosen and rejected (2305.18290)."""
    policy = language_role(bench.language(), None, 0, bench.passes)
    reference = frozen(bench)
    trees, tokens = pair_trees(bench)
    learner = Learner(policy.parameters(), Optimizer(), bench.steps)

    def shares(batch: Sequence[Tree]) -> Iterator[Tensor]:
        for micro in micro_batches(batch, None, policy):
            with torch.no_grad():
                theirs = reference.logprobs(micro.forest, 1.0)
            ratios = policy.logprobs(micro.forest, 1.0) - theirs
            sums = ratios.new_zeros(len(micro.forest.ends)).index_add(0, micro.forest.branch, ratios)
            chosen, rejected = sums.view(-1, 2).unbind(1)
            yield mean_over(-logsigmoid(BETA * (chosen - rejected)), len(batch))

    bench.watch.start()
    for batch, count in zip(trees, tokens, strict=True):
        learner.step(shares(batch))
        bench.lap(count, [shape_of(tree) for tree in batch])


def generate(bench: Bench) -> None:
    """`LocalGenerator.generate` on each step's prompts."""
    generator = bench.generator(bench.language())
    batches = bench.chunks([prompt.tokens for prompt in bench.inputs.prompts()])
    bench.watch.start()
    for step, prompts in enumerate(batches):
        completions = sampled(bench, generator, prompts, step)
        trees = rollout_trees(prompts, completions, bench.workload.samples)
        bench.lap(sum(len(one.tokens) for one in completions), [shape_of(tree) for tree in trees])


def grpo(bench: Bench) -> None:
    """Groups of completions, z-scored rewards, PPO's clip and k3 in the loss, one or more inner epochs.

    L = 1/N·Σ_t [ max(−ρA, −clip(ρ, 1 ± ε)A) + β·k3 ] (2402.03300, with a token mean). The reference is read once per
    batch; the first epoch reads the policy before it moves, so what it reads are the old log-probs, exactly.
    """
    policy = language_role(bench.language(), None, 0, bench.passes)
    reference = frozen(bench)
    generator = RoleGenerator(policy, bench.generator(policy.select()))
    learner = Learner(policy.parameters(), Optimizer(), bench.steps * bench.workload.epochs)
    batches = bench.chunks([prompt.tokens for prompt in bench.inputs.prompts()])
    bench.watch.start()
    for step, prompts in enumerate(batches):
        completions = sampled(bench, generator, prompts, step)
        trees = rollout_trees(prompts, completions, bench.workload.samples)
        rewards = torch.tensor([float(len(set(one.tokens)) % 7) for one in completions])
        group = torch.arange(len(prompts)).repeat_interleave(bench.workload.samples)
        advantages = torch.split(group_zscore(rewards, group), bench.workload.samples)
        micros = list(micro_batches(trees, None, policy))
        with torch.no_grad():
            fixed = [reference.logprobs(micro.forest, 1.0) for micro in micros]
        old: list[Tensor] = []
        for _ in range(bench.workload.epochs):
            learner.step(grpo_shares(policy, micros, fixed, old, advantages))
        bench.lap(sum(len(one.tokens) for one in completions), [shape_of(tree) for tree in trees])


def grpo_shares(
    policy: LanguageRole,
    micros: Sequence[MicroBatch],
    reference: Sequence[Tensor],
    old: list[Tensor],
    advantages: Sequence[Tensor],
) -> Iterator[Tensor]:
    """One share of the loss per micro-batch; `old` is filled by the first epoch. `advantages` are by group."""
    count = sum(len(micro.forest.targets) for micro in micros)
    for place, micro in enumerate(micros):
        logprobs = policy.logprobs(micro.forest, 1.0)
        if len(old) <= place:
            old.append(logprobs.detach())
        by_token = torch.cat([advantages[tree] for tree in micro.places])[micro.forest.branch]
        loss = ppo_clip(logprobs, old[place], by_token, CLIP, CLIP) + KL * k3(logprobs, reference[place])
        yield mean_over(loss, count)


def ppo(bench: Bench) -> None:
    """`keel.training.online.practise`, with four models or with adapters on one."""
    workload = bench.workload
    roles = cast_of(bench)
    if roles.reward is None:
        raise ValueError("the benchmark has a reward model in either layout")
    generator: Generator = RoleGenerator(roles.policy, bench.generator(roles.policy.select()))
    settings = Online(
        updates=bench.steps,
        batch_size=workload.batch,
        samples_per_prompt=workload.samples,
        epochs=workload.epochs,
        sampling=SamplingSection(max_tokens=NEW_TOKENS, temperature=1.0),
    )
    asked = bench.inputs.prompts()
    prompts = [Prompt(str(place), (Message("user", one.text),)) for place, one in enumerate(asked)]
    chat = Chat(bench.tokenizer(), None, "plain")
    if [chat.prompt(one.messages) for one in prompts[:8]] != [one.tokens for one in asked[:8]]:
        raise ValueError("a prompt's text does not become the tokens that the peer is given")

    def keep(update: Update) -> None:
        rollouts = [one.scored.rollout for one in update.annotated]
        shapes = [Shape(len(one.prompt_tokens), (len(one.tokens),)) for one in rollouts]
        bench.lap(sum(len(one.tokens) for one in rollouts), shapes)

    scorer = LearnedReward(roles.reward, budget=settings.micro_tokens)
    with tempfile.TemporaryDirectory() as folder, Record(Path(folder), SilentDisplay()) as record:
        bench.watch.start()
        practise(roles, generator, scorer, chat, prompts, settings, 0, record, keep)


def cast_of(bench: Bench) -> Roles:
    """The roles as `keel.stages.cast.online_roles` casts them."""
    if bench.workload.layout == "shared":
        adapter = bench.inputs.model(f"{bench.model}-adapter")
        return shared(bench.language(), Lora(), "reward", adapter, 0, bench.passes)
    reward, critic = bench.scalar("reward"), bench.scalar("value")
    return separate(bench.language(), bench.language(), critic, reward, None, 0, bench.passes)


def frozen(bench: Bench) -> LanguageRole:
    """A reference: it reads and never learns."""
    return frozen_language_role(bench.language(), bench.passes)


def sampled(bench: Bench, generator: Generator, prompts: Sequence[tuple[int, ...]], step: int) -> list[Completion]:
    """The workload's completions of these prompts, prompt by prompt."""
    sampling = Sampling(max_tokens=NEW_TOKENS)
    asked = [prompt for prompt in prompts for _ in range(bench.workload.samples)]
    seeds = range(step * len(asked), (step + 1) * len(asked))
    return generator.generate([Request(prompt, seed, sampling) for prompt, seed in zip(asked, seeds, strict=True)])


def pair_trees(bench: Bench) -> tuple[list[list[Tree]], list[int]]:
    """The pairs of each step as trees, and their tokens as the peer reads them, the prompt twice."""
    rows = bench.chunks(bench.inputs.pairs(bench.workload.data))
    trees = [[Tree(row.prompt, (trained(row.chosen), trained(row.rejected))) for row in step] for step in rows]
    return trees, [sum(2 * len(row.prompt) + len(row.chosen) + len(row.rejected) for row in step) for step in rows]


def rollout_trees(prompts: Sequence[tuple[int, ...]], completions: Sequence[Completion], samples: int) -> list[Tree]:
    """A tree per prompt, with its completions as branches."""
    branches = [trained(one.tokens) for one in completions]
    return [Tree(p, tuple(branches[i * samples : (i + 1) * samples])) for i, p in enumerate(prompts)]


def trained(tokens: tuple[int, ...]) -> Branch:
    """A branch whose every token counts."""
    return Branch(tokens, (True,) * len(tokens))


def shape_of(tree: Tree) -> Shape:
    """A tree by its lengths."""
    return Shape(len(tree.trunk), tuple(len(branch.tokens) for branch in tree.branches))


def arranged(steps: Sequence[Sequence[T]], seed: int) -> list[T]:
    """The items in such an order that the first epoch of a loop, which shuffles, meets them step by step as here."""
    items = [item for step in steps for item in step]
    order = [place for places in visits(len(items), len(items), 1, None, seed) for place in places]
    found = dict(zip(order, items, strict=True))
    return [found[place] for place in range(len(items))]


def main(argv: Sequence[str]) -> None:
    """Measures one workload, and prints the measurement."""
    memory = Memory()
    parser = argparse.ArgumentParser()
    parser.add_argument("inputs", type=Path)
    parser.add_argument("workload")
    parser.add_argument("model")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--warmup", type=int)
    given = parser.parse_args(argv)
    workload = find(given.workload)
    warmup = workload.warmup if given.warmup is None else given.warmup
    steps = given.steps or workload.steps
    tuned = set_up()  # as the command line does before its first stage
    laps = run(workload, Inputs(given.inputs), given.model, warmup + steps)
    setting = {
        "dtype": str(dtype_of("auto", CPU)).removeprefix("torch."),
        "micro_tokens": pass_tokens(Inputs(given.inputs).size(given.model).hidden, CPU),
        "allocator": "set by keel" if tuned else "as it is",
        "threads": torch.get_num_threads(),
    }
    versions = {name: version(name) for name in ("torch", "transformers")}
    peak = memory.peak_mb()
    print(Measurement(workload.name, given.model, "ours", setting, laps[warmup:], peak, versions).line())


if __name__ == "__main__":
    main(sys.argv[1:])
