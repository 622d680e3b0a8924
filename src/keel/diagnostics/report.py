"""The report of a run: one HTML file that needs nothing else, to read on a screen, in the dark or on a phone.

Everything that a model or a data file has said is hostile text. It enters the page only through the template, which
escapes it, and a content security policy forbids the page to load or run anything.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from keel.config import ONLINE
from keel.data.write import write_text
from keel.diagnostics.checks import before_step_one, checks
from keel.diagnostics.comparisons import choose
from keel.diagnostics.curves import curve_groups, over_optimisation
from keel.diagnostics.findings import ENOUGH_PAIRS, limits_of, spammers
from keel.diagnostics.gauges import Gauge, gauge
from keel.diagnostics.geometry import Chart
from keel.diagnostics.making import making
from keel.diagnostics.pictures import calibration_chart
from keel.diagnostics.provenance import interruptions
from keel.diagnostics.recorded import Recorded, read_run
from keel.diagnostics.rendering import filled, points
from keel.display import duration
from keel.summary import (
    STAGES,
    Summary,
    before,
    judge_in_words,
    kl_in_words,
    novelty,
    outcome,
    percent,
    story,
)

_DOING: Mapping[str, str] = {
    "sft": "learnt to imitate demonstrations",
    "preferences": "answers compared by people",
    "reward": "learnt which answer people prefer",
    **dict.fromkeys(ONLINE, "practised against the reward"),
    "dpo": "learnt from preferences",
    "evaluation": "answered prompts",
}
_AGREEMENT: Mapping[str, str] = {
    "agreement": "two annotators say the same",
    "agreement_without_ties": "the same, ties aside",
    "unanimous": "all annotators of a pair say the same",
}
_CHANCE_CORRECTED: Mapping[str, str] = {
    "cohen": "Cohen’s κ",
    "fleiss": "Fleiss’ κ",
    "alpha": "Krippendorff’s α",
    "ac1": "Gwet’s AC1",
}


@dataclass(frozen=True)
class StageLine:
    """What a stage did and took; `share` of the run's time, in percent."""

    name: str
    doing: str
    time: str
    seconds: float
    share: float
    peak_mb: float


def write_report(directory: Path) -> Path:
    """Write DIR/report.html, the whole file or none of it, and return its path.

    UserError where DIR is not the folder of a finished run, or the file cannot be written.
    """
    page = render(read_run(directory), directory.resolve().name)
    path = directory / "report.html"
    write_text(path, page)
    return path


def render(run: Recorded, name: str) -> str:
    """The page of a run that is called `name`."""
    summary = run.summary
    found, early = checks(run), before_step_one(run)
    verdict, picture = over_optimisation(run)
    title = headline(summary)
    return filled(
        "report.html.j2",
        name=name,
        summary=summary,
        title=f"{name}: {title}",
        headline=title,
        story=story(summary),
        outcome=outcome(summary),
        judge=judge_in_words(summary),
        before=before(summary),
        kl_meaning=kl_in_words(summary.kl, limits_of(run).kl) if summary.kl is not None else "",
        win=_win(summary),
        gold=_gold(summary),
        gold_max=summary.stages.get("evaluation", {}).get("gold_max"),
        problems=[one for one in found if one.verdict != "ok"],
        passed=[one for one in found if one.verdict == "ok" and one not in early],
        passed_before=[one for one in early if one.verdict == "ok"],
        comparisons=choose(run.answers),
        over_optimisation=verdict,
        over_optimisation_chart=picture,
        fit=_fit(summary),
        calibration=_calibration(summary),
        agreement=_agreement(summary),
        annotators=_annotators(summary),
        enough_pairs=ENOUGH_PAIRS,
        curves=curve_groups(run, limits_of(run)),
        stages=list(_stages(summary)),
        making=making(run),
        interruptions=interruptions(run.origins),
        command=shlex.join(["keel", "run", f"{name}/resolved.yaml", "--dir", f"{name}-again"]),
        recipe=run.recipe,
        numbers=_numbers(summary),
    )


def headline(summary: Summary) -> str:
    """The run in one line."""
    if summary.verdict is not None:
        return {
            "better": f"{summary.title} has made the answers better",
            "unclear": f"{summary.title} made no difference that can be told from chance",
            "worse": f"{summary.title} has made the answers worse",
        }[summary.verdict]
    if summary.method in summary.stages:
        return f"{summary.title} is done; no evaluation was asked for"
    accuracy = summary.stages.get("reward", {}).get("accuracy")
    if accuracy is not None:
        return f"A reward model that is right on {percent(accuracy)} of unseen pairs"
    if "reward" in summary.stages:
        return "A reward model, not yet put to the test"
    return "A fine-tuned model" if "sft" in summary.stages else "Preferences, brought together"


def _win(summary: Summary) -> Gauge | None:
    if summary.win_rate is None or summary.verdict is None:
        return None
    tone = {"better": "good", "unclear": "plain", "worse": "red"}[summary.verdict]
    versus = f"{summary.title} against {before(summary)}"
    return gauge(versus, summary.win_rate, summary.win_rate_low, summary.win_rate_high, tone)


def _gold(summary: Summary) -> list[Gauge]:
    """Bars for base, SFT and policy, up to the best possible score or the best that was reached."""
    title = summary.title
    scores = [("base", summary.gold_base), (before(summary), summary.gold_sft), (title, summary.gold_policy)]
    known = [(name, score) for name, score in scores if score is not None]
    most = max([summary.stages.get("evaluation", {}).get("gold_max") or 0.0, *(score for _, score in known), 1e-9])
    return [
        Gauge(
            name, round(100 * max(score, 0) / most, 2), None, None, points(score), "gold" if name == title else "plain"
        )
        for name, score in known
    ]


def _fit(summary: Summary) -> list[Gauge]:
    """Coin, people, reward model and ceiling on one scale from 50 % (or less, where the model is worse) to 100 %."""
    facts, people = summary.stages.get("reward", {}), summary.stages.get("preferences", {})
    if facts.get("accuracy") is None:
        return []
    low, high = facts.get("accuracy_low"), facts.get("accuracy_high")
    floor = 0.5 if (facts["accuracy"] if low is None else low) >= 0.5 else 0.0
    rows = [replace(gauge("a coin", 0.5, 0.5, 0.5, "plain", floor), text="50%")]
    agreed = people.get("agreement_without_ties", {})
    if agreed.get("value") is not None:
        rows.append(gauge("two people agree", agreed["value"], agreed["low"], agreed["high"], "plain", floor))
    rows.append(gauge("reward model", facts["accuracy"], low, high, "sea", floor))
    if people.get("ceiling") is not None:
        bounds = people.get("ceiling_low"), people.get("ceiling_high")
        rows.append(gauge("best possible", people["ceiling"], *bounds, "gold", floor))
    return rows


def _calibration(summary: Summary) -> Chart | None:
    bins = summary.stages.get("reward", {}).get("calibration_bins")
    return calibration_chart([(one[0], one[1], one[2]) for one in bins]) if bins else None


def _agreement(summary: Summary) -> list[tuple[str, str, str]]:
    """Statistics of agreement: what it is, its value, its interval."""
    people = summary.stages.get("preferences", {})
    lines = []
    for names, share in ((_AGREEMENT, True), (_CHANCE_CORRECTED, False)):
        for key, words in names.items():
            found = people.get(key) or {}
            if found.get("value") is not None:
                value, low, high = (
                    "–" if found[end] is None else (f"{100 * found[end]:.1f}%" if share else points(found[end]))
                    for end in ("value", "low", "high")
                )
                lines.append((words, value, f"{low} to {high}"))
    return lines


def _annotators(summary: Summary) -> list[Gauge]:
    people = summary.stages.get("preferences", {})
    idle = spammers(people)
    rated = sorted(people.get("reliability", {}).items(), key=lambda one: 1.0 if one[1] is None else -one[1])
    return [
        gauge(name, value, None, None, "amber" if name in idle else "sea")
        if value is not None
        else Gauge(name, 0.0, None, None, "not known", "plain")
        for name, value in rated
    ]


def _stages(summary: Summary) -> Iterator[StageLine]:
    total = sum(facts["seconds"] for facts in summary.stages.values()) or 1.0
    for key, name in STAGES.items():
        if key in summary.stages:
            seconds, peak_mb = (float(summary.stages[key][fact]) for fact in ("seconds", "peak_mb"))
            share = round(100 * seconds / total, 2)
            doing = _DOING[key] + (novelty(summary.stages[key]) if key == "evaluation" else "")
            yield StageLine(name, doing, duration(seconds), seconds, share, peak_mb)


def _numbers(summary: Summary) -> list[tuple[str, Any]]:
    """Every number of summary.json under its name there, stages included."""
    content = summary.to_json()
    own = [(name, value) for name, value in content.items() if isinstance(value, int | float | str)]
    inner = [
        (f"stages.{stage}.{name}", value)
        for stage, facts in summary.stages.items()
        for name, value in facts.items()
        if isinstance(value, int | float | str)
    ]
    return own + inner
