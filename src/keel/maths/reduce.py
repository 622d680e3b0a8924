"""Means that name their denominator.

The denominator is counted over the whole optimizer step and handed in. So the results of the
micro-batches (or of the machines) of a step add up to that of the whole batch, however it was split;
a mean taken per micro-batch and averaged would not.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def mean_over(x: Float[Tensor, " M"], count: int) -> Float[Tensor, ""]:
    """This micro-batch's share of the mean over `count` entries.

        1/count·Σ_m x_m

    [M] → scalar, in units of x. `count` = tokens (pairs, groups) of the whole optimizer step.
    An empty x gives 0. Raises ValueError for count below 1.
    Source: token mean, DAPO (2503.14476), section 3.3.
    """
    if count < 1:
        raise ValueError(f"a mean needs a count of at least 1, not {count}")
    return x.sum() / count


def sequence_mean(x: Float[Tensor, " M"], branch: Int[Tensor, " M"], branches: int) -> Float[Tensor, ""]:
    """This micro-batch's share of the mean over `branches` of each branch's own token mean.

        1/branches·Σ_b 1/|b|·Σ_{m∈b} x_m

    [M], [M] → scalar, in units of x. `branch` numbers the branches of this micro-batch from 0, none of
    them split between two; `branches` counts those of the whole optimizer step. A token in a long
    branch weighs less: the 1/|y| length bias of GRPO. Raises ValueError for `branches` below 1 or
    below the number present.
    Source: GRPO, Shao et al. (2402.03300), equation 3.
    """
    sizes = torch.bincount(branch)
    present = int((sizes > 0).sum())
    if branches < max(present, 1):
        raise ValueError(f"a mean over {branches} branches cannot hold the {present} that are present")
    return (x / sizes[branch]).sum() / branches
