"""Several reward models one after the other: each as if it were alone, and gone on with as if nothing had been."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from keel.config import Reward
from keel.models.roles import ScalarRole
from keel.training.checkpoint import Keeper
from keel.training.learner import Learner
from keel.training.members import Turns, seeds_of
from keel.training.order import count_steps, visits
from keel.training.reward import fit_members, fit_reward
from keel.training.state import Part, State

from .small import (
    head,
    record,
    rows_of,
    scalar,
    unequal,
    weights,
)
from .test_reward import ranking


def settings(**changes: object) -> Reward:
    given = {"batch_size": 2, "optimizer": {"lr": 1e-3}, "log_every": 1}
    return Reward.model_validate(given | changes)


def test_seeds_of_members() -> None:
    assert seeds_of(7, 1) == (7,)
    assert seeds_of(7, 4)[0] == 7
    assert seeds_of(7, 4)[:3] == seeds_of(7, 3)
    assert len({*seeds_of(7, 4), *seeds_of(8, 4)}) == 8
    assert all(0 <= seed < 2**63 for seed in seeds_of(2**63 - 1, 5))


def fresh(seed: int) -> ScalarRole:
    role = scalar(dtype=torch.float32)
    role.head = head(torch.float32, seed).requires_grad_(True)
    return role


def test_each_member_learns_as_if_it_were_alone(tmp_path: Path) -> None:
    """To the last bit: its rows and its weights, in the order that its seed says."""
    prompts = [ranking(random.Random(place), 2 + place % 3) for place in range(7)]
    held_out = [ranking(random.Random(place), 3) for place in range(20, 24)]
    chosen, seeds = settings(epochs=2, log_every=3), (5, 6, 7)
    members = [fresh(seed) for seed in seeds]
    with record(tmp_path / "members") as written:
        fit_members(members, prompts, held_out, chosen, seeds, written)
    rows = rows_of(tmp_path / "members")
    steps = count_steps(7, 2, 2, None)
    assert [row["step"] for row in rows] == [steps * turn + own for turn in range(3) for own in (1, 3, 6, 8)]
    for place, seed in enumerate(seeds):
        alone = fresh(seed)
        with record(tmp_path / str(seed)) as written:
            fit_reward(alone, prompts, held_out, chosen, seed, written)
        assert not unequal(weights(alone.named_parameters()), weights(members[place].named_parameters()))
        own = [row for row in rows if row["member"] == place + 1]
        theirs = rows_of(tmp_path / str(seed))
        assert [plainly(row) | {"step": row["step"] - steps * place} for row in own] == [plainly(row) for row in theirs]
        assert "held_out/accuracy" in own[-1]
        assert "member" not in theirs[0]
    assert unequal(weights(members[0].named_parameters()), weights(members[1].named_parameters()))


def plainly(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in ("pairs_per_second", "member")}


class KilledError(Exception):
    """Somebody pulled the plug."""


class Notebook(Keeper):
    """Copies what it is asked to keep after step `at`, and dies; or gives it back."""

    def __init__(self, at: int | None, kept: Mapping[str, State] | None = None) -> None:
        self.at, self.kept, self.parts = at, kept, {}  # type: ignore[var-annotated]

    def resume(self, parts: Mapping[str, Part]) -> int:
        self.parts = {name: part for name, part in parts.items() if name != "record"}
        if self.kept is None or self.at is None:
            return 0
        for name, state in self.kept.items():
            self.parts[name].restore(state)
        return self.at

    def after(self, step: int) -> None:
        if self.kept is None and step == self.at:
            copies = {
                name: State(dict(one.numbers), {key: tensor.clone() for key, tensor in one.tensors.items()})
                for name, one in ((name, part.state()) for name, part in self.parts.items())
            }
            self.kept = copies
            raise KilledError


@pytest.mark.parametrize("at", [2, 4, 5, 8, 11, 12])
def test_going_on_from_any_step_is_as_if_nothing_had_happened(at: int, tmp_path: Path) -> None:
    """Four steps each: within a turn, at its very end, in the last."""
    prompts = [ranking(random.Random(place), 3) for place in range(7)]
    seeds = (5, 6, 7)
    whole, broken, again = ([fresh(seed) for seed in seeds] for _ in range(3))
    with record(tmp_path / "whole") as written:
        fit_members(whole, prompts, [], settings(), seeds, written)
    book = Notebook(at)
    with record(tmp_path / "broken") as written, pytest.raises(KilledError):
        fit_members(broken, prompts, [], settings(), seeds, written, book)
    with record(tmp_path / "again") as written:
        fit_members(again, prompts, [], settings(), seeds, written, Notebook(at, book.kept))
    for one, other in zip(whole, again, strict=True):
        assert not unequal(weights(one.named_parameters()), weights(other.named_parameters()))
    rows = [plainly(row) for row in rows_of(tmp_path / "whole")]
    assert [plainly(row) for row in rows_of(tmp_path / "again")] == rows[at:] if at < 12 else True


def test_a_state_of_other_models_changes_nothing() -> None:
    def turns(count: int) -> tuple[list[ScalarRole], Turns]:
        models = [fresh(seed) for seed in range(count)]
        return models, Turns(models, lambda model: Learner(model.parameters(), settings().optimizer, 3))

    _, three = turns(3)
    three.go_to(2)
    state = three.state()
    assert {key.split("/")[1] for key in state.tensors if key.startswith("done")} == {"0", "1"}
    two, fewer = turns(2)
    before = [weights(one.named_parameters()) for one in two]
    with pytest.raises(ValueError, match="none has turn 3"):
        fewer.restore(state)
    others, same = turns(3)
    lost = State(state.numbers, {key: one for key, one in state.tensors.items() if key != "done/1/0"})
    untouched = [weights(one.named_parameters()) for one in others]
    with pytest.raises(ValueError, match="done/1/0 is missing"):
        same.restore(lost)
    for one, other in zip([*two, *others], [*before, *untouched], strict=True):
        assert not unequal(weights(one.named_parameters()), other)
    assert (fewer.turn, same.turn) == (0, 0)


def test_members_meet_the_prompts_in_orders_of_their_own() -> None:
    one, other = (list(visits(20, 4, 1, None, seed)) for seed in seeds_of(0, 2))
    assert one != other


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"loss": "plackett-luce", "annotators": "learned"}, "use pairs with them"),
        ({"loss": "plackett-luce", "margin": "stated"}, "not by how much"),
        ({"members": 2, "annotators": "learned"}, "along with one model"),
        ({"combine": "weights"}, "averaged over several"),
    ],
)
def test_choices_that_have_no_meaning_together_are_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        settings(**changes)
    settings(loss="plackett-luce", members=3, combine="weights")
