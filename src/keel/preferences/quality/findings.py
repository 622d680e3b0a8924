"""A measure against its thresholds: ok, amber or red, in a sentence for the reviewer, with what to do."""

from dataclasses import dataclass
from typing import Literal

from keel.preferences.quality.binomial import Share
from keel.preferences.quality.gold import Accuracy
from keel.preferences.quality.limits import Limits, Measure
from keel.preferences.quality.others import WithOthers
from keel.preferences.quality.pace import Pace
from keel.preferences.quality.repeats import Consistency
from keel.preferences.quality.runs import LongestRun
from keel.preferences.quality.sides import SideBias

Level = Literal["ok", "amber", "red"]
LEVELS: tuple[Level, ...] = ("red", "amber", "ok")
"""The worst first."""


@dataclass(frozen=True)
class Finding:
    """What one measure says of one annotator; `remedy` says what to do, and is empty where the verdict is "ok"."""

    measure: Measure
    verdict: Level
    message: str
    remedy: str


def of_gold(found: Accuracy, limits: Limits) -> Finding:
    """Red: P(accuracy < limit) > certainty. Amber: more probably below the limit than not."""
    enough = found.share.trials >= limits.fewest_gold
    verdict: Level = "ok" if not enough or found.doubt <= 0.5 else "red" if found.doubt > limits.certainty else "amber"
    sentence = (
        f"Right on {_counted(found.share)} gold items; the accuracy is below {limits.accuracy:.0%} with probability "
        f"{found.doubt:.2f}."
    )
    if not enough:
        sentence += f" Judged from {limits.fewest_gold} on."
    if found.declined:
        sentence += f" {found.declined} more were skipped or flagged."
    remedy = "Look at the gold items that were missed: are they clear? If so, go through the guidelines together."
    return _finding("gold", verdict, sentence, remedy)


def of_repeats(found: Consistency, limits: Limits) -> Finding:
    """P(consistent < limit | Jeffreys' prior) > certainty, with one limit for amber and one for red."""
    amber, red = (found.consistent.below(limit) > limits.certainty for limit in limits.consistency)
    sentence = f"Says the same when asked again with the sides swapped on {_counted(found.consistent)} repeats"
    if found.sided.trials:
        sentence += f", and presses the same side again on {_counted(found.sided)} that were decided twice"
    remedy = (
        "Who does not read is consistent on half of them at most. See whether one side is preferred, and ask for the "
        "middle button where answers are equally good."
    )
    return _finding("repeats", "red" if red else "amber" if amber else "ok", f"{sentence}.", remedy)


def of_pace(found: Pace, limits: Limits) -> Finding:
    """P(share too fast > limit | Jeffreys' prior) > certainty, with one limit for amber and one for red."""
    amber, red = (
        found.too_fast.trials > 0 and 1 - found.too_fast.below(limit) > limits.certainty for limit in limits.too_fast
    )
    sentence = f"Takes {found.median:.1f} seconds (median)"
    if found.per_hour is not None:
        sentence += f", {found.per_hour:.0f} judgements per hour of active time"
    if found.too_fast.trials:
        sentence += (
            f"; {_counted(found.too_fast)} judgements took less than {limits.floor:.0%} of the time of the fastest "
            f"reading"
        )
    remedy = "Ask for a slower pace, and look at the fastest judgements: can they rest on the whole texts?"
    return _finding("pace", "red" if red else "amber" if amber else "ok", f"{sentence}.", remedy)


def of_sides(found: SideBias, limits: Limits) -> Finding:
    """Amber: adjusted p ≤ false_discovery. Red: and the interval lies beyond `lean` on either side."""
    biased = found.adjusted <= limits.false_discovery
    strong = found.left.low > limits.lean or found.left.high < 1 - limits.lean
    sentence = (
        f"Pressed left on {_counted(found.left)} decided votes (z {found.z:+.1f}, p {_p(found.p)}, adjusted "
        f"{_p(found.adjusted)})."
    )
    remedy = (
        "Sides are drawn at random, so half would be expected. Fit the labels with a position bias (aggregate by "
        "bradley-terry), and point it out to the annotator; exclude them if one side is nearly all they press."
    )
    return _finding("sides", "ok" if not biased else "red" if strong else "amber", sentence, remedy)


def of_runs(found: LongestRun, limits: Limits) -> Finding:
    """Amber: adjusted p ≤ false_discovery, or nothing but one button in `fewest` presses or more."""
    only = found.length == found.presses >= limits.fewest
    sentence = (
        f"Nothing but the button '{found.button}' in {found.presses} judgements."
        if only
        else f"Longest run: '{found.button}' {found.length} times in a row, among {found.presses} (p {_p(found.p)} "
        f"with this annotator's own habits, adjusted {_p(found.adjusted)})."
    )
    odd = only or found.adjusted <= limits.false_discovery
    remedy = "Look at the judgements of that run, and at the times they took: was the annotator tired, or not reading?"
    return _finding("runs", "amber" if odd else "ok", sentence, remedy)


def of_others(found: WithOthers, limits: Limits) -> Finding:
    """Amber: below the usual agreement, adjusted p ≤ false_discovery. Red: and no better than a coin, or worse."""
    below = found.adjusted is not None and found.adjusted <= limits.false_discovery
    coin = found.share.low <= 0.5
    sentence = f"Chooses as another annotator does on {_counted(found.share)} shared items"
    if found.usual is not None and found.adjusted is not None:
        sentence += f" (usual here: {found.usual:.0%}; adjusted p that it is lower {_p(found.adjusted)})"
    if below and coin:
        sentence += "; a coin would reach half" if found.share.high >= 0.5 else "; less than the half of a coin"
    remedy = "Read some of the judgements: another taste is no fault, and its votes are worth keeping. "
    remedy += (
        "If the keys are mixed up, or nothing is read, pause and exclude the annotator."
        if coin
        else "Methods that model annotators (dawid-skene, bradley-terry) weigh them by what they are worth."
    )
    return _finding("others", "ok" if not below else "red" if coin else "amber", f"{sentence}.", remedy)


def of_spam(score: float, votes: int, limits: Limits) -> Finding:
    """Amber: a score below `Limits.spam` on `fewest_votes` votes or more; it is an estimate without an interval."""
    amber = votes >= limits.fewest_votes and score < limits.spam
    sentence = f"Spam score {score:.2f} (0 = the votes say nothing about the answers, 1 = all of it), on {votes} votes."
    remedy = "The votes tell nothing. Look at them; leave the annotator out if they are careless."
    return _finding("spam", "amber" if amber else "ok", sentence, remedy)


def _finding(measure: Measure, verdict: Level, message: str, remedy: str) -> Finding:
    return Finding(measure, verdict, message, "" if verdict == "ok" else remedy)


def _counted(share: Share) -> str:
    """As "31 of 40 (78%, 62% to 88%)"."""
    if share.trials == 0:
        return "none of 0"
    return f"{share.successes:.4g} of {share.trials} ({share.value:.0%}, {share.low:.0%} to {share.high:.0%})"


def _p(value: float) -> str:
    return f"{value:.2g}" if value >= 1e-4 else "< 0.0001"
