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
from keel.maths.losses import ppo_clipped
from keel.training.learner import StepReport
from keel.types import CriticSample, Valued


@dataclass
class Tally:
    """Sums over the optimizer steps of one update; the means come out of `metrics`."""

    tokens: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    steps: dict[str, list[StepReport]] = field(default_factory=dict)

    def read_policy(self, read: TokenLogprobs, old: Tensor, advantages: Tensor, clip: tuple[float, float]) -> None:
        """Take note of one micro-batch as the policy read it just before its step."""
        with torch.no_grad():
            logprobs = read.logprobs.detach()
            self.tokens += len(logprobs)
            # KL(π_old ‖ π): the tokens were sampled from π_old, so it is the first argument.
            self._add("policy/kl_old", k3(old, logprobs).sum())
            self._add("policy/clip_fraction", ppo_clipped(logprobs, old, advantages, *clip).float().sum())
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


def summarise(valued: Sequence[Valued], samples: Sequence[CriticSample], tally: Tally, coef: float) -> dict[str, float]:
    """The metrics of one update; docs/metrics.md says what each means and in which unit.

    `kl` is the mean over answers of the k1 sum, nats per answer: an unbiased estimate of KL(π‖π_ref) that can come out
    below 0 on a small batch. `kl_k3` is the same sum of the estimator that cannot.
    """
    scores = [one.scored.reward for one in valued]
    kl = [_kl(one) for one in valued]
    lengths = [float(len(one.logprobs)) for one in valued]
    reference = torch.tensor([x for one in valued for x in one.reference_logprobs])
    own = torch.tensor([x for one in valued for x in one.logprobs])
    sampler = torch.tensor([x for one in valued for x in one.scored.rollout.logprobs])
    metrics = {
        "reward": fmean(scores),
        "reward/std": pstdev(scores),
        "objective": fmean(score - coef * cost for score, cost in zip(scores, kl, strict=True)),
        "kl": fmean(kl),
        "kl_k3": k3(own, reference).sum().item() / len(valued),
        "kl_coef": coef,
        "length": fmean(lengths),
        "truncated": fmean(float(one.scored.rollout.stop == "length") for one in valued),
        # Sampled by the sampler, so its log-probs stand first.
        "sampler_kl": k3(sampler, own).mean().item(),
        "value/explained_variance": explained_variance(samples),
        "value/mean": fmean(x for one in samples for x in one.values),
        "return": fmean(x for one in samples for x in one.returns),
    }
    for name in valued[0].scored.parts:
        metrics[f"reward/{name}"] = fmean(one.scored.parts[name] for one in valued)
    return metrics | tally.metrics()


def explained_variance(samples: Sequence[CriticSample]) -> float:
    """1 − Var(G − V)/Var(G) over the update's sampled tokens: 1 is perfect, below 0 is worse than a constant.

    0 where the returns do not vary.
    """
    returns = torch.tensor([x for one in samples for x in one.returns])
    values = torch.tensor([x for one in samples for x in one.values])
    spread = returns.var(correction=0).item()
    return 1.0 - (returns - values).var(correction=0).item() / spread if spread > 0 else 0.0


def _kl(one: Valued) -> float:
    return sum(mine - theirs for mine, theirs in zip(one.logprobs, one.reference_logprobs, strict=True))
