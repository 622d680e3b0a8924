"""What a choice of algorithm does that its name does not say: a biased gradient, or another optimum than
π_ref·exp(r/β), which is what a KL penalty promises."""

from __future__ import annotations

from dataclasses import dataclass

from keel.config.online import Online


@dataclass(frozen=True)
class Caution:
    """What the choice does, and what would do otherwise."""

    says: str
    remedy: str


def cautions(settings: Online) -> list[Caution]:
    """Those that hold for these settings, the gravest first."""
    kl, grouped = settings.kl, settings.credit not in ("best", "pair")
    held = kl.coef > 0 and grouped
    learned = any(term.kind == "model" and term.weight for term in settings.reward)
    steps = settings.epochs * settings.minibatches
    found = (
        (
            held and kl.place == "loss" and kl.estimator == "k1",
            Caution(
                "k1 in the loss has an expected gradient of 0, so nothing holds the policy.",
                "Set rl.kl.estimator: k2, whose gradient is that of the KL, or rl.kl.place: reward.",
            ),
        ),
        (
            grouped and kl.coef == 0 and learned,
            Caution(
                "Nothing holds the policy near its reference while it raises a learned reward, so it may find out what "
                "the reward model gets wrong.",
                "Set rl.kl.coef above 0; without it, watch the gold score or read answers.",
            ),
        ),
        (
            held and kl.place == "loss" and kl.estimator == "k3",
            Caution(
                "k3 in the loss does not lead to π_ref·exp(r/β), but to β·π_ref/(λ − r) with λ the normaliser.",
                "Set rl.kl.estimator: k2 for the gradient of the KL; k3 is what the source of GRPO has.",
            ),
        ),
        (
            held and kl.place == "reward" and kl.estimator != "k1",
            Caution(
                f"{kl.estimator} in the reward has a biased gradient: its own dependence on the policy is left out.",
                "Set rl.kl.estimator: k1, for which what is left out is 0 on average.",
            ),
        ),
        (
            held and kl.place == "loss" and steps > 1,
            Caution(
                f"With {steps} steps to an update, the KL in the loss is that on answers of the policy before them.",
                "Fewer steps (rl.epochs, rl.minibatches) or rl.kl.place: reward keep it what it is called.",
            ),
        ),
        (
            held and settings.credit == "group-std",
            Caution(
                "Divided by the standard deviation of its group, a reward of any scale is pulled at alike: β becomes "
                "β·σ, another one for each prompt.",
                "Set rl.credit: group-mean (Dr. GRPO) for one β.",
            ),
        ),
        (
            settings.mean == "sequence" and settings.ratio == "token",
            Caution(
                "Each answer's tokens are averaged first, so a token of a long answer weighs less, and long bad "
                "answers are held back less than short ones.",
                "Set rl.mean: token, or constant (Dr. GRPO).",
            ),
        ),
        (
            settings.surrogate == "plain" and steps > 1 and settings.credit != "best",
            Caution(
                f"Without a ratio, only the first of the {steps} steps of an update follows the gradient: later ones "
                "learn from answers of another policy.",
                "Set rl.surrogate: clipped, or rl.epochs and rl.minibatches to 1.",
            ),
        ),
    )
    return [caution for holds, caution in found if holds]
