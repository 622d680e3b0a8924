"""What must hold before anything is learnt: ratio 1, KL 0, and a sampler that agrees with the trainer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch

from keel.diagnostics.findings import Finding, level
from keel.maths.kl import k3

RATIO_AMBER = {torch.float32: 1e-3, torch.bfloat16: 2e-2}
"""|ratio − 1| that rounding does not reach, by the number format of products."""
KL_AMBER, KL_RED = 1e-4, 1e-2
"""Nats per token; policy and reference are the same weights, so only rounding may part them."""
SAMPLER_AMBER = 1e-3
"""Nats per token, as the monitor of a run has it."""
SAMPLER_LARGEST = 1e-2
"""Nats of one token in float32, a hundred times what rounding makes of it."""


def ratio(once: Sequence[float], again: Sequence[float], products: torch.dtype, clip: float) -> Finding:
    """The policy's log-probs of the same tokens, read twice in different batches: max |π/π_old − 1| before any step.

    Red where it reaches `clip`, the ε of PPO: tokens would then be clipped for nothing but noise.
    """
    largest = _largest(math.expm1(b - a) for a, b in zip(once, again, strict=True))
    amber = min(RATIO_AMBER[products], clip)
    return Finding(
        "Ratio at step 0",
        "red" if not largest < clip else level(largest, amber),
        f"The ratio is 1 within {largest:.1e} over {len(once)} tokens"
        + (f" (a look is due from {amber:g}, alarm from rl.clip {clip:g})." if not largest < amber else "."),
        "The same weights must give the same numbers twice: switch dropout off in the model's config, or try dtype: "
        "float32.",
    )


def distance(policy: Sequence[float], reference: Sequence[float]) -> Finding:
    """Mean k3 of log-probs of tokens that the policy sampled, nats per token: KL(π‖π_ref), 0 before any step."""
    mean = _k3(policy, reference)
    return Finding(
        "KL at step 0",
        "red" if not mean < KL_RED else level(mean, KL_AMBER),
        f"The KL is {mean:.1e} nats per token over {len(policy)} tokens"
        + (f" (a look is due from {KL_AMBER:g}, alarm from {KL_RED:g})." if not mean < KL_AMBER else "."),
        "PPO must start from its reference: both come from the fine-tuned model; do not merge or move an adapter in "
        "between.",
    )


def agreement(sampler: Sequence[float], trainer: Sequence[float], products: torch.dtype, clip: float) -> Finding:
    """Log-probs of sampled tokens as the sampler recorded them and as the trainer computes them: mean k3, max |Δ|.

    In nats per token. k3 ≈ Δ²/2 while Δ is small. Red from ε²/2: the root mean square of Δ is then as large as
    rl.clip, the most that an update may move a token. In float32 the largest Δ counts too.
    """
    mean, largest = _k3(sampler, trainer), _largest(b - a for a, b in zip(sampler, trainer, strict=True))
    red = clip**2 / 2
    wide = products == torch.float32 and largest >= SAMPLER_LARGEST
    verdict = "red" if not mean < red else "amber" if wide else level(mean, min(SAMPLER_AMBER, red))
    due = "" if verdict == "ok" else f" (a look is due from k3 {min(SAMPLER_AMBER, red):g}, alarm from {red:g})"
    return Finding(
        "Sampler and trainer",
        verdict,
        f"They are apart by k3 {mean:.1e}, at most by {largest:.1e}{due}.",
        "They read the same weights, so only rounding may part them: check dtype and the sampling temperature, and "
        "try dtype: float32.",
    )


def _k3(own: Sequence[float], other: Sequence[float]) -> float:
    return float(k3(torch.tensor(own, dtype=torch.float64), torch.tensor(other, dtype=torch.float64)).mean())


def _largest(numbers: Iterable[float]) -> float:
    """The largest absolute value; not a number where one of them is none."""
    found = [abs(number) for number in numbers]
    return math.nan if any(map(math.isnan, found)) else max(found, default=0.0)
