"""The annotators behind the votes, learnt together with the reward model: how reliable each is, and where they lean.

    L = 1/N·Σ_n 1/P_n·Σ_pairs Σ_votes −log P(vote)  +  1/N_all·Σ_k [ −log Beta(η_k; 10, 1) + b_k²/2 ],   η = σ(h)

with P as in `keel.maths.losses.crowd_bradley_terry`, N prompts in the step, prompt n with P_n pairs, and N_all prompts
in all, so that an epoch sees the prior once. The Beta density is over logit η, as in the fit without a reward model
(`keel.preferences.crowd_bradley_terry`). Departure from the source, which has scores of items: here they are a model's.
Source: Chen et al. (2013), "Pairwise ranking aggregation in a crowdsourced setting".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from keel.config import Optimizer
from keel.errors import UserError
from keel.maths.losses import crowd_bradley_terry
from keel.training.comparisons import Comparisons, Pair
from keel.training.learner import Learner
from keel.training.state import State

_HONEST = 10.0  # of the Beta(10, 1) prior
_OPTIMIZER = Optimizer(lr=0.05, weight_decay=0.0, schedule="constant", warmup_ratio=0.0, max_grad_norm=1e9)
"""Two numbers a person, which a model's learning rate would never move."""


@dataclass(frozen=True)
class Estimated:
    """What was learnt of one annotator: P(says what they see), in 0…1, and the lean to the left in log-odds."""

    reliability: float
    lean: float


class Crowd:
    """The annotators of a set of pairs, by name, and two numbers each."""

    def __init__(self, prompts: Sequence[Comparisons], steps: int, device: torch.device) -> None:
        """UserError where a pair has no votes."""
        pairs = list(chain.from_iterable(one.pairs for one in prompts))
        if not all(pair.votes for pair in pairs):
            raise UserError(
                "reward.annotators: learned needs to know who said what, and these pairs have an outcome only; use "
                "aggregated, or labels with a column for each person"
            )
        self.names = tuple(sorted({vote.annotator for pair in pairs for vote in pair.votes}))
        self._place = {name: place for place, name in enumerate(self.names)}
        self._prompts = len(prompts)
        self.honesty = nn.Parameter(torch.full((len(self.names),), _HONEST, device=device).log())
        self.lean = nn.Parameter(torch.zeros(len(self.names), device=device))
        self._learner = Learner((self.honesty, self.lean), _OPTIMIZER, steps)

    def surprise(self, delta: Float[Tensor, " P"], pairs: Sequence[Pair]) -> Float[Tensor, " P"]:
        """[P] score differences, chosen over rejected → [P], nats: of all votes on each pair together."""
        rows = [
            (place, vote.preferred, float(vote.side), self._place[vote.annotator])
            for place, pair in enumerate(pairs)
            for vote in pair.votes
        ]
        of, preferred, side, who = zip(*rows, strict=True)
        of_pair, by = (torch.tensor(numbers, device=delta.device) for numbers in (of, who))
        said, stood = (torch.tensor(numbers, device=delta.device) for numbers in (preferred, side))
        losses = crowd_bradley_terry(delta[of_pair], said, stood, self.honesty[by], self.lean[by])
        return losses.new_zeros(len(pairs)).index_add(0, of_pair, losses)

    def prior(self) -> Float[Tensor, ""]:
        """Nats per prompt of the whole set, up to a constant: to be added to the loss of a step once."""
        reading = -_HONEST * logsigmoid(self.honesty) - logsigmoid(-self.honesty)
        return (reading + self.lean.square() / 2).sum() / self._prompts

    def move(self) -> None:
        """One step along the gradient that is there."""
        self._learner.move(0.0)

    def estimated(self) -> Mapping[str, Estimated]:
        """What is known of each annotator by now."""
        columns = zip(self.names, self.honesty.sigmoid().tolist(), self.lean.tolist(), strict=True)
        return {name: Estimated(reliability, lean) for name, reliability, lean in columns}

    def state(self) -> State:
        """The numbers and their optimizer's."""
        held = self._learner.state()
        return State({**held.numbers, "names": list(self.names)}, held.tensors)

    def restore(self, state: State) -> None:
        """ValueError, with nothing changed, where the state is of other people."""
        if list(state.numbers["names"]) != list(self.names):
            raise ValueError(f"the annotators were {state.numbers['names']}, and are {list(self.names)}")
        self._learner.restore(state)


def votes_of(prompts: Iterable[Comparisons]) -> int:
    """How many votes there are on all pairs of these prompts."""
    return sum(len(pair.votes) for one in prompts for pair in one.pairs)
