"""Several models that learn one after the other, of which one optimizer is there at a time."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from keel.models.roles import ScalarRole
from keel.training.learner import Learner
from keel.training.state import State, fitting


def seeds_of(seed: int, members: int) -> tuple[int, ...]:
    """A seed for each member; the first has the run's own, so that it is the model which learns alone."""
    others = (random.Random(f"{seed} member {number}").getrandbits(63) for number in range(2, members + 1))
    return (seed, *others)


class Turns:
    """Whose turn it is, the optimizer of that model, and the weights of those that have had theirs."""

    def __init__(self, models: Sequence[ScalarRole], begin: Callable[[ScalarRole], Learner]) -> None:
        self._models, self._begin = models, begin
        self.turn = 0
        self.learner = begin(models[0])

    def go_to(self, turn: int) -> None:
        """The model of this turn learns from here on; a new optimizer takes the place of the one before."""
        if turn != self.turn:
            self.turn, self.learner = turn, self._begin(self._models[turn])

    def state(self) -> State:
        """The learner's, with the weights of the models before it."""
        held = self.learner.state()
        done = {key: one.detach() for key, one in self._weights(self.turn).items()}
        return State({**held.numbers, "turn": self.turn}, {**held.tensors, **done})

    def restore(self, state: State) -> None:
        """ValueError, with nothing changed, where the state is not of these models."""
        turn = int(state.numbers["turn"])
        if not turn < len(self._models):
            raise ValueError(f"there are {len(self._models)} models, and none has turn {turn + 1}")
        into = self._weights(turn)
        done = {key: fitting(state.tensors.get(key), one, key) for key, one in into.items()}
        own = {key: one for key, one in state.tensors.items() if key not in into}
        learner = self.learner if turn == self.turn else self._begin(self._models[turn])
        learner.restore(State(state.numbers, own))
        with torch.no_grad():
            for key, one in into.items():
                one.copy_(done[key])
        self.turn, self.learner = turn, learner

    def _weights(self, turn: int) -> dict[str, Tensor]:
        """Of the models whose turn was before this one, by their places."""
        return {
            f"done/{place}/{number}": one
            for place, model in enumerate(self._models[:turn])
            for number, one in enumerate(model.parameters())
        }
