"""More pairs than may be judged: which are chosen in a run and in its rounds, and what is written down of it."""

from __future__ import annotations

import json
import random
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keel import pipeline, rounds
from keel.config import Recipe, load_recipe
from keel.display import SilentDisplay
from keel.errors import UserError
from keel.models.ensemble import places
from keel.preferences.judgement import Answer, Item
from keel.preferences.select import Choice, Strategy, bald, disagreement, double_thompson, weights
from keel.preferences.store import PreferenceStore
from keel.stages import preferences
from keel.stages.answers import Asked
from keel.stages.lineage import Lineage
from keel.stages.selecting import selected, selection
from keel.stages.workspace import Workspace, open_workspace
from keel.types import Message, Prompt

from .small import ensemble, language_model, lines, own_data, plain_score, recipe, say

pytestmark = pytest.mark.usefixtures("unchecked_shapes")

FEW: dict[str, Any] = {
    "log.to": [], "preflight": "off", "sft.limit": 64, "sft.batch_size": 8, "preferences.count": 12,
    "preferences.samples_per_prompt": 3, "preferences.sampling.max_tokens": 24, "preferences.budget": 10,
    "reward.batch_size": 8, "reward.members": 3, "rl.limit": 32, "rl.updates": 1, "rl.critic.warmup_updates": 0,
    "rl.batch_size": 8, "rl.sampling.max_tokens": 16, "evaluation.count": 8, "evaluation.sampling.max_tokens": 24,
}  # fmt: skip


def small(**changes: Any) -> Recipe:
    return load_recipe("recipes/smoke.yaml", {**FEW, **{name.replace("__", "."): one for name, one in changes.items()}})


@pytest.fixture(scope="module")
def looped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("loop")
    rounds.loop(small(preferences__select="disagreement"), 2, directory, SilentDisplay())
    return directory


def stored(directory: Path) -> list[Item]:
    with PreferenceStore.open(directory / "preferences.db") as store:
        return store.items()


def draws(directory: Path) -> list[dict[str, Any]]:
    return lines(directory / "preferences" / "chosen.jsonl")


def test_a_budget_is_kept_and_every_draw_is_written_down(looped: Path) -> None:
    for name, policy in (("round-1", "random"), ("round-2", "disagreement")):
        rows, items = draws(looped / name), stored(looped / name)
        assert len(rows) == len(items) == 10
        assert {row["item"] for row in rows} == {item.id for item in items}
        assert {row["policy"] for row in rows} == {policy}
        choices = [Choice(0, row["policy"], row["propensity"], row["left"]) for row in rows]
        assert choices[0].left > 10
        assert len(weights(choices)) == 10  # refuses what is not the draws of one sequence
    assert all(row["propensity"] == pytest.approx(1 / row["left"]) for row in draws(looped / "round-1"))


@pytest.fixture(scope="module")
def scorer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three reward models of random weights as one, each with a zero of its own."""
    return ensemble(tmp_path_factory.mktemp("scorer") / "model", (0.5, -1.0, 2.0))


@pytest.fixture(scope="module")
def candidates() -> list[Item]:
    """All pairs of four answers to each of four prompts."""
    chance = random.Random("candidates")
    found = []
    for number in range(4):
        asked = (Message("user", say(chance, 3)),)
        said = [Answer((Message("assistant", say(chance, 1 + place)),), "sft", 0) for place in range(4)]
        found += [Item(f"{number}:{i}-{j}", asked, (said[i], said[j])) for i, j in combinations(range(4), 2)]
    return found


@pytest.fixture(scope="module")
def read(scorer: Path, candidates: list[Item]) -> dict[str, list[float]]:
    """What each member says of each conversation, by plain transformers."""
    texts = dict.fromkeys(plain(item, side) for item in candidates for side in (0, 1))
    return {text: [plain_score(place.folder, text) for place in places(scorer)] for text in texts}


def plain(item: Item, side: int) -> str:
    return f"{item.prompt[0].content} {item.answers[side].messages[0].content} <eos>"


def in_a_run(tmp_path: Path, **settings: Any) -> Workspace:
    given = recipe(language_model(tmp_path / "base"), own_data(tmp_path / "data"), preferences=settings)
    return open_workspace(given, tmp_path / "run", SilentDisplay(), tmp_path / "base", ())


@pytest.mark.parametrize("select", ["disagreement", "bald", "double-thompson"])
def test_of_all_candidates_the_most_promising_are_drawn(
    select: Strategy, scorer: Path, candidates: list[Item], read: dict[str, list[float]], tmp_path: Path
) -> None:
    """Each draw has the propensity that it has among those that were left, and without the random share it is the best
    of them."""
    space = in_a_run(tmp_path, select=select, budget=12, scorer=str(scorer), random_share=0.25)
    kept = selected(space, candidates)
    names = list(read)
    pairs = np.array([[names.index(plain(item, side)) for side in (0, 1)] for item in candidates])
    prompt = np.array([place // 4 for place in range(len(names))])
    members = np.array([read[name] for name in names]).T
    promise = {"disagreement": disagreement, "bald": bald}.get(select)
    score = double_thompson(members, pairs, prompt) if promise is None else promise(members, pairs)
    left = [item.id for item in candidates]
    greedy = 0
    for row in lines(tmp_path / "run" / "preferences" / "chosen.jsonl"):
        at = {name: score[[item.id for item in candidates].index(name)] for name in left}
        assert (row["policy"], row["left"]) == (select, len(left))
        best = at[row["item"]] == max(at.values())
        some = sum(at.values()) > 0  # once nobody wants any that is left, all are alike
        share = at[row["item"]] / sum(at.values()) if some else 1 / len(left)
        wanted = float(best) if promise is not None else share
        assert row["propensity"] == pytest.approx(0.75 * wanted + 0.25 / len(left), rel=1e-3)
        greedy += best
        left.remove(row["item"])
    assert {item.id for item in kept} == {item.id for item in candidates} - set(left)
    assert len(kept) == 12
    assert promise is None or greedy >= 6
    assert kept == [item for item in candidates if item in kept]


def test_a_stage_that_is_gone_on_with_still_says_how_many_there_were(
    candidates: list[Item], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """People are asked once; what was chosen for them is read back."""
    space = in_a_run(tmp_path, budget=5, judges="simulated")
    space.keys["preferences"] = "this"
    nobody = Asked((Prompt("0", candidates[0].prompt),), {"given": 1, "dropped": 0, "reasons": {}}, "")
    monkeypatch.setattr(preferences, "prompts_to_compare", lambda space: nobody)
    monkeypatch.setattr(preferences, "answers", lambda *_: [])
    monkeypatch.setattr(preferences, "_pairs", lambda *_: candidates)
    with PreferenceStore.open(tmp_path / "preferences.db") as store:
        first = preferences._ask(space, store)
        monkeypatch.setattr(preferences, "_pairs", lambda *_: pytest.fail("asked again"))
        assert preferences._ask(space, store) == first
    assert (first["candidates"], first["selected"], first["selection"]) == (24, 5, "random")
    selected(in_a_run(tmp_path), candidates)  # all of them: what was written of a choice is gone
    assert selection(space) == {}


def test_lineage_names_the_scorer(looped: Path) -> None:
    asked = Lineage.read(looped / "round-2" / "preferences")
    learnt = Lineage.read(looped / "round-1" / "reward")
    assert asked
    assert learnt
    assert asked.made.inputs["scorer"].fingerprint == learnt.outputs["model"]
    assert asked.made.settings["preferences.select"] == "disagreement"


def test_the_report_says_how_many_there_were(looped: Path) -> None:
    facts = json.loads((looped / "round-2" / "preferences" / "report.json").read_text(encoding="utf-8"))
    assert (facts["selected"], facts["selection"]) == (10, "disagreement")
    assert facts["candidates"] == draws(looped / "round-2")[0]["left"]


def test_the_first_round_says_that_it_chooses_at_random(tmp_path: Path) -> None:
    said: list[str] = []

    class Listening(SilentDisplay):
        def note(self, text: str) -> None:
            said.append(text)

    display = Listening()
    recipe = small(preferences__select="bald", rl__prompts=None)
    assert rounds._first(recipe, display).preferences.select == "random"
    assert said == ["the first round's pairs are chosen at random: there is no reward model yet"]
    named = small(preferences__select="bald", preferences__scorer=str(tmp_path))
    assert rounds._first(named, display) is named
    assert len(said) == 1


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"preferences__select": "bald"}, "preferences.select: bald reads the members of a reward model; name one"),
        ({"preferences__select": "bald", "preferences__scorer": "nowhere"}, "nowhere"),
    ],
)
def test_a_choice_by_nobody_is_refused_before_anything_runs(
    changes: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=sentence):
        pipeline.run(small(**changes), tmp_path / "run", SilentDisplay())
    assert not (tmp_path / "run" / "sft" / "model").exists()


def test_one_member_cannot_disagree_with_itself(looped: Path, tmp_path: Path) -> None:
    one = places(looped / "round-1" / "reward" / "model")[1].folder
    recipe = small(preferences__select="disagreement", preferences__scorer=str(one))
    with pytest.raises(UserError, match="is one reward model, and one cannot disagree with itself"):
        pipeline.run(recipe, tmp_path / "run", SilentDisplay())


def test_more_than_there_is_changes_nothing(tmp_path: Path) -> None:
    """A budget that no run reaches: every pair is judged, and no draw is written down."""
    pipeline.run_stage("sft", small(), tmp_path, SilentDisplay())
    pipeline.run_stage("reward", small(preferences__budget=1000), tmp_path, SilentDisplay())
    assert 10 < len(stored(tmp_path)) <= 36
    assert not (tmp_path / "preferences" / "chosen.jsonl").exists()
