"""The best of n answers: what it would score, and how far it is from the policy that wrote them."""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def best_of(proxy: Float[Tensor, " N"], score: Float[Tensor, " N"], n: int) -> Float[Tensor, ""]:
    """The expected score of the answer that the proxy likes best among n, from N ≥ n answers to one prompt.

        1/C(N, n) Σ_i C(i − 1, n − 1)·score_(i),    (1), …, (N) in ascending order of the proxy

    An unbiased estimate: the mean over all subsets of n answers. With `score` = `proxy` it is what the proxy says of
    its own choice, with another score what that one says of it. Answers that the proxy likes alike share their
    weights; of right and wrong answers (1 and 0, as both) it is pass@n. Shapes: [N], [N] → scalar, in units of `score`.
    Raises ValueError unless 1 ≤ n ≤ N.
    Source: Nakano et al. (2112.09332), appendix I; Gao et al. (2210.10760).
    """
    total: Tensor = (best_of_weights(proxy, n) * score).sum()
    return total


def best_of_weights(proxy: Float[Tensor, " N"], n: int) -> Float[Tensor, " N"]:
    """P(answer i is the best of a random subset of n), [N], sum 1; ties share theirs. Errors as `best_of`."""
    count = len(proxy)
    if not 1 <= n <= count:
        raise ValueError(f"the best of {n} cannot be told from {count} answers")
    whole = _log_choose(count, n)
    ranks = [math.exp(_log_choose(i, n - 1) - whole) if i >= n - 1 else 0.0 for i in range(count)]
    order = proxy.argsort()
    weights = torch.zeros_like(proxy).index_put((order,), torch.tensor(ranks, dtype=proxy.dtype, device=proxy.device))
    _, alike, size = torch.unique(proxy, return_inverse=True, return_counts=True)
    levels = torch.zeros_like(weights).index_add(0, alike, weights)[: len(size)]
    shares: Tensor = (levels / size)[alike]
    return shares


def best_of_kl(n: int) -> float:
    """KL(best of n ‖ the policy) at most, per answer.

        log n − (n − 1)/n

    Nats; equal where no two answers are liked alike. Raises ValueError for n below 1.
    Source: Stiennon et al. (2009.01325), appendix G.3; that it is a bound: Beirami et al. (2401.01879).
    """
    if n < 1:
        raise ValueError(f"the best of {n} answers is not defined")
    return math.log(n) - (n - 1) / n


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
