"""PPO, as one readable loop: draw, converse, score, annotate, credit, learn, publish.

Departures from the sources, first: the critic has its own clip and learning rate (two optimizers, so that its
gradient norm never scales the policy's); a minibatch holds whole prompts with all their answers, so that a shared
prompt is computed once; the KL controller reads the k1 sum per answer.

Source: Schulman et al. (1707.06347); for language Ziegler et al. (1909.08593); details of Huang et al. (2403.17031).
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from keel.config import Ppo
from keel.data.chat import Chat
from keel.data.forest import Forest
from keel.maths.controllers import AdaptiveKL, FixedKL
from keel.maths.logprobs import TokenLogprobs
from keel.maths.losses import ppo_clip, value_clip
from keel.maths.reduce import mean_over
from keel.models.roles import Critic, LanguageRole, PolicyCritic, Roles
from keel.rollout.episode import converse
from keel.rollout.generator import Generator, Sampling
from keel.rollout.score import Scorer
from keel.training.algorithm import GAE, Algorithm, InReward
from keel.training.annotate import annotate, tree_of, value
from keel.training.batches import micro_batches
from keel.training.checkpoint import FORGETFUL, Keeper
from keel.training.credit import credit
from keel.training.learner import Learner
from keel.training.monitor import Tally, summarise
from keel.training.records import Record
from keel.training.state import State
from keel.training.watch import NOBODY, Onlooker
from keel.types import CriticSample, Prompt, Valued


@dataclass(frozen=True)
class Update:
    """What one round of sampling and learning left behind; the policy of `version` sampled the rollouts."""

    version: int
    valued: tuple[Valued, ...]
    metrics: Mapping[str, float]


@dataclass
class Price:
    """What a nat of KL costs, and the rule that moves it: a part of a checkpoint."""

    rule: FixedKL | AdaptiveKL

    def state(self) -> State:
        """β alone; the rest of the rule is in the recipe."""
        return State({"coef": self.rule.coef})

    def restore(self, state: State) -> None:
        """ValueError where β is none."""
        self.rule = replace(self.rule, coef=float(state.numbers["coef"]))


def algorithm_of(settings: Ppo) -> Algorithm:
    """The row that a recipe's `ppo` section describes."""
    return Algorithm(
        credit=GAE(settings.gamma, settings.lam, settings.whiten),
        kl=InReward(settings.kl.estimator),
        clip=(settings.clip, settings.clip),
        value_clip=settings.value_clip,
        value_coef=settings.value_coef,
    )


def controller_of(settings: Ppo) -> FixedKL | AdaptiveKL:
    """The rule that the recipe chooses for β."""
    match settings.kl.controller:
        case "fixed":
            return FixedKL(settings.kl.coef)
        case "adaptive":
            return AdaptiveKL(settings.kl.coef, settings.kl.target, settings.kl.horizon)


def practise(
    roles: Roles,
    generator: Generator,
    scorer: Scorer,
    chat: Chat,
    prompts: Sequence[Prompt],
    settings: Ppo,
    seed: int,
    record: Record,
    keep: Callable[[Update], None],
    keeper: Keeper = FORGETFUL,
    watch: Onlooker = NOBODY,
) -> None:
    """Tune `roles.policy` (and its critic) by PPO for `settings.updates` rounds, or until `watch` has seen enough.

    `keep` receives every round's annotated rollouts. Metrics are listed in docs/metrics.md.
    """
    algorithm, price = algorithm_of(settings), Price(controller_of(settings))
    sampling = Sampling(**settings.sampling.model_dump())
    steps = settings.epochs * settings.minibatches
    learning = max(1, settings.updates - settings.critic.warmup_updates)
    policy = Learner(roles.policy.parameters(), settings.optimizer, steps * learning)
    rates = settings.optimizer.model_copy(update={"lr": settings.critic.lr})
    critic = Learner(roles.critic.parameters(), rates, steps * settings.updates)
    done = keeper.resume({"record": record, "price": price, "policy": policy, "critic": critic})
    for version in range(done, settings.updates):
        if watch.enough:
            break
        start = time.perf_counter()
        drawn = draw(prompts, settings, seed, version)
        rollouts = converse(drawn, generator, chat, sampling, seed, version, settings.samples_per_prompt)
        sampled = time.perf_counter()
        scored = scorer.score(rollouts)
        annotated = annotate(scored, roles.policy, roles.reference, sampling.temperature, settings.micro_tokens)
        valued = value(annotated, roles.critic, settings.micro_tokens)
        watch.look(version, valued, price.rule.coef)
        samples = credit(valued, algorithm, price.rule.coef)
        tally = Tally()
        warming = version < settings.critic.warmup_updates
        grouped = groups(samples, settings.samples_per_prompt)
        for places in minibatches(len(grouped), settings, seed, version):
            batch = [grouped[place] for place in places]
            learn(batch, roles, None if warming else policy, critic, algorithm, sampling.temperature, settings, tally)
        metrics = summarise(valued, samples, tally, price.rule.coef)
        price.rule = price.rule.update(metrics["kl"], len(samples))
        finished = time.perf_counter()
        metrics["seconds/sampling"] = sampled - start
        metrics["seconds/learning"] = finished - sampled
        metrics["tokens_per_second"] = sum(len(one.logprobs) for one in samples) / (finished - start)
        record.write(version + 1, metrics)
        keep(Update(version, tuple(valued), metrics))
        keeper.after(version + 1)


def draw(prompts: Sequence[Prompt], settings: Ppo, seed: int, version: int) -> list[Prompt]:
    """The prompts of one round: every epoch over them has a seeded order of its own, and leaves none out."""
    count = settings.batch_size // settings.samples_per_prompt
    return _drawn(prompts, seed, version * count, (version + 1) * count)


def met(prompts: Sequence[Prompt], settings: Ppo, seed: int) -> list[Prompt]:
    """The prompts that all rounds draw, each once."""
    count = settings.updates * settings.batch_size // settings.samples_per_prompt
    return _drawn(prompts, seed, 0, min(count, len(prompts)))


def _drawn(prompts: Sequence[Prompt], seed: int, first: int, last: int) -> list[Prompt]:
    """The draws from number `first` on, up to number `last`."""
    drawn: list[Prompt] = []
    for epoch in range(first // len(prompts), (last - 1) // len(prompts) + 1):
        order = list(prompts)
        random.Random(f"{seed} prompts {epoch}").shuffle(order)
        before = epoch * len(prompts)
        drawn += order[max(first - before, 0) : last - before]
    return drawn


def groups(samples: Sequence[CriticSample], size: int) -> list[list[CriticSample]]:
    """The answers to each drawn prompt, `size` of them: each group becomes one tree."""
    return [list(samples[start : start + size]) for start in range(0, len(samples), size)]


def minibatches(trees: int, settings: Ppo, seed: int, version: int) -> Iterator[list[int]]:
    """Places of the trees of each optimizer step: every epoch splits all of them anew."""
    for epoch in range(settings.epochs):
        order = list(range(trees))
        random.Random(f"{seed} update {version} epoch {epoch}").shuffle(order)
        for part in range(settings.minibatches):
            yield order[part :: settings.minibatches]


def learn(
    batch: Sequence[Sequence[CriticSample]],
    roles: Roles,
    policy: Learner | None,
    critic: Learner,
    algorithm: Algorithm,
    temperature: float,
    settings: Ppo,
    tally: Tally,
) -> None:
    """One optimizer step of policy (unless it waits for the critic) and critic on one minibatch.

        policy:  1/N·Σ_t max(−ρ_t·A_t, −clip(ρ_t, 1±ε)·A_t)
        critic:  c_v/N·Σ_t ½·max((V_t − G_t)², (clip(V_t, V_old,t ± ε_v) − G_t)²)

    N = sampled tokens of the minibatch. Where the critic is a head on the policy, one pass yields both, and the
    gradient of their sum moves the policy; while the policy waits, its states are read without one.
    """
    count = sum(len(sample.logprobs) for group in batch for sample in group)
    trees = [tree_of([sample.rollout for sample in group]) for group in batch]

    def parts(role: LanguageRole | Critic) -> Iterator[tuple[Forest, list[CriticSample]]]:
        for micro in micro_batches(trees, settings.micro_tokens, role):
            yield micro.forest, [sample for place in micro.places for sample in batch[place]]

    def policy_loss(read: TokenLogprobs, forest: Forest, part: Sequence[CriticSample]) -> Tensor:
        old = forest.column([one.logprobs for one in part])
        advantages = forest.column([one.advantages for one in part])
        tally.read_policy(read, old, advantages, algorithm.clip)
        return mean_over(ppo_clip(read.logprobs, old, advantages, *algorithm.clip), count)

    def critic_loss(values: Tensor, forest: Forest, part: Sequence[CriticSample]) -> Tensor:
        old = forest.column([one.values for one in part])
        returns = forest.column([one.returns for one in part])
        return algorithm.value_coef * mean_over(value_clip(values, old, returns, algorithm.value_clip), count)

    def policy_shares() -> Iterator[Tensor]:
        for forest, part in parts(roles.policy):
            yield policy_loss(roles.policy.read(forest, temperature), forest, part)

    def critic_shares() -> Iterator[Tensor]:
        for forest, part in parts(roles.critic):
            yield critic_loss(roles.critic.values(forest), forest, part)

    if policy is not None and isinstance(roles.critic, PolicyCritic):
        losses = [0.0, 0.0]
        for forest, part in parts(roles.policy):
            read, values = roles.critic.read(forest, temperature)
            shares = policy_loss(read, forest, part), critic_loss(values, forest, part)
            (shares[0] + shares[1]).backward()  # type: ignore[no-untyped-call]
            losses = [total + share.item() for total, share in zip(losses, shares, strict=True)]
        tally.step("policy", policy.move(losses[0]))
        tally.step("value", critic.move(losses[1]))
        return
    if policy is not None:
        tally.step("policy", policy.step(policy_shares()))
    tally.step("value", critic.step(critic_shares()))
