"""Rewards: rollouts in, one number each out, with the terms that it is made of.

A reward is a learned model, a Python function, a weighted sum of rewards, or any of these under the missing-EOS rule.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Protocol, SupportsFloat, runtime_checkable

import torch

from keel.data.chat import Chat
from keel.data.forest import Branch, Tree, grow, plan
from keel.data.nearest import did_you_mean
from keel.errors import UserError
from keel.maths.ensembles import disagreement
from keel.maths.returns import soft_overlong
from keel.models.ensemble import Ensemble
from keel.models.roles import Judge
from keel.types import Message, Rollout, Scored

RewardFunction = Callable[[Sequence[Rollout]], Sequence[float]]
"""A reward written in Python: all rollouts of a batch in, one number for each out, in their order.

    def short(rollouts):
        return [-len(rollout.text) / 100 for rollout in rollouts]

A rollout has its `text`, the conversation it answers (`rollout.prompt.messages`) and whatever else the prompt's data
row held (`rollout.prompt.columns`); `keel.types.Rollout` says the rest.
"""

Reader = Callable[[Rollout], Tree]
"""A rollout as its reward model reads it: a prompt and one branch, in the reward model's own tokens."""


@runtime_checkable
class Scorer(Protocol):
    """Scores rollouts, in their order."""

    def score(self, rollouts: Sequence[Rollout]) -> list[Scored]: ...


def as_sampled(rollout: Rollout) -> Tree:
    """For a reward model with the policy's tokenizer: the very tokens that were sampled."""
    return Tree(rollout.prompt_tokens, (Branch(rollout.tokens, rollout.mask),))


def retold(chat: Chat) -> Reader:
    """For a reward model with another tokenizer: prompt and answer as text, rendered anew by its chat template.

    The answer is closed as the template closes one, also where the policy was cut short: text does not say that.
    """

    def read(rollout: Rollout) -> Tree:
        return chat.completion(rollout.prompt.messages, (Message("assistant", rollout.text),))

    return read


@dataclass(frozen=True)
class Normalisation:
    """reward = (score − shift)·scale, frozen before training: data of the run, not weights of the model."""

    shift: float = 0.0
    scale: float = 1.0

    def __call__(self, score: float) -> float:
        return (score - self.shift) * self.scale

    @classmethod
    def standard(cls, scores: Sequence[float]) -> Normalisation:
        """Mean 0 and standard deviation 1 (population) over these scores; UserError where they are all the same."""
        mean = math.fsum(scores) / len(scores)
        deviation = math.sqrt(math.fsum((score - mean) ** 2 for score in scores) / len(scores))
        if deviation == 0:
            raise UserError(
                f"the reward model gives {mean:g} to every answer, so its scores cannot be brought to unit deviation: "
                "train it on more comparisons, or leave normalisation out."
            )
        return cls(mean, 1 / deviation)


@dataclass(frozen=True)
class LearnedReward:
    """A reward model's score at the last token of each answer, normalised.

    `read` is `as_sampled`, or `retold(chat)` for a model with a tokenizer of its own. Answers to one prompt are read as
    one tree, at most `budget` tokens at a time (None: as many as the role likes best). Part recorded: "learned", the
    normalised score; of several models as one "mean", what they say on average, and "disagreement", their standard
    deviation, both in the units of that score.
    """

    role: Judge
    read: Reader = as_sampled
    normalisation: Normalisation = Normalisation()
    budget: int | None = None

    def score(self, rollouts: Sequence[Rollout]) -> list[Scored]:
        """Raises UserError where the model gives something that is no number."""
        branches: dict[tuple[int, ...], list[tuple[int, Branch]]] = {}
        for i, rollout in enumerate(rollouts):
            tree = self.read(rollout)
            branches.setdefault(tree.trunk, []).append((i, tree.branches[0]))
        trees = [Tree(trunk, tuple(branch for _, branch in group)) for trunk, group in branches.items()]
        owners = [[i for i, _ in group] for group in branches.values()]
        scores = [0.0] * len(rollouts)
        parts: list[dict[str, float]] = [{} for _ in rollouts]
        for batch in plan(trees, self.budget or self.role.pass_tokens):
            forest = grow([trees[t] for t in batch], self.role.layout).to(self.role.device)
            places = [i for t in batch for i in owners[t]]
            with torch.inference_mode():
                if isinstance(self.role, Ensemble):
                    each = self.role.read(forest)
                    found = self.role.together(each)
                    columns = zip(places, each.mean(0).tolist(), disagreement(each).tolist(), strict=True)
                    for i, mean, apart in columns:
                        scale = self.normalisation.scale
                        parts[i] = {"mean": self.normalisation(mean), "disagreement": abs(scale) * apart}
                else:
                    found = self.role.scores(forest)
            for i, score in zip(places, found.tolist(), strict=True):
                scores[i] = self.normalisation(score)
        scored = _scored("learned", "the reward model", rollouts, scores)
        return [replace(one, parts=more or one.parts) for one, more in zip(scored, parts, strict=True)]


@dataclass(frozen=True)
class FunctionReward:
    """A Python function as a reward. Part recorded: `name`."""

    name: str
    function: RewardFunction

    def score(self, rollouts: Sequence[Rollout]) -> list[Scored]:
        """Raises UserError unless the function returns one finite number per rollout."""
        if not rollouts:
            return []
        return _scored(self.name, f"reward function {self.name}", rollouts, self.function(rollouts))


@dataclass(frozen=True)
class WeightedSum:
    """reward = Σ weight·reward of the term; `terms` are (weight, name, scorer).

    Parts recorded: `name`, the unweighted reward of each term, and `name/part` for a term that has several parts.
    Raises ValueError where two terms have one name.
    """

    terms: tuple[tuple[float, str, Scorer], ...]

    def __post_init__(self) -> None:
        names = [name for _, name, _ in self.terms]
        if len(set(names)) < len(names):
            raise ValueError(f"two terms of a weighted sum have the same name: {', '.join(names)}")

    def score(self, rollouts: Sequence[Rollout]) -> list[Scored]:
        """Every term scores every rollout."""
        columns = [scorer.score(rollouts) for _, _, scorer in self.terms]
        return [self._sum(rollout, [column[i] for column in columns]) for i, rollout in enumerate(rollouts)]

    def _sum(self, rollout: Rollout, scored: list[Scored]) -> Scored:
        parts: dict[str, float] = {}
        for (_, name, _), term in zip(self.terms, scored, strict=True):
            parts[name] = term.reward
            if len(term.parts) > 1:
                parts |= {f"{name}/{part}": value for part, value in term.parts.items()}
        total = math.fsum(weight * term.reward for (weight, _, _), term in zip(self.terms, scored, strict=True))
        return Scored(rollout, total, parts)


@dataclass(frozen=True)
class MissingEos:
    """An answer that was cut off at the token limit gets `penalty` in place of its score.

    Departure from the source, which has no stop strings: an answer that ended at one of them has ended.

    The rule replaces the score, it does not subtract from it: "N+ implementation details" of TL;DR (2403.17031), where
    the penalty is −1. Part recorded: "missing_eos", by how much the rule changed the reward (0 where it did not act);
    the parts of the score itself stay beside it.
    """

    scorer: Scorer
    penalty: float = -1.0

    def score(self, rollouts: Sequence[Rollout]) -> list[Scored]:
        """Scores all, then replaces."""
        return [self._replaced(scored) for scored in self.scorer.score(rollouts)]

    def _replaced(self, scored: Scored) -> Scored:
        reward = self.penalty if scored.rollout.stop == "length" else scored.reward
        return Scored(scored.rollout, reward, {**scored.parts, "missing_eos": reward - scored.reward})


@dataclass(frozen=True)
class Overlong:
    """An answer that comes near to the token limit loses reward, up to 1 (`keel.maths.returns.soft_overlong`).

    Part recorded: "overlong", what it lost, 0 or less. Source: DAPO (2503.14476), equation 13.
    """

    scorer: Scorer
    limit: int
    buffer: int

    def score(self, rollouts: Sequence[Rollout]) -> list[Scored]:
        """Scores all, then takes off."""
        scored = self.scorer.score(rollouts)
        lengths = torch.tensor([float(len(one.rollout.logprobs)) for one in scored])
        lost = soft_overlong(lengths, self.limit, self.buffer).tolist()
        return [
            Scored(one.rollout, one.reward + less, {**one.parts, "overlong": less})
            for one, less in zip(scored, lost, strict=True)
        ]


def _scored(part: str, source: str, rollouts: Sequence[Rollout], values: object) -> list[Scored]:
    """One finite number per rollout, or a UserError that names the source and the prompt."""
    if not isinstance(values, Iterable):
        raise UserError(
            f"{source} returned {type(values).__name__}, not a list: it must return one number per rollout."
        )
    found = list(values)
    if len(found) != len(rollouts):
        raise UserError(
            f"{source} returned {len(found)} values for {len(rollouts)} rollouts: it must return one number for each."
        )
    numbers = [_number(value, source, rollout) for value, rollout in zip(found, rollouts, strict=True)]
    return [Scored(rollout, number, {part: number}) for rollout, number in zip(rollouts, numbers, strict=True)]


def _number(value: object, source: str, rollout: Rollout) -> float:
    """A Python number, or one of numpy or torch, that is finite."""
    try:
        number = float(value) if isinstance(value, SupportsFloat) else math.nan
    except (TypeError, ValueError, RuntimeError):  # an array of several numbers, in numpy's and in torch's words
        number = math.nan
    if not math.isfinite(number):
        raise UserError(
            f"{source} returned {value!r} for an answer to '{rollout.prompt.id}': it must return a finite number."
        )
    return number


def load_reward_function(spec: str) -> FunctionReward:
    """The function that "package.module:name" or "path/to/file.py:name" names, as a reward called `name`.

    Raises UserError where the file, the module or the name is missing, cannot be read, or is not a function.
    """
    place, colon, name = spec.rpartition(":")
    named = place.endswith(".py") or all(part.isidentifier() for part in place.split("."))
    if not (named and colon and name):
        raise UserError(
            f"reward function '{spec}' does not say where it is: write package.module:name or path/to/file.py:name."
        )
    try:
        module = _load_file(spec, Path(place)) if place.endswith(".py") else importlib.import_module(place)
    except SyntaxError as error:
        raise UserError(
            f"reward function '{spec}': {error.filename}, line {error.lineno}: {error.msg}; correct the file."
        ) from error
    except ImportError as error:
        raise UserError(
            f"reward function '{spec}' cannot be imported ({error}): install what is missing, or name a file as "
            "path/to/file.py:name."
        ) from error
    function = getattr(module, name, None)
    if function is None:
        hint = did_you_mean(name, [key for key, value in vars(module).items() if callable(value)])
        raise UserError(f"reward function '{spec}': {place} has no '{name}'{hint}; correct the name after the colon.")
    if not callable(function):
        raise UserError(f"reward function '{spec}' is of type {type(function).__name__}; name a function.")
    return FunctionReward(name, function)


def function_file(spec: str) -> Path | None:
    """The file that a reward function stands in; None where its module has none. Raises UserError as above."""
    found = inspect.getsourcefile(load_reward_function(spec).function)
    return Path(found) if found is not None else None


def _load_file(spec: str, path: Path) -> ModuleType:
    if not path.is_file():
        raise UserError(f"reward function '{spec}': there is no file {path}; a path starts at the working directory.")
    module_spec = importlib.util.spec_from_file_location(f"keel_reward_{path.stem}", path)
    if module_spec is None or not isinstance(module_spec.loader, SourceFileLoader):
        raise UserError(f"reward function '{spec}': {path} is not a Python file; name one.")
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[module_spec.name] = module  # dataclasses and pickle look their module up here
    # not what Python compiled before: it would take an edit of the same length in the same second for that
    exec(module_spec.loader.source_to_code(path.read_bytes(), path), module.__dict__)
    return module
