"""What is wrong with a run is said in one sentence, and nothing is left half-written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import keel.pipeline
from keel.config import Recipe
from keel.display import SilentDisplay
from keel.errors import UserError
from keel.pipeline import run, run_stage
from keel.preferences.judgement import Assignment, Judgement
from keel.preferences.store import PreferenceStore

from .small import language_model, lines, only, own_data, recipe, reward_model, rows


@pytest.fixture
def data(tmp_path: Path) -> dict[str, str]:
    return own_data(tmp_path / "data")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return language_model(tmp_path / "base")


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keel.pipeline, "write_report", lambda directory: None)


def refused(go: Callable[[], object]) -> str:
    """The one sentence."""
    with pytest.raises(UserError) as caught:
        go()
    sentence = str(caught.value)
    assert sentence
    assert "\n" not in sentence
    return sentence


def stage(name: Any, settings: Recipe, directory: Path) -> Callable[[], object]:
    return lambda: run_stage(name, settings, directory, SilentDisplay())


def constant(folder: Path) -> dict[str, Any]:
    """The ppo section of a recipe that needs no reward model."""
    path = folder / "rewards.py"
    path.write_text("def one(rollouts):\n    return [1.0 for _ in rollouts]\n", encoding="utf-8")
    return {"reward": [{"kind": "function", "path": f"{path}:one"}], "critic": {"init": "zero"}}


def test_a_recipe_without_data(base: Path, data: dict[str, str], tmp_path: Path) -> None:
    settings = only("nothing", recipe(base, data))
    directory = tmp_path / "run"
    assert "sft.data, reward.data, preferences.labels.data, rl.prompts or dpo.data" in refused(
        lambda: run(settings, directory, SilentDisplay())
    )
    assert not directory.exists()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("sft", "sft.data is missing: give demonstrations with --sft.data FILE"),
        (
            "reward",
            "there are no people to judge: give reward.data (pairs) or preferences.labels.data (verdicts), or set "
            "--preferences.judges people",
        ),
        ("ppo", "rl.prompts is missing: give prompts with --rl.prompts FILE"),
    ],
)
def test_a_stage_without_its_data(name: str, sentence: str, base: Path, data: dict[str, str], tmp_path: Path) -> None:
    assert refused(stage(name, only("nothing", recipe(base, data)), tmp_path / "run")) == sentence


def test_a_data_file_that_is_not_there(base: Path, data: dict[str, str], tmp_path: Path) -> None:
    settings = recipe(base, data, sft={"data": str(tmp_path / "nowhere.jsonl")})
    assert "nowhere.jsonl" in refused(stage("sft", settings, tmp_path / "run"))


def test_a_margin_below_0_names_its_line(base: Path, data: dict[str, str], tmp_path: Path) -> None:
    content = lines(Path(data["reward"]))
    content[2]["margin"] = -0.5
    bad = rows(tmp_path / "bad.jsonl", content)
    settings = recipe(base, data, reward={"data": bad, "margin": "stated"})
    assert refused(stage("reward", only("reward", settings), tmp_path / "run")).startswith(
        f"{bad}:3: 'margin' is below 0"
    )


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_that_is_not_there(
    device: str, base: Path, data: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    directory = tmp_path / "run"
    settings = recipe(base, data, device=device)
    assert refused(lambda: run(settings, directory, SilentDisplay())) == (
        f"device: this machine has no {device}; use --device auto or cpu"
    )
    assert not directory.exists()


def test_a_folder_that_cannot_be_made(base: Path, data: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    for directory in (tmp_path / "file", tmp_path / "file" / "run"):
        sentence = refused(lambda directory=directory: run(recipe(base, data), directory, SilentDisplay()))
        assert sentence.startswith(f"{directory} cannot be made (")
        assert sentence.endswith("); choose another folder with --dir")


def test_a_folder_that_cannot_be_written(base: Path, data: dict[str, str], tmp_path: Path) -> None:
    directory = tmp_path / "run"
    (directory / "resolved.yaml" / "in the way").mkdir(parents=True)
    sentence = refused(lambda: run(recipe(base, data), directory, SilentDisplay()))
    assert sentence.startswith(f"{directory / 'resolved.yaml'} cannot be written (")
    assert [path.name for path in directory.iterdir()] == ["resolved.yaml"]  # and no draft


def test_a_model_that_is_not_there(base: Path, data: dict[str, str], tmp_path: Path) -> None:
    settings = recipe(tmp_path / "nowhere", data)
    assert "nowhere" in refused(stage("sft", settings, tmp_path / "run"))


def test_a_tokenizer_without_a_chat_template(base: Path, data: dict[str, str], tmp_path: Path) -> None:
    settings = recipe(base, data, model={"template": "auto"})
    assert "has no chat template; give template: plain" in refused(stage("sft", settings, tmp_path / "run"))
    assert not (tmp_path / "run" / "sft").exists()


def test_a_reward_model_that_is_not_there(base: Path, data: dict[str, str], tmp_path: Path) -> None:
    directory = tmp_path / "run"
    settings = recipe(base, data)
    expected = directory / "reward" / "model"
    assert refused(stage("ppo", settings, directory)) == (
        f"rl.reward: there is no reward model in {expected}; train one first, or name one by its path"
    )
    given = recipe(base, data, rl={"reward": [{"kind": "model", "path": str(tmp_path / "nowhere")}]})
    assert "nowhere" in refused(stage("ppo", given, directory))
    assert not (directory / "ppo").exists()


def test_a_critic_from_a_reward_model_that_there_is_not(base: Path, data: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "rewards.py"
    path.write_text("def one(rollouts):\n    return [1.0 for _ in rollouts]\n", encoding="utf-8")
    settings = recipe(base, data, rl={"reward": [{"kind": "function", "path": f"{path}:one"}]})
    sentence = refused(stage("ppo", settings, tmp_path / "run"))
    assert sentence.startswith("rl.critic.init: ")
    assert sentence.endswith("set --rl.critic.init zero")


def test_an_adapter_of_another_base(base: Path, data: dict[str, str], tmp_path: Path) -> None:
    """In the shared layout a reward model must be an adapter on the policy's very base."""
    shared = {"tuning": "lora", "layout": "shared", "lora": {"rank": 2}}
    foreign = reward_model(tmp_path / "foreign")
    settings = recipe(base, data, model=shared, rl={"reward": [{"kind": "model", "path": str(foreign)}]})
    assert "train that role with LoRA first" in refused(stage("ppo", settings, tmp_path / "run"))


def test_two_reward_functions_of_one_name(base: Path, data: dict[str, str], tmp_path: Path) -> None:
    terms = []
    for name in ("first.py", "second.py"):
        (tmp_path / name).write_text("def good(rollouts):\n    return [1.0 for _ in rollouts]\n", encoding="utf-8")
        terms.append({"kind": "function", "path": f"{tmp_path / name}:good"})
    settings = recipe(base, data, rl={"reward": terms, "critic": {"init": "zero"}})
    assert refused(stage("ppo", settings, tmp_path / "run")) == (
        "rl.reward: two terms are called 'good'; give one of the functions another name"
    )


def test_a_reward_function_with_a_name_of_keels_own(base: Path, data: dict[str, str], tmp_path: Path) -> None:
    """As a metric it would stand in the place of another."""
    for name in ("gold", "missing_eos", "overlong", "std"):
        (tmp_path / "rewards.py").write_text(f"def {name}(rollouts):\n    return [1.0 for _ in rollouts]\n")
        terms = [{"kind": "function", "path": f"{tmp_path / 'rewards.py'}:{name}"}]
        settings = recipe(base, data, rl={"reward": terms, "critic": {"init": "zero"}})
        assert refused(stage("ppo", settings, tmp_path / "run")) == (
            f"rl.reward: '{name}' is what Keel calls a part of its own; give the function another name"
        )


def test_a_reward_function_that_gives_no_number(base: Path, data: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "rewards.py"
    path.write_text("def bad(rollouts):\n    return [float('nan') for _ in rollouts]\n", encoding="utf-8")
    terms = [{"kind": "function", "path": f"{path}:bad"}]
    settings = recipe(base, data, rl={"reward": terms, "critic": {"init": "zero"}})
    assert "must return a finite number" in refused(stage("ppo", settings, tmp_path / "run"))
    assert not (tmp_path / "run" / "ppo" / "model").exists()


def test_evaluation_without_a_judge_is_refused_before_anything_is_trained(
    base: Path, data: dict[str, str], tmp_path: Path
) -> None:
    settings = recipe(
        base,
        data,
        reward={"data": None},
        rl=constant(tmp_path),
        evaluation={"prompts": data["prompts"]},
    )
    assert refused(lambda: run(settings, tmp_path / "run", SilentDisplay())).startswith(
        "evaluation.prompts: this run has no reward model to judge the answers; give reward.data"
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "said"), [("sft", "no demonstration fits"), ("reward", "no pair fits"), ("ppo", "no prompt leaves room")]
)
def test_nothing_fits(name: str, said: str, base: Path, data: dict[str, str], tmp_path: Path) -> None:
    """max_length is 3, and so are the prompts."""
    settings = recipe(base, data, model={"max_length": 3}, rl=constant(tmp_path))
    assert said in refused(stage(name, only(name, settings), tmp_path / "run"))


def test_no_prompt_leaves_room_in_the_context(base: Path, data: dict[str, str], tmp_path: Path) -> None:
    judge = [{"kind": "model", "path": str(reward_model(tmp_path / "judge"))}]
    settings = recipe(base, data, model={"max_length": 1024}, rl={"sampling": {"max_tokens": 62}, "reward": judge})
    assert refused(stage("ppo", only("ppo", settings), tmp_path / "run")) == (
        "rl.prompts: no prompt leaves room for an answer of 62 tokens within the model's context of 64; lower "
        "--rl.sampling.max_tokens, give shorter prompts"
    )
    assert not (tmp_path / "run" / "ppo").exists()


def test_a_sampling_that_gives_one_answer_only_leaves_nothing_to_judge(tmp_path: Path) -> None:
    """Greedy answers to one prompt are all the same."""
    settings = Recipe.model_validate(
        {
            "device": "cpu",
            "preflight": "off",
            "preferences": {"count": 2, "sampling": {"temperature": 0.0, "max_tokens": 4}},
        }
    )
    sentence = refused(stage("reward", settings, tmp_path / "run"))
    assert "preferences.sampling" in sentence


def test_verdicts_that_are_all_ties_and_dropped_leave_nothing_to_learn(
    base: Path, data: dict[str, str], tmp_path: Path
) -> None:
    table = rows(tmp_path / "ties.jsonl", [{"prompt": "w40", "response1": "w41", "response2": "w42", "annotator1": 0}])
    labels = {"data": table}
    settings = recipe(base, data, reward={"data": None}, preferences={"labels": labels, "ties": "drop"})
    assert refused(stage("reward", settings, tmp_path / "run")).endswith("set --preferences.ties keep")


def late_faults(folder: Path) -> dict[str, tuple[dict[str, Any], str]]:
    """Faults of the later stages: changes to the recipe, and what the sentence must name."""
    broken = folder / "broken.jsonl"
    broken.write_text('{"prompt": "w40"}\n{"question?": 1}\n', encoding="utf-8")
    path = folder / "rewards.py"
    path.write_text("def one(rollouts):\n    return [1.0 for _ in rollouts]\n", encoding="utf-8")
    table = rows(folder / "table.jsonl", [{"prompt": "w40", "response1": "w41", "response2": "w42", "annotator1": 9}])

    def term(kind: str, path: Path | str) -> dict[str, Any]:
        return {"rl": {"reward": [{"kind": kind, "path": str(path)}]}}

    return {
        "a prompt of the wrong shape": ({"rl": {"prompts": str(broken)}}, f"{broken}:2"),
        "no such pairs": ({"reward": {"data": str(folder / "no-pairs.jsonl")}}, "no-pairs.jsonl"),
        "a verdict without a meaning": (
            {"reward": {"data": None}, "preferences": {"labels": {"data": table}}},
            "table.jsonl:1",
        ),
        "no such reward model": (term("model", folder / "nowhere"), "nowhere"),
        "a reward model that is none": (term("model", folder / "base"), "which is no reward model"),
        "no such reward function": (term("function", f"{path}:two"), "has no 'two'"),
        "prompts that are all too long": ({"rl": {"sampling": {"max_tokens": 22}}}, "no prompt leaves room"),
        "a critic from nothing": (term("function", f"{path}:one"), "rl.critic.init"),
        "unseen prompts that are not there": (
            {"evaluation": {"prompts": str(folder / "unseen.jsonl")}},
            "unseen.jsonl",
        ),
    }


@pytest.mark.parametrize(
    "fault",
    [
        "a prompt of the wrong shape",
        "no such pairs",
        "a verdict without a meaning",
        "no such reward model",
        "a reward model that is none",
        "no such reward function",
        "prompts that are all too long",
        "a critic from nothing",
        "unseen prompts that are not there",
    ],
)
def test_a_fault_of_a_late_stage_is_found_before_the_first(
    fault: str, base: Path, data: dict[str, str], tmp_path: Path
) -> None:
    changes, named = late_faults(tmp_path)[fault]
    directory = tmp_path / "run"
    assert named in refused(lambda: run(recipe(base, data, **changes), directory, SilentDisplay()))
    assert not directory.exists()


def test_what_people_said_is_never_replaced(base: Path, data: dict[str, str], tmp_path: Path) -> None:
    """Simulated and imported judgements can be made again; those of people cannot."""
    table = rows(tmp_path / "t.jsonl", [{"prompt": "w40", "response1": "w41", "response2": "w42", "annotator1": 1}])
    settings = only("reward", recipe(base, data, reward={"data": None}, preferences={"labels": {"data": table}}))
    directory = tmp_path / "run"
    for _ in range(2):
        run_stage("reward", settings, directory, SilentDisplay())
    path = directory / "preferences.db"
    with PreferenceStore.open(path) as store:
        store.add_annotator("Ana", "annotator")
        (item,) = store.items()
        store.assign([Assignment(item.id, "Ana", (1, 0))])
        store.record(Judgement(item.id, "Ana", (1, 0), "comparison", 2))
        before = store.history()
    sentence = refused(stage("reward", settings, directory))
    assert sentence.startswith(f"{path} holds 1 judgements by people")
    with PreferenceStore.open(path) as store:
        assert store.history() == before


def test_a_damaged_report_of_an_earlier_stage(base: Path, data: dict[str, str], tmp_path: Path) -> None:
    directory = tmp_path / "run"
    run_stage("sft", only("sft", recipe(base, data)), directory, SilentDisplay())
    report = directory / "sft" / "report.json"
    report.write_text(report.read_text(encoding="utf-8")[:20], encoding="utf-8")
    sentence = refused(stage("reward", only("reward", recipe(base, data)), directory))
    assert sentence.startswith(f"{report} is damaged (")
