"""What in a run deserves a second look: every check with its thresholds, its finding in a sentence, and a remedy.

Thresholds are those of the run's own recipe (rl.guards), or follow Gao et al. (2210.10760) and common practice; a
check speaks of the worst moment of the run, as a mean over `window` updates, unless it says otherwise. A check whose
numbers the run does not have is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from jaxtyping import Float

from keel.config import Guards
from keel.config.load import build
from keel.config.source import Source, parse
from keel.diagnostics.over_optimisation import judge
from keel.diagnostics.recorded import Attempts, Curve, Metrics, Recorded
from keel.diagnostics.smoothing import running_mean
from keel.errors import UserError
from keel.summary import STAGES, percent
from keel.training.guards import REMEDY, disagreements
from keel.training.guards import Level as Level
from keel.training.guards import level as level

ENOUGH_ANSWERS = 10
"""Finished answers, below which nothing is said of what the reward likes about them."""
ENOUGH_PAIRS = 30
"""Pairs judged by several people, below which nothing is said of a single annotator."""
APART = 0.15
"""How far below the median an annotator's reliability stands out."""


@dataclass(frozen=True)
class Finding:
    """The result of one check; `remedy` says what to do unless the verdict is "ok"."""

    check: str
    verdict: Level
    message: str
    remedy: str


def findings(run: Recorded) -> list[Finding]:
    """Every check that the run has numbers for: red ones first, then amber, then those that passed."""
    found = [
        *_of_evaluation(run),
        *_of_practice(run),
        *_of_reward(run),
        *_of_people(run),
        *_of_numbers(run),
        *_of_data(run),
    ]
    return sorted(found, key=lambda one: ("red", "amber", "ok").index(one.verdict))


def limits_of(run: Recorded) -> Guards:
    """The limits by which the recipe of the run judges; the defaults where it names none, or cannot be read."""
    try:
        return _own_limits(run)
    except UserError:  # which is a finding
        return Guards()


def _own_limits(run: Recorded) -> Guards:
    """UserError where the recipe, or what it has for limits, cannot be read."""
    values = parse(run.recipe, "resolved.yaml").values if run.recipe else {}
    section = values.get("rl", values.get("ppo"))
    given = section.get("guards") if isinstance(section, Mapping) else None
    return build(Source(dict(given)), Guards) if isinstance(given, Mapping) else Guards()


def _of_evaluation(run: Recorded) -> Iterator[Finding]:
    summary = run.summary
    if summary.verdict is not None and summary.win_rate is not None:
        yield Finding(
            f"{summary.title} against SFT",
            "red" if summary.verdict == "worse" else "ok",
            f"After {summary.title} the model wins {percent(summary.win_rate)} of the comparisons with the one before.",
            "Do not use the new model. Look at the answers and at the reward model's accuracy; a stronger pull "
            "(rl.kl.coef, dpo.beta) or a smaller learning rate keeps it nearer to SFT.",
        )
    yield from _seen(summary.stages.get("evaluation", {}))


def _seen(facts: Mapping[str, Any]) -> Iterator[Finding]:
    """Prompts of the evaluation that a stage has trained on."""
    if facts.get("seen") is not None:
        by = ", ".join(f"{STAGES[stage]} {count:,}" for stage, count in facts["seen_by"].items() if count)
        yield Finding(
            "Prompts of the evaluation",
            "amber" if facts["seen"] else "ok",
            f"{facts['seen']:,} of {facts['prompts']:,} prompts of the evaluation were trained on too ({by}), so its "
            "numbers may be better than new prompts would show."
            if facts["seen"]
            else f"No stage has trained on any of the {facts['prompts']:,} prompts of the evaluation.",
            "Give evaluation.prompts that stand in none of the files to train on (sft.data, reward.data, rl.prompts), "
            "or take them out there, and run again.",
        )


def _of_practice(run: Recorded) -> Iterator[Finding]:
    if run.practice is None:
        return
    curve, limits = run.practice.curve, limits_of(run)
    yield from _limits(run)
    yield from _over_optimisation(curve("reward"), curve("reward/gold"))
    for name, check in _CHECKS.items():
        found = _furthest(run.practice) if check is _disagreement else curve(name)
        if len(found):
            yield check(found, limits)
    yield from _length_taste(run.attempts)


def _limits(run: Recorded) -> Iterator[Finding]:
    try:
        _own_limits(run)
    except UserError as error:
        yield Finding(
            "Limits of the recipe",
            "amber",
            f"The run's own limits cannot be read ({error}), so the run is judged by the usual ones.",
            "Put resolved.yaml back as the run left it, and write the report anew.",
        )


def _over_optimisation(proxy: Curve, gold: Curve) -> Iterator[Finding]:
    if len(gold) and len(proxy) == len(gold):
        verdict = judge(proxy.values, gold.values)
        if verdict.kind == "unknown":
            return
        levels: Mapping[str, Level] = {"over-optimised": "red", "falling": "amber", "hollow": "amber"}
        yield Finding(
            "Reward over-optimisation",
            levels.get(verdict.kind, "ok"),
            verdict.sentence,
            f"Stop earlier (the gold score was best around update {verdict.best}), raise rl.kl.coef, or train the "
            "reward model on more comparisons, best of all on answers of the new policy.",
        )


def _kl(curve: Curve, limits: Guards) -> Finding:
    most, where = _highest(curve, limits.window)
    amber, red = limits.kl
    return Finding(
        "Distance from SFT (KL)",
        level(most, amber, red),
        f"KL reached {most:.1f} nats per answer around update {where} (a look is due from {amber:g}, alarm from "
        f"{red:g}).",
        REMEDY["kl"],
    )


def _length(curve: Curve, limits: Guards) -> Finding:
    most, where = _highest(curve, limits.window)
    factor = most / max(curve.values[0], 1e-9)
    amber, red = limits.length
    return Finding(
        "Length of answers",
        level(factor, amber, red),
        f"Answers grew to {factor:.2f} times their length under SFT ({curve.values[0]:.0f} → {most:.0f} tokens, around "
        f"update {where}; a look is due from {amber:g} times, alarm from {red:g})."
        if factor > 1
        else f"Answers did not grow: at most {factor:.2f} times their length under SFT.",
        REMEDY["length"],
    )


def _entropy(curve: Curve, limits: Guards) -> Finding:
    means = running_mean(curve.values, limits.window)
    fall = 1 - means.min() / max(means[0], 1e-9)
    amber, red = limits.entropy
    return Finding(
        "Variety (entropy)",
        level(fall, amber, red),
        f"Entropy per token fell by {percent(fall)} from {means[0]:.2f} nats (a look is due from {percent(amber)}, "
        f"alarm from {percent(red)})."
        if fall > 0
        else f"Entropy per token did not fall below its first {means[0]:.2f} nats.",
        REMEDY["entropy"],
    )


def _truncated(curve: Curve, limits: Guards) -> Finding:
    most, where = _highest(curve, limits.window)
    amber, red = limits.truncated
    return Finding(
        "Answers cut off",
        level(most, amber, red),
        f"At most {most:.1%} of the answers were cut off at the token limit (around update {where}; a look is due "
        f"from {percent(amber)}, alarm from {percent(red)}).",
        REMEDY["truncated"],
    )


def _furthest(metrics: Metrics) -> Curve:
    """The disagreement of the term whose reward models are furthest apart, at each step."""
    curves = [metrics.curve(name) for name in disagreements(metrics.names)]
    said = [pair for curve in curves for pair in zip(curve.steps.tolist(), curve.values.tolist(), strict=True)]
    most: dict[int, float] = {}
    for step, value in said:
        most[step] = max(value, most.get(step, value))
    steps = sorted(most)
    return Curve(np.array(steps, dtype=np.int64), np.array([most[step] for step in steps], dtype=np.float64))


def _disagreement(curve: Curve, limits: Guards) -> Finding:
    means = running_mean(curve.values, limits.window)
    factor = means.max() / max(means[0], 1e-9)
    amber, red = limits.disagreement
    return Finding(
        "Reward models agree",
        level(factor, amber, red),
        f"They came to be {factor:.2f} times as far apart in their scores as at first (standard deviation "
        f"{means[0]:.2g}; a look is due from {amber:g} times, alarm from {red:g})."
        if factor > 1
        else f"They never were further apart in their scores than at first (standard deviation {means[0]:.2g}).",
        REMEDY["disagreement"],
    )


def _clip_fraction(curve: Curve, limits: Guards) -> Finding:
    most, where = _highest(curve, limits.window)
    return Finding(
        "Clipped tokens",
        level(most, limits.clip_fraction),
        f"At most {most:.1%} of the tokens were clipped (around update {where}; a look is due from "
        f"{percent(limits.clip_fraction)}).",
        REMEDY["clip_fraction"],
    )


def _critic(curve: Curve, limits: Guards) -> Finding:
    late = float(curve.values[len(curve) // 2 :].mean())
    useless = late < limits.explained_variance
    due = f" (a look is due below {percent(limits.explained_variance)})."
    return Finding(
        "Critic",
        "amber" if useless else "ok",
        f"In the second half of the run the critic explains {percent(max(late, 0.0))} of the variance of the returns"
        + (", less than a constant would." if useless and late < 0 else due),
        REMEDY["explained_variance"],
    )


def _sampler(curve: Curve, limits: Guards) -> Finding:
    most, where = _highest(curve, limits.window)
    return Finding(
        "Sampler against trainer",
        level(most, limits.sampler_kl),
        f"Sampler and trainer differ by at most {most:.2g} nats per token (around update {where}; a look is due from "
        f"{limits.sampler_kl:g}).",
        REMEDY["sampler_kl"],
    )


def _flat_groups(curve: Curve, limits: Guards) -> Finding:
    most, where = _highest(curve, limits.window)
    return Finding(
        "Groups that score alike",
        level(most, limits.flat_groups),
        f"At most {percent(most)} of the prompts had answers that all scored alike (around update {where}; a look is "
        f"due from {percent(limits.flat_groups)}).",
        REMEDY["flat_groups"],
    )


_CHECKS: Mapping[str, Callable[[Curve, Guards], Finding]] = {
    "kl": _kl,
    "length": _length,
    "policy/entropy": _entropy,
    "truncated": _truncated,
    "disagreement": _disagreement,
    "policy/clip_fraction": _clip_fraction,
    "value/explained_variance": _critic,
    "sampler_kl": _sampler,
    "groups/flat": _flat_groups,
}


def _length_taste(attempts: Attempts) -> Iterator[Finding]:
    """Correlation of reward and length among the finished answers of one update, over all updates together."""
    kept = attempts.finished
    if kept.sum() < ENOUGH_ANSWERS:
        return
    reward, length = (_centred(column[kept], attempts.update[kept]) for column in (attempts.reward, attempts.length))
    spread = float(np.sqrt(np.square(reward).sum() * np.square(length).sum()))
    if spread > 0:
        correlation = float(reward @ length) / spread
        yield Finding(
            "Reward and length",
            level(correlation, 0.5),
            f"Among answers of one update, reward and length correlate at {correlation:+.2f} (a look is due from "
            "+0.50).",
            "The reward model may pay for length as such. Balance lengths in the comparisons, or charge for length "
            "with a reward function (rl.reward).",
        )


def _of_reward(run: Recorded) -> Iterator[Finding]:
    facts = run.summary.stages.get("reward", {})
    if facts.get("accuracy") is None:
        return
    accuracy = facts["accuracy"]
    low, high = (facts.get(f"accuracy_{end}", accuracy) for end in ("low", "high"))
    yield _against_a_coin(accuracy, low, high)
    best = highest_ceiling(run.summary.stages.get("preferences", {}))
    if best is not None:
        leaking = low > best
        yield Finding(
            "Reward model against the ceiling",
            "red" if leaking else "ok",
            f"The reward model is right on {percent(accuracy)} of unseen pairs; the agreement of people allows at most "
            f"{percent(best)}, at the upper end of its interval."
            + (" No model can know more than people agree on, unless it has seen the answers." if leaking else ""),
            "This is the mark of leakage: look for the same pairs, prompts or answers in training and held-out data. "
            "(Where each pair has several votes, their majority can lie somewhat above this ceiling, which is for "
            "single votes.)",
        )


def _against_a_coin(accuracy: float, low: float, high: float) -> Finding:
    verdict: Level = "red" if high < 0.5 else "amber" if low <= 0.5 else "ok"
    means = {
        "red": "clearly less than a coin",
        "amber": "which a coin could be by chance",
        "ok": "clearly more than a coin",
    }
    return Finding(
        "Reward model against a coin",
        verdict,
        f"The reward model is right on {percent(accuracy)} of unseen pairs, {means[verdict]}.",
        "Check that chosen and rejected have not changed places in the data."
        if verdict == "red"
        else "Collect more comparisons: below about 2,000 a reward model is near chance. Check that annotators agree "
        "at all.",
    )


def highest_ceiling(people: Mapping[str, Any]) -> float | None:
    """The best accuracy that the upper end of the agreement's interval allows; None where agreement is not known."""
    bound: float | None = people.get("ceiling_high")
    return people.get("ceiling") if bound is None else bound


def _of_people(run: Recorded) -> Iterator[Finding]:
    people = run.summary.stages.get("preferences", {})
    if (people.get("shared_pairs") or 0) >= ENOUGH_PAIRS and people.get("reliability"):
        idle = spammers(people)
        yield Finding(
            "Annotators",
            "amber" if idle else "ok",
            f"The votes of {_names(idle)} fit with those of the others as little as if nobody had read the answers."
            if idle
            else "The votes of every annotator fit with those of the others.",
            "Look at their judgements, and leave them out if they are careless. preferences.aggregate: dawid-skene "
            "gives them little weight.",
        )


def spammers(people: Mapping[str, Any]) -> list[str]:
    """Annotators no more reliable than a coin, or clearly (`APART`) less reliable than the median of all.

    Methods that weigh annotators (Dawid–Skene) lift everybody, since a pair with one vote agrees with itself; so the
    others are the better measure. Nobody where too few pairs are shared to tell.
    """
    known = {name: value for name, value in people.get("reliability", {}).items() if value is not None}
    if (people.get("shared_pairs") or 0) < ENOUGH_PAIRS or not known:
        return []
    bound = max(0.5, median(known.values()) - APART)
    return [name for name, value in known.items() if value <= bound]


def _of_numbers(run: Recorded) -> Iterator[Finding]:
    for stage, metrics in run.metrics.items():
        missing = {name: metrics.curve(name).missing for name in metrics.names}
        broken = [name for name, count in missing.items() if count]
        skipped = sum(
            metrics.curve(name).values.sum() for name in metrics.names if name.rpartition("/")[2] == "skipped"
        )
        faults = [f"{name} was not a finite number at {missing[name]} of the logged steps" for name in broken]
        if skipped:
            faults.append(f"{skipped:.0f} optimizer steps were skipped because the gradient was not finite")
        yield Finding(
            f"Finite numbers, {STAGES[stage]}",
            "red" if faults else "ok",
            f"In {STAGES[stage]} {'; '.join(faults)}." if faults else f"Every number of {STAGES[stage]} is finite.",
            REMEDY["finite"],
        )


def _of_data(run: Recorded) -> Iterator[Finding]:
    for stage, facts in run.summary.stages.items():
        yield from _left_out(stage, facts)
        yield from _cut_off(stage, facts)


def _left_out(stage: str, facts: Mapping[str, Any]) -> Iterator[Finding]:
    """What a stage was given and could not use."""
    if facts.get("given"):
        given, dropped = facts["given"], facts.get("dropped", 0)
        why = "; ".join(f"{count:,} × {reason}" for reason, count in facts.get("reasons", {}).items())
        yield Finding(
            f"Rows left out, {STAGES[stage]}",
            level(dropped / given, 0.05, 0.2),
            f"{dropped:,} of {given:,} rows ({dropped / given:.1%}) were left out: {why} (a look is due from 5%, alarm "
            "from 20%)."
            if dropped
            else f"None of {given:,} rows was left out.",
            "Look at these rows in your data. For texts that are too long raise model.max_length, or lower "
            "sampling.max_tokens of the stage, as far as the model's context allows.",
        )


def _cut_off(stage: str, facts: Mapping[str, Any]) -> Iterator[Finding]:
    """What did not fit into the model's length, of all the texts that were read."""
    if facts.get("texts") and facts.get("truncated") is not None:
        texts, share = facts["texts"], facts["truncated"] / facts["texts"]
        yield Finding(
            f"Length limit, {STAGES[stage]}",
            level(share, 0.05, 0.2),
            f"{facts['truncated']:,} of {texts:,} texts ({share:.1%}) were longer than model.max_length and "
            "were cut (a look is due from 5%, alarm from 20%).",
            "Raise model.max_length, or shorten the texts: what was cut was not learnt.",
        )


def _highest(curve: Curve, window: int) -> tuple[float, int]:
    """The largest mean over `window` updates, and the step in the middle of it."""
    means: Float[np.ndarray, " M"] = running_mean(curve.values, window)
    place = int(np.argmax(means))
    return float(means[place]), int(curve.steps[min(place + window // 2, len(curve) - 1)])


def _centred(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Values less the mean of their group."""
    _, place = np.unique(group, return_inverse=True)
    return np.asarray(values - (np.bincount(place, weights=values) / np.bincount(place))[place])


def _names(people: list[str]) -> str:
    return people[0] if len(people) == 1 else f"{', '.join(people[:-1])} and {people[-1]}"
