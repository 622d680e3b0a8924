"""A user's own model and data, from JSONL to a tuned policy: what comes out is what plain transformers read."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import keel.pipeline
from keel.config import Recipe
from keel.data.chat import Chat
from keel.diagnostics.winrate import interval
from keel.display import SilentDisplay
from keel.models.load import load_tokenizer
from keel.pipeline import run, run_stage
from keel.stages.cast import policy_to_train
from keel.stages.workspace import open_workspace
from keel.summary import Summary
from keel.training.order import split

from .small import (
    complete,
    language_model,
    lines,
    merged,
    only,
    other_words,
    own_data,
    plain_language,
    plain_score,
    recipe,
    reward_model,
    rows,
    say,
    weights_of,
)

pytestmark = pytest.mark.usefixtures("unchecked_shapes")


@pytest.fixture
def data(tmp_path: Path) -> dict[str, str]:
    return own_data(tmp_path / "data")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return language_model(tmp_path / "base")


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """The report takes longer than everything else; one test has it."""
    if "report" not in request.fixturenames:
        monkeypatch.setattr(keel.pipeline, "write_report", lambda directory: None)


@pytest.fixture
def report() -> None:
    """Leaves the report in."""


def go(settings: Recipe, directory: Path) -> Summary:
    return run(settings, directory, SilentDisplay())


BREVITY = "def brevity(rollouts):\n    return [-len(one.tokens) / 10 for one in rollouts]\n"


@pytest.fixture
def function(tmp_path: Path) -> str:
    path = tmp_path / "rewards.py"
    path.write_text(BREVITY, encoding="utf-8")
    return f"{path}:brevity"


def test_all_stages(base: Path, data: dict[str, str], tmp_path: Path, report: None) -> None:
    """SFT, reward model, PPO and evaluation; every number that can be recomputed is."""
    directory = tmp_path / "run"
    settings = recipe(
        base,
        data,
        evaluation={"prompts": data["prompts"], "count": 6, "sampling": {"max_tokens": 6, "temperature": 0.0}},
    )
    summary = go(settings, directory)
    assert list(summary.stages) == ["sft", "preferences", "reward", "ppo", "evaluation"]
    for name in (
        "resolved.yaml",
        "summary.json",
        "report.html",
        *(f"{stage}/model" for stage in ("sft", "reward", "ppo")),
    ):
        assert (directory / name).exists(), name
    assert json.loads((directory / "summary.json").read_text(encoding="utf-8")) == json.loads(
        json.dumps(summary.to_json())
    )
    for stage, facts in summary.stages.items():
        assert json.loads((directory / stage / "report.json").read_text(encoding="utf-8")) == json.loads(
            json.dumps(facts)
        )
        assert facts["seconds"] >= 0
        assert facts["peak_mb"] > 0
    assert summary.judge == "reward"
    assert summary.gold_policy is None

    # sft/model: the mean −log-prob of the held-out demonstrations, by plain transformers
    model, tokenizer = plain_language(directory / "sft" / "model")
    whole = [(row["prompt"], f"{row['completion']} <eos>") for row in lines(Path(data["sft"]))]
    _, held_out = split(whole, 0.25, 0, lambda one: one[0])
    assert summary.stages["sft"]["held_out"] == len(held_out) == 3
    assert summary.stages["sft"]["demonstrations"] == 9
    total, count = 0.0, 0
    for asked, said in held_out:
        prompt, answer = tokenizer(asked)["input_ids"], tokenizer(said)["input_ids"]
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
        total -= sum(float(logits[len(prompt) - 1 + place, token]) for place, token in enumerate(answer))
        count += len(answer)
    assert summary.stages["sft"]["held_out_loss"] == pytest.approx(total / count, rel=1e-5)
    logged = lines(directory / "sft" / "metrics.jsonl")[-1]
    assert logged["held_out/loss"] == pytest.approx(total / count, rel=1e-5)

    # reward/model: the scores that PPO has used
    kept = lines(directory / "ppo" / "rollouts.jsonl")
    assert [row["update"] for row in kept] == [1] * 8 + [2] * 8
    ended = [row for row in kept if complete(row, 6)]
    for row in ended[:3]:
        expected = plain_score(directory / "reward" / "model", f"{row['prompt']} {row['text']} <eos>")
        assert row["parts"]["learned"] == pytest.approx(expected, abs=2e-5)
        assert row["reward"] == row["parts"]["learned"]
    for row in kept:
        if row["stop"] != "eos":
            assert row["reward"] == -1.0
            assert row["parts"]["missing_eos"] == pytest.approx(-1 - row["parts"]["learned"], abs=2e-5)

    # ppo/model: greedy answers, by plain transformers
    model, tokenizer = plain_language(directory / "ppo" / "model")
    for row in lines(directory / "evaluation" / "answers.jsonl"):
        ids = tokenizer(row["prompt"], return_tensors="pt")["input_ids"]
        found = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=6, use_cache=False
        )
        assert row["ppo"] == tokenizer.decode(found[0, ids.shape[1] :], skip_special_tokens=True)
    facts = summary.stages["evaluation"]
    assert facts["reward_ppo"] == pytest.approx(
        sum(row["reward_ppo"] for row in lines(directory / "evaluation" / "answers.jsonl")) / 6, abs=1e-4
    )
    assert facts["wins"] + facts["ties"] + facts["losses"] == 6

    # what learns is not what it was, and the policy began as the supervised model
    assert weights_of(directory / "ppo" / "model") != weights_of(directory / "sft" / "model")
    assert abs(lines(directory / "ppo" / "metrics.jsonl")[0]["kl"]) < 1e-4
    assert all(row["kl"] == pytest.approx(0, abs=1e-4) for row in kept[:8])


def test_a_run_is_a_function_of_recipe_and_seed(
    base: Path, data: dict[str, str], function: str, tmp_path: Path
) -> None:
    """Twice into one folder, once into another: the same weights; another seed, others."""
    first, second = tmp_path / "first", tmp_path / "second"
    settings = recipe(base, data, model={"tuning": "lora"})
    found = []
    for directory in (first, first, second):
        go(settings, directory)
        found.append([weights_of(directory / stage / "model") for stage in ("sft", "reward", "ppo")])
    assert found[0] == found[1] == found[2]
    assert len(lines(first / "ppo" / "metrics.jsonl")) == 2
    assert len(list((first / "ppo" / "events").iterdir())) == 1
    go(settings.model_copy(update={"seed": 1}), second)
    assert all(
        weights_of(second / stage / "model") != before
        for stage, before in zip(("sft", "reward", "ppo"), found[0], strict=True)
    )


def test_shared_layout(base: Path, data: dict[str, str], tmp_path: Path) -> None:
    """One frozen base with adapters, end to end; the results are plain models, with the adapters beside them."""
    directory = tmp_path / "run"
    settings = recipe(base, data, model={"tuning": "lora", "layout": "shared", "lora": {"rank": 2}})
    summary = go(settings, directory)
    assert summary.stages["ppo"]["layout"] == "shared"
    first, second = lines(directory / "ppo" / "metrics.jsonl")
    assert abs(first["kl"]) < 1e-4
    assert first["sampler_kl"] < 1e-6
    assert second["policy/grad_norm"] > 0
    assert weights_of(directory / "ppo" / "model") != weights_of(directory / "sft" / "model")
    for stage in ("sft", "reward", "ppo"):
        assert (directory / stage / "model" / "adapter" / "adapter_config.json").is_file()
    model, _ = plain_language(directory / "ppo" / "model")
    assert not [name for name, _ in model.named_parameters() if "lora" in name]
    kept = [row for row in lines(directory / "ppo" / "rollouts.jsonl") if complete(row, 6)]
    for row in kept[:2]:
        expected = plain_score(directory / "reward" / "model", f"{row['prompt']} {row['text']} <eos>")
        assert row["parts"]["learned"] == pytest.approx(expected, abs=2e-5)


def test_bfloat16_is_for_products_alone(base: Path, data: dict[str, str], tmp_path: Path) -> None:
    """The loops run, and what they leave behind is float32."""
    directory = tmp_path / "run"
    go(recipe(base, data, dtype="bfloat16"), directory)
    for stage in ("sft", "reward", "ppo"):
        state = load_file(directory / stage / "model" / "model.safetensors")
        assert {tensor.dtype for tensor in state.values()} == {torch.float32}
        assert all(torch.isfinite(tensor).all() for tensor in state.values())
    rounded, exact = directory / "sft" / "metrics.jsonl", tmp_path / "exact"
    run_stage("sft", only("sft", recipe(base, data)), exact, SilentDisplay())
    first, second = lines(rounded)[0]["loss"], lines(exact / "sft" / "metrics.jsonl")[0]["loss"]
    assert first == pytest.approx(second, rel=0.02)
    assert first != second
    row = lines(directory / "ppo" / "metrics.jsonl")[0]
    assert 1e-9 < row["sampler_kl"] < 1e-3  # the sampler's products are float32
    assert abs(row["kl"]) < 1e-3  # policy and reference round alike


@pytest.mark.parametrize("layout", ["separate", "shared"])
def test_a_critic_on_the_policys_states(layout: str, base: Path, data: dict[str, str], tmp_path: Path) -> None:
    settings = recipe(
        base,
        data,
        model={"tuning": "lora", "layout": layout, "lora": {"rank": 2}},
        rl={"critic": {"body": "policy", "init": "zero"}},
    )
    directory = tmp_path / "run"
    go(settings, directory)
    first, second = lines(directory / "ppo" / "metrics.jsonl")
    assert first["value/mean"] == 0.0
    assert second["value/mean"] != 0.0
    assert first["policy/grad_norm"] > 0 < first["value/grad_norm"]
    assert abs(first["kl"]) < 1e-4 < abs(second["kl"])


def test_recomputed_layers_change_nothing_that_is_learnt(base: Path, data: dict[str, str], tmp_path: Path) -> None:
    plain, again = tmp_path / "plain", tmp_path / "again"
    go(recipe(base, data), plain)
    go(recipe(base, data, model={"recompute": True}), again)
    for stage in ("sft", "reward", "ppo"):
        assert weights_of(plain / stage / "model") == weights_of(again / stage / "model")


@pytest.mark.parametrize("layout", ["separate", "shared"])
def test_only_the_layers_that_were_asked_for_get_adapters(
    layout: str, base: Path, data: dict[str, str], function: str, tmp_path: Path
) -> None:
    lora = {"rank": 2, "target_modules": ["q_proj"]}
    settings = recipe(
        base,
        data,
        model={"tuning": "lora", "layout": layout, "lora": lora},
        rl={"reward": [{"kind": "function", "path": function}], "critic": {"init": "zero"}},
    )
    directory = tmp_path / "run"
    space = open_workspace(settings, directory, SilentDisplay(), base, ["sft"])
    assert {name.split(".")[-3] for name, _ in policy_to_train(space).named_parameters()} == {"q_proj"}
    run_stage("ppo", only("ppo", settings), directory, SilentDisplay())
    adapter = json.loads((directory / "ppo" / "model" / "adapter" / "adapter_config.json").read_text(encoding="utf-8"))
    assert adapter["target_modules"] == ["q_proj"]


def test_a_function_as_the_reward(base: Path, data: dict[str, str], function: str, tmp_path: Path) -> None:
    """Prompts and a function are enough: no demonstrations, no pairs, a critic from zero."""
    directory = tmp_path / "run"
    settings = recipe(
        base,
        data,
        rl={
            "reward": [{"kind": "function", "path": function, "weight": 2.0}],
            "critic": {"init": "zero"},
            "missing_eos_score": None,
            "reward_normalisation": "standard",  # of learned scores only
        },
    )
    summary = go(only("ppo", settings), directory)
    assert list(summary.stages) == ["ppo"]
    for row in lines(directory / "ppo" / "rollouts.jsonl"):
        assert row["parts"] == {"brevity": pytest.approx(-row["length"] / 10)}
        assert row["reward"] == pytest.approx(-row["length"] / 5)
    first = lines(directory / "ppo" / "metrics.jsonl")[0]
    assert first["value/mean"] == 0.0
    assert abs(first["kl"]) < 1e-4  # from the recipe's own model


def test_a_weighted_sum_of_a_model_and_a_function(
    base: Path, data: dict[str, str], function: str, tmp_path: Path
) -> None:
    directory = tmp_path / "run"
    terms = [{"kind": "model", "weight": 0.5}, {"kind": "function", "path": function, "weight": 3.0}]
    go(recipe(base, data, rl={"reward": terms}), directory)
    for row in lines(directory / "ppo" / "rollouts.jsonl"):
        parts = row["parts"]
        assert parts["brevity"] == pytest.approx(-row["length"] / 10)
        total = 0.5 * parts["learned"] + 3 * parts["brevity"]
        assert row["reward"] == pytest.approx(total if row["stop"] == "eos" else -1.0, abs=1e-4)


def test_two_reward_models_score_each_for_itself(base: Path, data: dict[str, str], tmp_path: Path) -> None:
    """Both read the policy's tokens; the second must not be scored by the first."""
    directory = tmp_path / "run"
    folders = [reward_model(tmp_path / name, seed) for name, seed in (("one", 1), ("two", 2))]
    terms = [{"kind": "model", "path": str(folder)} for folder in folders]
    go(only("ppo", recipe(base, data, rl={"reward": terms, "missing_eos_score": None, "batch_size": 16})), directory)
    ended = [row for row in lines(directory / "ppo" / "rollouts.jsonl") if complete(row, 6)]
    assert ended
    for row in ended[:3]:
        text = f"{row['prompt']} {row['text']} <eos>"
        scores = [plain_score(folder, text) for folder in folders]
        assert scores[0] != pytest.approx(scores[1], abs=0.01)
        assert [row["parts"]["learned"], row["parts"]["learned_2"]] == pytest.approx(scores, abs=2e-5)
        assert row["reward"] == pytest.approx(sum(scores), abs=4e-5)


def test_a_reward_model_with_another_tokenizer_reads_the_text_in_its_own_template(
    base: Path, data: dict[str, str], tmp_path: Path
) -> None:
    directory = tmp_path / "run"
    folder = reward_model(tmp_path / "other", 3, other_words())
    changes = {
        "rl": {
            "reward": [{"kind": "model", "path": str(folder)}],
            "critic": {"init": "zero"},
            "missing_eos_score": None,
            "batch_size": 16,
        }
    }
    go(only("ppo", recipe(base, data, **changes)), directory)
    for row in lines(directory / "ppo" / "rollouts.jsonl")[:6]:
        expected = plain_score(folder, f"ask {row['prompt']} say {row['text']} </s>")
        assert row["parts"]["learned"] == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize("normalisation", ["standard", "demonstrations"])
def test_normalisation_of_learned_scores(normalisation: str, base: Path, data: dict[str, str], tmp_path: Path) -> None:
    """reward = (score − shift)·scale: the same affine map for every answer, measured on the right texts."""
    directory, folder = tmp_path / "run", reward_model(tmp_path / "judge", 1)
    changes = {
        "reward": [{"kind": "model", "path": str(folder)}],
        "reward_normalisation": normalisation,
        "missing_eos_score": None,
        "batch_size": 32,
        "updates": 1,
    }
    settings = recipe(base, data, reward={"data": None}, rl=changes)
    run_stage("ppo", settings, directory, SilentDisplay())
    kept = lines(directory / "ppo" / "rollouts.jsonl")
    ended = [row for row in kept if complete(row, 6)]
    assert len(ended) >= 2
    raw = [plain_score(folder, f"{row['prompt']} {row['text']} <eos>") for row in ended]
    scaled = [row["parts"]["learned"] for row in ended]
    if normalisation == "demonstrations":
        shown = [plain_score(folder, f"{row['prompt']} {row['completion']} <eos>") for row in lines(Path(data["sft"]))]
        shift = sum(shown) / len(shown)
        assert scaled == pytest.approx([score - shift for score in raw], abs=3e-5)
    else:
        scale = (scaled[1] - scaled[0]) / (raw[1] - raw[0])
        shift = raw[0] - scaled[0] / scale
        assert scaled == pytest.approx([(score - shift) * scale for score in raw], abs=1e-3)
        # measured on 256 answers of this very policy: these 32 are like them
        scores = [row["parts"]["learned"] for row in kept]
        assert abs(sum(scores) / len(scores)) < 0.6
        assert math.sqrt(sum(x * x for x in scores) / len(scores)) == pytest.approx(1, abs=0.5)


def test_each_stage_by_itself_then_the_next_from_its_folder(base: Path, data: dict[str, str], tmp_path: Path) -> None:
    """`keel sft`, `keel reward`, `keel ppo`, one after the other, each given the model before it."""
    directory, settings = tmp_path / "run", recipe(base, data)
    summary = run_stage("sft", only("sft", settings), directory, SilentDisplay())
    assert list(summary.stages) == ["sft"]
    trained = directory / "sft" / "model"
    after = Recipe.model_validate(merged(settings.model_dump(), {"model": {"path": str(trained)}}))
    summary = run_stage("reward", only("reward", after), directory, SilentDisplay())
    assert list(summary.stages) == ["sft", "preferences", "reward"]
    summary = run_stage("ppo", only("ppo", after), directory, SilentDisplay())
    assert list(summary.stages) == ["sft", "preferences", "reward", "ppo"]
    spent = sum(facts["seconds"] for facts in summary.stages.values())
    assert summary.seconds >= spent - 0.006  # each is rounded to hundredths
    whole = tmp_path / "whole"
    go(settings, whole)
    for stage in ("sft", "reward", "ppo"):
        assert weights_of(directory / stage / "model") == weights_of(whole / stage / "model")


def test_what_does_not_fit_is_left_out_counted_and_said(base: Path, data: dict[str, str], tmp_path: Path) -> None:
    """Two prompts as long as max_length among twelve: in no stage do they end the run."""
    chance = random.Random(1)
    long = say(chance, 24)
    content = [*lines(Path(data["prompts"])), {"prompt": long}, {"prompt": say(chance, 30)}]
    prompts = rows(tmp_path / "long.jsonl", content)
    shown = rows(tmp_path / "sft.jsonl", [*lines(Path(data["sft"])), {"prompt": long, "completion": "w40"}])
    pairs = [*lines(Path(data["reward"])), {"prompt": long, "chosen": "w40", "rejected": "w41"}]
    notes: list[str] = []

    class Listening(SilentDisplay):
        def note(self, text: str) -> None:
            notes.append(text)

    settings = recipe(
        base,
        data,
        sft={"data": shown},
        reward={"data": rows(tmp_path / "pairs.jsonl", pairs)},
        rl={"prompts": prompts, "reward_normalisation": "demonstrations"},
        evaluation={"prompts": prompts, "count": 14, "sampling": {"max_tokens": 4}},
    )
    summary = run(settings, tmp_path / "run", Listening())
    assert (summary.stages["sft"]["dropped"], summary.stages["reward"]["dropped"]) == (1, 1)
    assert summary.stages["sft"]["reasons"] == {"no room for an answer within model.max_length": 1}
    for stage in ("ppo", "evaluation"):
        facts = summary.stages[stage]
        assert (facts["prompts"], facts["given"], facts["dropped"]) == (12, 14, 2)
        assert facts["reasons"] == {"too long for model.max_length 24, with its answer": 2}
    assert len(lines(tmp_path / "run" / "evaluation" / "answers.jsonl")) == 12
    assert [note for note in notes if "left out" in note] == [
        f"2 of 14 prompts left out: with an answer of {new} tokens too long for model.max_length 24" for new in (6, 4)
    ]


def test_a_prompt_must_leave_room_for_its_longest_answer(base: Path, data: dict[str, str], tmp_path: Path) -> None:
    """The model reads 64 tokens, answers have up to 6 (4 in the evaluation): 58 (60) are left for the prompt."""
    chance = random.Random(4)
    content = [{"prompt": say(chance, words)} for words in (3, 58, 59, 60, 61, 63, 200)]
    asked = rows(tmp_path / "long.jsonl", [*content, {"prompt": " "}])
    settings = recipe(
        base,
        data,
        model={"max_length": 1024},
        rl={"prompts": asked, "batch_size": 4, "reward_normalisation": "standard"},
        evaluation={"prompts": asked, "count": 8, "sampling": {"max_tokens": 4}},
    )
    stages = go(settings, tmp_path / "run").stages
    why = "too long for the model's context of 64, with its answer"
    assert (stages["ppo"]["prompts"], stages["evaluation"]["prompts"]) == (2, 4)
    assert {len(row["prompt"].split()) for row in lines(tmp_path / "run" / "ppo" / "rollouts.jsonl")} == {3, 58}
    for stage, dropped in (("ppo", 5), ("evaluation", 3)):
        assert stages[stage]["reasons"] == {"empty prompt": 1, why: dropped}
        assert (stages[stage]["given"], stages[stage]["dropped"]) == (8, dropped + 1)


def test_rows_that_teach_nothing_are_counted_where_they_were_read(
    base: Path, data: dict[str, str], tmp_path: Path
) -> None:
    shown = [*lines(Path(data["sft"])), {"prompt": "w40", "completion": " "}, {"prompt": "", "completion": "w40"}]
    pairs = [*lines(Path(data["reward"])), {"prompt": "w40", "chosen": "w41", "rejected": "w41"}]
    settings = recipe(
        base,
        data,
        sft={"data": rows(tmp_path / "sft.jsonl", shown)},
        reward={"data": rows(tmp_path / "pairs.jsonl", pairs)},
    )
    directory = tmp_path / "run"
    facts = run_stage("sft", settings, directory, SilentDisplay()).stages["sft"]
    assert (facts["given"], facts["dropped"]) == (14, 2)
    assert facts["reasons"] == {"empty answer": 1, "empty prompt": 1}
    assert facts["texts"] == facts["demonstrations"] + facts["held_out"] == 12
    stages = run_stage("reward", settings, directory, SilentDisplay()).stages
    assert (stages["preferences"]["given"], stages["preferences"]["reasons"]) == (13, {"identical answers": 1})
    assert (stages["reward"]["given"], stages["reward"]["dropped"], stages["reward"]["texts"]) == (12, 0, 24)


def test_evaluation_is_one_progress_over_all_models(base: Path, data: dict[str, str], tmp_path: Path) -> None:
    """Three models, six prompts, two answers each: the bar goes to 36 once, and never back."""
    shown: dict[str, list[int]] = {}
    totals: dict[str, int | None] = {}

    class Watching(SilentDisplay):
        name = ""

        def stage(self, name: str, total: int | None) -> AbstractContextManager[None]:
            self.name, totals[name] = name, total
            return super().stage(name, total)

        def step(self, step: int, metrics: Mapping[str, float]) -> None:
            shown.setdefault(self.name, []).append(step)

    asked = {"prompts": data["prompts"], "count": 6, "samples": 2, "sampling": {"max_tokens": 4}}
    run(recipe(base, data, evaluation=asked), tmp_path / "run", Watching())
    assert totals["evaluation"] == 36
    assert shown["evaluation"] == [12, 24, 36]


def test_the_win_rate_knows_which_answers_have_one_prompt(base: Path, data: dict[str, str], tmp_path: Path) -> None:
    """Greedy: three answers to a prompt are three times the same, so eight prompts tell as much as eight answers."""
    asked = {"prompts": data["prompts"], "count": 8, "samples": 3, "sampling": {"max_tokens": 4, "temperature": 0.0}}
    facts = go(recipe(base, data, evaluation=asked), tmp_path / "run").stages["evaluation"]
    answered = lines(tmp_path / "run" / "evaluation" / "answers.jsonl")
    gains = [row["reward_ppo"] - row["reward_sft"] for row in answered]
    outcomes = [1.0 if gain > 0 else 0.5 if gain == 0 else 0.0 for gain in gains]
    assert len(outcomes) == 24
    assert (facts["win_rate_low"], facts["win_rate_high"]) == pytest.approx(interval(outcomes[::3], range(8)))


def test_verdicts_that_people_gave(base: Path, data: dict[str, str], tmp_path: Path) -> None:
    """A table with two answers and three annotators: read, aggregated, a reward model trained, the database left."""
    chance = random.Random(2)
    content = [
        {"ask": say(chance, 3), "a": say(chance, 2), "b": say(chance, 3), "x": x, "y": y, "z": z}
        for x, y, z in ([1, 1, 2], [2, 2, 2], [1, 2, 0], [0, 0, 0], [1, 1, 1], [2, 1, 2]) * 2
    ]
    labels = {
        "data": rows(tmp_path / "verdicts.jsonl", content),
        "prompt": ["ask"],
        "first": "a",
        "second": "b",
        "annotators": ["x", "y", "z"],
    }
    directory = tmp_path / "run"
    settings = recipe(base, data, reward={"data": None}, preferences={"labels": labels})
    summary = run_stage("reward", settings, directory, SilentDisplay())
    facts = summary.stages["preferences"]
    assert (facts["pairs"], facts["judgements"], facts["annotators"], facts["ties"]) == (12, 36, 3, 4)
    assert summary.stages["reward"]["pairs"] + summary.stages["reward"]["held_out_pairs"] == 12
    assert (directory / "preferences.db").is_file()
    again = run_stage("reward", settings, directory, SilentDisplay())  # into the same folder: a fresh database
    assert again.stages["preferences"]["judgements"] == 36


def test_pairs_of_one_prompt_are_not_split_between_training_and_measuring(base: Path, tmp_path: Path) -> None:
    """Forty pairs over ten prompts, a quarter held out: its accuracy is over prompts that were not trained on."""
    chance = random.Random(3)
    asked = [say(chance, 3) for _ in range(10)]
    content = [{"prompt": one, "chosen": say(chance, 2), "rejected": say(chance, 3)} for one in asked for _ in range(4)]
    data = own_data(tmp_path / "data") | {"reward": rows(tmp_path / "pairs.jsonl", content)}
    summary = run_stage("reward", only("reward", recipe(base, data)), tmp_path / "run", SilentDisplay())
    assert (summary.stages["reward"]["pairs"], summary.stages["reward"]["held_out_pairs"]) == (32, 8)  # whole prompts


def test_rankings_train_as_their_pairs_do(base: Path, tmp_path: Path) -> None:
    """Six prompts, four answers each: the ranking, and the six pairs in rows of their own, give the same weights."""
    chance = random.Random(5)
    content = [
        {"prompt": say(chance, 3), "completions": [say(chance, 2 + place) for place in range(4)]} for _ in range(6)
    ]
    pairs = [
        {"prompt": row["prompt"], "chosen": better, "rejected": worse}
        for row in content
        for better, worse in itertools.combinations(row["completions"], 2)
    ]
    found = {}
    for name, given in (("rankings", content), ("pairs", pairs)):
        data = own_data(tmp_path / "data") | {"reward": rows(tmp_path / f"{name}.jsonl", given)}
        stages = run_stage("reward", only("reward", recipe(base, data)), tmp_path / name, SilentDisplay()).stages
        found[name] = (stages, weights_of(tmp_path / name / "reward" / "model"))
    assert found["rankings"][1] == found["pairs"][1]
    for name, given, texts in (("rankings", 6, 24), ("pairs", 36, 72)):
        collected, trained = found[name][0]["preferences"], found[name][0]["reward"]
        assert (collected["pairs"], collected["given"], collected["dropped"]) == (36, given, 0)
        assert (trained["prompts"], trained["pairs"], trained["held_out_pairs"]) == (4, 24, 12)
        assert (trained["given"], trained["texts"]) == (given, texts)
    assert found["rankings"][0]["reward"]["accuracy"] == found["pairs"][0]["reward"]["accuracy"]


def test_the_accuracy_of_one_prompt_with_many_pairs_is_hardly_known(base: Path, tmp_path: Path) -> None:
    """All held-out pairs are of one prompt: they count as one outcome."""
    chance = random.Random(6)
    content = [{"prompt": say(chance, 3), "completions": [say(chance, 3) for _ in range(5)]} for _ in range(4)]
    data = own_data(tmp_path / "data") | {"reward": rows(tmp_path / "rankings.jsonl", content)}
    facts = run_stage("reward", only("reward", recipe(base, data)), tmp_path / "run", SilentDisplay()).stages["reward"]
    assert (facts["prompts"], facts["held_out_pairs"]) == (3, 10)
    right = round(10 * facts["accuracy"])
    outcomes = [1.0] * right + [0.0] * (10 - right)
    assert (facts["accuracy_low"], facts["accuracy_high"]) == interval(outcomes, [0] * 10)


def test_saved_tokenizers_carry_the_template_that_was_trained_with(
    base: Path, data: dict[str, str], tmp_path: Path
) -> None:
    directory = tmp_path / "run"
    run_stage("sft", only("sft", recipe(base, data)), directory, SilentDisplay())
    chat = Chat(load_tokenizer(directory / "sft" / "model"))
    _, tokenizer = plain_language(directory / "sft" / "model")
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "w40 w41"}], tokenize=False, add_generation_prompt=True
    )
    assert text == "w40 w41\n"
    assert chat.eos == tokenizer.eos_token_id != tokenizer.pad_token_id


def test_a_stage_starts_from_what_was_trained_here_from_the_same_model(
    base: Path, data: dict[str, str], tmp_path: Path
) -> None:
    """`keel sft --model base`, then `keel reward --model base` in one folder; another model is another start."""
    said: list[str] = []

    class Listening(SilentDisplay):
        def note(self, text: str) -> None:
            said.append(text)

    directory, settings = tmp_path / "run", recipe(base, data)
    run_stage("sft", only("sft", settings), directory, SilentDisplay())
    summary = run_stage("reward", only("reward", settings), directory, Listening())
    assert f"reward model: starts from {directory / 'sft' / 'model'}" in said
    assert list(summary.stages) == ["sft", "preferences", "reward"]
    other = language_model(tmp_path / "other", seed=1)
    foreign = Recipe.model_validate(merged(settings.model_dump(), {"model": {"path": str(other)}}))
    summary = run_stage("reward", only("reward", foreign), directory, Listening())
    assert f"reward model: starts from {other}" in said
    assert list(summary.stages) == ["preferences", "reward"]
