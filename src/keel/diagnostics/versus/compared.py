"""Runs that were compared: everything that differs, and in plain words what can be concluded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keel.diagnostics.versus.comparable import Note, notes
from keel.diagnostics.versus.differences import Ingredient, Setting, between, inputs, listed, results, settings_apart
from keel.diagnostics.versus.duels import Duel, Unmatched, duels
from keel.diagnostics.versus.rivals import Rival, read_rivals
from keel.summary import WIDTH, confidence_in_words, fold, percent, printable

_FEW = 3
_SAID = 24  # characters of a value in a sentence


@dataclass(frozen=True, eq=False)
class Compared:
    """Two runs or more with all that the page says of them."""

    rivals: tuple[Rival, ...]
    settings: tuple[Setting, ...]
    inputs: tuple[Ingredient, ...]
    results: tuple[Ingredient, ...]
    notes: tuple[Note, ...]
    duels: tuple[Duel, ...]
    unmatched: tuple[Unmatched, ...]

    @classmethod
    def read(cls, directories: Sequence[Path]) -> Compared:
        """UserError where one of the folders holds no finished run."""
        rivals = read_rivals(directories)
        met, unmatched = duels(rivals)
        return cls(
            tuple(rivals),
            tuple(settings_apart(rivals)),
            tuple(inputs(rivals)),
            tuple(results(rivals)),
            tuple(notes(rivals)),
            tuple(met),
            tuple(unmatched),
        )

    def to_json(self) -> dict[str, Any]:
        """For programs: `runs` in order, then what differs, `pairs` of runs, and `words`, the conclusions."""
        return {
            "runs": [_run(one) for one in self.rivals],
            "settings": {one.name: list(one.values) for one in self.settings},
            "inputs": [_ingredient(one) for one in self.inputs],
            "results": [_ingredient(one) for one in self.results],
            "notes": [{"level": one.level, "about": one.about, "text": one.text} for one in self.notes],
            "pairs": [_pair(one) for one in self.duels],
            "unmatched": [
                {"first": one.first.letter, "second": one.second.letter, "reason": one.reason} for one in self.unmatched
            ],
            "words": [self.difference(), *self.conclusions()],
        }

    def __str__(self) -> str:
        lines = [f"{one.letter} = {printable(one.name)}" for one in self.rivals]
        for words in (self.difference(), *self.conclusions()):
            lines += ["", *fold(printable(words), WIDTH)]
        return "\n".join(lines)

    def difference(self) -> str:
        """What is not the same in the runs' recipes and inputs."""
        other: dict[str, list[str]] = {}
        for one in self.inputs:
            if not one.same:
                other.setdefault(one.name, []).extend(one.stages)
        if not self.settings:
            words = "The recipes are the same, field by field."
        elif [one.name for one in self.settings] == ["seed"]:
            words = "The recipes differ in nothing but the seed, so what differs between the runs is luck."
        elif len(self.settings) <= _FEW:
            words = f"The recipes differ in {listed(map(self._field, self.settings))}."
        else:
            first = ", ".join(one.name for one in self.settings[:_FEW])
            words = f"The recipes differ in {len(self.settings)} fields: {first} and others (see below)."
        if not self.inputs:
            return f"{words} What the runs were made from is not recorded."
        if other:
            read = listed(f"{name} ({', '.join(stages)})" for name, stages in other.items())
            return f"{words} Of what they were made from, not the same (or not known to be): {read}."
        return f"{words} They were made from the same data and models."

    def conclusions(self) -> list[str]:
        """What can be said of which run is better, and what cannot."""
        found = [*self._met(), *self._not_met(), *_accuracies(self.rivals)]
        if self.duels:
            found.append(
                "An interval knows the luck of prompts and answers, not that of training: another seed moves a run, "
                "too. Repeat both with other seeds before you rely on a small difference."
            )
        return found or ["There is nothing here by which one run could be called better than another."]

    def _field(self, setting: Setting) -> str:
        values = [
            f"{one.letter} {'has none' if value is None else _cut(value)}"
            for one, value in zip(self.rivals, setting.values, strict=True)
        ]
        return f"{setting.name} ({', '.join(values)})"

    def _met(self) -> Iterator[str]:
        if 0 < len(self.duels) <= _FEW:
            yield from map(sentence, self.duels)
        elif self.duels:
            told = [one for one in self.duels if one.verdict != "unclear"]
            yield (
                f"Of {len(self.duels)} pairs of runs that answered the same prompts, "
                + (f"{len(told)} can be told apart: {_beats(told)}." if told else "none can be told apart.")
                + (
                    " The others not: the intervals of their win rates hold 50%."
                    if told and len(told) < len(self.duels)
                    else ""
                )
            )
        if len(self.duels) > 1:
            yield (
                f"Each of these intervals is one of {confidence_in_words(round(self.duels[0].confidence, 4))}, so that "
                f"all {len(self.duels)} hold together as often as a single one should."
            )
        if any(one.first.summary.judge == "reward" for one in self.duels):
            yield (
                "The judge is a reward model that PPO was trained to please: a run that wins by it pleases it more, "
                "which need not be better. Let people, or another judge, look."
            )

    def _not_met(self) -> Iterator[str]:
        reasons = dict.fromkeys(one.reason for one in self.unmatched)
        for reason in reasons:
            pairs = [(one.first.letter, one.second.letter) for one in self.unmatched if one.reason == reason]
            yield f"Answer by answer {between(pairs, 'cannot be compared with', 'not with')}, because {reason}."


def sentence(duel: Duel) -> str:
    """A duel in words."""
    better, worse, outcome = _sides(duel)
    rate, low, high = outcome
    means = (
        f"the interval holds 50%, a draw, so this evaluation does not tell {duel.first.letter} and "
        f"{duel.second.letter} apart"
        if duel.verdict == "unclear"
        else f"{better.letter} is better by this judge, beyond what chance explains"
    )
    prompts = f"{duel.prompts:,} prompt{'s' * (duel.prompts != 1)}"
    return (
        f"On {prompts} that both were asked, the answers of {better.letter} after PPO beat those of {worse.letter} "
        f"{percent(rate)} of the time, ties counted half ({confidence_in_words(round(duel.confidence, 4))} interval "
        f"{percent(low)} to {percent(high)}): {means}."
    )


def _sides(duel: Duel) -> tuple[Rival, Rival, tuple[float, float, float]]:
    """The one that wins more often, the other, and the first one's rate with its interval."""
    found = duel.outcome
    if found.rate >= 0.5:
        return duel.first, duel.second, (found.rate, found.low, found.high)
    return duel.second, duel.first, (1 - found.rate, 1 - found.high, 1 - found.low)


def _beats(duels: Sequence[Duel]) -> str:
    """`B beats A and C; C beats A`."""
    beaten: dict[str, list[str]] = {}
    for one in duels:
        better, worse, _ = _sides(one)
        beaten.setdefault(better.letter, []).append(worse.letter)
    return "; ".join(f"{better} beats {listed(worse)}" for better, worse in sorted(beaten.items()))


def _accuracies(rivals: Sequence[Rival]) -> Iterator[str]:
    """Whether the intervals of two reward models are apart."""
    known = {
        one.letter: (one.facts("reward")["accuracy_low"], one.facts("reward")["accuracy_high"])
        for one in rivals
        if one.facts("reward").get("accuracy_low") is not None
    }
    models = {one.held("evaluation", "reward") for one in rivals if one.letter in known}
    if len(known) < 2 or (len(models) == 1 and None not in models):
        return
    best, worst = max(known, key=lambda one: known[one][0]), min(known, key=lambda one: known[one][1])
    if known[best][0] > known[worst][1]:
        yield (
            f"The reward model of {best} is right more often than that of {worst}: their intervals do not meet. Each "
            "was tested on pairs of its own run."
        )
    else:
        yield (
            "The intervals of the reward models’ accuracies overlap, so by these alone nobody can tell the reward "
            "models apart."
        )


def _cut(value: str) -> str:
    return value if len(value) <= _SAID else f"{value[: _SAID - 1]}…"


def _run(rival: Rival) -> dict[str, Any]:
    summary = rival.summary.to_json()
    numbers = {name: value for name, value in summary.items() if name not in ("stages", "examples")}
    reds = {level: [one.check for one in rival.checks if one.verdict == level] for level in ("red", "amber")}
    accuracy = {
        f"reward_{name}": rival.facts("reward").get(name) for name in ("accuracy", "accuracy_low", "accuracy_high")
    }
    return (
        {"letter": rival.letter, "name": rival.name, "directory": str(rival.summary.directory)}
        | numbers
        | accuracy
        | reds
    )


def _ingredient(one: Ingredient) -> dict[str, Any]:
    return {
        "name": one.name,
        "stages": list(one.stages),
        "same": one.same,
        "words": one.words,
        "fingerprints": [None if held is None else held.fingerprint for held in one.held],
    }


def _pair(duel: Duel) -> dict[str, Any]:
    found = duel.outcome
    return {
        "first": duel.first.letter,
        "second": duel.second.letter,
        "prompts": duel.prompts,
        "answers": duel.answers,
        "win_rate": found.rate,
        "win_rate_low": found.low,
        "win_rate_high": found.high,
        "wins": found.wins,
        "ties": found.ties,
        "losses": found.losses,
        "confidence": duel.confidence,
        "verdict": duel.verdict,
    }
