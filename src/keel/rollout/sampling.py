"""Drawing one token per row from a filtered softmax, with random numbers that belong to the row alone.

Shape suffixes: B rows, V vocabulary, N numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt64
from torch import Tensor
from torch.nn.functional import pad

from keel.rollout.generator import Sampling

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2⁶⁴ / golden ratio, the step of the splitmix64 sequence
_UNIT = 2.0**52  # probability 1 in the integer weights of `draw`: Σ ≤ 2⁵³ stays exact in float64
_BLOCK = 64
_NUMBERS = 1 << 22
"""Integers that `draw` holds at once, beside one row's."""
_NUMBERS_CUDA = 1 << 26
"""The same on a GPU (512 MiB), where it is the calls that cost."""


def splitmix64(state: UInt64[np.ndarray, "*shape"]) -> UInt64[np.ndarray, "*shape"]:
    """The output of splitmix64 at a state: a bijection of 64 bits whose every output bit depends on every input bit.

    Steele, Lea, Flood, "Fast splittable pseudorandom number generators" (2014), finaliser of Stafford, variant 13.
    """
    mixed = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    output: UInt64[np.ndarray, "*shape"] = mixed ^ (mixed >> np.uint64(31))
    return output


def uniforms(seeds: list[int], steps: int) -> Float[np.ndarray, "B S"]:
    """One number in [0, 1) per seed and step, of 53 bits: u[b, s] is a function of (seeds[b], s) and of nothing else.

    Counter-based: splitmix64 at (splitmix64(seed) + (s + 1)·golden), top 53 bits. Seeds are taken modulo 2⁶⁴.
    """
    streams = splitmix64(np.array([seed % 2**64 for seed in seeds], dtype=np.uint64))
    counters = np.arange(1, steps + 1, dtype=np.uint64) * _GOLDEN
    bits = splitmix64(streams[:, None] + counters[None, :])
    numbers: Float[np.ndarray, "B S"] = (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return numbers


def allowed(probabilities: Float[Tensor, "B V"], sampling: Sampling) -> Bool[Tensor, "B V"]:
    """Which tokens may be drawn. Each filter keeps a prefix of the tokens in order of falling probability:

        top-k   the k most likely;
        top-p   of what is left, renormalised: the shortest prefix whose probability is ≥ p;
        min-p   those with a probability of at least min_p times that of the most likely one.

    The most likely token always stays. Equal probabilities rank by token id, so that top-k keeps exactly k.
    Sources: top-k, Fan et al., 1805.04833; top-p, Holtzman et al., 1904.09751; min-p, Nguyen et al., 2407.01082.
    """
    ranked, order = probabilities.sort(dim=-1, descending=True, stable=True)
    keep = torch.ones_like(ranked, dtype=torch.bool)
    if sampling.top_k:
        keep[:, sampling.top_k :] = False
    if sampling.top_p < 1:
        left = (ranked * keep).to(torch.float64)
        before = left.cumsum(dim=-1) - left
        keep &= before < sampling.top_p * left.sum(dim=-1, keepdim=True)
    if sampling.min_p:
        keep &= ranked >= sampling.min_p * ranked[:, :1]
    return torch.zeros_like(keep).scatter(-1, order, keep)


def draw(
    probabilities: Float[Tensor, "B V"], keep: Bool[Tensor, "B V"] | None, uniform: Float[Tensor, " B"]
) -> Int[Tensor, " B"]:
    """The token at which the running sum of the kept probabilities passes u times their total (inverse CDF).

    Probabilities become integers, ⌊2⁵²·p⌋, before they are summed: integer sums are exact in any order, on any device,
    so a token of weight 0 spans no u at all and can never be drawn, and u → 1 still falls on a token of weight > 0.
    For the same reason the sum may run over blocks of tokens first and then within one block. A few rows are drawn at
    once: the integers of all would take more memory than all else that a step of sampling needs.
    """
    rows = max(1, (_NUMBERS_CUDA if probabilities.is_cuda else _NUMBERS) // probabilities.shape[1])
    if len(probabilities) > rows:
        keeps = [None] * -(-len(probabilities) // rows) if keep is None else torch.split(keep, rows)
        parts = zip(torch.split(probabilities, rows), keeps, torch.split(uniform, rows), strict=True)
        return torch.cat([draw(*part) for part in parts])
    weights = (probabilities * _UNIT).to(torch.int64)  # a power of two: the product is exact
    if keep is not None:
        weights = weights * keep
    short = -weights.shape[1] % _BLOCK
    blocks = (pad(weights, (0, short)) if short else weights).view(len(weights), -1, _BLOCK)
    running = blocks.sum(-1).cumsum(-1)
    total = running[:, -1:]
    target = (uniform[:, None].to(torch.float64) * total).to(torch.int64).minimum(total - 1)
    # where probabilities are no numbers the sum may pass nowhere: a token all the same, whose log-prob is none either
    block = torch.searchsorted(running, target, right=True).clamp(max=running.shape[1] - 1)
    left = target - torch.where(block > 0, running.gather(1, (block - 1).clamp(min=0)), 0)
    within = blocks[torch.arange(len(blocks), device=blocks.device), block[:, 0]].cumsum(-1)
    token = block * _BLOCK + torch.searchsorted(within, left, right=True)
    return token.clamp(max=probabilities.shape[1] - 1).squeeze(-1)


@dataclass(frozen=True)
class Drawn:
    """One token per row and its log-prob (nats) at the sampling temperature over the whole vocabulary.

    Where a row's logits are not numbers its log-prob is NaN and its token any."""

    tokens: Int[Tensor, " B"]
    logprobs: Float[Tensor, " B"]


def next_tokens(logits: Float[Tensor, "B V"], sampling: Sampling, uniform: Float[Tensor, " B"]) -> Drawn:
    """p = softmax(logits / T), in fp32 or wider, and log p; the token by `draw`, or argmax where T = 0.

    Greedy rows have no temperature to record: their log-probs are those of T = 1. Of equal logits the lowest id wins.
    """
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    probabilities = torch.softmax(wide if sampling.temperature in (0.0, 1.0) else wide / sampling.temperature, dim=-1)
    if sampling.temperature == 0:
        tokens = wide.argmax(dim=-1)
    else:
        filtered = sampling.top_k or sampling.top_p < 1 or sampling.min_p
        tokens = draw(probabilities, allowed(probabilities, sampling) if filtered else None, uniform)
    return Drawn(tokens, probabilities.gather(-1, tokens[:, None]).squeeze(-1).log())
