"""Supervised fine-tuning: imitate the assistant's turns.

    L = −Σ_t m_t·log π(y_t | y_<t) / Σ_t m_t        both sums over the whole optimizer step

Source: the definition; settings as in InstructGPT (2203.02155) and 2403.17031. Dropout is off.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from itertools import islice

import torch
from torch import Tensor

from keel.config import Sft
from keel.data.forest import Tree
from keel.maths.losses import nll
from keel.maths.reduce import mean_over
from keel.models.roles import LanguageRole
from keel.training.batches import micro_batches, trained_tokens
from keel.training.checkpoint import FORGETFUL, Keeper
from keel.training.learner import Learner
from keel.training.order import count_steps, visits
from keel.training.records import Record


def fine_tune(
    policy: LanguageRole,
    trees: Sequence[Tree],
    held_out: Sequence[Tree],
    settings: Sft,
    seed: int,
    record: Record,
    keeper: Keeper = FORGETFUL,
) -> None:
    """Train `policy` on demonstration trees; logs `loss` and, at the end, `held_out/loss` (nats per token)."""
    steps = count_steps(len(trees), settings.batch_size, settings.epochs, settings.max_steps)
    learner = Learner(policy.parameters(), settings.optimizer, steps)
    done = keeper.resume({"record": record, "policy": learner})
    order = visits(len(trees), settings.batch_size, settings.epochs, settings.max_steps, seed)
    for step, places in islice(enumerate(order, start=1), done, None):
        batch = [trees[place] for place in places]
        start = time.perf_counter()
        report = learner.step(_shares(policy, batch, settings.micro_tokens))
        metrics = {
            "loss": report.loss,
            "grad_norm": report.grad_norm,
            "lr": report.lr,
            "skipped": float(report.skipped),
            "tokens_per_second": trained_tokens(batch) / (time.perf_counter() - start),
        }
        if step == steps and held_out:
            metrics["held_out/loss"] = mean_nll(policy, held_out, settings.micro_tokens)
        if step % settings.log_every == 0 or step in (1, steps):
            record.write(step, metrics)
        keeper.after(step)


def mean_nll(policy: LanguageRole, trees: Sequence[Tree], budget: int | None) -> float:
    """−log π per trained token over all the trees, in nats; e to this power is the perplexity."""
    with torch.no_grad():
        return sum(share.item() for share in _shares(policy, trees, budget))


def _shares(policy: LanguageRole, trees: Sequence[Tree], budget: int | None) -> Iterator[Tensor]:
    count = trained_tokens(trees)
    for micro in micro_batches(trees, budget, policy):
        yield mean_over(nll(policy.logprobs(micro.forest, temperature=1.0)), count)
