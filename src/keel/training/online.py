"""Online training, as one readable loop: draw, converse, score, annotate, credit, learn, publish.

PPO and every algorithm without a critic are rows of it (`keel.training.algorithm`).

Departures from the sources, first: the critic has its own clip and learning rate (two optimizers, so that its
gradient norm never scales the policy's); a minibatch holds whole prompts with all their answers, so that a shared
prompt is computed once; the KL controller reads the k1 sum per answer; the KL is measured even where nothing is held
by it.

Source: Schulman et al. (1707.06347); for language Ziegler et al. (1909.08593); details of Huang et al. (2403.17031);
docs/algorithms.md names those of the other rows.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from keel.config import Dpo, Online
from keel.data.chat import Chat
from keel.data.forest import Forest
from keel.maths.controllers import AdaptiveKL, FixedKL
from keel.maths.logprobs import TokenLogprobs
from keel.maths.losses import value_clip
from keel.maths.reduce import mean_over
from keel.models.roles import Critic, LanguageRole, PolicyCritic, Roles
from keel.rollout.episode import converse
from keel.rollout.generator import Generator, Sampling
from keel.rollout.score import Scorer
from keel.training.algorithm import (
    GAE,
    Algorithm,
    Best,
    Clipped,
    Contest,
    Credit,
    Grouped,
    InLoss,
    InReward,
    Paired,
    Plain,
    Surrogate,
    ToGo,
    Weighted,
)
from keel.training.annotate import annotate, settled, tree_of, value
from keel.training.batches import micro_batches
from keel.training.checkpoint import FORGETFUL, Keeper
from keel.training.credit import Group, credit, settle
from keel.training.learner import Learner
from keel.training.monitor import Tally, summarise
from keel.training.objective import Objective, Whole
from keel.training.records import Record
from keel.training.state import Part, State
from keel.training.watch import NOBODY, Onlooker
from keel.types import Annotated, CriticSample, Prompt, Sample, Scored, UnreadSample

ALIKE = 1e-6
"""Rewards nearer to each other than this are alike: less than rounding can bring between them."""


@dataclass(frozen=True)
class Update:
    """What one round of sampling and learning left behind; the policy of `version` sampled the rollouts, of which
    those that were drawn anew and let in stand last."""

    version: int
    annotated: tuple[Annotated, ...]
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


@dataclass
class Supply:
    """Prompts one after the other, epoch by epoch, and how many were drawn: a part of a checkpoint."""

    prompts: Sequence[Prompt]
    seed: int
    taken: int = 0

    def draw(self, count: int) -> list[Prompt]:
        """The next ones: every epoch over them has a seeded order of its own, and leaves none out."""
        self.taken += count
        return drawn(self.prompts, self.seed, self.taken - count, self.taken)

    def state(self) -> State:
        """How many were drawn."""
        return State({"taken": self.taken})

    def restore(self, state: State) -> None:
        """KeyError where the state is not of a supply."""
        self.taken = int(state.numbers["taken"])


def algorithm_of(settings: Online) -> Algorithm:
    """The row that a recipe's `rl` section describes."""
    credits: Mapping[str, Credit] = {
        "gae": GAE(settings.gamma, settings.lam, settings.whiten, settings.value_clip, settings.value_coef),
        "return": ToGo(settings.gamma, settings.whiten),
        "group-std": Grouped("std", settings.whiten),
        "group-mean": Grouped("mean", settings.whiten),
        "leave-one-out": Grouped("others", settings.whiten),
        "best": Best(),
        "pair": Contest(),
    }
    high = settings.clip if settings.clip_high is None else settings.clip_high
    surrogates: Mapping[str, Surrogate] = {
        "clipped": Clipped(settings.clip, high, settings.ratio),
        "weighted": Weighted(high),
        "plain": Plain(),
        "pair": Paired(),
    }
    estimator = settings.kl.estimator
    return Algorithm(
        credits[settings.credit],
        surrogates[settings.surrogate],
        InLoss(estimator, settings.kl.weight) if settings.kl.place == "loss" else InReward(estimator),
        settings.mean,
        settings.importance_cap,
    )


def reads_once(algorithm: Algorithm, settings: Online) -> bool:
    """Whether an update's only step reads every answer, and nothing before it asks what the policy thinks of them: its
    pass then gives log π_old, too, exactly, and none is made before."""
    steps = settings.epochs * settings.minibatches
    asks = isinstance(algorithm.kl, InReward) and settings.kl.coef != 0
    return steps == 1 and settings.redraws == 0 and isinstance(algorithm.credit, Grouped) and not asks


def controller_of(settings: Online) -> FixedKL | AdaptiveKL:
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
    settings: Online,
    seed: int,
    record: Record,
    keep: Callable[[Update], None],
    keeper: Keeper = FORGETFUL,
    watch: Onlooker = NOBODY,
    pairs: Dpo = Dpo(),  # noqa: B008
) -> int:
    """Tune `roles.policy` (and its critic) for `settings.updates` rounds, or until `watch` has seen enough.

    `keep` receives every round's annotated rollouts. `pairs` has the loss where answers are learnt from in pairs.
    Metrics are listed in docs/metrics.md. Returns how many prompts were drawn.
    """
    algorithm, price, supply = algorithm_of(settings), Price(controller_of(settings)), Supply(prompts, seed)
    sampling = Sampling(**settings.sampling.model_dump())
    steps = settings.epochs * settings.minibatches
    warmup = settings.critic.warmup_updates if settings.has_critic else 0
    policy = Learner(roles.policy.parameters(), settings.optimizer, steps * max(1, settings.updates - warmup))
    critic = _critic(roles, settings, steps * settings.updates)
    parts: dict[str, Part] = {"record": record, "price": price, "supply": supply, "policy": policy}
    done = keeper.resume(parts if critic is None else {**parts, "critic": critic})
    for version in range(done, settings.updates):
        if watch.enough:
            break
        start = time.perf_counter()
        answered: Counter[str] = Counter()

        def attempt(count: int, version: int = version, answered: Counter[str] = answered) -> list[Scored]:
            asked = supply.draw(count)
            said = converse(asked, generator, chat, sampling, seed, version, settings.samples_per_prompt, answered)
            return scorer.score(said)

        harvest = collect(attempt, settings)
        sampled = time.perf_counter()
        reader = None if reads_once(algorithm, settings) else roles.policy
        annotated = annotate(harvest.scored, reader, roles.reference, sampling.temperature, settings.micro_tokens)
        if roles.critic is not None:
            annotated = list(value(annotated, roles.critic, settings.micro_tokens))
        fair, learnt = annotated[: harvest.fair], [annotated[place] for place in harvest.learnt]
        coef = price.rule.coef
        watch.look(version, fair, coef)
        groups = credit(learnt, algorithm, coef, settings.samples_per_prompt)
        tally = Tally()
        objective = Objective(algorithm, coef, pairs)
        for places in minibatches(len(groups), settings, seed, version):
            batch = [groups[place] for place in places]
            learn(batch, roles, None if version < warmup else policy, critic, objective, settings, tally)
        if tally.settled:
            annotated, groups = settled(annotated, tally.settled), [tuple(tally.settled)]
            fair = annotated
        metrics = {**summarise(fair, groups, tally, coef), **harvest.metrics}
        price.rule = price.rule.update(metrics["kl"], len(fair))
        finished = time.perf_counter()
        metrics["seconds/sampling"] = sampled - start
        metrics["seconds/learning"] = finished - sampled
        metrics["tokens_per_second"] = sum(len(one.logprobs) for one in annotated) / (finished - start)
        record.write(version + 1, metrics)
        keep(Update(version, tuple(annotated), metrics))
        keeper.after(version + 1)
    return supply.taken


@dataclass(frozen=True)
class Harvest:
    """The scored answers of one update, group by group.

    The first `fair` of them are of prompts drawn whatever came of it, and say how good the policy is; those behind were
    let in because their scores differ. `learnt` are the places of those that are learnt from.
    """

    scored: tuple[Scored, ...]
    fair: int
    learnt: tuple[int, ...]
    metrics: Mapping[str, float]


def collect(attempt: Callable[[int], list[Scored]], settings: Online) -> Harvest:
    """Draw, and where the settings allow redraws, draw again in place of groups whose answers all score alike.

    `attempt` draws so many prompts and has them answered and scored. It is called at most 1 + `redraws` times; what is
    then still missing stays so. Where all groups are alike, those of the first draw are learnt from.
    """
    each, wanted = settings.samples_per_prompt, settings.batch_size // settings.samples_per_prompt
    held = _in_groups(attempt(wanted), each)
    learnt = [place for place, group in enumerate(held) if _differ(group)]
    asked, flat = wanted, wanted - len(learnt)
    for _ in range(settings.redraws):
        missing = wanted - len(learnt)
        if missing == 0:
            break
        fresh = _in_groups(attempt(missing), each)
        differing = [group for group in fresh if _differ(group)]
        learnt += range(len(held), len(held) + len(differing))
        held += differing
        asked, flat = asked + missing, flat + missing - len(differing)
    chosen = learnt if learnt and settings.redraws else range(wanted)
    places = tuple(each * group + one for group in chosen for one in range(each))
    metrics = {"groups/drawn": float(asked), "groups/flat": flat / asked} if each > 1 else {}
    return Harvest(tuple(one for group in held for one in group), each * wanted, places, metrics)


def _in_groups(scored: Sequence[Scored], each: int) -> list[Sequence[Scored]]:
    return [scored[first : first + each] for first in range(0, len(scored), each)]


def _differ(group: Sequence[Scored]) -> bool:
    """Whether answers were judged differently; what one lost for its length alone is no judgement."""
    judged = [one.reward - one.parts.get("overlong", 0.0) for one in group]
    return max(judged) - min(judged) > ALIKE


def _critic(roles: Roles, settings: Online, steps: int) -> Learner | None:
    """What moves the critic, where there is one."""
    if roles.critic is None:
        return None
    return Learner(roles.critic.parameters(), settings.optimizer.model_copy(update={"lr": settings.critic.lr}), steps)


def drawn(prompts: Sequence[Prompt], seed: int, first: int, last: int) -> list[Prompt]:
    """The draws from number `first` on, up to number `last`."""
    found: list[Prompt] = []
    for epoch in range(first // len(prompts), (last - 1) // len(prompts) + 1):
        order = list(prompts)
        random.Random(f"{seed} prompts {epoch}").shuffle(order)
        before = epoch * len(prompts)
        found += order[max(first - before, 0) : last - before]
    return found


def minibatches(groups: int, settings: Online, seed: int, version: int) -> Iterator[list[int]]:
    """Places of the groups of each optimizer step: every epoch splits all of them anew; a step without any is left
    out."""
    for epoch in range(settings.epochs):
        order = list(range(groups))
        random.Random(f"{seed} update {version} epoch {epoch}").shuffle(order)
        for part in range(min(settings.minibatches, groups)):
            yield order[part :: settings.minibatches]


def learn(
    batch: Sequence[Group],
    roles: Roles,
    policy: Learner | None,
    critic: Learner | None,
    objective: Objective,
    settings: Online,
    tally: Tally,
) -> None:
    """One optimizer step of policy (unless it waits for the critic) and critic (where there is one) on one minibatch.

        policy:  as its `Objective` says
        critic:  c_v/N·Σ_t ½·max((V_t − G_t)², (clip(V_t, V_old,t ± ε_v) − G_t)²),    N = the minibatch's sampled tokens

    Where the critic is a head on the policy, one pass yields both, and the gradient of their sum moves the policy;
    while the policy waits, its states are read without one.
    """
    whole = Whole.of(batch, settings.sampling.max_tokens)
    temperature = settings.sampling.temperature
    trees = [tree_of([sample.rollout for sample in group]) for group in batch]

    def parts(role: LanguageRole | Critic) -> Iterator[tuple[Forest, list[Sample]]]:
        for micro in micro_batches(trees, settings.micro_tokens, role):
            yield micro.forest, [sample for place in micro.places for sample in batch[place]]

    def policy_loss(read: TokenLogprobs, forest: Forest, part: Sequence[Sample]) -> Tensor:
        unread = [one for one in part if isinstance(one, UnreadSample)]
        if unread:
            part = settle(unread, read.logprobs.detach(), objective.algorithm.importance_cap)
            tally.settled += part
        old = forest.column([one.logprobs for one in part])
        tally.read_policy(read, old, objective.clipped(read.logprobs.detach(), forest, part))
        return objective.share(read.logprobs, forest, part, whole)

    def critic_loss(values: Tensor, forest: Forest, part: Sequence[Sample]) -> Tensor:
        way = objective.algorithm.credit
        samples = [one for one in part if isinstance(one, CriticSample)]
        assert isinstance(way, GAE)
        old = forest.column([one.values for one in samples])
        returns = forest.column([one.returns for one in samples])
        return way.value_coef * mean_over(value_clip(values, old, returns, way.value_clip), whole.tokens)

    def policy_shares() -> Iterator[Tensor]:
        for forest, part in parts(roles.policy):
            yield policy_loss(roles.policy.read(forest, temperature), forest, part)

    def critic_shares(role: Critic) -> Iterator[Tensor]:
        for forest, part in parts(role):
            yield critic_loss(role.values(forest), forest, part)

    if policy is not None and critic is not None and isinstance(roles.critic, PolicyCritic):
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
    if critic is not None and roles.critic is not None:
        tally.step("value", critic.step(critic_shares(roles.critic)))
