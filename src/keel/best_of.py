"""The best of n answers by the reward model: what choosing among samples brings, without any training.

For each prompt N answers are sampled once, and every n up to N is estimated from them without bias
(`keel.maths.best_of`). What the reward model says of its own choice rises with n in any case; whether a judge that it
was not fitted to agrees (the gold score of a built-in task) is the question, and where that falls the reward model is
over-optimised (Gao et al., 2210.10760).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch

from keel.config import load_recipe
from keel.display import Display
from keel.errors import UserError
from keel.maths.best_of import best_of, best_of_kl
from keel.pipeline import start
from keel.process import set_up
from keel.rollout.score import LearnedReward
from keel.stages.answers import answers
from keel.stages.cast import frozen_reward
from keel.stages.evaluation import gold, prompts_to_judge
from keel.stages.judges import judging, reading
from keel.stages.workspace import Workspace, open_workspace
from keel.types import Rollout

_NORMAL = 1.96


@dataclass(frozen=True)
class Mean:
    """A mean over prompts with its 95 % interval; of one prompt there is none."""

    value: float
    low: float | None
    high: float | None

    @classmethod
    def of(cls, found: Sequence[float]) -> Mean:
        """Prompts are independent of each other, the answers to one are not."""
        if len(found) == 1:
            return cls(found[0], None, None)
        reach = _NORMAL * stdev(found) / math.sqrt(len(found))
        return cls(fmean(found), fmean(found) - reach, fmean(found) + reach)


@dataclass(frozen=True)
class Point:
    """One n: `kl` is the most that choosing costs, nats per answer; `reward` what the reward model gives the chosen
    answer, `gold` the task's hidden score of it (None where there is no task)."""

    n: int
    kl: float
    reward: Mean
    gold: Mean | None


@dataclass(frozen=True)
class BestOf:
    """All n, in order, from so many answers to each of so many prompts."""

    points: tuple[Point, ...]
    prompts: int
    samples: int

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        head = ("n", "KL at most", "reward", "gold")
        rows = [head, *(self._row(one) for one in self.points)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
        lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
        told = f"{self.samples} answers to each of {self.prompts} prompts; 95% intervals over prompts."
        return "\n".join(line.rstrip() for line in [*lines, "", told])

    def _row(self, one: Point) -> tuple[str, str, str, str]:
        return (str(one.n), f"{one.kl:.2f}", _worded(one.reward), "–" if one.gold is None else _worded(one.gold))


def best_of_n(
    directory: Path, sizes: Sequence[int], samples: int, count: int, reward: Path | None, display: Display
) -> BestOf:
    """Of the supervised model of a run, on at most `count` prompts of its evaluation, by the run's reward model or the
    one in `reward`. Raises UserError where there is no run, no reward model, or an n is more than `samples`.
    """
    if not sizes or min(sizes) < 1 or max(sizes) > samples:
        raise UserError(
            f"n must lie between 1 and the number of samples, {samples}; found {', '.join(map(str, sizes))}"
        )
    recipe = load_recipe(directory / "resolved.yaml")
    set_up()
    space = open_workspace(recipe, directory, display, start(recipe, directory), ())
    folder = space.model("reward") if reward is None else reward
    if not folder.is_dir():
        raise UserError(f"there is no reward model in {folder}; name one with --reward PATH")
    prompts = prompts_to_judge(space).prompts[:count]
    settings = recipe.evaluation.sampling
    if settings.temperature == 0:
        raise UserError("the best of greedy answers is the one answer; set evaluation.sampling.temperature above 0")
    said = answers(space, space.supervised, prompts, settings, samples)
    scores = _scores(space, folder, said)
    golds = None if space.task is None else gold(space, said)
    return BestOf(tuple(_point(n, scores, golds, samples) for n in sorted(set(sizes))), len(prompts), samples)


def _scores(space: Workspace, folder: Path, said: Sequence[Rollout]) -> list[float]:
    reader, _ = reading(space, space.chat(space.supervised), folder)
    judge = judging(frozen_reward(space, folder), space.recipe.own_term)
    scorer = LearnedReward(judge, reader, budget=space.recipe.rl.micro_tokens)
    return [one.reward for one in scorer.score(said)]


def _point(n: int, scores: Sequence[float], golds: Sequence[float] | None, samples: int) -> Point:
    def over(values: Sequence[float]) -> Mean:
        found = []
        for first in range(0, len(scores), samples):
            proxy, value = (_tensor(one[first : first + samples]) for one in (scores, values))
            found.append(best_of(proxy, value, n).item())
        return Mean.of(found)

    return Point(n, best_of_kl(n), over(scores), None if golds is None else over(golds))


def _tensor(values: Sequence[float]) -> torch.Tensor:
    return torch.tensor(list(values), dtype=torch.float64)


def _worded(found: Mean) -> str:
    if found.low is None or found.high is None:
        return f"{found.value:.2f}"
    return f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"
