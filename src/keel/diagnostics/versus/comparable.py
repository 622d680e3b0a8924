"""Whether runs can be compared at all: prompts, judge and opponent of the evaluation, base models, seeds, versions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from keel.diagnostics.findings import Level
from keel.diagnostics.versus.differences import between, in_words, listed
from keel.diagnostics.versus.duels import common
from keel.diagnostics.versus.rivals import Rival

_SAMPLING = ("evaluation.sampling.", "evaluation.samples")


@dataclass(frozen=True)
class Note:
    """A condition of a fair comparison: "ok" where it holds, "red" where numbers must not be set side by side."""

    level: Level
    about: str
    text: str


def notes(rivals: Sequence[Rival]) -> list[Note]:
    """All conditions that can be looked at, those that fail first."""
    judged = [one for one in rivals if one.summary.judge is not None]
    found = [*_base(rivals), *_seeds(rivals), *_versions(rivals)]
    if len(judged) > 1:
        found = [*_prompts(judged), *_judges(judged), *_opponents(judged), *_sampling(judged), *found]
    if 0 < len(judged) < len(rivals):
        without = listed(one.letter for one in rivals if one not in judged)
        found.append(Note("amber", "Evaluation", f"{without} had no evaluation, so nothing is known of its answers."))
    return sorted(found, key=lambda one: ("red", "amber", "ok").index(one.level))


def _prompts(rivals: Sequence[Rival]) -> Iterator[Note]:
    asked = {one.letter: len({(answer.id, answer.prompt) for answer in one.run.answers}) for one in rivals}
    shared = {(one.letter, other.letter): len(common([one, other])) for one, other in combinations(rivals, 2)}
    strangers = [pair for pair, count in shared.items() if count == 0]
    partly = [pair for pair, count in shared.items() if 0 < count < max(asked[letter] for letter in pair)]
    if strangers:
        why = (
            " A built-in task makes its prompts from the seed, and the seeds differ."
            if len({one.settings.get("seed") for one in rivals}) > 1
            and all(one.settings.get("task", "null") != "null" for one in rivals)
            else ""
        )
        yield Note(
            "red",
            "Prompts of the evaluation",
            f"{between(strangers, 'shares no prompt with', 'none with')}: their win rates and scores are over other "
            f"questions, and a difference between them may come from the questions alone.{why}",
        )
    for one, other in partly[:4]:
        yield Note(
            "amber",
            "Prompts of the evaluation",
            f"{one} was asked {asked[one]:,} prompts and {other} {asked[other]:,}, of which they share "
            f"{shared[one, other]:,}. Win rates over SFT are over all of a run’s prompts; what is said of the two runs "
            "against each other is over the shared ones.",
        )
    if not strangers and not partly:
        count = next(iter(asked.values()))
        yield Note("ok", "Prompts of the evaluation", f"All win rates are over the same {count:,} prompts.")


def _judges(rivals: Sequence[Rival]) -> Iterator[Note]:
    kinds = {one.summary.judge for one in rivals}
    judges = {one.judge for one in rivals}
    if len(kinds) > 1:
        by = {kind: listed(one.letter for one in rivals if one.summary.judge == kind) for kind in ("gold", "reward")}
        yield Note(
            "red",
            "Judge",
            f"The gold score judged {by['gold']}, a reward model judged {by['reward']}: what one calls a win the other "
            "may not.",
        )
    elif None in judges:
        yield Note(
            "amber", "Judge", "A reward model judged, and whether it was the same one is not recorded in every run."
        )
    elif len(judges) > 1:
        words = in_words(rivals, [one.judge for one in rivals])
        yield Note(
            "red",
            "Judge",
            f"Reward models judged, and not the same one ({words}): each run’s win rate is its own judge’s opinion.",
        )
    else:
        name = "the task’s gold score" if kinds == {"gold"} else "one and the same reward model"
        yield Note("ok", "Judge", f"The judge of all is {name}.")


def _opponents(rivals: Sequence[Rival]) -> Iterator[Note]:
    marks = [one.held("evaluation", "model") for one in rivals]
    if None in marks:
        yield Note("amber", "Opponent", "A win rate is over the run’s own SFT model; whether these are the same is not "
                   "recorded in every run.")  # fmt: skip
    elif len(set(marks)) > 1:
        yield Note(
            "red",
            "Opponent",
            f"A win rate is over the run’s own SFT model, and these differ ({in_words(rivals, marks)}): beating a weak "
            "one is easy. Compare the runs by their answers against each other, not by these win rates.",
        )
    else:
        yield Note("ok", "Opponent", "All win rates are over the same SFT model.")


def _sampling(rivals: Sequence[Rival]) -> Iterator[Note]:
    names = dict.fromkeys(name for one in rivals for name in one.settings if name.startswith(_SAMPLING))
    other = [name for name in names if len({one.settings.get(name) for one in rivals}) > 1]
    if other:
        yield Note(
            "amber", "Sampling", f"Answers were sampled in other ways: {listed(other)} differ{'s' * (len(other) == 1)}."
        )


def _base(rivals: Sequence[Rival]) -> Iterator[Note]:
    marks = [one.base for one in rivals]
    paths = [one.settings.get("model.path") for one in rivals]
    if None not in marks and len(set(marks)) == 1:
        yield Note("ok", "Base model", "All started from the same base model.")
    elif (None not in marks and len(set(marks)) > 1) or len(set(paths)) > 1:
        words = in_words(rivals, marks if None not in marks else paths)
        yield Note(
            "red",
            "Base model",
            f"They started from other base models ({words}): a difference between the runs may be one between these, "
            "not between the recipes.",
        )
    else:
        yield Note("amber", "Base model", "Whether all started from the same base model is not recorded in every run.")


def _seeds(rivals: Sequence[Rival]) -> Iterator[Note]:
    seeds = [one.summary.seed for one in rivals]
    if len(set(seeds)) > 1:
        said = listed(f"{one.letter} {seed}" for one, seed in zip(rivals, seeds, strict=True))
        yield Note("amber", "Seed", f"The seeds differ ({said}), so part of any difference is luck.")


def _versions(rivals: Sequence[Rival]) -> Iterator[Note]:
    names = dict.fromkeys(name for one in rivals for name in one.summary.versions)
    other = [name for name in names if len({one.summary.versions.get(name) for one in rivals}) > 1]
    if other:
        yield Note("amber", "Versions", f"The runs were made with other versions of {listed(other)}.")
