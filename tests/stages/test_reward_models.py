"""Reward models of several members, and of whole rankings, from files to a policy that practises for them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import torch

import keel.pipeline
import keel.stages.cast
import keel.stages.evaluation
import keel.stages.practice
from keel.best_of import best_of_n
from keel.config import Recipe, load_recipe
from keel.display import SilentDisplay
from keel.errors import UserError
from keel.models.ensemble import Ensemble, places
from keel.models.roles import Judge, Roles
from keel.pipeline import run, run_stage
from keel.rollout.local import LocalGenerator
from keel.rollout.score import WeightedSum
from keel.stages.answers import answers
from keel.stages.cast import fits_the_supervised_model, frozen_language, frozen_reward
from keel.stages.lineage import settings_of
from keel.stages.practice import _scorer
from keel.stages.reward import check_reward_modelling
from keel.stages.workspace import Workspace, open_workspace
from keel.summary import Summary
from keel.training.order import split
from keel.types import Message, Prompt, Rollout

from .small import (
    complete,
    ensemble,
    language_model,
    lines,
    merged,
    own_data,
    plain_score,
    recipe,
    reward_model,
    rows,
    say,
    weights_of,
)

pytestmark = pytest.mark.usefixtures("unchecked_shapes")

LORA = {"tuning": "lora", "lora": {"rank": 2, "alpha": 8.0}}
SHARED = {**LORA, "layout": "shared"}
EVALUATION = {"count": 6, "sampling": {"max_tokens": 6, "temperature": 0.7}}


@pytest.fixture
def data(tmp_path: Path) -> dict[str, str]:
    return own_data(tmp_path / "data", count=16)


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return language_model(tmp_path / "base")


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keel.pipeline, "write_report", lambda directory: None)


def several(base: Path, data: dict[str, str], **changes: Any) -> Recipe:
    given = {"reward": {"members": 3, "epochs": 2, "batch_size": 4, "optimizer": {"lr": 3e-3}}}
    return recipe(base, data, **merged(given, changes))


def go(settings: Recipe, directory: Path) -> Summary:
    return run(settings, directory, SilentDisplay())


def pairs_of(data: dict[str, str]) -> list[dict[str, Any]]:
    """Those that are held out."""
    return split(lines(Path(data["reward"])), 0.25, 0, lambda row: row["prompt"])[1]


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_what_is_reported_is_of_the_members_together(
    tuning: str, base: Path, data: dict[str, str], tmp_path: Path
) -> None:
    """Every member by plain transformers from its own folder; scores, zeros and accuracies from there."""
    directory = tmp_path / "run"
    model = LORA if tuning == "lora" else {}
    settings = several(base, data, model=model, rl={"reward": [{"aggregate": "worst"}], "prompts": None})
    facts = go(settings, directory).stages["reward"]
    found = places(directory / "reward" / "model")
    assert len(found) == 3

    def each(text: str) -> list[float]:
        return [plain_score(one.folder, text) - one.zero for one in found]

    def said(row: dict[str, Any], side: str) -> list[float]:
        return each(f"{row['prompt']} {row[side]} <eos>")

    held_out = pairs_of(data)
    training = [row for row in lines(Path(data["reward"])) if row not in held_out]
    for place in range(3):  # each counts from its mean over what it learnt from
        mean = sum(said(row, side)[place] for row in training for side in ("chosen", "rejected")) / (2 * len(training))
        assert mean == pytest.approx(0, abs=1e-5)
    sides = [(said(row, "chosen"), said(row, "rejected")) for row in held_out]
    worst = [min(better) - min(other) for better, other in sides]
    assert facts["accuracy"] == pytest.approx(sum(one > 0 for one in worst) / len(worst))
    mean = [(sum(better) - sum(other)) / 3 for better, other in sides]
    assert facts["aggregates"]["mean"]["accuracy"] == pytest.approx(sum(one > 0 for one in mean) / len(mean))
    assert facts["aggregates"]["worst"]["loss"] == facts["loss"]
    assert facts["aggregate"] == "worst"
    for place, alone in enumerate(facts["alone"]):
        right = [better[place] > other[place] for better, other in sides]
        assert alone["accuracy"] == pytest.approx(sum(right) / len(right))
    answers = torch.tensor([one for pair in sides for one in pair])
    assert facts["disagreement"] == pytest.approx(float(answers.std(1, correction=0).mean()), rel=1e-4)
    assert facts["members"] == 3
    assert len({json.dumps(alone) for alone in facts["alone"]}) == 3
    logged = lines(directory / "reward" / "metrics.jsonl")
    assert [row["member"] for row in logged] == sorted(row["member"] for row in logged)
    assert {row["member"] for row in logged} == {1, 2, 3}


@pytest.mark.parametrize("model", [{}, LORA, SHARED], ids=["full", "adapters", "shared"])
def test_a_policy_practises_for_the_members_together(
    model: dict[str, Any], base: Path, data: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "run"
    said: dict[str, list[Rollout]] = {}
    loaded: list[Path] = []

    def answering(space: Workspace, path: Path, *others: Any, **more: Any) -> list[Rollout]:
        said[path.parent.name] = answers(space, path, *others, **more)
        return said[path.parent.name]

    def loading(space: Workspace, path: Path) -> Judge:
        loaded.append(path)
        return frozen_reward(space, path)

    monkeypatch.setattr(keel.stages.evaluation, "answers", answering)
    monkeypatch.setattr(keel.stages.evaluation, "frozen_reward", loading)
    rl = {"reward": [{"aggregate": "uncertainty", "penalty": 0.5}], "batch_size": 32}
    settings = several(base, data, model=model, rl=rl, evaluation={**EVALUATION, "prompts": data["prompts"]})
    summary = go(settings, directory)
    found = places(directory / "reward" / "model")

    def expected(text: str) -> tuple[float, float, float]:
        each = torch.tensor([plain_score(one.folder, text) - one.zero for one in found])
        mean, variance = float(each.mean()), float(each.var(correction=0))
        return mean - 0.5 * variance, mean, variance**0.5

    kept = [row for row in lines(directory / "ppo" / "rollouts.jsonl") if complete(row, 6)]
    assert len(kept) >= 2
    for row in kept[:3]:
        score, mean, apart = expected(f"{row['prompt']} {row['text']} <eos>")
        assert row["parts"]["learned"] == pytest.approx(score, abs=5e-5)
        assert row["parts"]["learned/mean"] == pytest.approx(mean, abs=5e-5)
        assert row["parts"]["learned/disagreement"] == pytest.approx(apart, abs=5e-5)
        assert row["reward"] == row["parts"]["learned"]
    for row in lines(directory / "ppo" / "metrics.jsonl"):
        assert row["reward/learned/disagreement"] > 0
        assert row["reward/learned/mean"] >= row["reward/learned"]
    # the evaluation has the score that the policy met, of every model's answers
    assert loaded == [directory / "reward" / "model"]
    compared = 0
    for place, row in enumerate(lines(directory / "evaluation" / "answers.jsonl")):
        for name in ("sft", "ppo"):
            one = said[name][place]
            if complete({"stop": one.stop, "text": one.text, "length": len(one.tokens)}, 6):
                score, mean, _ = expected(f"{row['prompt']} {row[name]} <eos>")
                assert row[f"reward_{name}"] == pytest.approx(score, abs=2e-4)
                assert row[f"reward_{name}"] != pytest.approx(mean, abs=2e-4)
                compared += 1
    assert compared >= 2
    assert summary.judge == "reward"
    best = best_of_n(directory, [1, 2], 2, 4, None, SilentDisplay())
    assert best.points[1].reward.value >= best.points[0].reward.value


def test_members_with_adapters_are_read_on_one_copy_of_the_base(
    base: Path, data: dict[str, str], tmp_path: Path
) -> None:
    directory = tmp_path / "run"
    settings = several(base, data, model=LORA, rl={"prompts": None})
    go(settings, directory)
    space = open_workspace(settings, directory, SilentDisplay(), directory / "sft" / "model", ())
    judge = frozen_reward(space, directory / "reward" / "model")
    assert isinstance(judge, Ensemble)
    assert len({id(one._weights.model) for one in judge.members}) == 1  # type: ignore[attr-defined]
    # on another model they are read from their own folders
    other = open_workspace(settings, directory, SilentDisplay(), language_model(tmp_path / "other", 5), ())
    apart = frozen_reward(other, directory / "reward" / "model")
    assert isinstance(apart, Ensemble)
    assert fits_the_supervised_model(space, directory / "reward" / "model")
    assert not fits_the_supervised_model(other, directory / "reward" / "model")
    assert len({id(one._weights.model) for one in apart.members}) == 3  # type: ignore[attr-defined]


def test_members_without_adapters_are_read_without_the_supervised_model(
    base: Path, data: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = ensemble(tmp_path / "members")
    space = open_workspace(several(base, data), tmp_path / "run", SilentDisplay(), base, ())
    monkeypatch.setattr(keel.stages.cast, "load_language_model", lambda *_: pytest.fail("loaded"))
    judge = frozen_reward(space, path)
    assert isinstance(judge, Ensemble)
    assert len(judge.members) == 3
    assert not fits_the_supervised_model(space, path)


def test_the_terms_that_name_one_folder_read_one_copy_of_it(
    base: Path, data: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the worst and of the mean of the same members there is one set of weights; another folder has its own."""
    own, other = ensemble(tmp_path / "run" / "reward" / "model"), ensemble(tmp_path / "other")
    terms = [{"aggregate": "worst"}, {"aggregate": "mean"}, {"path": str(other), "aggregate": "worst"}]
    settings = several(base, data, rl={"reward": terms, "missing_eos_score": None})
    space = open_workspace(settings, tmp_path / "run", SilentDisplay(), base, ())
    loaded: list[Path] = []

    def loading(space: Workspace, path: Path) -> Judge:
        loaded.append(path)
        return frozen_reward(space, path)

    monkeypatch.setattr(keel.stages.practice, "frozen_reward", loading)
    chat = space.chat(base)
    policy = frozen_language(space, base)
    generator = LocalGenerator(policy.select(), chat.tokenizer)
    scorer = _scorer(space, chat, Roles(policy, policy, None, None), own, (), generator)
    assert loaded == [own, other]
    assert isinstance(scorer, WeightedSum)
    rollout = answers(space, base, [Prompt("0", (Message("user", "w41 w42"),))], settings.rl.sampling, 1)[0]
    parts = scorer.score([rollout])[0].parts
    assert parts["learned"] < parts["learned_2"]
    assert parts["learned_2"] == pytest.approx(parts["learned/mean"])


@pytest.mark.parametrize("term", [{"aggregate": "worst"}, {"aggregate": "uncertainty", "penalty": 0.5}])
def test_one_reward_model_from_elsewhere_has_nothing_to_bring_together(
    term: dict[str, Any], base: Path, data: dict[str, str], tmp_path: Path
) -> None:
    path = reward_model(tmp_path / "one")
    settings = recipe(base, data, rl={"reward": [{"path": str(path), **term}]})
    with pytest.raises(UserError, match=rf"aggregate: {term['aggregate']} brings several .* {path} holds one"):
        go(settings, tmp_path / "run")
    assert not (tmp_path / "run" / "sft").exists()


def test_the_evaluation_follows_from_the_way_to_bring_scores_together() -> None:
    """Also where the policy does not: with dpo nothing but the judge reads rl.reward."""

    def settings_with(**term: Any) -> list[Any]:
        given = {"method": "dpo", "evaluation.judge": "reward", "reward.members": 3, "rl.reward": [term]}
        return [settings_of(load_recipe(None, given), stage) for stage in ("reward", "dpo", "evaluation")]

    worst = settings_with(aggregate="worst")
    for one, other in (
        (worst, settings_with(aggregate="mean")),
        (settings_with(aggregate="uncertainty"), settings_with(aggregate="uncertainty", penalty=0.5)),
    ):
        assert one[:2] == other[:2]
        assert one[2] != other[2]
    assert settings_of(load_recipe(None, {}), "evaluation").keys() == worst[2].keys() - {
        "rl.reward.aggregate",
        "rl.reward.penalty",
    }


@pytest.mark.parametrize("model", [{}, SHARED], ids=["full", "shared"])
def test_averaged_members_are_one_reward_model(
    model: dict[str, Any], base: Path, data: dict[str, str], tmp_path: Path
) -> None:
    directory = tmp_path / "run"
    settings = several(base, data, model=model, reward={"combine": "weights"})
    facts = go(settings, directory).stages["reward"]
    path = directory / "reward" / "model"
    assert len(places(path)) == 1
    assert not (path / "ensemble.json").exists()
    assert not (path / "members").exists()
    deltas = [
        plain_score(path, f"{row['prompt']} {row['chosen']} <eos>")
        - plain_score(path, f"{row['prompt']} {row['rejected']} <eos>")
        for row in pairs_of(data)
    ]
    assert facts["accuracy"] == pytest.approx(sum(one > 0 for one in deltas) / len(deltas))
    assert (facts["members"], facts["combine"], len(facts["alone"])) == (3, "weights", 3)
    assert len({one["loss"] for one in facts["alone"]}) == 3  # the orders differ
    row = next(row for row in lines(directory / "ppo" / "rollouts.jsonl") if complete(row, 6))
    expected = plain_score(path, f"{row['prompt']} {row['text']} <eos>")
    assert row["parts"] == {"learned": pytest.approx(expected, abs=2e-5), "missing_eos": 0.0}


def test_what_the_members_depend_on_makes_them_anew_and_the_way_to_sum_them_does_not(
    base: Path, data: dict[str, str], tmp_path: Path
) -> None:
    directory = tmp_path / "run"
    go(several(base, data), directory)

    def again(**changes: Any) -> dict[str, float]:
        before = {name: (directory / name / "report.json").stat().st_mtime_ns for name in ("sft", "reward", "ppo")}
        go(several(base, data, **changes), directory)
        return {
            name: True for name, time in before.items() if (directory / name / "report.json").stat().st_mtime_ns != time
        }

    assert set(again()) == set()
    assert set(again(rl={"reward": [{"aggregate": "worst"}]})) == {"ppo"}
    assert set(again(rl={"reward": [{"aggregate": "worst"}]}, reward={"members": 2})) == {"reward", "ppo"}
    second = directory / "reward" / "model" / "members" / "2" / "model.safetensors"
    whole = second.read_bytes()
    second.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    changes = {"rl": {"reward": [{"aggregate": "worst"}]}, "reward": {"members": 2}}
    assert set(again(**changes)) == {"reward"}  # and comes out as it was
    assert second.read_bytes() == whole


def test_the_first_of_several_is_the_one_that_learns_alone(base: Path, data: dict[str, str], tmp_path: Path) -> None:
    for members in (1, 2):
        settings = several(base, data, reward={"members": members}, rl={"prompts": None})
        go(settings, tmp_path / str(members))
    one, two = (tmp_path / str(members) / "reward" / "model" for members in (1, 2))
    assert weights_of(one) == weights_of(two)
    assert weights_of(two) != weights_of(two / "members" / "2")
    assert not (one / "ensemble.json").exists()
    assert "member" not in lines(tmp_path / "1" / "reward" / "metrics.jsonl")[0]


def test_a_member_that_is_no_reward_model_is_found_before_anything_runs(
    base: Path, data: dict[str, str], tmp_path: Path
) -> None:
    directory = tmp_path / "run"
    go(several(base, data, rl={"prompts": None}), directory)
    path = directory / "reward" / "model"
    (path / "members" / "3" / "config.json").unlink()
    with pytest.raises(UserError, match=r"members/3 holds no model"):
        go(recipe(base, data, reward={"data": None}, rl={"reward": [{"path": str(path)}]}), tmp_path / "other")


def rankings(path: Path, count: int, answers: int) -> str:
    """Better answers end in a word of a smaller number."""
    chance = random.Random(f"rankings {answers}")
    return rows(
        path,
        (
            {"prompt": say(chance, 3), "completions": [f"{say(chance, 2)} w{40 + one}" for one in range(answers)]}
            for _ in range(count)
        ),
    )


def test_whole_rankings_from_a_file(base: Path, data: dict[str, str], tmp_path: Path) -> None:
    """K = 4; held-out pairs are told apart by both losses, and the two are not the same."""
    given = {**data, "reward": rankings(tmp_path / "rankings.jsonl", 24, 4)}
    found = {}
    for loss in ("pairs", "plackett-luce"):
        settings = several(
            base,
            given,
            reward={"members": 1, "loss": loss, "epochs": 8, "optimizer": {"lr": 1e-2}},
            rl={"prompts": None},
        )
        found[loss] = go(settings, tmp_path / loss).stages["reward"]
    for facts in found.values():
        assert facts["held_out_pairs"] == 6 * 6
        assert facts["accuracy"] > 0.9
    assert weights_of(tmp_path / "pairs" / "reward" / "model") != weights_of(
        tmp_path / "plackett-luce" / "reward" / "model"
    )


def test_pairs_have_one_loss_and_it_is_said(base: Path, data: dict[str, str], tmp_path: Path) -> None:
    said: list[str] = []

    class Heard(SilentDisplay):
        def note(self, text: str) -> None:
            said.append(text)

    chance = random.Random("pairs")
    given = {
        **data,
        "reward": rows(
            tmp_path / "pairs.jsonl",
            ({"prompt": say(chance, 3), "chosen": say(chance, 3), "rejected": say(chance, 2)} for _ in range(12)),
        ),
    }
    losses = {}
    for loss in ("pairs", "plackett-luce"):
        settings = several(base, given, reward={"members": 1, "loss": loss}, rl={"prompts": None})
        run(settings, tmp_path / loss, Heard())
        losses[loss] = [row["loss"] for row in lines(tmp_path / loss / "reward" / "metrics.jsonl")]
    assert losses["pairs"] == pytest.approx(losses["plackett-luce"], rel=1e-4)
    assert sum("plackett-luce is that of pairs" in one for one in said) == 1


def test_soft_labels_have_no_place_in_a_ranking(base: Path, data: dict[str, str], tmp_path: Path) -> None:
    """Found before the first stage."""
    settings = several(base, data, reward={"loss": "plackett-luce"})
    with pytest.raises(UserError, match=r"reward\.loss: plackett-luce .* 1 pair is a tie .*; leave such rows out"):
        go(settings, tmp_path / "run")
    assert not (tmp_path / "run" / "sft").exists()


def test_verdicts_that_come_to_a_soft_label_have_no_place_in_a_ranking(
    base: Path, data: dict[str, str], tmp_path: Path
) -> None:
    """Votes of 2 : 1 are certain by their majority, and not by their mean; the first row is a tie."""
    verdicts = ((0, 0, 0), *[(1, 1, 2)] * 7)
    table = rows(
        tmp_path / "votes.jsonl",
        (
            {"prompt": f"w4{at}", "response1": "w50", "response2": f"w51 w5{at}"}
            | {f"annotator{who}": str(said) for who, said in enumerate(votes, start=1)}
            for at, votes in enumerate(verdicts)
        ),
    )
    labels = {"data": table, "annotators": [f"annotator{who}" for who in (1, 2, 3)]}
    for aggregate, ties, unsure in (("mean", "drop", 7), ("majority", "keep", 1), ("majority", "drop", 0)):
        chosen = {"labels": labels, "aggregate": aggregate, "ties": ties}
        settings = several(base, data, reward={"data": None, "loss": "plackett-luce"}, preferences=chosen)
        space = open_workspace(settings, tmp_path / "run", SilentDisplay(), base, ())
        if not unsure:
            check_reward_modelling(space)
            continue
        with pytest.raises(UserError, match=rf"and {unsure} pairs? .*; set --preferences\.ties drop"):
            check_reward_modelling(space)


def test_one_stage_by_itself_takes_members_too(base: Path, data: dict[str, str], tmp_path: Path) -> None:
    settings = several(base, data, reward={"members": 2, "held_out": 0.0})
    summary = run_stage("reward", settings, tmp_path / "run", SilentDisplay())
    facts = summary.stages["reward"]
    assert facts["members"] == 2
    assert not {"alone", "aggregate", "accuracy"} & set(facts)  # nothing was held out
    assert len(places(tmp_path / "run" / "reward" / "model")) == 2
