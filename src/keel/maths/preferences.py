"""Losses that learn from preferences without a reward model between: DPO and its family.

A policy carries a reward of its own, r(x, y) = β·log π(y|x)/π_ref(y|x), up to what only the prompt decides, and most of
these are losses on the difference of two such rewards,

    h = log π(y_w)/π_ref(y_w) − log π(y_l)/π_ref(y_l)        nats

w the chosen and l the rejected answer to one prompt. log π(y) is the sum over the answer's tokens unless it says mean.
`probability` is P(w is preferred): 1 for a plain label, ½ for a tie, something between where annotators were brought
together; wherever a loss takes it, the loss is the expectation over the label, so that swapping the answers with
p → 1 − p changes nothing.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from keel.maths.losses import bradley_terry


def dpo(
    chosen: Float[Tensor, " P"],
    rejected: Float[Tensor, " P"],
    probability: Float[Tensor, " P"],
    margin: Float[Tensor, " P"],
    beta: float,
) -> Float[Tensor, " P"]:
    """Direct preference optimisation: Bradley–Terry on the policy's own rewards.

        −p·log σ(βh − m) − (1−p)·log σ(−βh − m)

    Shapes: log-ratios log π/π_ref of the two answers, p and m, four times [P] → [P], nats. `margin` m ≥ 0 in units of
    reward is the stated strength (ODPO, Amini et al., 2402.10571); p = 1 and m = 0 is the source's loss. Raises
    ValueError for p outside [0, 1], m below 0, and β that is not above 0.
    Source: Rafailov et al. (2305.18290), equation 7.
    """
    _check_beta(beta)
    return bradley_terry(beta * chosen, beta * rejected, probability, margin)


def smoothed(probability: Float[Tensor, " P"], flips: float) -> Float[Tensor, " P"]:
    """The label as it is believed where a share ε of labels is wrong.

        p(1 − ε) + (1 − p)ε

    [P] → [P]. DPO on it is conservative DPO, whose gradient is 0 at βh = logit(1 − ε). Raises ValueError unless
    0 ≤ ε < ½. Source: Mitchell (2023), "A note on DPO with noisy preferences and relationship to IPO".
    """
    _check_flips(flips)
    return probability * (1 - flips) + (1 - probability) * flips


def robust_dpo(
    chosen: Float[Tensor, " P"],
    rejected: Float[Tensor, " P"],
    probability: Float[Tensor, " P"],
    beta: float,
    flips: float,
) -> Float[Tensor, " P"]:
    """DPO whose mean over labels of which a share ε is flipped at random is the loss on the true ones.

        [(1−ε)·L(w, l) − ε·L(l, w)]/(1 − 2ε)      L(w, l) = −log σ(βh),    in expectation over p

    Shapes as in `dpo`, without margin; nats, may be negative. Raises ValueError unless 0 ≤ ε < ½ and β > 0.
    Source: Chowdhury et al. (2403.00409), equation 12.
    """
    _check_beta(beta)
    _check_flips(flips)
    h = beta * (chosen - rejected)
    right = (probability - flips) / (1 - 2 * flips)
    return -right * logsigmoid(h) - (1 - right) * logsigmoid(-h)


def ipo(
    chosen: Float[Tensor, " P"], rejected: Float[Tensor, " P"], probability: Float[Tensor, " P"], tau: float
) -> Float[Tensor, " P"]:
    """Identity preference optimisation: the difference is drawn to a finite place, however sure the label is.

        p·(h − 1/2τ)² + (1−p)·(h + 1/2τ)²

    Shapes as in `dpo`, without margin; nats². The source sums log-ratios over an answer's tokens; handed in as means
    (TRL's way) they make h a difference per token, and 1/2τ too. Raises ValueError unless τ > 0.
    Source: Azar et al. (2310.12036), equation 17.
    """
    _check_beta(tau)
    h, goal = chosen - rejected, 1 / (2 * tau)
    return probability * (h - goal).square() + (1 - probability) * (h + goal).square()


def kto(
    logratio: Float[Tensor, " B"],
    desirable: Bool[Tensor, " B"],
    baseline: float,
    beta: float,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> Float[Tensor, " B"]:
    """Kahneman–Tversky optimisation: single answers, each good or bad, against what the policy gains on others.

        λ_D·(1 − σ(β(r − z₀)))  for a good answer,    λ_U·(1 − σ(β(z₀ − r)))  for a bad one,    r = log π/π_ref

    Shapes: r and the labels [B] → [B], without unit. `baseline` is z₀ (`kto_baseline`), a number and so without a
    gradient. Raises ValueError unless β > 0 and both weights are 0 or more.
    Source: Ethayarajh et al. (2402.01306), equation 8.
    """
    _check_beta(beta)
    if not (desirable_weight >= 0 and undesirable_weight >= 0):
        raise ValueError(f"weights of answers must be 0 or more, not {desirable_weight} and {undesirable_weight}")
    gain = beta * (logratio - baseline)
    return torch.where(desirable, desirable_weight * (-gain).sigmoid(), undesirable_weight * gain.sigmoid())


def kto_baseline(mismatched: Float[Tensor, " B"]) -> float:
    """z₀: an estimate of KL(π‖π_ref), from answers that belong to other prompts.

        max(0, mean log π/π_ref)

    [B] → nats. Raises ValueError where there is none. Source: as `kto`, section 4.1.
    """
    if len(mismatched) == 0:
        raise ValueError("a KTO baseline needs a mismatched answer")
    return max(0.0, mismatched.detach().mean().item())


def simpo(
    chosen: Float[Tensor, " P"],
    rejected: Float[Tensor, " P"],
    probability: Float[Tensor, " P"],
    beta: float,
    gamma: float,
) -> Float[Tensor, " P"]:
    """Simple preference optimisation: no reference; the reward is the mean log-probability of the answer's tokens.

        −p·log σ(βd − γ) − (1−p)·log σ(−βd − γ),    d = mean log π(y_w) − mean log π(y_l)

    Shapes: *mean* log-probs of the two answers and p, three times [P] → [P], nats. γ ≥ 0 is the margin that is
    demanded, in units of β·nats per token. Raises ValueError for p outside [0, 1], γ < 0, β ≤ 0.
    Source: Meng et al. (2405.14734), equation 6.
    """
    _check_beta(beta)
    return bradley_terry(beta * chosen, beta * rejected, probability, torch.full_like(chosen, gamma))


def odds_ratio(
    chosen: Float[Tensor, " P"], rejected: Float[Tensor, " P"], probability: Float[Tensor, " P"]
) -> Float[Tensor, " P"]:
    """The odds-ratio term of ORPO, which is added, times λ, to the likelihood loss of the chosen answer.

        −p·log σ(o) − (1−p)·log σ(−o),    o = logit P(y_w) − logit P(y_l),    log P(y) = mean log π of its tokens

    Shapes: *mean* log-probs (below 0) of the two answers and p, three times [P] → [P], nats. Needs no reference.
    Raises ValueError for p outside [0, 1], and for a log-prob above 0. Source: Hong et al. (2403.07691), equation 7.
    """
    if (chosen > 0).any() or (rejected > 0).any():
        raise ValueError("a mean log-probability is above 0, so it is none")
    return bradley_terry(_logit(chosen), _logit(rejected), probability, torch.zeros_like(chosen))


def _logit(logprob: Tensor) -> Tensor:
    """log P − log(1 − P), from log P; finite for P = 1 within rounding."""
    return logprob - (-logprob.expm1()).clamp(min=torch.finfo(logprob.dtype).tiny).log()


def _check_beta(beta: float) -> None:
    if not beta > 0:
        raise ValueError(f"the strength of the pull to the reference must be above 0, not {beta}")


def _check_flips(flips: float) -> None:
    if not 0 <= flips < 0.5:
        raise ValueError(f"the share of wrong labels must be at least 0 and below a half, not {flips}")
