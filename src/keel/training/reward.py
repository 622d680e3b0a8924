"""Reward-model training: scores whose differences predict which answer people prefer.

    L = 1/N·Σ_n 1/P_n·Σ_pairs [ −p·log σ(Δ−m) − (1−p)·log σ(−Δ−m) + c·(r_chosen + r_rejected)² ]
    Δ = r_chosen − r_rejected

N prompts, prompt n with P_n pairs: every prompt weighs the same, however many answers to it were compared. The score of
an answer is the scalar head at its last token. Source: InstructGPT (2203.02155), equation 1, where P_n = C(K,2);
centring: 2312.09244. With `reward.annotators: learned` the votes themselves are predicted (`keel.training.crowd`), and
with `reward.loss: plackett-luce` whole rankings are, of which prompt n has R_n:

    L = 1/N·Σ_n [ 1/R_n·Σ_rankings −Σ_i (r_(i) − log Σ_{j≥i} exp r_(j)) + c/P_n·Σ_pairs (r_chosen + r_rejected)² ]
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, islice

import torch
from jaxtyping import Float
from torch import Tensor

from keel.config import Reward
from keel.data.forest import Tree
from keel.maths.losses import bradley_terry, centring, plackett_luce
from keel.maths.reduce import mean_over
from keel.models.ensemble import Scoring
from keel.models.roles import ScalarRole
from keel.training.batches import micro_batches
from keel.training.checkpoint import FORGETFUL, Keeper
from keel.training.comparisons import Comparisons, Pair, require_winners
from keel.training.crowd import Crowd
from keel.training.learner import Learner
from keel.training.members import Turns
from keel.training.order import count_steps, visits
from keel.training.records import Record
from keel.training.state import Part


@dataclass(frozen=True)
class Fit:
    """How well scores predict preferences, over N prompts with P pairs in all.

    `accuracy` counts a pair as right when the answer with p > ½ scores strictly higher; it is over the decided pairs of
    all prompts, those with p ≠ ½, and `right` says it of each, prompt by prompt. `loss` in nats per pair, with every
    prompt weighing the same. `bins` = (mean predicted, mean actual, share) of ten bins of σ(Δ) over all pairs, and
    `calibration` their expected error.
    """

    accuracy: float
    loss: float
    calibration: float
    bins: tuple[tuple[float, float, float], ...]
    right: tuple[tuple[bool, ...], ...]


@dataclass(frozen=True)
class _Read:
    """Pairs whose answers were read: scores, labels, and the weight of each, 1 over the pairs of its prompt. And the
    scores of all B answers, as the prompts have them."""

    chosen: Float[Tensor, " P"]
    rejected: Float[Tensor, " P"]
    probability: Float[Tensor, " P"]
    margin: Float[Tensor, " P"]
    weight: Float[Tensor, " P"]
    pairs: tuple[Pair, ...]
    scores: Float[Tensor, " B"]
    prompts: tuple[Comparisons, ...]


def fit_reward(
    model: ScalarRole,
    prompts: Sequence[Comparisons],
    held_out: Sequence[Comparisons],
    settings: Reward,
    seed: int,
    record: Record,
    keeper: Keeper = FORGETFUL,
) -> Crowd | None:
    """Train `model` on the pairs of prompts; logs loss and accuracy, and the same on the held-out ones at the end.

    Returns what was learnt of the annotators, where the settings want them learnt.
    """
    return fit_members([model], prompts, held_out, settings, [seed], record, keeper)


def fit_members(
    models: Sequence[ScalarRole],
    prompts: Sequence[Comparisons],
    held_out: Sequence[Comparisons],
    settings: Reward,
    seeds: Sequence[int],
    record: Record,
    keeper: Keeper = FORGETFUL,
) -> Crowd | None:
    """`fit_reward` for each of `models`, one after the other; a model's seed says in which order it meets the prompts.

    Steps are counted through, and rows say whose they are. Annotators can be learnt along with one model only.
    UserError for whole rankings where a pair has no winner.
    """
    if settings.loss == "plackett-luce":
        require_winners(pair.probability for one in prompts for pair in one.pairs)
    steps = count_steps(len(prompts), settings.batch_size, settings.epochs, settings.max_steps)
    turns = Turns(models, lambda model: Learner(model.parameters(), settings.optimizer, steps))
    crowd = Crowd(prompts, steps, turns.learner.parameters[0].device) if settings.annotators == "learned" else None
    parts: dict[str, Part] = {"record": record, "reward": turns}
    done = keeper.resume(parts if crowd is None else {**parts, "annotators": crowd})
    order = (
        (turn, own, places)
        for turn, seed in enumerate(seeds)
        for own, places in enumerate(
            visits(len(prompts), settings.batch_size, settings.epochs, settings.max_steps, seed), start=1
        )
    )
    for step, (turn, own, places) in islice(enumerate(order, start=1), done, None):
        turns.go_to(turn)
        model, batch = models[turn], [prompts[place] for place in places]
        start = time.perf_counter()
        deltas: list[Tensor] = []
        report = turns.learner.step(_shares(model, batch, settings, crowd, deltas))
        if crowd is not None:
            crowd.move()
        right = list(chain.from_iterable(_right(torch.cat(deltas), batch)))
        metrics = {
            "loss": report.loss,
            "accuracy": _share(right),
            "grad_norm": report.grad_norm,
            "lr": report.lr,
            "skipped": float(report.skipped),
            "pairs_per_second": sum(len(one.pairs) for one in batch) / (time.perf_counter() - start),
        }
        if len(models) > 1:
            metrics["member"] = float(turn + 1)
        if own == steps and held_out:
            fit = measure(model, held_out, settings.micro_tokens)
            metrics |= {
                "held_out/accuracy": fit.accuracy,
                "held_out/loss": fit.loss,
                "held_out/calibration": fit.calibration,
            }
        if own % settings.log_every == 0 or own in (1, steps):
            record.write(step, metrics)
        keeper.after(step)
    return crowd


def measure(model: Scoring, prompts: Sequence[Comparisons], budget: int | None) -> Fit:
    """Accuracy, loss and calibration of the model (or of several as one) on the pairs of prompts, without training."""
    return fit_of(scores(model, [one.tree for one in prompts], budget), prompts)


def fit_of(numbers: Float[Tensor, " B"], prompts: Sequence[Comparisons]) -> Fit:
    """The same of the scores of every answer to every prompt, in order."""
    chosen, rejected, probabilities, _, shares = zip(*_rows(prompts), strict=True)
    delta = numbers[list(chosen)] - numbers[list(rejected)]
    p, weight = torch.tensor(probabilities), torch.tensor(shares)
    loss = (bradley_terry(delta, torch.zeros_like(delta), p, torch.zeros_like(p)) * weight).sum().item() / len(prompts)
    bins = calibration(delta.sigmoid(), p, bins=10)
    error = sum(share * abs(predicted - actual) for predicted, actual, share in bins)
    right = _right(delta, prompts)
    return Fit(_share(list(chain.from_iterable(right))), loss, error, bins, right)


def scores(model: Scoring, trees: Sequence[Tree], budget: int | None) -> Float[Tensor, " B"]:
    """The score of every branch of every tree, in order, on the CPU; units of reward."""
    with torch.no_grad():
        parts = [model.scores(micro.forest) for micro in micro_batches(trees, budget, model)]
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


def _shares(
    model: ScalarRole,
    prompts: Sequence[Comparisons],
    settings: Reward,
    crowd: Crowd | None,
    deltas: list[Tensor],
) -> Iterator[Tensor]:
    if crowd is not None:
        yield crowd.prior()
    for read in _read(model, prompts, settings.micro_tokens):
        margin = read.margin if settings.margin == "stated" else torch.zeros_like(read.margin)
        centred = settings.centring * centring(read.chosen, read.rejected)
        deltas.append((read.chosen - read.rejected).detach().float().cpu())
        if settings.loss == "plackett-luce":
            yield mean_over(_whole(read), len(prompts)) + mean_over(centred * read.weight, len(prompts))
            continue
        if crowd is None:
            loss = bradley_terry(read.chosen, read.rejected, read.probability, margin)
        else:
            loss = crowd.surprise(read.chosen - read.rejected, read.pairs)
        yield mean_over((loss + centred) * read.weight, len(prompts))


def _whole(read: _Read) -> Float[Tensor, " R"]:
    """How surprising each ranking is, over the rankings of its prompt; nats."""
    first = accumulate((len(one.tree.branches) for one in read.prompts), initial=0)
    rankings = [
        ([start + place for place in ranking], 1 / len(one.rankings))
        for start, one in zip(first, read.prompts, strict=False)
        for ranking in one.rankings
    ]
    answers = torch.tensor([answer for ranking, _ in rankings for answer in ranking])
    group = torch.tensor([number for number, (ranking, _) in enumerate(rankings) for _ in ranking])
    weight = torch.tensor([weight for _, weight in rankings])
    device = read.scores.device
    return plackett_luce(read.scores[answers.to(device)], group.to(device)) * weight.to(device)


def _read(model: Scoring, prompts: Sequence[Comparisons], budget: int | None) -> Iterator[_Read]:
    """The pairs of all prompts, micro-batch by micro-batch, in order; every answer is read once."""
    for micro in micro_batches([one.tree for one in prompts], budget, model):
        numbers = model.scores(micro.forest)
        part = [prompts[place] for place in micro.places]
        chosen, rejected, *columns = zip(*_rows(part), strict=True)
        probability, margin, weight = (torch.tensor(column).to(numbers.device) for column in columns)
        yield _Read(
            numbers[list(chosen)],
            numbers[list(rejected)],
            probability,
            margin,
            weight,
            tuple(pair for one in part for pair in one.pairs),
            numbers,
            tuple(part),
        )


def _rows(prompts: Sequence[Comparisons]) -> list[tuple[int, int, float, float, float]]:
    """For each pair: its two answers among those of all prompts, probability, margin, and 1 over the pairs of its
    prompt."""
    first = accumulate((len(one.tree.branches) for one in prompts), initial=0)
    return [
        (start + pair.chosen, start + pair.rejected, pair.probability, pair.margin, 1 / len(one.pairs))
        for start, one in zip(first, prompts, strict=False)
        for pair in one.pairs
    ]


def _right(delta: Float[Tensor, " P"], prompts: Sequence[Comparisons]) -> tuple[tuple[bool, ...], ...]:
    """For each prompt, whether each of its pairs with a preference (p ≠ ½) has the preferred answer strictly higher."""
    differences = iter(delta.tolist())
    found = []
    for one in prompts:
        read = [(next(differences), pair.probability) for pair in one.pairs]
        found.append(tuple(difference * (p - 0.5) > 0 for difference, p in read if p != 0.5))
    return tuple(found)


def _share(right: Sequence[bool]) -> float:
    """nan where there is none."""
    return sum(right) / len(right) if right else math.nan
