"""All measures of everybody, what they find, and who is to be paused."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from keel.preferences.dawid_skene import dawid_skene
from keel.preferences.judgement import Judgement, collect
from keel.preferences.quality import findings as find
from keel.preferences.quality.findings import LEVELS, Finding, Level
from keel.preferences.quality.gold import Accuracy, Gold, accuracies
from keel.preferences.quality.limits import Limits
from keel.preferences.quality.others import WithOthers, agreements
from keel.preferences.quality.pace import Pace, Timing, paces
from keel.preferences.quality.repeats import Consistency, consistencies
from keel.preferences.quality.runs import LongestRun, longest_runs
from keel.preferences.quality.sides import SideBias, side_biases


@dataclass(frozen=True)
class SpamScore:
    """(TPR + TNR − 1)² by Dawid–Skene, 0 = somebody who does not read; from `votes` on pairs that others judged too."""

    score: float
    votes: int


@dataclass(frozen=True)
class Profile:
    """What is known of one annotator; a measure without data is None. `findings` come with the worst first."""

    annotator: str
    judgements: int
    gold: Accuracy | None
    repeats: Consistency | None
    pace: Pace | None
    sides: SideBias | None
    runs: LongestRun | None
    others: WithOthers | None
    spam: SpamScore | None
    findings: tuple[Finding, ...]

    @property
    def verdict(self) -> Level:
        """The worst of the findings, "ok" without any."""
        return self.findings[0].verdict if self.findings else "ok"


def profiles(
    judgements: Sequence[Judgement],
    gold: Iterable[Gold] = (),
    repeats: Mapping[str, str] | None = None,
    timings: Iterable[Timing] = (),
    spam: Mapping[str, SpamScore] | None = None,
    limits: Limits | None = None,
) -> dict[str, Profile]:
    """Everybody who has judged something, in the order of their first judgement.

    `judgements` are the latest revisions in the order of submission, at most one per item and annotator, as
    `PreferenceStore.judgements` returns them. `repeats` says which item each repeating item copies; `timings` come from
    `timings`, `spam` from `spam_scores`. What is not given is not measured. Gold items and repeats count towards every
    other measure too.
    """
    limits = limits or Limits()
    right = accuracies(judgements, gold, limits)
    alike = consistencies(judgements, repeats or {}, limits.level)
    pace = paces(timings, limits)
    lean = side_biases(judgements, limits.level)
    longest = longest_runs(judgements)
    agreeing = agreements(judgements, limits)
    counts: dict[str, int] = {}
    for judgement in judgements:
        counts[judgement.annotator] = counts.get(judgement.annotator, 0) + 1
    found = {}
    for name, count in counts.items():
        measures = (
            right.get(name), alike.get(name), pace.get(name), lean.get(name), longest.get(name), agreeing.get(name),
            (spam or {}).get(name),
        )  # fmt: skip
        found[name] = Profile(name, count, *measures, findings=_findings(*measures, limits=limits))
    return found


def to_pause(profiles: Mapping[str, Profile], limits: Limits | None = None) -> dict[str, str]:
    """Who is to be paused without asking, and the sentence that says why: a red finding of `Limits.pauses`.

    By default that is P(accuracy on gold items < .7 | judgements) > .95. Whoever is paused keeps their judgements.
    """
    pauses = (limits or Limits()).pauses
    reasons = {
        name: " ".join(one.message for one in each.findings if one.verdict == "red" and one.measure in pauses)
        for name, each in profiles.items()
    }
    return {name: reason for name, reason in reasons.items() if reason}


def spam_scores(judgements: Sequence[Judgement]) -> dict[str, SpamScore]:
    """The spam score of everybody who shares pairs with others, fitted on the pairs with two votes or more.

    Alone on a pair, everybody agrees with themselves. Warns where Dawid–Skene does not converge.
    """
    votes = collect(judgements)
    several = np.bincount(votes.pair, minlength=len(votes.pairs)) > 1
    kept = several[votes.pair]
    shared = replace(
        votes,
        pairs=tuple(pair for pair, kept_pair in zip(votes.pairs, several, strict=True) if kept_pair),
        pair=(np.cumsum(several) - 1)[votes.pair[kept]],
        annotator=votes.annotator[kept],
        strength=votes.strength[kept],
        side=votes.side[kept],
    )
    if not shared.pairs:
        return {}
    scores = dawid_skene(shared).spam_score()
    count = np.bincount(shared.annotator, minlength=len(shared.annotators))
    return {
        name: SpamScore(score, times)
        for name, score, times in zip(shared.annotators, scores.tolist(), count.tolist(), strict=True)
        if times
    }


def _findings(
    gold: Accuracy | None,
    repeats: Consistency | None,
    pace: Pace | None,
    sides: SideBias | None,
    runs: LongestRun | None,
    others: WithOthers | None,
    spam: SpamScore | None,
    limits: Limits,
) -> tuple[Finding, ...]:
    found = [
        gold and find.of_gold(gold, limits),
        repeats and find.of_repeats(repeats, limits),
        pace and find.of_pace(pace, limits),
        sides and find.of_sides(sides, limits),
        runs and find.of_runs(runs, limits),
        others and find.of_others(others, limits),
        spam and find.of_spam(spam.score, spam.votes, limits),
    ]
    return tuple(sorted((one for one in found if one), key=lambda one: LEVELS.index(one.verdict)))
