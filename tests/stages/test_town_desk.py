"""The embedded task through every stage, with counts as small as they get."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from keel.config import Recipe
from keel.data.chat import Chat
from keel.display import SilentDisplay
from keel.models.load import load_tokenizer
from keel.pipeline import run, run_stage
from keel.preferences.store import PreferenceStore
from keel.stages.seen import fingerprint
from keel.summary import Summary
from keel.tasks.town_desk.task import TownDesk
from keel.types import Message

from .small import lines, merged, weights_of

TINY = {
    "preflight": "off",
    "device": "cpu",
    "dtype": "float32",
    "sft": {"limit": 16, "max_steps": 1, "batch_size": 4, "optimizer": {"lr": 1e-3}},
    "preferences": {"count": 6, "samples_per_prompt": 3, "sampling": {"max_tokens": 12}, "spammers": 1},
    "reward": {"max_steps": 1, "batch_size": 4, "held_out": 0.3, "optimizer": {"lr": 1e-3}},
    "rl": {
        "limit": 8,
        "updates": 1,
        "batch_size": 4,
        "samples_per_prompt": 2,
        "epochs": 1,
        "sampling": {"max_tokens": 12},
        "optimizer": {"lr": 1e-4},
        "critic": {"lr": 1e-4},
    },
    "evaluation": {"count": 3, "sampling": {"max_tokens": 12}},
}
"""Below recipes/smoke.yaml: what is shown here is that all of it fits together."""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("town desk") / "run"


@pytest.fixture(scope="module")
def summary(directory: Path) -> Summary:
    return run(Recipe.model_validate(TINY), directory, SilentDisplay())


def test_what_a_run_leaves_behind(summary: Summary, directory: Path) -> None:
    assert list(summary.stages) == ["sft", "preferences", "reward", "ppo", "evaluation"]
    for name in ("preferences.db", "report.html", "summary.json", "resolved.yaml", "evaluation/answers.jsonl"):
        assert (directory / name).is_file(), name
    for stage in ("sft", "reward", "ppo"):
        assert (directory / stage / "metrics.jsonl").is_file()
        assert (directory / stage / "report.json").is_file()
        assert list((directory / stage / "events").iterdir())
        assert (directory / stage / "model" / "model.safetensors").is_file()
    written = json.loads((directory / "summary.json").read_text(encoding="utf-8"))
    for name in (
        "win_rate",
        "win_rate_low",
        "win_rate_high",
        "gold_base",
        "gold_sft",
        "gold_ppo",
        "kl",
        "seconds",
        "peak_mb",
    ):
        assert isinstance(written[name], float), name
    assert written["judge"] == "gold"
    assert 0 <= written["win_rate_low"] <= written["win_rate"] <= written["win_rate_high"] <= 1
    assert not list(directory.rglob(".*"))  # no drafts left


def test_gold_is_watched_and_never_trained_on(summary: Summary, directory: Path) -> None:
    """Its weight is 0: the reward is the learned part alone, or what the missing-EOS rule says."""
    kept = lines(directory / "ppo" / "rollouts.jsonl")
    assert len(kept) == 4
    for row in kept:
        assert set(row["parts"]) == {"learned", "gold", "missing_eos"}
        assert row["parts"]["gold"] == pytest.approx(
            TownDesk().gold((Message("user", row["prompt"]),), row["text"]), abs=1e-4
        )
        learned = row["parts"]["learned"] if row["stop"] == "eos" else -1.0
        assert row["reward"] == pytest.approx(learned, abs=1e-4)
    answered = lines(directory / "evaluation" / "answers.jsonl")
    gold = [TownDesk().gold((Message("user", row["prompt"]),), row["ppo"]) for row in answered]
    assert summary.gold_policy == pytest.approx(sum(gold) / len(gold), abs=1e-3)


def test_people_have_judged_pairs_of_different_answers(summary: Summary, directory: Path) -> None:
    with PreferenceStore.open(str(directory / "preferences.db")) as store:
        items, judgements = store.items(), list(store.judgements())
    assert 0 < len(items) <= 6 * 3
    for item in items:
        first, second = (answer.messages[0].content for answer in item.answers)
        assert first != second
        assert {answer.model for answer in item.answers} == {"sft/model"}
    assert {one.item for one in judgements} <= {item.id for item in items}
    facts = summary.stages["preferences"]
    assert facts["judgements"] == len(judgements)
    assert facts["pairs"] == summary.stages["reward"]["pairs"] + summary.stages["reward"]["held_out_pairs"]


def test_models_load_with_plain_transformers_and_give_the_numbers_of_the_run(summary: Summary, directory: Path) -> None:
    """Evaluation's rewards, from the text and the saved classifier.

    The run has read the tokens as they were sampled. Some texts have other tokens too, and the file does not say
    whether EOS came, so most of the nine answers must agree, not all.
    """
    tokenizer = AutoTokenizer.from_pretrained(directory / "reward" / "model")
    classifier = AutoModelForSequenceClassification.from_pretrained(directory / "reward" / "model").eval()

    def score(text: str) -> float:
        ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            return float(classifier(input_ids=ids).logits[0, 0])

    same = 0
    for row in lines(directory / "evaluation" / "answers.jsonl"):
        chat = [{"role": "user", "content": row["prompt"]}]
        prompt = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        for name in ("base", "sft", "ppo"):
            read = [score(prompt + row[name] + end) for end in ("", tokenizer.eos_token)]
            same += any(abs(one - row[f"reward_{name}"]) < 1e-4 for one in read)
    assert same >= 6
    for stage in ("sft", "ppo"):
        model = AutoModelForCausalLM.from_pretrained(directory / stage / "model")
        assert model.generation_config.eos_token_id == tokenizer.eos_token_id
        assert model.generation_config.pad_token_id == tokenizer.pad_token_id


def test_reports_hold_numbers_that_json_knows(summary: Summary, directory: Path) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    for path in [*directory.glob("*/report.json"), directory / "summary.json"]:
        json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    for path in directory.glob("*/metrics.jsonl"):
        for line in path.read_text(encoding="utf-8").splitlines():
            json.loads(line, parse_constant=refuse)


def test_every_prompt_was_used_and_that_is_said(summary: Summary) -> None:
    for stage, count in (("preferences", 6), ("ppo", 8), ("evaluation", 3)):
        facts = summary.stages[stage]
        assert (facts["prompts"], facts["given"], facts["dropped"], facts["reasons"]) == (count, count, 0, {})


def test_no_stage_has_trained_on_a_prompt_of_the_evaluation(summary: Summary, directory: Path) -> None:
    """By construction; and were one of them trained on, it would be found."""
    facts = summary.stages["evaluation"]
    assert (facts["seen"], facts["seen_by"]) == (0, {"sft": 0, "reward": 0, "ppo": 0})
    trained = {stage: (directory / stage / "prompts.txt").read_text().split() for stage in ("sft", "reward", "ppo")}
    assert len(trained["sft"]) == summary.stages["sft"]["demonstrations"]
    asked = {fingerprint((Message("user", row["prompt"]),)) for row in lines(directory / "ppo" / "rollouts.jsonl")}
    assert set(trained["ppo"]) == asked
    asked = {
        fingerprint((Message("user", row["prompt"]),)) for row in lines(directory / "evaluation" / "answers.jsonl")
    }
    assert len(asked) == 3
    assert not asked & {one for stage in trained.values() for one in stage}


def test_prompts_that_leave_no_room_are_not_judged(tmp_path: Path) -> None:
    """The limit lies at the median prompt and its answer: the longer ones are left out, and the file has no answer."""
    task = TownDesk()
    prompts, chat = task.prompts(6, 0, "preferences"), Chat(load_tokenizer(task.base()))
    sizes = sorted(len(chat.prompt(one.messages)) for one in prompts)
    limit = sizes[2] + 12
    fitting = sum(size + 12 <= limit for size in sizes)
    assert 0 < fitting < 6
    directory = tmp_path / "run"
    settings = Recipe.model_validate(merged(TINY, {"model": {"max_length": limit}}))
    facts = run_stage("reward", settings, directory, SilentDisplay()).stages["preferences"]
    assert (facts["prompts"], facts["given"], facts["dropped"]) == (fitting, 6, 6 - fitting)
    with PreferenceStore.open(str(directory / "preferences.db")) as store:
        assert all(len(chat.prompt(item.prompt)) + 12 <= limit for item in store.items())


def test_a_stage_goes_on_from_what_the_folder_holds(summary: Summary, directory: Path) -> None:
    """`keel ppo` in the folder of a finished run starts from its supervised model, and leaves the others alone."""
    before = {stage: weights_of(directory / stage / "model") for stage in ("sft", "reward", "ppo")}
    recipe = Recipe.model_validate(merged(TINY, {"seed": 3}))
    again = run_stage("ppo", recipe, directory, SilentDisplay())
    assert list(again.stages) == ["sft", "preferences", "reward", "ppo"]  # an evaluation of another policy is none
    assert again.win_rate is None
    assert again.stages["reward"] == summary.stages["reward"]
    after = {stage: weights_of(directory / stage / "model") for stage in ("sft", "reward", "ppo")}
    assert (after["sft"], after["reward"]) == (before["sft"], before["reward"])
    assert after["ppo"] != before["ppo"]
    assert abs(lines(directory / "ppo" / "metrics.jsonl")[0]["kl"]) < 1e-3  # the policy began as sft/model
