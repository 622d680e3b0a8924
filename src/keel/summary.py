"""What came of a run: the numbers of summary.json, and the words that close it on the terminal."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.text import Text

from keel.config import OFFLINE, PRESETS, Guards, Method
from keel.display import duration
from keel.errors import UserError
from keel.summary_file import MEASURED, exact, faults, said
from keel.training.guards import BELOW_ZERO

WIDTH = 80
STAGES: Mapping[str, str] = {
    "sft": "SFT",
    "preferences": "preferences",
    "reward": "reward model",
    **{name: preset.title for name, preset in PRESETS.items()},
    "evaluation": "evaluation",
}
"""The stages in their order, as people call them."""

_KL_LIMITS = Guards().kl
"""Nats per answer beyond which a policy is far, and too far, from where it started (after Gao et al., 2210.10760)."""

_LOSSES: Mapping[str, str] = {
    "dpo": "DPO",
    "ipo": "IPO",
    "cdpo": "cDPO",
    "robust": "robust DPO",
    "kto": "KTO",
    "orpo": "ORPO",
    "simpo": "SimPO",
}
_HELD: Mapping[str, str] = {
    "rl.kl": ", while a KL penalty held it near to what it was",
    "dpo.beta": ", while the loss of its pairs held it near to what it was",
    "None": ", and nothing held it near to what it was",
}
"""By what a stage says of itself; one that does not say was made before it was asked."""
_LINES = 6  # of one answer on the terminal


@dataclass(frozen=True)
class Example:
    """One prompt with the answers of the supervised model and of the policy."""

    prompt: str
    sft: str
    policy: str


@dataclass(frozen=True)
class Summary:
    """The numbers of a run; None where no stage measured them.

    `win_rate` is the policy's over SFT with ties as half wins, by `judge`, in an interval that covers it with
    `confidence`. `gold_*` are points of the task's hidden score, `reward_*` what the reward model gives; both are means
    over the evaluation prompts. `kl` is in nats per answer. `stages` holds what each stage says of itself, `method` is
    the one that made the policy. `directory` is where the run lies; it is no part of summary.json.
    """

    win_rate: float | None
    win_rate_low: float | None
    win_rate_high: float | None
    wins: int | None
    ties: int | None
    losses: int | None
    judge: Literal["gold", "reward"] | None
    confidence: float | None
    gold_base: float | None
    gold_sft: float | None
    gold_policy: float | None
    reward_sft: float | None
    reward_policy: float | None
    kl: float | None
    seconds: float
    peak_mb: float
    stages: Mapping[str, Mapping[str, Any]]
    examples: tuple[Example, ...]
    versions: Mapping[str, str]
    seed: int
    method: Method
    directory: Path

    @classmethod
    def of(
        cls,
        stages: Mapping[str, Mapping[str, Any]],
        seconds: float,
        peak_mb: float,
        seed: int,
        versions: Mapping[str, str],
        method: Method,
        directory: Path,
    ) -> Summary:
        """From what the stages report of themselves; what `evaluation` measured becomes the run's own numbers."""
        measured = stages.get("evaluation", {})
        return cls(
            **{name: exact(name, measured.get(said(name, method))) for name in MEASURED},
            seconds=round(seconds, 2),
            peak_mb=float(round(peak_mb)),
            stages=stages,
            examples=_examples(measured.get("examples", ()), method),
            versions=versions,
            seed=seed,
            method=method,
            directory=directory,
        )

    @classmethod
    def read(cls, path: Path) -> Summary:
        """What `to_json` wrote. UserError where the file is missing or is no summary."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise UserError(
                f"{path} cannot be read ({error.strerror}): {path.parent} is not the folder of a finished run; "
                "`keel run` makes one"
            ) from None
        except ValueError as error:
            raise UserError(f"{path} is damaged ({error}); run the recipe again") from None
        fault = next(faults(content, _NAMES, STAGES, PRESETS), None)
        if fault is not None:
            raise UserError(f"{path} is not the summary of a run: {fault}; run the recipe again")
        method = content.get("method", "ppo")
        rest = {name: exact(name, content[said(name, method)]) for name in _NAMES if name not in ("examples", "method")}
        return cls(**rest, method=method, examples=_examples(content["examples"], method), directory=path.parent)

    def to_json(self) -> dict[str, Any]:
        """The content of summary.json."""
        content = {said(name, self.method): getattr(self, name) for name in _NAMES}
        examples = [{"prompt": one.prompt, "sft": one.sft, self.method: one.policy} for one in self.examples]
        return content | {"examples": examples}

    @property
    def title(self) -> str:
        """What the method that made the policy is called."""
        return title_of(self.method, self.stages)

    @property
    def verdict(self) -> Literal["better", "unclear", "worse"] | None:
        """What the win rate's interval says of the policy against SFT; None where there is no win rate."""
        if self.win_rate_low is None or self.win_rate_high is None:
            return None
        return "better" if self.win_rate_low > 0.5 else "worse" if self.win_rate_high < 0.5 else "unclear"

    @property
    def comparisons(self) -> int:
        """How many pairs of answers the win rate counts."""
        return (self.wins or 0) + (self.ties or 0) + (self.losses or 0)

    def __str__(self) -> str:
        return "\n".join(line.rstrip() for line in _page(self))


def _examples(rows: Sequence[Mapping[str, str]], method: str) -> tuple[Example, ...]:
    return tuple(Example(one["prompt"], one["sft"], one[method]) for one in rows)


_NAMES = tuple(field.name for field in fields(Summary) if field.name != "directory")


def title_of(method: Method, stages: Mapping[str, Mapping[str, Any]]) -> str:
    """What a method is called; one that learns straight from preferences, by its loss."""
    return _LOSSES.get(str(stages.get(method, {}).get("objective")), PRESETS[method].title)


def percent(share: float) -> str:
    """A share as whole percents."""
    return f"{100 * share:.0f}%"


def confidence_in_words(share: float) -> str:
    """A level of confidence with all its digits: 99.5% is not 100%."""
    return f"{100 * share:g}%"


def story(summary: Summary) -> list[str]:
    """What was done, stage by stage, a sentence or two for each, in words that need no background."""
    tellers: Mapping[str, Callable[[Mapping[str, Any]], Iterator[str]]] = {
        "sft": _tell_sft,
        "preferences": _tell_preferences,
        "reward": _tell_reward,
        summary.method: partial(_tell_direct if summary.method in OFFLINE else _tell_practice, summary.title),
    }
    return [" ".join(tell(summary.stages[name])) for name, tell in tellers.items() if name in summary.stages]


def outcome(summary: Summary) -> str:
    """The win rate with its interval, and what follows from it; empty where there is none."""
    rate, low, high = summary.win_rate, summary.win_rate_low, summary.win_rate_high
    if rate is None or low is None or high is None or summary.confidence is None:
        return ""
    follows = {
        "better": f"so {summary.title} has made the model better, beyond what chance explains",
        "unclear": f"so these prompts cannot tell whether {summary.title} has made the model better or worse",
        "worse": f"so {summary.title} has made the model worse, beyond what chance explains",
    }[summary.verdict or "unclear"]
    news, sure = novelty(summary.stages.get("evaluation", {})), confidence_in_words(summary.confidence)
    return (
        f"In {_count(summary.comparisons, 'comparison')}{news and f' on prompts{news}'}, the answer after "
        f"{summary.title} beat the one before it{' (SFT)' if 'sft' in summary.stages else ''} {percent(rate)} of the "
        f"time, ties counted half. The {sure} interval is {percent(low)} to {percent(high)} and 50% would be a draw, "
        f"{follows}."
    )


def novelty(facts: Mapping[str, Any]) -> str:
    """What goes after "prompts" in a sentence about an evaluation; nothing where nobody looked who had seen them."""
    if facts.get("seen") is None:
        return ""
    if facts["seen"] == 0:
        return " that no stage had seen"
    return f" ({facts['seen']:,} of {facts['prompts']:,} of which a training stage had seen too)"


def judge_in_words(summary: Summary) -> str:
    """Who said which answer is better, and how far to believe it; empty where nobody judged."""
    if summary.judge is None:
        return ""
    if summary.judge == "gold":
        return "The judge is the task's hidden gold score, which no model was trained on."
    if not _learned(summary):
        return f"The judge is the reward model of this folder, which {summary.title} was not trained to please."
    return (
        f"The judge is the reward model that {summary.title} was trained to please, so this is a partial judge: "
        "let people, or another judge, look before you rely on it."
    )


def _learned(summary: Summary) -> bool:
    """Whether a reward model was part of what the policy was trained to raise."""
    return bool(summary.stages.get(summary.method, {}).get("learned_reward", summary.method not in OFFLINE))


def before(summary: Summary) -> str:
    """What the model is called that the policy started from."""
    return "SFT" if "sft" in summary.stages else "start"


def kl_in_words(kl: float, limits: tuple[float, float] = _KL_LIMITS) -> str:
    """What a KL of so many nats per answer means; `limits` are where it is far, and too far."""
    far, too_far = limits
    if kl < 0:
        return BELOW_ZERO
    if kl < min(1, far):
        return "hardly any distance: the model writes almost as before"
    if kl < far:
        return "a moderate distance, usual after such training"
    if kl < too_far:
        return "far from where it started: read some answers before you trust the score"
    return "very far from where it started: the reward is probably being gamed"


def _tell_sft(facts: Mapping[str, Any]) -> Iterator[str]:
    number = facts.get("demonstrations")
    yield f"The model learnt to imitate {_count(number, 'demonstration')} (supervised fine-tuning, SFT)."


def _tell_preferences(facts: Mapping[str, Any]) -> Iterator[str]:
    pairs = _count(facts.get("pairs"), "pair")
    if facts.get("annotators"):
        yield (
            f"{_count(facts['annotators'], 'annotator')} compared {pairs} of answers in "
            f"{_count(facts.get('judgements'), 'judgement')}."
        )
    else:
        yield f"{pairs} of answers were read, each with the one that people prefer."


def _tell_reward(facts: Mapping[str, Any]) -> Iterator[str]:
    yield "A reward model learnt from such pairs which answer people prefer."
    if facts.get("accuracy") is not None:
        yield (
            f"On {_count(facts.get('held_out_pairs'), 'pair')} that it had not seen it is right "
            f"{percent(facts['accuracy'])} of the time; a coin is right 50%."
        )


def _tell_practice(title: str, facts: Mapping[str, Any]) -> Iterator[str]:
    held = _HELD.get(str(facts.get("held_by", "")), "")
    yield (
        f"{title} then tuned the model in {_count(facts.get('updates'), 'round')} of answering and learning to score "
        f"higher with the reward{held}."
    )
    if facts.get("stopped"):
        best = facts.get("best")
        kept = (
            f"the model is the best policy so far, of round {best['update']}" if best else "none was kept as the best"
        )
        yield f"A red alarm ended it early, and {kept}: {facts['stopped']}"


def _tell_direct(title: str, facts: Mapping[str, Any]) -> Iterator[str]:
    what = _count(facts["pairs"], "pair") if "pairs" in facts else _count(facts.get("answers"), "rated answer")
    yield (
        f"The model then learnt from {what} itself which answer people prefer ({title}), without a reward model between"
        + ("." if facts.get("objective") in ("orpo", "simpo") else ", while it was held near to what it was.")
    )


def _count(number: object, noun: str) -> str:
    """`1 pair`, `1,500 pairs`, or `an unknown number of pairs`."""
    if not isinstance(number, int):
        return f"an unknown number of {noun}s"
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _page(summary: Summary) -> Iterator[str]:
    """The lines of the closing summary."""
    yield f"Done in {duration(summary.seconds)}, with at most {summary.peak_mb:,.0f} MB of memory."
    told = story(summary)
    if told:
        yield from ("", "WHAT HAPPENED", *_wrapped(" ".join(told)))
    if outcome(summary):
        yield from (
            "",
            "DID IT HELP?",
            *_wrapped(outcome(summary)),
            *_wrapped(judge_in_words(summary)),
        )
    numbers = list(_numbers(summary))
    if numbers:
        yield from ("", "THE NUMBERS", *numbers)
    yield from ("", "TIME AND MEMORY", *_times(summary))
    yield from _answers(summary)
    yield from ("", "WHAT NEXT", *_next(summary))


def _numbers(summary: Summary) -> Iterator[str]:
    start, measured = before(summary), summary.stages.get("evaluation", {})
    if summary.gold_base is not None and summary.gold_sft is not None and summary.gold_policy is not None:
        most, low, high = (measured.get(name) for name in ("gold_max", "gold_gain_low", "gold_gain_high"))
        rose = "" if low is None or high is None else f" The gain over {start} lies within {low:+.2f} and {high:+.2f}."
        yield from _fact(
            "gold score",
            f"base {summary.gold_base:.2f} → {start} {summary.gold_sft:.2f} → {summary.title} {summary.gold_policy:.2f}"
            + (f", at most {most:g}." if most else ".")
            + rose
            + " The task's own measure of a good answer, hidden from every model.",
        )  # fmt: skip
    if summary.reward_sft is not None and summary.reward_policy is not None:
        yield from _fact(
            "reward",
            f"{start} {summary.reward_sft:.2f} → {summary.title} {summary.reward_policy:.2f}. What the reward model "
            "thinks of the answers" + (f": this is what {summary.title} raises." if _learned(summary) else "."),
        )
    if summary.kl is not None:
        yield from _fact("KL spent", f"{round(summary.kl, 1) + 0.0:.1f} nats per answer: {kl_in_words(summary.kl)}.")
    fit, people = summary.stages.get("reward", {}), summary.stages.get("preferences", {})
    if fit.get("accuracy") is not None:
        best, low, high = (people.get(name) for name in ("ceiling", "ceiling_low", "ceiling_high"))
        spread = f" ({percent(low)} to {percent(high)})" if low is not None and high is not None else ""
        yield from _fact(
            "reward model",
            f"right on {percent(fit['accuracy'])} of unseen pairs"
            + (f"; people's agreement allows about {percent(best)}{spread}." if best else "."),
        )


def _times(summary: Summary) -> Iterator[str]:
    for name, called in STAGES.items():
        facts = summary.stages.get(name)
        if facts is not None:
            yield f"  {called:14}{duration(float(facts['seconds'])):>12}{facts['peak_mb']:>10,.0f} MB"


def _answers(summary: Summary) -> Iterator[str]:
    examples = summary.examples
    if examples:
        yield from (
            "",
            f"{len(examples)} PROMPT{'S' if len(examples) > 1 else ''}, "
            f"ANSWERED BEFORE {summary.title.upper()} AND AFTER IT",
        )
    for place, example in enumerate(examples):
        yield from ([""] if place else [])
        for name, text in (("prompt", example.prompt), ("before", example.sft), ("after", example.policy)):
            yield from _quoted(name, text)


def _next(summary: Summary) -> Iterator[str]:
    run = printable(str(summary.directory))
    yield from _folded("report", f"{run}/report.html")
    for name in ("sft", "reward", summary.method):
        if name in summary.stages:
            yield from _folded(f"{STAGES[name]} is in", f"{run}/{name}/model")
    if summary.method in summary.stages or "sft" in summary.stages:
        yield from _folded("talk to it", f"keel chat {run}")
    yield from _folded("your own data", "keel init mine --model PATH")
    yield from _folded("", "keel run mine/recipe.yaml")


def _fact(name: str, text: str) -> Iterable[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=f"  {name:14}", subsequent_indent=" " * 16)


def _wrapped(text: str) -> Iterable[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="  ")


def _quoted(name: str, text: str) -> Iterator[str]:
    """A model's text, a few lines of it."""
    lines = fold(printable(text), WIDTH - 10)
    shown = [*lines[:_LINES], *(["…"] if len(lines) > _LINES else [])] or ["(nothing)"]
    yield from (f"  {name if place == 0 else '':8}{line}" for place, line in enumerate(shown))


def _folded(name: str, text: str) -> Iterator[str]:
    """A path or a command; folded only where it does not fit."""
    yield from (f"  {name if place == 0 else '':20}{line}" for place, line in enumerate(fold(text, WIDTH - 22)))


def fold(text: str, width: int) -> list[str]:
    """Lines of text by the width that its characters take on a terminal; a word that is too long is cut."""
    console = Console(file=StringIO(), width=width)
    return [line.plain.rstrip() for line in Text(text).wrap(console, width, overflow="fold")]


def printable(text: str) -> str:
    """One line of text that cannot steer a terminal: white space becomes a space, what does not print becomes �."""
    return "".join(char if char.isprintable() else "�" for char in " ".join(text.split()))
