"""Rounds: each asks about new prompts, with the last policy's answers, and learns from all judgements so far."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from keel import rounds
from keel.config import load_recipe
from keel.display import PlainDisplay, SilentDisplay
from keel.errors import UserError
from keel.preferences.store import PreferenceStore
from keel.stages.lineage import Lineage

pytestmark = pytest.mark.usefixtures("unchecked_shapes")

FEW: dict[str, Any] = {
    "log.to": [], "preflight": "off", "sft.limit": 64, "sft.batch_size": 8, "preferences.count": 24,
    "preferences.sampling.max_tokens": 32, "reward.batch_size": 8, "rl.limit": 32, "rl.updates": 1,
    "rl.critic.warmup_updates": 0, "rl.batch_size": 8, "rl.sampling.max_tokens": 16, "evaluation.count": 8,
    "evaluation.sampling.max_tokens": 32,
}  # fmt: skip
"""Few of everything: what goes from one round to the next does not hang on how much was learnt."""


@pytest.fixture(scope="module")
def looped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, rounds.Loop]:
    directory = tmp_path_factory.mktemp("loop")
    recipe = load_recipe("recipes/smoke.yaml", FEW)
    return directory, rounds.loop(recipe, 2, directory, SilentDisplay())


def items(directory: Path) -> dict[str, set[str]]:
    """Prompts and authors of what a round asked about."""
    with PreferenceStore.open(directory / "preferences.db") as store:
        asked = store.items()
    return {
        "prompts": {item.prompt[-1].content for item in asked},
        "models": {answer.model for item in asked for answer in item.answers},
    }


def test_a_round_asks_about_the_policy_before_and_about_new_prompts(looped: tuple[Path, rounds.Loop]) -> None:
    directory, _ = looped
    first, second = (items(directory / name) for name in ("round-1", "round-2"))
    assert first["prompts"]
    assert second["prompts"]
    assert not first["prompts"] & second["prompts"]
    assert first["models"] == {"sft/model"}
    assert second["models"] == {str(directory / "round-1" / "ppo" / "model")}


def test_the_reward_model_learns_from_all_rounds(looped: tuple[Path, rounds.Loop]) -> None:
    directory, loop = looped
    pairs = []
    for name in ("round-1", "round-2"):
        with PreferenceStore.open(directory / name / "preferences.db") as store:
            pairs.append(len({said.item for said in store.counted()}))
    learnt = [one.stages["reward"]["pairs"] + one.stages["reward"]["held_out_pairs"] for one in loop.rounds]
    assert learnt == [pairs[0], pairs[0] + pairs[1]]


def test_lineage_names_the_policy_and_the_judgements_of_the_rounds_before(looped: tuple[Path, rounds.Loop]) -> None:
    directory, _ = looped
    first = Lineage.read(directory / "round-1" / "ppo")
    asked = Lineage.read(directory / "round-2" / "preferences")
    learnt = Lineage.read(directory / "round-2" / "reward")
    before = Lineage.read(directory / "round-1" / "reward")
    assert first
    assert asked
    assert learnt
    assert before
    assert asked.made.inputs["model"].fingerprint == first.outputs["model"]
    assert learnt.made.inputs["preferences"].fingerprint != before.made.inputs["preferences"].fingerprint


def test_the_same_command_keeps_what_is_there_and_adds_rounds(looped: tuple[Path, rounds.Loop]) -> None:
    directory, loop = looped
    said: list[str] = []
    recipe = load_recipe("recipes/smoke.yaml", FEW)
    again = rounds.loop(recipe, 2, directory, PlainDisplay(said.append))
    assert [one.win_rate for one in again.rounds] == [one.win_rate for one in loop.rounds]
    kept = [line for line in said if "so it is kept" in line]
    assert len(kept) == 5 + 4
    written = json.loads((directory / "loop.json").read_text())
    assert [one["directory"] for one in written["rounds"]] == ["round-1", "round-2"]
    assert written["rounds"][1]["pairs"] > written["rounds"][0]["pairs"]
    assert "round  pairs" in str(again)


SELECTING = {**FEW, "preferences.select": "bald", "preferences.budget": 10}


@pytest.mark.parametrize(
    "changes",
    [
        {"reward.members": 1},
        {"reward.members": 3, "reward.combine": "weights"},
        {"reward.members": 1, "preferences.scorer": "there"},
    ],
)
def test_rounds_that_would_leave_one_reward_model_to_select_by_are_refused(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=r"--reward\.members 3 or more and --reward\.combine scores"):
        rounds.loop(load_recipe("recipes/smoke.yaml", {**SELECTING, **changes}), 2, tmp_path, SilentDisplay())
    assert not list(tmp_path.iterdir())


def test_each_round_selects_by_the_round_before(tmp_path: Path) -> None:
    given = {**SELECTING, "reward.members": 3, "preferences.random_share": 0.5}
    unnamed = load_recipe("recipes/smoke.yaml", given)
    first = rounds._first(unnamed, SilentDisplay()).preferences
    assert (first.select, first.scorer, first.random_share) == ("random", None, 0.2)
    for recipe in (unnamed, load_recipe("recipes/smoke.yaml", {**given, "preferences.scorer": "there"})):
        second = rounds.of_round(recipe, 2, tmp_path).preferences
        assert (second.select, second.random_share) == ("bald", 0.5)
        assert second.scorer == str(tmp_path / "round-1" / "reward" / "model")


def test_what_cannot_go_round_is_refused(tmp_path: Path) -> None:
    recipe = load_recipe(None, {"task": None, "reward.data": "pairs.jsonl"})
    with pytest.raises(UserError, match="asks anew in every round"):
        rounds.loop(recipe, 2, tmp_path, SilentDisplay())
    assert not list(tmp_path.iterdir())
