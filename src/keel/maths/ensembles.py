"""Several reward models as one: of their scores, or of their weights.

E members score the same B answers, [E, B]. Only differences of a member's scores mean anything, so members are to be
brought to a common zero before they are compared.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def mean_score(scores: Float[Tensor, "E B"]) -> Float[Tensor, " B"]:
    """What the members say on average.

        1/E·Σ_e r_e

    [E, B] → [B], units of reward. Source: Coste et al. (2310.02743), section 3.2: "mean optimization".
    """
    return scores.mean(0)


def worst_case(scores: Float[Tensor, "E B"]) -> Float[Tensor, " B"]:
    """What the member says that likes the answer least.

        min_e r_e

    [E, B] → [B], units of reward. Source: Coste et al. (2310.02743), section 3.2: "worst-case optimization".
    """
    return scores.amin(0)


def uncertainty_weighted(scores: Float[Tensor, "E B"], penalty: float) -> Float[Tensor, " B"]:
    """The mean, less what the members disagree.

        r̄ − λ·1/E·Σ_e (r_e − r̄)²,    r̄ = 1/E·Σ_e r_e

    [E, B] → [B], units of reward; λ = `penalty`, per unit of reward: .1 for PPO and .5 for the best of n in the source.
    λ = 0 is the mean. Raises ValueError for λ below 0. Source: Coste et al. (2310.02743), section 3.2:
    "uncertainty-weighted optimization".
    """
    if not penalty >= 0:
        raise ValueError(f"the penalty on disagreement must be 0 or more, not {penalty}")
    return scores.mean(0) - penalty * scores.var(0, correction=0)


def disagreement(scores: Float[Tensor, "E B"]) -> Float[Tensor, " B"]:
    """How far the members are apart: the standard deviation of their scores, not that of a sample.

        √(1/E·Σ_e (r_e − r̄)²)

    [E, B] → [B], units of reward; 0 for one member. Source: Coste et al. (2310.02743), the root of their variance.
    """
    return scores.std(0, correction=0)


def mean_weights(members: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """One model whose every weight is the mean of the members' weights of that name.

        θ = 1/E·Σ_e θ_e

    Shapes and dtypes are those of the members, which must have the same names: KeyError otherwise, ValueError for no
    members. It makes sense where they start from the same weights, and so stay linearly connected.
    Source: WARM, Ramé et al. (2401.12187), section 3.2.
    """
    if not members:
        raise ValueError("there are no members to take the mean of")
    if any(one.keys() != members[0].keys() for one in members):
        raise KeyError("the members have not the same weights")
    return {name: torch.stack([one[name] for one in members]).mean(0) for name in members[0]}
