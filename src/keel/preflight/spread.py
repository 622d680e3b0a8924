"""Whether rewards differ: where all answers score the same there is nothing to learn."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import fmean, pstdev

from keel.diagnostics.findings import Finding

SAME = 1e-6
"""Standard deviation, as a share of the mean's size (at least 1), below which rewards count as one number."""
FLAT = 0.5
"""Share of prompts whose answers all score the same."""
_CHECK = "Reward spread"


def spread(rewards: Sequence[float], prompts: Sequence[str], stand_in: bool) -> Finding:
    """Rewards of sampled answers and the prompts that they answer, side by side.

    Where the answers are of a model that has yet to be fine-tuned (`stand_in`), equal rewards are no proof: amber.
    """
    broken = [number for number in rewards if not math.isfinite(number)]
    if broken:
        return failed(f"{len(broken)} of {len(rewards)} rewards are no finite numbers (one is {broken[0]})")
    deviation, mean = pstdev(rewards), fmean(rewards)
    before = " before SFT" if stand_in else ""
    if deviation <= SAME * max(1.0, abs(mean)):
        return Finding(
            _CHECK,
            "amber" if stand_in else "red",
            f"All {len(rewards)} sampled answers{before} score {mean:.3g}, so there is nothing to learn from them.",
            "Call the reward function on answers of your own, good and bad, and see that it tells them apart; a reward "
            "model may need more comparisons; a higher sampling temperature gives answers that differ more.",
        )
    groups: dict[str, list[float]] = {}
    for prompt, reward in zip(prompts, rewards, strict=True):
        groups.setdefault(prompt, []).append(reward)
    several = [group for group in groups.values() if len(group) > 1]
    flat = sum(pstdev(group) <= SAME * max(1.0, abs(fmean(group))) for group in several)
    share = flat / max(len(several), 1)
    return Finding(
        _CHECK,
        "amber" if share >= FLAT else "ok",
        f"{mean:.2f} ± {deviation:.2f} over {len(rewards)} answers{before}"
        + (
            f", but for {flat} of {len(several)} prompts all answers score the same (a look is due from {FLAT:.0%})."
            if share >= FLAT
            else "."
        ),
        "Answers to one prompt tell the policy little where they score alike: raise rl.sampling.temperature, or make "
        "the reward finer.",
    )


def failed(reason: str) -> Finding:
    """The reward cannot be used at all."""
    return Finding(
        _CHECK,
        "red",
        f"The reward fails on sampled answers: {reason}",
        "A reward must be one finite number for each answer, whatever the answer; mend the function or the model.",
    )


def to_come(names: Iterable[str]) -> Finding:
    """A term of the reward is not there yet."""
    return Finding(_CHECK, "ok", f"Not yet known: the run trains {', '.join(names)}.", "")


def same_answers(texts: Sequence[str], prompts: Sequence[str]) -> Finding:
    """Answers that are to be compared: for how many prompts they are all the same."""
    groups: dict[str, set[str]] = {}
    for prompt, text in zip(prompts, texts, strict=True):
        groups.setdefault(prompt, set()).add(text.strip())
    flat = sum(len(group) == 1 for group in groups.values())
    share = flat / max(len(groups), 1)
    return Finding(
        "Answers differ",
        "red" if share == 1 else "amber" if share >= FLAT / 2 else "ok",
        f"For {flat} of {len(groups)} prompts all sampled answers are the same (a look is due from {FLAT / 2:.0%}, "
        "alarm where all are)."
        if share >= FLAT / 2
        else f"Answers differ for {len(groups) - flat} of {len(groups)} prompts.",
        "There is nothing to compare: raise preferences.sampling.temperature, or preferences.samples_per_prompt.",
    )
