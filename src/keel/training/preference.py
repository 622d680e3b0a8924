"""The policy straight from preferences: DPO and its family, from a frozen reference that is read once.

    L = 1/N·Σ_n 1/P_n·Σ_pairs loss          N prompts of a step, prompt n with P_n pairs (keel.training.pairs)
    L = 1/N·Σ_n loss                        kto: N single answers

Departures, first: where a prompt has several pairs, each of its answers is read once and every prompt weighs the same,
as in the reward model; the sources know one pair to a prompt. Answers of kto are matched with those to other prompts
once, before the first step, and so the reference's half of its baseline is read once too.

Sources: `keel.maths.preferences`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice

import torch
from torch import Tensor

from keel.config import Dpo
from keel.data.forest import Tree
from keel.maths.preferences import kto, kto_baseline
from keel.maths.reduce import mean_over
from keel.models.roles import LanguageRole
from keel.training.batches import micro_batches
from keel.training.checkpoint import FORGETFUL, Keeper
from keel.training.comparisons import Comparisons
from keel.training.learner import Learner
from keel.training.order import count_steps, visits
from keel.training.pairs import Answers, Pairs, gains, over_answers, pair_losses
from keel.training.records import Record


@dataclass(frozen=True)
class Contested:
    """The compared answers to one prompt, and log π_ref of each branch, summed over its tokens (nats)."""

    comparisons: Comparisons
    reference: tuple[float, ...]


@dataclass(frozen=True)
class Single:
    """One answer, good or bad; beside it one that belongs to another prompt. Trees of one branch; log π_ref of each."""

    tree: Tree
    mismatched: Tree
    desirable: bool
    reference: float
    mismatched_reference: float


@dataclass(frozen=True)
class Heard:
    """Sums over what was read of a batch, for its metrics: over `count` pairs that are no ties, or single answers."""

    right: float = 0.0
    margin: float = 0.0
    chosen: float = 0.0
    rejected: float = 0.0
    count: int = 0

    def plus(self, other: Heard) -> Heard:
        """Field by field."""
        return Heard(*(mine + theirs for mine, theirs in zip(vars(self).values(), vars(other).values(), strict=True)))

    def of_pairs(self) -> dict[str, float]:
        """Means over the pairs, whichever answer stands first in them: how many have the preferred answer ahead, by how
        much, and how far either has moved from the reference, nats. Ties are left out; not a number where all are."""
        sums = {"accuracy": self.right, "margin": self.margin, "chosen": self.chosen, "rejected": self.rejected}
        return {name: total / self.count if self.count else math.nan for name, total in sums.items()}

    def of_singles(self, good: int) -> dict[str, float]:
        """The share on its side of the baseline, and the mean gain of the `good` answers and of the bad, if there are
        any."""
        found = {"accuracy": self.right / self.count}
        if good:
            found["chosen"] = self.chosen / good
        if good < self.count:
            found["rejected"] = self.rejected / (self.count - good)
        return found


def read_reference(role: LanguageRole, trees: Sequence[Tree], budget: int | None) -> list[tuple[float, ...]]:
    """log π_ref of every branch of every tree, summed over its trained tokens, nats."""
    found: list[float] = []
    with torch.no_grad():
        for micro in micro_batches(trees, budget, role):
            found += over_answers(role.logprobs(micro.forest, 1.0), micro.forest).tolist()
    sizes = [len(tree.branches) for tree in trees]
    return [tuple(found[end - size : end]) for end, size in zip(accumulate(sizes), sizes, strict=True)]


def learn_preferences(
    policy: LanguageRole,
    prompts: Sequence[Contested],
    held_out: Sequence[Contested],
    settings: Dpo,
    seed: int,
    record: Record,
    keeper: Keeper = FORGETFUL,
) -> None:
    """Train `policy` on pairs by the recipe's loss; the same is measured on the held-out ones at the end."""
    steps = count_steps(len(prompts), settings.batch_size, settings.epochs, settings.max_steps)
    learner = Learner(policy.parameters(), settings.optimizer, steps)
    done = keeper.resume({"record": record, "policy": learner})
    order = visits(len(prompts), settings.batch_size, settings.epochs, settings.max_steps, seed)
    for step, places in islice(enumerate(order, start=1), done, None):
        batch = [prompts[place] for place in places]
        start = time.perf_counter()
        heard: list[Heard] = []
        report = learner.step(_pair_shares(policy, batch, settings, heard))
        metrics = {
            "loss": report.loss,
            **_total(heard).of_pairs(),
            "grad_norm": report.grad_norm,
            "lr": report.lr,
            "skipped": float(report.skipped),
            "pairs_per_second": sum(len(one.comparisons.pairs) for one in batch) / (time.perf_counter() - start),
        }
        if step == steps and held_out:
            found = measure_pairs(policy, held_out, settings)
            metrics |= {f"held_out/{name}": value for name, value in found.items()}
        if step % settings.log_every == 0 or step in (1, steps):
            record.write(step, metrics)
        keeper.after(step)


def measure_pairs(policy: LanguageRole, prompts: Sequence[Contested], settings: Dpo) -> dict[str, float]:
    """The loss of at least one prompt, and what else is logged of a step, without training."""
    heard: list[Heard] = []
    with torch.no_grad():
        loss = sum(share.item() for share in _pair_shares(policy, prompts, settings, heard))
    return {"loss": loss, **_total(heard).of_pairs()}


def learn_singles(
    policy: LanguageRole,
    answers: Sequence[Single],
    held_out: Sequence[Single],
    settings: Dpo,
    seed: int,
    record: Record,
    keeper: Keeper = FORGETFUL,
) -> None:
    """Train `policy` on single answers by KTO; the same is measured on the held-out ones at the end."""
    steps = count_steps(len(answers), settings.batch_size, settings.epochs, settings.max_steps)
    learner = Learner(policy.parameters(), settings.optimizer, steps)
    done = keeper.resume({"record": record, "policy": learner})
    order = visits(len(answers), settings.batch_size, settings.epochs, settings.max_steps, seed)
    for step, places in islice(enumerate(order, start=1), done, None):
        batch = [answers[place] for place in places]
        start = time.perf_counter()
        heard: list[Heard] = []
        baseline = baseline_of(policy, batch, settings.micro_tokens)
        report = learner.step(_single_shares(policy, batch, baseline, settings, heard))
        metrics = {
            "loss": report.loss,
            "baseline": baseline,
            **_total(heard).of_singles(_good(batch)),
            "grad_norm": report.grad_norm,
            "lr": report.lr,
            "skipped": float(report.skipped),
            "answers_per_second": len(batch) / (time.perf_counter() - start),
        }
        if step == steps and held_out:
            found = measure_singles(policy, held_out, settings)
            metrics |= {f"held_out/{name}": value for name, value in found.items()}
        if step % settings.log_every == 0 or step in (1, steps):
            record.write(step, metrics)
        keeper.after(step)


def measure_singles(policy: LanguageRole, answers: Sequence[Single], settings: Dpo) -> dict[str, float]:
    """The loss of at least one answer, and how far good and bad ones have moved, without training."""
    heard: list[Heard] = []
    with torch.no_grad():
        baseline = baseline_of(policy, answers, settings.micro_tokens)
        loss = sum(share.item() for share in _single_shares(policy, answers, baseline, settings, heard))
    return {"loss": loss, **_total(heard).of_singles(_good(answers))}


def baseline_of(policy: LanguageRole, batch: Sequence[Single], budget: int | None) -> float:
    """z₀ of a batch: what its policy gains, on average, on answers that belong elsewhere; nats, 0 or more."""
    read = read_reference(policy, [one.mismatched for one in batch], budget)
    gained = [mine - one.mismatched_reference for (mine,), one in zip(read, batch, strict=True)]
    return kto_baseline(torch.tensor(gained))


def _pair_shares(
    policy: LanguageRole, batch: Sequence[Contested], settings: Dpo, heard: list[Heard]
) -> Iterator[Tensor]:
    for micro in micro_batches([one.comparisons.tree for one in batch], settings.micro_tokens, policy):
        part = [batch[place] for place in micro.places]
        forest = micro.forest
        logprobs = policy.logprobs(forest, 1.0)
        ones = torch.ones_like(logprobs)
        reference = logprobs.new_tensor([x for one in part for x in one.reference])
        answers = Answers(over_answers(logprobs, forest), reference, over_answers(ones, forest))
        first = accumulate((len(one.comparisons.tree.branches) for one in part), initial=0)
        rows = [
            (start + pair.chosen, start + pair.rejected, pair.probability, pair.margin, 1 / len(one.comparisons.pairs))
            for start, one in zip(first, part, strict=False)
            for pair in one.comparisons.pairs
        ]
        columns = list(zip(*rows, strict=True))
        chosen, rejected = (torch.tensor(places, device=logprobs.device) for places in columns[:2])
        probability, margin, weight = (logprobs.new_tensor(numbers) for numbers in columns[2:])
        pairs = Pairs(chosen, rejected, probability, margin)
        heard.append(_hear(settings, answers, pairs))
        yield mean_over(pair_losses(settings, answers, pairs) * weight, len(batch))


@torch.no_grad()
def _hear(settings: Dpo, answers: Answers, pairs: Pairs) -> Heard:
    gained, side = gains(settings, answers), pairs.probability - 0.5
    decided = side != 0
    turned = side < 0
    better = gained[torch.where(turned, pairs.rejected, pairs.chosen)[decided]]
    worse = gained[torch.where(turned, pairs.chosen, pairs.rejected)[decided]]
    right, margin = (better > worse).sum(), settings.strength * (better - worse).sum()
    return Heard(float(right), float(margin), float(better.sum()), float(worse.sum()), len(better))


def _single_shares(
    policy: LanguageRole, batch: Sequence[Single], baseline: float, settings: Dpo, heard: list[Heard]
) -> Iterator[Tensor]:
    for micro in micro_batches([one.tree for one in batch], settings.micro_tokens, policy):
        part = [batch[place] for place in micro.places]
        logprobs = policy.logprobs(micro.forest, 1.0)
        gained = over_answers(logprobs, micro.forest) - logprobs.new_tensor([one.reference for one in part])
        good = torch.tensor([one.desirable for one in part], device=logprobs.device)
        weights = settings.desirable_weight, settings.undesirable_weight
        losses = kto(gained, good, baseline, settings.strength, *weights)
        with torch.no_grad():
            right = torch.where(good, gained > baseline, gained < baseline).sum()
            chosen, rejected = gained[good].sum(), gained[~good].sum()
        heard.append(Heard(float(right), chosen=float(chosen), rejected=float(rejected), count=len(part)))
        yield mean_over(losses, len(batch))


def _good(answers: Sequence[Single]) -> int:
    return sum(one.desirable for one in answers)


def _total(heard: Sequence[Heard]) -> Heard:
    total = Heard()
    for one in heard:
        total = total.plus(one)
    return total
