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
    kl, each = settings.kl, settings.samples_per_prompt
    held = kl.coef > 0 and settings.credit != "pair"
    in_loss = held and kl.place == "loss"
    learned = any(term.kind == "model" and term.weight for term in settings.reward)
    steps = settings.epochs * settings.minibatches
    found = (
        (
            in_loss and kl.estimator == "k1" and kl.weight == "none",
            Caution(
                "k1 in the loss has an expected gradient of 0, so nothing holds the policy.",
                "Set rl.kl.estimator: k2, whose gradient is that of the KL, or rl.kl.place: reward.",
            ),
        ),
        (
            settings.credit != "pair" and kl.coef == 0 and learned,
            Caution(
                "Nothing holds the policy near its reference while it raises a learned reward, so it may find out what "
                "the reward model gets wrong.",
                "Set rl.kl.coef above 0; without it, watch the gold score or read answers.",
            ),
        ),
        (
            in_loss and kl.estimator == "k3" and kl.weight == "none",
            Caution(
                "k3 in the loss does not lead to π_ref·exp(r/β), but to β·π_ref/(λ − r) with λ the normaliser.",
                "Set rl.kl.weight: ratio or rl.kl.estimator: k2 for the gradient of the KL; k3 alone is what the "
                "source of GRPO has.",
            ),
        ),
        (
            in_loss and kl.estimator == "k2" and kl.weight == "ratio",
            Caution(
                "k2 in the loss has the gradient of the KL by itself; weighted by the ratio, it has another.",
                "Set rl.kl.weight: none, or rl.kl.estimator: k3.",
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
            in_loss and steps > 1 and kl.weight == "none",
            Caution(
                f"With {steps} steps to an update, the KL in the loss is that on answers of the policy before them.",
                "Fewer steps (rl.epochs, rl.minibatches) or rl.kl.place: reward keep it what it is called.",
            ),
        ),
        (
            in_loss and settings.credit == "group-std",
            Caution(
                "Rewards are divided by the standard deviation of their group, and the KL in the loss is not: β "
                "becomes β·σ, another one for each prompt.",
                "Set rl.credit: leave-one-out for one β, or rl.kl.place: reward.",
            ),
        ),
        (
            in_loss and settings.credit != "group-std" and settings.whiten == "advantages",
            Caution(
                "Advantages are whitened, and the KL in the loss is not: β becomes β·σ, with σ that of the update.",
                "Set rl.whiten: none, or rl.kl.place: reward.",
            ),
        ),
        (
            in_loss and settings.credit == "group-mean",
            Caution(
                f"The mean of a group holds the answer itself, which takes 1/{each} off its advantage and nothing off "
                f"the KL in the loss: β becomes β·{each}/{each - 1}.",
                "Set rl.credit: leave-one-out for β itself; with large groups it hardly matters.",
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
    idle = unread(settings)
    said = Caution(
        f"Nothing reads {' and '.join(f'rl.{name}' for name in idle)} with rl.credit: {settings.credit} and "
        f"rl.surrogate: {settings.surrogate}.",
        "Leave them out, or choose a credit and a surrogate that have a place for them.",
    )
    return [*(caution for holds, caution in found if holds), *([said] if idle else [])]


def unread(settings: Online) -> tuple[str, ...]:
    """Settings that are not as they come, and have no part in this choice of credit and surrogate."""
    critic, paired = settings.credit == "gae", settings.surrogate == "pair"
    without = {
        "gamma": not critic and settings.credit != "return",
        "lam": not critic,
        "value_clip": not critic,
        "value_coef": not critic,
        "clip": settings.surrogate != "clipped",
        "clip_high": settings.surrogate not in ("clipped", "weighted"),
        "mean": paired,
        "importance_cap": paired,
    }
    usual = Online.model_fields
    return tuple(name for name, idle in without.items() if idle and getattr(settings, name) != usual[name].default)
