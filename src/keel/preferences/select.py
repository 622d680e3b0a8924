"""Which pair next: how promising each candidate is, and the exact probability with which it was chosen.

Candidates are C pairs of answers. Their promise is read off an ensemble of M reward models with scores r, [M, S]:

    disagreement   Var_m σ(r_mi − r_mj)                                    Christiano et al. 2017; Gleave & Irving 2022
    BALD           H(mean_m p_m) − mean_m H(p_m), p_m = σ(r_mi − r_mj)     Houlsby et al. 2011, in nats
    double Thompson sampling   {i, j} with i the best answer of one member, j that of another drawn until j ≠ i
                                                                           Wu & Liu 2016; Dwaracherla et al. 2024

A policy gives every candidate that is left a probability q. `Mixed` puts a random share in front of it,

    π(c) = (1 − ε)·q(c) + ε/(number left)

so that each candidate can be chosen, and what is measured on the chosen can be weighed back to all (`weights`). A batch
is drawn one by one without replacement; the propensity of each draw is π(c) given the draws before it.

Two ways to use it. A training loop that asks for labels calls `choose`. A labelling server is given `priorities`, one
number per item; it serves the highest, or with probability ε any, and logs `served_propensity`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

Strategy = Literal["random", "disagreement", "bald", "double-thompson"]
_ALWAYS = 1 - 1e-9  # a share of the members above this is all of them


def disagreement(scores: Float[np.ndarray, "M S"], pairs: Int[np.ndarray, "C 2"]) -> Float[np.ndarray, " C"]:
    """Var_m σ(r_mi − r_mj) over the members (divided by M): 0 where all agree, ¼ where half say 0 and half say 1."""
    return np.asarray(_sigmoid(_gaps(scores, pairs)).var(axis=0))


def bald(scores: Float[np.ndarray, "M S"], pairs: Int[np.ndarray, "C 2"]) -> Float[np.ndarray, " C"]:
    """The mutual information of the next vote and the member, in nats: 0 … ln 2.

        H(p̄) − (1/M) Σ_m H(p_m),   H(p) = −p ln p − (1 − p) ln(1 − p)

    For small spread it is Var_m p_m / 2p̄(1 − p̄): of two pairs with the same variance, the one on which the members are
    surer. A pair that every member calls a coin's toss is worth nothing.
    """
    gaps = _gaps(scores, pairs)
    first, second = _sigmoid(gaps), _sigmoid(-gaps)
    # H(σ(x)) = first·ln(1 + e^−x) + second·ln(1 + e^x): no logarithm of 0
    each = first * np.logaddexp(0, -gaps) + second * np.logaddexp(0, gaps)
    together = -(_x_log_x(first.mean(axis=0)) + _x_log_x(second.mean(axis=0)))
    return np.asarray(np.maximum(together - each.mean(axis=0), 0.0))


def double_thompson(
    scores: Float[np.ndarray, "M S"], pairs: Int[np.ndarray, "C 2"], prompt: Int[np.ndarray, " S"]
) -> Float[np.ndarray, " C"]:
    """The probability of each pair: a prompt at random, then its best answer in the eyes of two members.

        w_i = share of the members whose best answer to the prompt is i (members that see several alike are split)
        P({i, j}) = w_i·w_j/(1 − w_i) + w_j·w_i/(1 − w_j);   1/(K − 1) for each j where all members want i (w_i = 1)

    `prompt` says which prompt each answer belongs to; pairs join answers of one prompt. Where not all pairs of a prompt
    are candidates, it is drawn again until one comes up; a prompt of which none can come up has its candidates alike.
    Dwaracherla et al. give up after 30 draws and take any answer; here the drawing goes on while it can succeed. With
    two answers to each prompt there is nothing to choose, and this is the same as at random.
    """
    if (prompt[pairs[:, 0]] != prompt[pairs[:, 1]]).any() or (pairs[:, 0] == pairs[:, 1]).any():
        raise ValueError("double Thompson sampling compares two answers to one prompt, and a pair is none")
    wanted = _best(_finite(scores), prompt)
    one, other = wanted[pairs[:, 0]], wanted[pairs[:, 1]]
    both = one * other * (_inverse(1 - one) + _inverse(1 - other))
    unanimous = np.maximum(one, other) > _ALWAYS
    chance = np.where(unanimous, 1.0, both)  # the same for each other answer; what it is falls out below
    _, group, count = np.unique(prompt[pairs[:, 0]], return_inverse=True, return_counts=True)
    total = np.bincount(group, weights=chance)
    within = np.where(total[group] > 0, chance * _inverse(total[group]), 1 / count[group])
    return np.asarray(within / len(count))


@dataclass(frozen=True, eq=False)
class Greedy:
    """The candidate with the highest score; several that share it are equally probable."""

    score: Float[np.ndarray, " C"]

    def probabilities(self, left: Bool[np.ndarray, " C"]) -> Float[np.ndarray, " C"]:
        """1/(number of the best) for the best of those left."""
        highest = left & (self.score == self.score[left].max())
        return np.asarray(highest / highest.sum())


@dataclass(frozen=True, eq=False)
class Proportional:
    """A candidate with probability ∝ its weight ≥ 0 among those left; where only weights of 0 are left, any of them."""

    weight: Float[np.ndarray, " C"]

    def __post_init__(self) -> None:
        if not (np.isfinite(self.weight).all() and (self.weight >= 0).all()):
            raise ValueError("a weight is negative or not finite")

    def probabilities(self, left: Bool[np.ndarray, " C"]) -> Float[np.ndarray, " C"]:
        """weight/Σ weight over those left."""
        weight = np.where(left, self.weight, 0.0)
        weight = weight if weight.sum() > 0 else left.astype(float)
        return np.asarray(weight / weight.sum())


Policy = Greedy | Proportional
"""Either says how probable each candidate is as the next, over those `left` (at least one): 0 for the others."""


@dataclass(frozen=True, eq=False)
class Mixed:
    """π = (1 − ε)·q + ε·uniform over those left. `name` is what is logged with a judgement."""

    policy: Policy
    name: str
    epsilon: float = 0.2

    def __post_init__(self) -> None:
        if not 0 <= self.epsilon <= 1:
            raise ValueError(f"a random share of {self.epsilon}: must lie between 0 and 1")

    def probabilities(self, left: Bool[np.ndarray, " C"]) -> Float[np.ndarray, " C"]:
        """At least ε/(number left) for each that is left."""
        return np.asarray((1 - self.epsilon) * self.policy.probabilities(left) + self.epsilon * left / left.sum())


def policy(
    strategy: Strategy,
    scores: Float[np.ndarray, "M S"],
    pairs: Int[np.ndarray, "C 2"],
    prompt: Int[np.ndarray, " S"],
    epsilon: float = 0.2,
) -> Mixed:
    """The strategy with its random share. "disagreement" and "bald" take the highest, "double-thompson" draws.

    Scores [M, S] of every answer by every member, pairs [C, 2] of answers, prompt [S] of each answer. Scores must be
    finite; "random" looks at none.
    """
    if strategy == "disagreement":
        return Mixed(Greedy(disagreement(scores, pairs)), strategy, epsilon)
    if strategy == "bald":
        return Mixed(Greedy(bald(scores, pairs)), strategy, epsilon)
    if strategy == "double-thompson":
        return Mixed(Proportional(double_thompson(scores, pairs, prompt)), strategy, epsilon)
    return Mixed(Proportional(np.ones(len(pairs))), strategy, epsilon)


@dataclass(frozen=True)
class Choice:
    """A candidate (its index), by which policy, and with which probability among the `left` that were left then."""

    candidate: int
    policy: str
    propensity: float
    left: int


def choose(policy: Mixed, count: int, rng: np.random.Generator, left: Bool[np.ndarray, " C"]) -> list[Choice]:
    """`count` different candidates of those `left`, drawn one after the other; all of them where fewer are left.

    The propensity of draw t is π(c_t | c_1 … c_{t−1}): the policy renormalised (or, if greedy, asked again) over what
    is left. It is not the probability of being in the batch.
    """
    left = left.copy()
    chosen = []
    for _ in range(min(count, int(left.sum()))):
        probabilities = policy.probabilities(left)
        candidate = int(rng.choice(len(left), p=probabilities / probabilities.sum()))
        chosen.append(Choice(candidate, policy.name, float(probabilities[candidate]), int(left.sum())))
        left[candidate] = False
    return chosen


def weights(choices: Sequence[Choice]) -> Float[np.ndarray, " n"]:
    """What each choice counts for, so that the mean over the chosen stands for all candidates.

        v_t = 1 + (N − n)/(N − t) · (1/((N − t + 1)·π_t) − 1)        t = 1 … n draws from N candidates
        E[(1/n) Σ_t v_t f(c_t)] = (1/N) Σ_c f(c)                      for every f, if every π was above 0

    All are 1 where the choice was random, or where everything was chosen. Source: Farquhar, Gal & Rainforth (2021),
    "On statistical bias in active learning", their R_LURE. Raises ValueError unless the choices are all those
    of one sequence of draws, in their order. With ε = 0 a greedy policy cannot be weighed back.
    """
    count, size = len(choices), choices[0].left if choices else 0
    left = np.array([choice.left for choice in choices])
    propensity = np.array([choice.propensity for choice in choices])
    if (left != size - np.arange(count)).any() or (propensity <= 0).any():
        raise ValueError("these are not the draws of one sequence: each leaves one candidate fewer, and has π > 0")
    if count == size:
        return np.ones(count)
    return np.asarray(1 + (size - count) / (left - 1) * (1 / (left * propensity) - 1))


def priorities(policy: Mixed, rng: np.random.Generator) -> Float[np.ndarray, " C"]:
    """A number for each candidate, so that serving the highest first is serving by the policy without its random share.

    Greedy: the score. Proportional: ln weight + Gumbel noise, whose order is that of drawing one after the other
    without replacement (Efraimidis & Spirakis 2006), whichever others the random share takes away in between; −inf
    where the weight is 0: last.
    """
    if isinstance(policy.policy, Greedy):
        return policy.policy.score
    weight = policy.policy.weight
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(weight) + rng.gumbel(size=len(weight)))


def served_propensity(best: bool, tied: int, left: int, epsilon: float = 0.2) -> float:
    """The probability of serving an item, given the priorities of all `left` items that could be served.

        (1 − ε)·[it has the highest priority]/tied + ε/left

    `tied` items share the highest priority, one of which is taken at random; either way of coming to the item counts.
    """
    if not 1 <= tied <= left or not 0 <= epsilon <= 1:
        raise ValueError(f"{tied} best of {left} items with a random share of {epsilon}")
    return (1 - epsilon) * best / tied + epsilon / left


def _gaps(scores: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """r_mi − r_mj, [M, C]."""
    finite = _finite(scores)
    return np.asarray(finite[:, pairs[:, 0]] - finite[:, pairs[:, 1]])


def _finite(scores: np.ndarray) -> np.ndarray:
    if len(scores) == 0 or not np.isfinite(scores).all():
        raise ValueError("an ensemble needs a member, and scores that are finite numbers")
    return scores


def _best(scores: np.ndarray, prompt: np.ndarray) -> np.ndarray:
    """w [S]: the share of the members whose best answer to its prompt this is."""
    _, group, size = np.unique(prompt, return_inverse=True, return_counts=True)
    order, starts = np.argsort(group, kind="stable"), np.cumsum(size) - size
    best = scores == np.maximum.reduceat(scores[:, order], starts, axis=1)[:, group]
    alike = np.add.reduceat(best[:, order].astype(float), starts, axis=1)[:, group]
    return np.asarray((best / alike).mean(axis=0))


def _inverse(x: np.ndarray) -> np.ndarray:
    """1/x, and 0 for x = 0 (within rounding)."""
    return np.asarray(np.divide(1.0, x, out=np.zeros_like(x), where=x > 1 - _ALWAYS))


def _x_log_x(x: np.ndarray) -> np.ndarray:
    return np.asarray(x * np.log(np.where(x > 0, x, 1.0)))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)))
