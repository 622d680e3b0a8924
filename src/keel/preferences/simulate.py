"""Annotators that are programs: a taste, Bradley–Terry noise, and the ways in which people err.

    Δ = (u(left) − u(right)) / noise + position_bias,    u(answer) = Σ_f weight_f · feature_f
    z = Δ + ε,  ε ~ Logistic(0, 1)                       so that P(z > 0) = σ(Δ)
    a tie where |z| < tie_width (Rao–Kupper: P(left) = σ(Δ − tie_width)), else the side of z's sign
    strength 1, 2 or 3 by where |z| − tie_width falls among `steps`
    with probability `lapse` the annotator does not look: Δ = 0

Everything that is said depends on (seed, annotator, item) and nothing else: not on the order in which items are judged,
nor on what a process did before it was killed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from keel.preferences.assign import Overlap, plan, seeded
from keel.preferences.judgement import STRONGEST
from keel.preferences.store import PreferenceStore
from keel.types import Conversation

Features = Callable[[Conversation, str], Mapping[str, float]]
"""(prompt, text of the answer's last turn) → what an annotator may notice about the answer. The task supplies it."""


@dataclass(frozen=True)
class Taste:
    """What somebody likes: utility per unit of each feature. Features without a weight leave them cold."""

    weights: Mapping[str, float]

    def utility(self, features: Mapping[str, float]) -> float:
        """Σ weight · feature, in log-odds at noise 1. Raises ValueError where a weighted feature is not measured."""
        missing = [name for name in self.weights if name not in features]
        if missing:
            raise ValueError(f"the taste weighs {missing[0]!r}, the features are {sorted(features)}")
        return sum(weight * features[name] for name, weight in self.weights.items())


@dataclass(frozen=True)
class Annotator:
    """Somebody who reads. `noise` > 0 scales the randomness, `position_bias` > 0 leans to the left (log-odds)."""

    name: str
    taste: Taste
    noise: float = 1.0
    position_bias: float = 0.0
    lapse: float = 0.0
    tie_width: float = 0.0
    steps: tuple[float, float] = (1.0, 2.5)

    def __post_init__(self) -> None:
        if self.noise <= 0 or not 0 <= self.lapse <= 1 or self.tie_width < 0 or not 0 <= self.steps[0] <= self.steps[1]:
            raise ValueError(f"annotator {self.name}: need noise > 0, 0 ≤ lapse ≤ 1, tie_width ≥ 0, rising steps")


@dataclass(frozen=True)
class Spammer:
    """Somebody who does not read: presses one of `presses`, each as likely. (−3,) is always the left answer."""

    name: str
    presses: tuple[int, ...] = (-3, -2, -1, 1, 2, 3)

    def __post_init__(self) -> None:
        if not self.presses or max(map(abs, self.presses)) > STRONGEST:
            raise ValueError(f"spammer {self.name}: presses {self.presses} are not buttons")


def judge(
    who: Annotator | Spammer, left: Mapping[str, float], right: Mapping[str, float], rng: np.random.Generator
) -> int:
    """Which button is pressed, −3 (left much better) … +3 (right much better), for the features of both answers."""
    if isinstance(who, Spammer):
        return who.presses[int(rng.integers(len(who.presses)))]
    absent = rng.random() < who.lapse
    gap = 0.0 if absent else (who.taste.utility(left) - who.taste.utility(right)) / who.noise + who.position_bias
    z = gap + rng.logistic()
    beyond = abs(z) - who.tie_width
    if beyond < 0:
        return 0
    strength = 1 + sum(beyond >= step for step in who.steps)
    return -strength if z > 0 else strength


def simulate(
    store: PreferenceStore, annotators: Sequence[Annotator | Spammer], features: Features, overlap: Overlap, seed: int
) -> int:
    """Deal out the items that nobody has, then ask → record until nothing waits; returns how many judgements.

    A run that was killed in the middle goes on where it was, and ends with the same judgements.
    """
    for who in annotators:
        store.add_annotator(who.name, "simulated")
    taken = {assignment.item for assignment in store.assignments()}
    free = [item for item in store.items() if item.id not in taken]
    if free:
        store.assign(plan(free, [who.name for who in annotators], overlap, seed))
    seen: dict[tuple[Conversation, str], Mapping[str, float]] = {}

    def look(prompt: Conversation, answer: Conversation) -> Mapping[str, float]:
        key = (prompt, answer[-1].content)
        if key not in seen:
            seen[key] = features(*key)
        return seen[key]

    recorded = 0
    for who in annotators:
        said = []
        for shown in store.ask(who.name):
            rng = seeded(seed, "judge", who.name, shown.assignment.item)
            left, right = (look(shown.prompt, answer) for answer in shown.answers)
            pressed = judge(who, left, right, rng)
            said.append(shown.press(pressed))
        store.record(*said)
        recorded += len(said)
    return recorded
