"""The outcomes of runs, one row for each number and one cell for each run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keel.diagnostics.curves import over_optimisation
from keel.diagnostics.findings import Finding, Level
from keel.diagnostics.gauges import Gauge, gauge
from keel.diagnostics.geometry import figure
from keel.diagnostics.pictures import tone_of
from keel.diagnostics.rendering import points, whole
from keel.diagnostics.versus.duels import Duel
from keel.diagnostics.versus.rivals import Rival
from keel.display import duration
from keel.summary import percent
from keel.summary_file import said

_GOLD = {
    "rising": "rose",
    "level": "level",
    "hollow": "level, though the reward rose",
    "falling": "fell, and the reward too",
    "over-optimised": "fell while the reward rose",
    "unknown": "too few updates to say",
}


@dataclass(frozen=True)
class Cell:
    """A number as text, its exact value where there is one, and a few words under it."""

    text: str
    value: float | int | None = None
    below: str = ""


@dataclass(frozen=True)
class Row:
    """A number of every run; None where a run does not have it."""

    label: str
    about: str
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True)
class Problem:
    """A check that did not pass in some run: its verdict in each, None where that run does not have the check."""

    check: str
    verdicts: tuple[Level | None, ...]


@dataclass(frozen=True)
class Meeting:
    """How often the run of the row beats that of the column; `tone` is the run's that is clearly better."""

    text: str
    interval: str
    tone: str


def matrix(rivals: Sequence[Rival], duels: Sequence[Duel]) -> list[tuple[str, list[Meeting | None]]]:
    """Every run against every other: a row for each, None where the two were not set against each other."""
    found: dict[tuple[str, str], Meeting] = {}
    for one in duels:
        a, b, said = one.first.letter, one.second.letter, one.outcome
        tone = {"first": tone_of(a), "second": tone_of(b), "unclear": ""}[one.verdict]
        found[a, b] = Meeting(percent(said.rate), f"{percent(said.low)} to {percent(said.high)}", tone)
        found[b, a] = Meeting(percent(1 - said.rate), f"{percent(1 - said.high)} to {percent(1 - said.low)}", tone)
    letters = [one.letter for one in rivals]
    return [(row, [found.get((row, column)) for column in letters]) for row in letters]


def outcomes(rivals: Sequence[Rival]) -> list[Row]:
    """Every row that some run has a number for."""
    rows = (Row(label, about, tuple(cell(one) for one in rivals)) for label, about, cell in _ROWS)
    return [row for row in rows if any(cell is not None for cell in row.cells)]


def win_rates(rivals: Sequence[Rival]) -> list[Gauge]:
    """Each run's win rate over its own SFT model, with its interval."""
    return [
        gauge(one.letter, rate, one.summary.win_rate_low, one.summary.win_rate_high, tone_of(one.letter))
        for one in rivals
        if (rate := one.summary.win_rate) is not None
    ]


def accuracies(rivals: Sequence[Rival]) -> list[Gauge]:
    """Each reward model's accuracy on pairs that it had not seen, with its interval."""
    found = [(one.letter, one.facts("reward")) for one in rivals]
    return [
        gauge(letter, facts["accuracy"], facts.get("accuracy_low"), facts.get("accuracy_high"), tone_of(letter))
        for letter, facts in found
        if facts.get("accuracy") is not None
    ]


def problems(rivals: Sequence[Rival]) -> list[Problem]:
    """Checks that are red or amber in some run, those that are red first, and then those of most runs."""
    verdicts = [{found.check: found.verdict for found in one.checks} for one in rivals]
    names = dict.fromkeys(found.check for one in rivals for found in one.checks if found.verdict != "ok")
    rows = [Problem(name, tuple(found.get(name) for found in verdicts)) for name in names]
    return sorted(rows, key=lambda row: (-row.verdicts.count("red"), -row.verdicts.count("amber")))


def count_in_words(checks: Sequence[Finding]) -> str:
    """`1 alarm, 2 to look at`, or `all passed`."""
    red, amber = (sum(one.verdict == level for one in checks) for level in ("red", "amber"))
    said = [*([f"{red} alarm{'s' * (red > 1)}"] if red else []), *([f"{amber} to look at"] if amber else [])]
    return ", ".join(said) or "all passed"


def _win_rate(rival: Rival) -> Cell | None:
    one = rival.summary
    if one.win_rate is None or one.win_rate_low is None or one.win_rate_high is None:
        return None
    return Cell(percent(one.win_rate), one.win_rate, f"{percent(one.win_rate_low)} to {percent(one.win_rate_high)}")


def _judge(rival: Rival) -> Cell | None:
    judge = rival.summary.judge
    return None if judge is None else Cell({"gold": "gold score", "reward": "reward model"}[judge])


def _change(before: str, after: str, form: Callable[[float], str]) -> Callable[[Rival], Cell | None]:
    """From one number of the evaluation to another."""

    def cell(rival: Rival) -> Cell | None:
        names = (said(name, rival.summary.method) for name in (before, after))
        start, end = (rival.facts("evaluation").get(name) for name in names)
        return None if start is None or end is None else Cell(f"{form(start)} → {form(end)}", end)

    return cell


def _kl(rival: Rival) -> Cell | None:
    kl = rival.summary.kl
    return None if kl is None else Cell(figure(kl), kl)


def _accuracy(rival: Rival) -> Cell | None:
    facts = rival.facts("reward")
    if facts.get("accuracy") is None:
        return None
    low, high = (facts.get(f"accuracy_{end}") for end in ("low", "high"))
    below = "" if low is None or high is None else f"{percent(low)} to {percent(high)}"
    return Cell(percent(facts["accuracy"]), facts["accuracy"], below)


def _ceiling(rival: Rival) -> Cell | None:
    best = rival.facts("preferences").get("ceiling")
    return None if best is None else Cell(percent(best), best)


def _gold(rival: Rival) -> Cell | None:
    verdict, _ = over_optimisation(rival.run)
    return None if verdict is None else Cell(_GOLD[verdict.kind])


def _fact(stage: str, name: str) -> Callable[[Rival], Cell | None]:
    def cell(rival: Rival) -> Cell | None:
        facts: Mapping[str, Any] = rival.facts(stage)
        return None if facts.get(name) is None else Cell(whole(facts[name]), facts[name])

    return cell


def _checked(rival: Rival) -> Cell:
    return Cell(count_in_words(rival.checks), None, f"{len(rival.checks)} checks")


def _updates(rival: Rival) -> Cell | None:
    return _fact(rival.summary.method, "updates")(rival)


def _method(rival: Rival) -> Cell:
    return Cell(rival.summary.title)


_ROWS: tuple[tuple[str, str, Callable[[Rival], Cell | None]], ...] = (
    ("Method", "that made the policy", _method),
    ("Win rate", "the policy over the run’s own SFT model", _win_rate),
    ("Judge", "who says which answer is better", _judge),
    ("Prompts", "of the evaluation", _fact("evaluation", "prompts")),
    ("Gold score", "SFT → policy, points", _change("gold_sft", "gold_policy", points)),
    ("Gold in training", "against the reward", _gold),
    ("Reward", "SFT → policy, by the run’s own reward model", _change("reward_sft", "reward_policy", points)),
    ("KL spent", "policy from SFT, nats per answer", _kl),
    ("Length", "SFT → policy, tokens per answer", _change("length_sft", "length_policy", figure)),
    ("Reward model", "right on unseen pairs", _accuracy),
    ("Its ceiling", "what people’s agreement allows", _ceiling),
    ("Pairs", "that it learnt from", _fact("reward", "pairs")),
    ("Updates", "of online training", _updates),
    ("Time", "", lambda one: Cell(duration(one.summary.seconds), one.summary.seconds)),
    ("Memory", "at most, MB", lambda one: Cell(whole(one.summary.peak_mb), one.summary.peak_mb)),
    ("Seed", "", lambda one: Cell(str(one.summary.seed), one.summary.seed)),
    ("Checks", "", _checked),
)
