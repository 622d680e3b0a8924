"""Estimators of KL(π‖π_ref) from one token each.

All three take log-probs (nats) of the same tokens, sampled from π, as two tensors of one shape, return
that shape, and write u = log π_ref − log π.

    estimator   value              as an on-policy loss
    k1          unbiased           expected gradient 0: use it in the reward, never in the loss
    k2          biased (low var.)  the gradient of KL
    k3          unbiased, ≥ 0      not the gradient of KL: its optimum is not π_ref·exp(r/β)

Source: Schulman, "Approximating KL Divergence" (2020), http://joschu.net/blog/kl-approx.html
"""

from jaxtyping import Float
from torch import Tensor


def k1(logprobs: Float[Tensor, "*S"], reference: Float[Tensor, "*S"]) -> Float[Tensor, "*S"]:
    """k1 = −u = log π − log π_ref: unbiased, of either sign. Any shape, in nats."""
    return logprobs - reference


def k2(logprobs: Float[Tensor, "*S"], reference: Float[Tensor, "*S"]) -> Float[Tensor, "*S"]:
    """k2 = u²/2: the one whose gradient, on tokens sampled from π, is that of KL. Any shape, in nats."""
    return (reference - logprobs).square() / 2


def k3(logprobs: Float[Tensor, "*S"], reference: Float[Tensor, "*S"]) -> Float[Tensor, "*S"]:
    """k3 = eᵘ − 1 − u: unbiased and never negative. Any shape, in nats.

    Not symmetric: with the arguments swapped it still looks like a KL, and is another number.
    `expm1` keeps the digits that eᵘ − 1 loses while π ≈ π_ref. Infinite where u overflows exp.
    """
    u = reference - logprobs
    return u.expm1() - u
