"""Reward-model training: scores whose differences predict which answer people prefer.

    L = 1/P·Σ_pairs [ −p·log σ(Δ−m) − (1−p)·log σ(−Δ−m) + c·(r_chosen + r_rejected)² ],   Δ = r_chosen − r_rejected

The score of an answer is the scalar head at its last token. Source: InstructGPT (2203.02155); centring: 2312.09244.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from keel.config import Reward
from keel.data.forest import Tree
from keel.maths.losses import bradley_terry, centring
from keel.maths.reduce import mean_over
from keel.models.roles import ScalarRole
from keel.training.batches import micro_batches
from keel.training.learner import Learner
from keel.training.order import count_steps, visits
from keel.training.records import Record


@dataclass(frozen=True)
class Pair:
    """A preference as the reward model meets it: two branches (chosen, rejected) on one trunk.

    `probability` = P(chosen is preferred); `margin` in units of reward.
    """

    tree: Tree
    probability: float
    margin: float


@dataclass(frozen=True)
class Fit:
    """How well scores predict preferences, over P pairs.

    `accuracy` counts a pair as right when the answer with p > ½ scores strictly higher; it is over the `decided` pairs,
    those with p ≠ ½. `loss` in nats per pair. `bins` = (mean predicted, mean actual, share) of ten bins of σ(Δ), and
    `calibration` their expected error.
    """

    accuracy: float
    loss: float
    calibration: float
    bins: tuple[tuple[float, float, float], ...]
    decided: int


def fit_reward(
    model: ScalarRole, pairs: Sequence[Pair], held_out: Sequence[Pair], settings: Reward, seed: int, record: Record
) -> None:
    """Train `model` on pairs; logs loss and accuracy, and the same on the held-out pairs at the end."""
    steps = count_steps(len(pairs), settings.batch_size, settings.epochs, settings.max_steps)
    learner = Learner(model.parameters(), settings.optimizer, steps)
    for step, places in enumerate(
        visits(len(pairs), settings.batch_size, settings.epochs, settings.max_steps, seed), start=1
    ):
        batch = [pairs[place] for place in places]
        start = time.perf_counter()
        deltas: list[Tensor] = []
        report = learner.step(_shares(model, batch, settings, deltas))
        metrics = {
            "loss": report.loss,
            "accuracy": _accuracy(torch.cat(deltas), _probabilities(batch)),
            "grad_norm": report.grad_norm,
            "lr": report.lr,
            "skipped": float(report.skipped),
            "pairs_per_second": len(batch) / (time.perf_counter() - start),
        }
        if step == steps and held_out:
            fit = measure(model, held_out, settings.micro_tokens)
            metrics |= {
                "held_out/accuracy": fit.accuracy,
                "held_out/loss": fit.loss,
                "held_out/calibration": fit.calibration,
            }
        if step % settings.log_every == 0 or step in (1, steps):
            record.write(step, metrics)


def measure(model: ScalarRole, pairs: Sequence[Pair], budget: int) -> Fit:
    """Accuracy, loss and calibration of the model on pairs, without training."""
    delta = torch.cat([chosen - rejected for chosen, rejected, _ in _read(model, pairs, budget)])
    p = _probabilities(pairs)
    loss = bradley_terry(delta, torch.zeros_like(delta), p, torch.zeros_like(p)).sum().item() / len(pairs)
    bins = calibration(delta.sigmoid(), p, bins=10)
    error = sum(share * abs(predicted - actual) for predicted, actual, share in bins)
    return Fit(_accuracy(delta, p), loss, error, bins, int((p != 0.5).sum()))


def scores(model: ScalarRole, trees: Sequence[Tree], budget: int) -> Float[Tensor, " B"]:
    """The score of every branch of every tree, in order, on the CPU; units of reward."""
    with torch.no_grad():
        parts = [model.scores(micro.forest) for micro in micro_batches(trees, budget, model.layout, model.device)]
    return torch.cat(parts).float().cpu()


def calibration(
    predicted: Float[Tensor, " P"], actual: Float[Tensor, " P"], bins: int
) -> tuple[tuple[float, float, float], ...]:
    """(mean predicted, mean actual, share of the pairs) for each bin of equal width that is not empty.

        expected calibration error = Σ_bins share·|mean predicted − mean actual|

    Each pair is read both ways round, so the bins are symmetric about ½. [P], [P]: probabilities that the first answer
    is preferred. Source: Naeini et al. (2015).
    """
    predicted, actual = torch.cat((predicted, 1 - predicted)), torch.cat((actual, 1 - actual))
    place = (predicted * bins).long().clamp(0, bins - 1)
    found = []
    for one in range(bins):
        inside = place == one
        if bool(inside.any()):
            share = float(inside.float().mean())
            found.append((float(predicted[inside].mean()), float(actual[inside].mean()), share))
    return tuple(found)


def _shares(model: ScalarRole, pairs: Sequence[Pair], settings: Reward, deltas: list[Tensor]) -> Iterator[Tensor]:
    for chosen, rejected, places in _micro(model, pairs, settings.micro_tokens):
        part = [pairs[place] for place in places]
        margin = torch.tensor([pair.margin if settings.margin == "stated" else 0.0 for pair in part])
        loss = bradley_terry(
            chosen, rejected, _probabilities(part).to(chosen.device), margin.to(chosen.device)
        ) + settings.centring * centring(chosen, rejected)
        deltas.append((chosen - rejected).detach().float().cpu())
        yield mean_over(loss, len(pairs))


def _read(model: ScalarRole, pairs: Sequence[Pair], budget: int) -> Iterator[tuple[Tensor, Tensor, tuple[int, ...]]]:
    with torch.no_grad():
        for chosen, rejected, places in _micro(model, pairs, budget):
            yield chosen.float().cpu(), rejected.float().cpu(), places


def _micro(model: ScalarRole, pairs: Sequence[Pair], budget: int) -> Iterator[tuple[Tensor, Tensor, tuple[int, ...]]]:
    """(scores of the chosen, scores of the rejected, places of the pairs), micro-batch by micro-batch, in order."""
    for micro in micro_batches([pair.tree for pair in pairs], budget, model.layout, model.device):
        chosen, rejected = model.scores(micro.forest).view(-1, 2).unbind(1)
        yield chosen, rejected, micro.places


def _probabilities(pairs: Sequence[Pair]) -> Float[Tensor, " P"]:
    return torch.tensor([pair.probability for pair in pairs])


def _accuracy(delta: Float[Tensor, " P"], probability: Float[Tensor, " P"]) -> float:
    """Share of the pairs with a preference whose preferred answer scores strictly higher; nan when all are ties."""
    decided = probability != 0.5
    right = (delta * (probability - 0.5).sign() > 0) & decided
    return float(right.sum() / decided.sum())
