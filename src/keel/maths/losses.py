"""Losses, one number per token, pair or group; `reduce` takes the means."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import logsigmoid


def nll(logprobs: Float[Tensor, " M"]) -> Float[Tensor, " M"]:
    """Negative log-likelihood of the tokens to imitate.

        −log π(y_t)

    [M] → [M], nats. Source: the definition; the loss of supervised fine-tuning.
    """
    return -logprobs


def bradley_terry(
    chosen: Float[Tensor, " P"],
    rejected: Float[Tensor, " P"],
    probability: Float[Tensor, " P"],
    margin: Float[Tensor, " P"],
) -> Float[Tensor, " P"]:
    """How surprising the judgements of a pair are, given its two scores.

        −p·log σ(Δ − m) − (1−p)·log σ(−Δ − m),    Δ = r_chosen − r_rejected

    Departure from the sources, each of which has only one of p and m: the loss is the mean over the
    judgements, and each judgement demands the margin m for its own winner. So a tie (p = ½) wants
    Δ = 0 whatever m is, and swapping the two completions with p → 1 − p changes nothing.

    Shapes: four times [P] → [P], nats. p = P(chosen is preferred); m ≥ 0 in units of reward; p = 1
    and m = 0 is plain Bradley–Terry. Raises ValueError for p outside [0, 1] or m below 0.
    Source: Bradley and Terry (1952); margin: Llama 2 (2307.09288), equation 2.
    """
    if not ((probability >= 0) & (probability <= 1)).all():
        raise ValueError("a preference probability lies outside [0, 1]")
    if not (margin >= 0).all():
        raise ValueError("a preference margin is below 0; swap the pair instead")
    delta = chosen - rejected
    return -probability * logsigmoid(delta - margin) - (1 - probability) * logsigmoid(-delta - margin)


def crowd_bradley_terry(
    delta: Float[Tensor, " V"],
    preferred: Float[Tensor, " V"],
    side: Float[Tensor, " V"],
    honesty: Float[Tensor, " V"],
    lean: Float[Tensor, " V"],
) -> Float[Tensor, " V"]:
    """How surprising single votes are, by people some of whom do not read, or lean to one side.

        −y·log P − (1−y)·log(1 − P),    P = η·σ(z) + (1−η)·σ(−z),    z = Δ + b·s,    η = σ(h)

    With probability η the annotator says what they see, else the opposite; η = ½ is somebody whose votes say nothing,
    and their gradient on Δ is 0. η = 1 and b = 0 is Bradley–Terry.

    Departure from the source: the lean b, and y = ½ for a tie. Shapes: five times [V] → [V], nats. Δ = r_one − r_other;
    y in [0, 1] is the vote for the one; s = +1 where the one stood on the left, −1 on the right, 0 unknown; h = logit η
    and b > 0, a lean to the left, are the annotator's. Raises ValueError for y outside [0, 1].
    Source: Chen et al. (2013), "Pairwise ranking aggregation in a crowdsourced setting", equation 4.
    """
    if not ((preferred >= 0) & (preferred <= 1)).all():
        raise ValueError("a vote lies outside [0, 1]")
    z = delta + lean * side
    for_one = torch.logaddexp(logsigmoid(honesty) + logsigmoid(z), logsigmoid(-honesty) + logsigmoid(-z))
    for_other = torch.logaddexp(logsigmoid(honesty) + logsigmoid(-z), logsigmoid(-honesty) + logsigmoid(z))
    return -preferred * for_one - (1 - preferred) * for_other


def centring(chosen: Float[Tensor, " P"], rejected: Float[Tensor, " P"]) -> Float[Tensor, " P"]:
    """Penalty that holds the scores around 0, of which Bradley–Terry sees only differences.

        (r_chosen + r_rejected)²

    [P], [P] → [P], reward²; the usual coefficient is 0.01.
    Source: Eisenstein et al. (2312.09244).
    """
    return (chosen + rejected).square()


def kwise(scores: Float[Tensor, " B"], group: Int[Tensor, " B"]) -> Float[Tensor, " G"]:
    """Bradley–Terry over all pairs of one prompt's ranked completions.

        1/C(K,2)·Σ_{i<j} −log σ(r_i − r_j),    best first within a group

    Shapes: scores [B], group [B] → [G], nats, one loss per group in ascending order of its number.
    The order within a group is the ranking; groups may differ in K and need not be contiguous.
    Raises ValueError where a group has fewer than two completions. K = 2 is Bradley–Terry.
    Source: InstructGPT, Ouyang et al. (2203.02155), equation 1.
    """
    worse, group = _ranked(group)
    better, worse = worse.nonzero(as_tuple=True)
    losses = -logsigmoid(scores[better] - scores[worse])
    pairs = torch.bincount(group[better])
    return losses.new_zeros(len(pairs)).index_add(0, group[better], losses) / pairs


def plackett_luce(scores: Float[Tensor, " B"], group: Int[Tensor, " B"]) -> Float[Tensor, " G"]:
    """How surprising a whole ranking is, when the best of what is left is drawn again and again.

        −Σ_i [ r_i − log Σ_{j≥i} exp r_j ],    best first within a group

    Shapes, order and errors as in `kwise`; nats per ranking. Flat scores give ln K!; K = 2 is
    Bradley–Terry. Source: Plackett (1975), Luce (1959).
    """
    worse, group = _ranked(group)
    remaining = worse | torch.eye(len(scores), dtype=torch.bool, device=scores.device)
    losses = scores.expand(len(scores), -1).masked_fill(~remaining, -torch.inf).logsumexp(1) - scores
    return losses.new_zeros(len(torch.bincount(group))).index_add(0, group, losses)


def ppo_clip(
    logprobs: Float[Tensor, " M"],
    old_logprobs: Float[Tensor, " M"],
    advantages: Float[Tensor, " M"],
    low: float,
    high: float,
) -> Float[Tensor, " M"]:
    """The clipped surrogate of PPO, as a loss.

        max(−ρA, −clip(ρ, 1 − low, 1 + high)·A),    ρ = π/π_old

    Shapes: three times [M] → [M], in units of A. `old_logprobs` are the trainer's, of the policy that
    sampled. Raises ValueError unless 0 ≤ low ≤ 1 and 0 ≤ high, and where old log-probs or advantages
    carry a gradient (undetached, they would cancel the policy gradient without a trace).
    Source: Schulman et al. (1707.06347), equation 7; low ≠ high: DAPO (2503.14476).
    """
    _check_bounds(low, high)
    _check_constant("old_logprobs", old_logprobs)
    _check_constant("advantages", advantages)
    ratio = (logprobs - old_logprobs).exp()
    return torch.maximum(-ratio * advantages, -ratio.clamp(1 - low, 1 + high) * advantages)


def over_branches(x: Float[Tensor, " M"], branch: Int[Tensor, " M"]) -> Float[Tensor, " M"]:
    """The mean over each branch's tokens, at each of them.

        1/|b|·Σ_{m∈b} x_m

    [M], [M] → [M]. `branch` numbers the branches from 0; none may be split between two micro-batches. Handed the
    log-probs of π and π_old, `ppo_clip` then clips (π(y)/π_old(y))^(1/|y|), one ratio for a whole answer.
    Source: GSPO, Zheng et al. (2507.18071), equation 7.
    """
    sizes = torch.bincount(branch).to(x.dtype)
    return (x.new_zeros(len(sizes)).index_add(0, branch, x) / sizes)[branch]


def cispo(
    logprobs: Float[Tensor, " M"], old_logprobs: Float[Tensor, " M"], advantages: Float[Tensor, " M"], high: float
) -> Float[Tensor, " M"]:
    """The policy gradient under a clipped importance weight: no token is silenced, however far its ratio has moved.

        −sg(min(ρ, 1 + high))·A·log π,    ρ = π/π_old

    Shapes and errors as in `ppo_clip`, → [M]; the gradient is in units of A. The source clips from above only.
    Source: MiniMax-M1 (2506.13585), equation 4.
    """
    _check_bounds(0.0, high)
    _check_constant("old_logprobs", old_logprobs)
    _check_constant("advantages", advantages)
    weight = (logprobs.detach() - old_logprobs).exp().clamp(max=1 + high)
    return -weight * advantages * logprobs


def policy_gradient(logprobs: Float[Tensor, " M"], advantages: Float[Tensor, " M"]) -> Float[Tensor, " M"]:
    """The likelihood-ratio gradient itself, without a ratio; right for the policy that sampled, and for it alone.

        −A·log π

    [M], [M] → [M]. Raises ValueError where advantages carry a gradient. Source: REINFORCE, Williams (1992).
    """
    _check_constant("advantages", advantages)
    return -advantages * logprobs


def truncated_weight(logprobs: Float[Tensor, " M"], sampler: Float[Tensor, " M"], cap: float) -> Float[Tensor, " M"]:
    """What a token counts for where another program sampled it than the one that learns from it.

        min(π_old/π_sampler, C)

    Shapes: log-probs of the same tokens under the trainer's weights of that version, and the sampler's own, [M] → [M],
    never with a gradient. C = ∞ is unbiased; a finite one bounds the variance. Raises ValueError unless C ≥ 1.
    Source: Yao et al. (2025), "Your efficient RL framework secretly brings you off-policy RL training"; truncation:
    Ionides (2008).
    """
    if not cap >= 1:
        raise ValueError(f"the cap of an importance weight must be at least 1, not {cap}")
    return (logprobs.detach() - sampler.detach()).exp().clamp(max=cap)


def ppo_clipped(
    logprobs: Float[Tensor, " M"],
    old_logprobs: Float[Tensor, " M"],
    advantages: Float[Tensor, " M"],
    low: float,
    high: float,
) -> Bool[Tensor, " M"]:
    """Which tokens `ppo_clip` gives no gradient because their ratio has already moved far enough.

        (A > 0 and ρ > 1 + high)  or  (A < 0 and ρ < 1 − low)

    Shapes and errors as in `ppo_clip`, → bool [M]; the mean is the clip fraction.
    """
    _check_bounds(low, high)
    ratio = (logprobs - old_logprobs).exp()
    return ((advantages > 0) & (ratio > 1 + high)) | ((advantages < 0) & (ratio < 1 - low))


def value_clip(
    values: Float[Tensor, " M"],
    old_values: Float[Tensor, " M"],
    returns: Float[Tensor, " M"],
    clip: float,
) -> Float[Tensor, " M"]:
    """Squared error of the critic, which may not gain by moving further than `clip` from its old value.

        ½·max((V − G)², (clip(V, V_old ± ε) − G)²)

    Shapes: three times [M] → [M], reward². G = advantage + value, not whitened. clip = ∞ is the plain
    squared error. Raises ValueError for clip below 0, and where old values or returns carry a gradient.
    Source: lm-human-preferences (1909.08593); Huang et al. (2403.17031).
    """
    if not clip >= 0:
        raise ValueError(f"the value clip must be 0 or more, not {clip}")
    _check_constant("old_values", old_values)
    _check_constant("returns", returns)
    clipped = values.clamp(old_values - clip, old_values + clip)
    return torch.maximum((values - returns).square(), (clipped - returns).square()) / 2


def _ranked(group: Tensor) -> tuple[Tensor, Tensor]:
    """Who stands below whom: [B, B] with True at (i, j) when j ranks below i; and groups renumbered from 0."""
    _, group, sizes = torch.unique(group, return_inverse=True, return_counts=True)
    if (sizes < 2).any():
        raise ValueError("a ranking needs at least two completions in every group")
    return (group[:, None] == group[None, :]).triu(1), group


def _check_bounds(low: float, high: float) -> None:
    if not (0 <= low <= 1 and high >= 0):
        raise ValueError(f"the clip must have low in [0, 1] and high at 0 or more, not {low} and {high}")


def _check_constant(name: str, x: Tensor) -> None:
    if x.requires_grad:
        raise ValueError(f"{name} carries a gradient; detach it")
