"""Credit over time: from rewards and values per token to advantages per token."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def gae(
    rewards: Float[Tensor, "B T"],
    values: Float[Tensor, "B T"],
    mask: Bool[Tensor, "B T"],
    gamma: float,
    lam: float,
) -> Float[Tensor, "B T"]:
    """Generalised advantage estimation over the tokens that the policy sampled.

        δ_t = r_t + γ·V_t⁺ − V_t,    A_t = δ_t + γ·λ·A_t⁺,    t⁺ = the next *sampled* token, V = A = 0 after the last

    Departure from the source: a step goes from one sampled token to the next, whatever padding or
    text of the environment (mask False) lies between. So the result equals that of the same sequence
    with those tokens cut out; they get advantage 0, and what stands in `rewards` and `values` there,
    even nan, is never read. A terminal reward therefore belongs on the last sampled token.

    Shapes: all [B, T]. Units: reward. `values` is V of the state before token t. The return, the
    critic's target, is A + V before any whitening; with λ = γ = 1 it is the sum of rewards to come.
    Raises ValueError unless γ and λ lie in [0, 1].
    Source: Schulman et al. (1506.02438), equation 16.
    """
    if not (0 <= gamma <= 1 and 0 <= lam <= 1):
        raise ValueError(f"gamma and lam must lie in [0, 1], not {gamma} and {lam}")
    advantage = next_value = rewards.new_zeros(rewards.shape[0])
    steps = []
    for reward, value, sampled in reversed(list(zip(rewards.unbind(1), values.unbind(1), mask.unbind(1), strict=True))):
        delta = reward + gamma * next_value - value
        advantage = torch.where(sampled, delta + gamma * lam * advantage, advantage)
        next_value = torch.where(sampled, value, next_value)
        steps.append(advantage.where(sampled, 0))
    return torch.stack(steps[::-1], dim=1) if steps else torch.zeros_like(rewards)


def soft_overlong(lengths: Float[Tensor, " N"], limit: int, buffer: int) -> Float[Tensor, " N"]:
    """What an answer loses for coming near to the token limit: nothing, then more and more, and 1 where it is cut off.

        0                            |y| ≤ limit − buffer
        ((limit − buffer) − |y|)/buffer        up to limit: 0 … −1

    [N] tokens → [N], reward. `buffer` = 0 leaves everything as it is. Raises ValueError unless 0 ≤ buffer ≤ limit.
    Source: DAPO, Yu et al. (2503.14476), equation 13.
    """
    if not 0 <= buffer <= limit:
        raise ValueError(f"the buffer before the limit of {limit} tokens must lie in between, not {buffer}")
    if buffer == 0:
        return torch.zeros_like(lengths)
    return ((limit - buffer - lengths) / buffer).clamp(-1, 0)
