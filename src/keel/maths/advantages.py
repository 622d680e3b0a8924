"""Advantages that compare a rollout with others: whitening over a batch, baselines within a group.

`group` holds any integer per rollout; equal integers mean the same prompt, in any order. A group of
one, or one whose rewards are all equal, gets advantages of exactly 0.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

VARIANCE_FLOOR = 1e-8
"""Added to a variance before its root (reward²), so that a spread below 1e-4 counts as noise, not as signal."""


def whiten(x: Float[Tensor, "*S"], mask: Bool[Tensor, "*S"]) -> Float[Tensor, "*S"]:
    """Zero mean and unit variance over the valid entries.

        (x − μ)/√(σ² + 1e-8),    μ and σ² over mask only, σ² divided by the count (not count − 1)

    Any shape, the same for both; result without unit. Entries with mask False give 0 and, even nan,
    are never read. Raises ValueError when nothing is valid.
    Source: lm-human-preferences (Ziegler et al., 1909.08593); Huang et al. (2403.17031).
    """
    count = mask.sum()
    if count == 0:
        raise ValueError("nothing to whiten: the mask is False everywhere")
    mean = x.where(mask, 0).sum() / count
    deviation = (x - mean).where(mask, 0)
    return deviation / (deviation.square().sum() / count + VARIANCE_FLOOR).sqrt()


def group_zscore(rewards: Float[Tensor, " N"], group: Int[Tensor, " N"]) -> Float[Tensor, " N"]:
    """The reward's z-score within its group.

        (r_i − mean(r))/√(var(r) + 1e-8),    var = population variance (divided by G)

    Departure from the source, which divides by the bare std: the floor keeps groups with σ → 0
    from turning rounding noise into advantages of ±1.
    Shapes: [N], [N] → [N], without unit. Source: GRPO, Shao et al. (2402.03300), section 4.1.
    """
    deviation, group, size = _deviations(rewards, group)
    variance = _group_sum(deviation.square(), group) / size
    return deviation / (variance + VARIANCE_FLOOR).sqrt()


def leave_one_out(rewards: Float[Tensor, " N"], group: Int[Tensor, " N"]) -> Float[Tensor, " N"]:
    """The reward less the mean of the others of its group: unbiased, as no reward is in its own baseline.

        r_i − 1/(G−1)·Σ_{j≠i} r_j  =  G/(G−1)·(r_i − mean(r))

    Shapes: [N], [N] → [N], in reward. Source: RLOO, Kool et al. (2019); Ahmadian et al. (2402.14740).
    """
    deviation, _, size = _deviations(rewards, group)
    return deviation * size / (size - 1).clamp(min=1)


def group_centred(rewards: Float[Tensor, " N"], group: Int[Tensor, " N"]) -> Float[Tensor, " N"]:
    """The reward less the mean of its group, not divided by the std (which would replace β by β·σ).

        r_i − mean(r)

    Shapes: [N], [N] → [N], in reward. Source: Dr. GRPO, Liu et al. (2503.20783).
    """
    deviation, _, _ = _deviations(rewards, group)
    return deviation


def _deviations(rewards: Tensor, group: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """r − mean(r) of its group, the group renumbered from 0, and its size G; each [N]."""
    _, group = torch.unique(group, return_inverse=True)
    lowest = rewards.scatter_reduce(0, group, rewards, "amin", include_self=False)
    rewards = rewards - lowest[group]  # equal rewards become exactly 0, so that no rounding is left of them
    size = _group_sum(torch.ones_like(rewards), group)
    return rewards - _group_sum(rewards, group) / size, group, size


def _group_sum(x: Tensor, group: Tensor) -> Tensor:
    """Σ of x over the group of each entry, at each entry. Group numbers below N. [N], [N] → [N]."""
    return torch.zeros_like(x).index_add(0, group, x)[group]
