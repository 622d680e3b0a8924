"""Who looks on while PPO runs: raises the alarms, keeps the best policy, and says when it is enough."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Literal, Protocol, runtime_checkable

from keel.training.guards import Alarms
from keel.training.records import Lines
from keel.training.state import State
from keel.types import Annotated

Measure = Literal["gold", "objective"]


@dataclass(frozen=True)
class Best:
    """The best policy that is written down: the one that answered in `update`.

    `value` is the mean of `measure` over the last updates up to that one: points of the gold score where there is one,
    else `reward − β·kl`, which is what PPO maximises.
    """

    update: int
    measure: Measure
    value: float


@runtime_checkable
class Onlooker(Protocol):
    """What the loop of PPO asks of whoever looks on."""

    @property
    def enough(self) -> bool:
        """Whether the stage is to end here."""

    def look(self, version: int, annotated: Sequence[Annotated], coef: float) -> None:
        """The policy of `version` has answered, and has not yet learnt from it; `coef` is β."""


class Nobody:
    """Looks away."""

    enough = False

    def look(self, version: int, annotated: Sequence[Annotated], coef: float) -> None: ...


NOBODY = Nobody()


class Watch:
    """Judges every update, and keeps the best policy so far; a part of a checkpoint.

    `save` writes the policy down as it is; it is called at most once in `best_every` updates, while no alarm is red.
    Every alarm goes into `lines`, and in words to `note`.
    """

    def __init__(self, alarms: Alarms, lines: Lines, save: Callable[[], None], note: Callable[[str], None]) -> None:
        self.best: Best | None = None
        self.raised = {"amber": 0, "red": 0}
        self.stopped: str | None = None
        self._alarms, self._lines, self._save, self._note = alarms, lines, save, note
        self._recent: list[float] = []

    @property
    def enough(self) -> bool:
        """Whether a red alarm has ended the stage, now or before it was interrupted."""
        return self.stopped is not None

    def look(self, version: int, annotated: Sequence[Annotated], coef: float) -> None:
        """Keep the policy where it is the best so far: before it learns, for learning may spoil it."""
        settings, update = self._alarms.settings, version + 1
        measure, value = measured(annotated, coef)
        if not math.isfinite(value):
            return
        self._recent = [*self._recent, value][-settings.window :]
        if settings.best_every == 0 or len(self._recent) < settings.window or self._alarms.is_red:
            return
        mean = fmean(self._recent)
        if self.best is None or (mean > self.best.value and update >= self.best.update + settings.best_every):
            self._save()
            self.best = Best(update, measure, mean)

    def see(self, step: int, metrics: Mapping[str, float]) -> None:
        """Judge the metrics of an update that is done, and say what has changed."""
        for alarm in self._alarms.judge(step, metrics):
            self._lines.write(asdict(alarm))
            self._note(alarm.words)
            if alarm.remedy and alarm.level in self.raised:
                self.raised[alarm.level] += 1
            if alarm.level == "red" and self._alarms.settings.on_red == "stop" and not self.enough:
                self.stopped = alarm.sentence

    def state(self) -> State:
        """What was judged so far, and which policy is kept."""
        return State(
            {
                "best": None if self.best is None else asdict(self.best),
                "raised": dict(self.raised),
                "stopped": self.stopped,
                "recent": list(self._recent),
                "alarms": self._alarms.state(),
            }
        )

    def restore(self, state: State) -> None:
        """KeyError or TypeError where the state is not of a watch."""
        best = state.numbers["best"]
        self.best = None if best is None else Best(**best)
        self.raised = dict(state.numbers["raised"])
        self.stopped = state.numbers["stopped"]
        self._recent = list(state.numbers["recent"])
        self._alarms.restore(state.numbers["alarms"])


def measured(annotated: Sequence[Annotated], coef: float) -> tuple[Measure, float]:
    """What says how good the policy was that gave these answers, as a mean over them.

        gold, where every answer has that score;   else   1/N·Σ_n [ r_n − β·Σ_t (log π_t − log π_ref,t) ]

    The sums run over the sampled tokens of an answer; points of gold, or reward.
    """
    golds = [one.scored.parts.get("gold") for one in annotated]
    known = [gold for gold in golds if gold is not None]
    if len(known) == len(annotated):
        return "gold", fmean(known)
    return "objective", fmean(
        one.scored.reward - coef * (sum(one.logprobs) - sum(one.reference_logprobs)) for one in annotated
    )
