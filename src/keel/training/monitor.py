"""The numbers that say whether an online run is well: means over tokens or answers, each with its denominator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean, pstdev
from typing import Literal

import torch
from torch import Tensor

from keel.maths.kl import k3
from keel.maths.logprobs import TokenLogprobs
from keel.training.learner import StepReport
from keel.types import Annotated, CriticSample, Sample


@dataclass
class Tally:
    """Sums over the optimizer steps of one update; the means come out of `metrics`."""

    tokens: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    steps: dict[str, list[StepReport]] = field(default_factory=dict)
    settled: list[Sample] = field(default_factory=list)
    """What the policy read for the first time while it learnt."""

    def read_policy(self, read: TokenLogprobs, old: Tensor, clipped: Tensor | None) -> None:
        """Take note of one micro-batch as the policy read it just before its step; `clipped` says which tokens are held
        back, where any can be."""
        with torch.no_grad():
            logprobs = read.logprobs.detach()
            self.tokens += len(logprobs)
            # KL(π_old ‖ π): the tokens were sampled from π_old, so it is the first argument.
            self._add("policy/kl_old", k3(old, logprobs).sum())
            if clipped is not None:
                self._add("policy/clip_fraction", clipped.float().sum())
            self._add("policy/entropy", read.entropy.sum())

    def step(self, role: Literal["policy", "value"], report: StepReport) -> None:
        """Take note of one optimizer step."""
        self.steps.setdefault(role, []).append(report)

    def metrics(self) -> dict[str, float]:
        """Token means over the update's optimizer steps; losses and gradient norms are means over its steps."""
        found = {name: total / self.tokens for name, total in self.sums.items()}
        for role, reports in self.steps.items():
            found[f"{role}/loss"] = fmean(report.loss for report in reports)
            found[f"{role}/grad_norm"] = fmean(report.grad_norm for report in reports)
            found[f"{role}/lr"] = reports[-1].lr
            found[f"{role}/skipped"] = float(sum(report.skipped for report in reports))
        return found

    def _add(self, name: str, total: Tensor) -> None:
        self.sums[name] = self.sums.get(name, 0.0) + total.item()


def summarise(
    annotated: Sequence[Annotated], groups: Sequence[Sequence[Sample]], tally: Tally, coef: float
) -> dict[str, float]:
    """The metrics of one update; docs/metrics.md says what each means and in which unit.

    `kl` is the mean over answers of the k1 sum, nats per answer: an unbiased estimate of KL(π‖π_ref) that can come out
    below 0 on a small batch. `kl_k3` is the same sum of the estimator that cannot.
    """
    scores = [one.scored.reward for one in annotated]
    kl = [_kl(one) for one in annotated]
    lengths = [float(len(one.logprobs)) for one in annotated]
    reference = torch.tensor([x for one in annotated for x in one.reference_logprobs])
    own = torch.tensor([x for one in annotated for x in one.logprobs])
    sampler = torch.tensor([x for one in annotated for x in one.scored.rollout.logprobs])
    metrics = {
        "reward": fmean(scores),
        "reward/std": pstdev(scores),
        "objective": fmean(score - coef * cost for score, cost in zip(scores, kl, strict=True)),
        "kl": fmean(kl),
        "kl_k3": k3(own, reference).sum().item() / len(annotated),
        "kl_coef": coef,
        "length": fmean(lengths),
        "truncated": fmean(float(one.scored.rollout.stop == "length") for one in annotated),
        # Sampled by the sampler, so its log-probs stand first.
        "sampler_kl": k3(sampler, own).mean().item(),
    }
    samples = [sample for group in groups for sample in group]
    judged = [sample for sample in samples if isinstance(sample, CriticSample)]
    if judged:
        metrics["value/explained_variance"] = explained_variance(judged)
        metrics["value/mean"] = fmean(x for one in judged for x in one.values)
        metrics["return"] = fmean(x for one in judged for x in one.returns)
    if samples:
        metrics["importance"] = fmean(x for one in samples for x in one.weights)
    for name in annotated[0].scored.parts:
        metrics[f"reward/{name}"] = fmean(one.scored.parts[name] for one in annotated)
    return metrics | tally.metrics()


def explained_variance(samples: Sequence[CriticSample]) -> float:
    """1 − Var(G − V)/Var(G) over the update's sampled tokens: 1 is perfect, below 0 is worse than a constant.

    0 where the returns do not vary.
    """
    returns = torch.tensor([x for one in samples for x in one.returns])
    values = torch.tensor([x for one in samples for x in one.values])
    spread = returns.var(correction=0).item()
    return 1.0 - (returns - values).var(correction=0).item() / spread if spread > 0 else 0.0


def _kl(one: Annotated) -> float:
    return sum(mine - theirs for mine, theirs in zip(one.logprobs, one.reference_logprobs, strict=True))
