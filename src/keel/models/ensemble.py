"""Several reward models that judge as one, and the folder that holds them.

    PATH               the first member, a reward model like any other
    PATH/members/2     the second, and so on: each a folder of the same kind
    PATH/ensemble.json how many there are, and the zero of each

Whoever reads one model from PATH finds the first. Shape suffixes: E members, B branches.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch import device as Device  # noqa: N812
from transformers import PreTrainedTokenizerBase

from keel.data.forest import Forest, Layout
from keel.data.write import new_folder, write_json
from keel.errors import UserError
from keel.maths.ensembles import mean_score

_FILE = "ensemble.json"
_MEMBERS = "members"

Together = Callable[[Float[Tensor, "E B"]], Float[Tensor, " B"]]
"""How the scores of the members become one, such as `keel.maths.ensembles.worst_case`."""


@runtime_checkable
class Scoring(Protocol):
    """Whatever scores branches: a reward model, or several as one."""

    @property
    def layout(self) -> Layout: ...
    @property
    def device(self) -> Device: ...
    @property
    def pass_tokens(self) -> int: ...

    def scores(self, forest: Forest) -> Float[Tensor, " B"]: ...


@runtime_checkable
class Member(Scoring, Protocol):
    """A reward model that can be written down."""

    def fill(self, folder: Path, tokenizer: PreTrainedTokenizerBase) -> None: ...


@dataclass(frozen=True)
class Ensemble:
    """Members that read the same tokens. `zeros` are what each gives on average, units of reward: a member's scores
    count from there, as only differences of them mean anything."""

    members: tuple[Member, ...]
    zeros: tuple[float, ...]
    together: Together = mean_score

    @property
    def layout(self) -> Layout:
        """How forests must be grown."""
        return self.members[0].layout

    @property
    def device(self) -> Device:
        """Where forests must be."""
        return self.members[0].device

    @property
    def pass_tokens(self) -> int:
        """How many tokens are read in one pass unless it is told."""
        return self.members[0].pass_tokens

    def read(self, forest: Forest) -> Float[Tensor, "E B"]:
        """What each member says of each branch, from its own zero."""
        said = [member.scores(forest) - zero for member, zero in zip(self.members, self.zeros, strict=True)]
        return torch.stack(said)

    def scores(self, forest: Forest) -> Float[Tensor, " B"]:
        """What they say together."""
        return self.together(self.read(forest))

    def save(self, path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
        """Write the folder, whole or not at all."""
        with new_folder(path) as draft:
            self.members[0].fill(draft, tokenizer)
            for number, (member, zero) in enumerate(zip(self.members[1:], self.zeros[1:], strict=True), start=2):
                folder = _place(draft, number, zero).folder
                folder.mkdir(parents=True)
                member.fill(folder, tokenizer)
            write_json(draft / _FILE, {"members": len(self.members), "zeros": list(self.zeros)})


@dataclass(frozen=True)
class Place:
    """The folder of a member, and its zero."""

    folder: Path
    zero: float


def places(path: Path) -> tuple[Place, ...]:
    """The members of a reward model's folder, the first of which lies in the folder itself; one where it is one model.

    UserError where what the folder says of its members cannot be read.
    """
    file = path / _FILE
    if not file.is_file():
        return (Place(path, 0.0),)
    try:
        zeros = _zeros(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is damaged ({error}); train the reward model again, or copy it anew") from None
    return (Place(path, zeros[0]), *(_place(path, number, zero) for number, zero in enumerate(zeros[1:], start=2)))


def _zeros(found: Any) -> list[float]:
    """A zero for each member. ValueError, KeyError or TypeError where that is not what `Ensemble.save` writes."""
    members, zeros = found["members"], found["zeros"]
    if not isinstance(zeros, list) or not all(type(zero) in (int, float) and math.isfinite(zero) for zero in zeros):
        raise ValueError("zeros must be a list of finite numbers")
    if type(members) is not int or members < 1 or members != len(zeros):
        raise ValueError(f"it names {members} members, and {len(zeros)} zeros")
    return [float(zero) for zero in zeros]


def _place(path: Path, number: int, zero: float) -> Place:
    return Place(path / _MEMBERS / str(number), zero)
