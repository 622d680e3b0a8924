"""Each fault planted in a whole recipe is found at its stage, and a sound recipe has none."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

import keel.preflight.stages as module
from keel.config import Recipe
from keel.diagnostics.findings import Finding
from keel.display import SilentDisplay
from keel.pipeline import checked, run, stages_of
from keel.preflight.stages import check, preflight
from keel.preflight.table import Checked
from keel.stages.workspace import StageName, Workspace
from models.small import EOS
from stages.small import language_model, merged, only, own_data, own_words, recipe, rows, say

pytestmark = pytest.mark.usefixtures("unchecked_shapes")

Changes = dict[str, Any]
COUNT = 24


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return language_model(tmp_path / "base")


@pytest.fixture
def data(tmp_path: Path) -> dict[str, str]:
    """Sound: answers of mixed lengths, none twice; prompts of the evaluation that nobody trains on."""
    folder = tmp_path / "data"
    found = own_data(folder, COUNT)
    chance = random.Random("sound pairs")
    asked = [say(chance, 3) for _ in range(COUNT)]
    found["reward"] = rows(
        folder / "pairs.jsonl",
        (
            {"prompt": one, "chosen": say(chance, 2 + n % 2), "rejected": say(chance, 3 - n % 2)}
            for n, one in enumerate(asked)
        ),
    )
    found["unseen"] = rows(folder / "unseen.jsonl", ({"prompt": say(chance, 4)} for _ in range(COUNT)))
    return found


def sound(base: Path, data: dict[str, str], folder: Path, **changes: Any) -> Recipe:
    """All stages, and a reward that counts a word."""
    path = folder / "rewards.py"
    path.write_text(
        "def count(rollouts):\n    return [one.text.count('w5') + 0.01 * len(one.text) for one in rollouts]\n"
        "def same(rollouts):\n    return [1.0 for _ in rollouts]\n"
        "def nan(rollouts):\n    return [float('nan') for _ in rollouts]\n",
        encoding="utf-8",
    )
    given = {
        "rl": {"reward": [{"kind": "function", "path": f"{path}:count"}], "critic": {"init": "zero"}},
        "evaluation": {"prompts": data["unseen"], "count": 8, "sampling": {"max_tokens": 6}},
    }
    return recipe(base, data, **merged(given, changes))


def space_of(settings: Recipe, folder: Path) -> Workspace:
    return checked(stages_of(settings), settings, folder / "run", SilentDisplay())


def found(settings: Recipe, folder: Path) -> Checked:
    return check(space_of(settings, folder))


def of(checks: Checked, stage: str, name: str) -> Finding:
    (found,) = (one for each in checks.stages if each.stage == stage for one in each.findings if one.check == name)
    return found


def wrong(checks: Checked) -> dict[tuple[str, str], str]:
    return {
        (each.stage, one.check): one.message for each in checks.stages for one in each.findings if one.verdict != "ok"
    }


def test_a_sound_recipe(base: Path, data: dict[str, str], tmp_path: Path) -> None:
    checks = found(sound(base, data, tmp_path), tmp_path)
    assert wrong(checks) == {}
    assert [each.stage for each in checks.stages] == ["sft", "preferences", "reward", "ppo", "evaluation"]
    for name in ("EOS trained", "Masks", "Length limit", "Duplicates", "Foreign markers", "Role words trained"):
        assert of(checks, "sft", name).verdict == "ok"
    assert checks.verdict == "ok"
    assert not (tmp_path / "run").exists()
    (sft,) = (each for each in checks.stages if each.stage == "sft")
    assert sft.example is not None
    assert [piece.trained for piece in sft.example.pieces] == [False, True]
    assert sft.example.pieces[1].text.endswith("<eos>")


def test_what_can_only_be_known_later_is_said(base: Path, data: dict[str, str], tmp_path: Path) -> None:
    """Before SFT has run, how its answers end is open; without SFT in the recipe it is known now."""
    whole = sound(base, data, tmp_path, rl={"reward": [{"kind": "model"}], "critic": {"init": "reward"}})
    checks = found(whole, tmp_path)
    for name in ("Answers end", "Reward spread"):
        assert of(checks, "ppo", name).message.startswith("Not yet known")
    assert "base" in of(checks, "ppo", "Model").message
    alone = found(only("ppo", sound(base, data, tmp_path, evaluation={"prompts": None})), tmp_path)
    assert not any("Not yet" in one.message for each in alone.stages for one in each.findings)


@dataclass(frozen=True)
class Bench:
    """Where faults are made: a folder, sound data in it, and chance."""

    folder: Path
    data: dict[str, str]
    chance: random.Random

    def rows(self, content: Iterable[dict[str, Any]]) -> str:
        return rows(self.folder / "planted.jsonl", content)

    def reward(self, name: str) -> Changes:
        return {"rl": {"reward": [{"kind": "function", "path": f"{self.folder / 'rewards.py'}:{name}"}]}}

    def template(self, text: str) -> Changes:
        path = self.folder / "template.jinja"
        path.write_text(text, encoding="utf-8")
        return {"model": {"template": str(path)}}

    def answers(self, count: int = COUNT, tail: str = "") -> list[dict[str, Any]]:
        return [{"prompt": say(self.chance, 3), "completion": say(self.chance, 3) + tail} for _ in range(count)]

    def prompts(self, count: int, words: int = 3) -> list[dict[str, Any]]:
        return [{"prompt": say(self.chance, words)} for _ in range(count)]

    def pairs(self, chosen: int = 3, rejected: int = 3, count: int = COUNT, **others: Any) -> list[dict[str, Any]]:
        def pair() -> dict[str, Any]:
            texts = {"chosen": say(self.chance, chosen), "rejected": say(self.chance, rejected)}
            return {"prompt": say(self.chance, 3), **texts, **others}

        return [pair() for _ in range(count)]

    def equal(self, count: int) -> list[dict[str, Any]]:
        return [one | {"rejected": one["chosen"]} for one in self.pairs(count=count)]

    def verdicts(self) -> list[dict[str, Any]]:
        texts = [[say(self.chance, 3) for _ in range(3)] for _ in range(COUNT)]
        return [{"prompt": a, "response1": b, "response2": c, "annotator1": 1} for a, b, c in texts]


SPACED = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
HEADED = "{% for m in messages %}{% if m['role'] == 'assistant' %}Assistant: {% endif %}{{ m['content'] }} {% endfor %}"
SHORT = {
    "model": {"max_length": 6},
    "rl": {"sampling": {"max_tokens": 2}},
    "evaluation": {"sampling": {"max_tokens": 1}},
}
NO_SFT = {"sft": {"data": None}, "evaluation": {"prompts": None}}
Planted = tuple[Callable[[Bench], Changes], StageName, str, str]
FAULTS: dict[str, Planted] = {
    "answers without EOS": (lambda _: SHORT, "sft", "EOS trained", "red"),
    "answers that are cut off": (lambda _: SHORT, "sft", "Length limit", "red"),
    "markers in answers": (
        lambda on: {"sft": {"data": on.rows(on.answers(tail=" [/INST]"))}}, "sft", "Foreign markers", "red"
    ),
    "markers in few prompts": (
        lambda on: {"rl": {"prompts": on.rows([*on.prompts(20), {"prompt": "[INST] w41"}])}},
        "ppo", "Foreign markers", "amber",
    ),
    "rows twice": (lambda on: {"sft": {"data": on.rows(on.answers(8) * 3)}}, "sft", "Duplicates", "red"),
    "a header that is trained": (lambda on: on.template(HEADED), "sft", "Role words trained", "red"),
    "a prompt that changes": (
        lambda on: on.template("{% if messages|length > 1 %}w50 {% endif %}" + SPACED), "sft", "Chat template", "red"
    ),
    "two BOS": (lambda on: on.template("<bos> <bos> " + SPACED), "ppo", "BOS", "red"),
    "equal answers": (
        lambda on: {"reward": {"data": on.rows([*on.equal(8), *on.pairs()])}}, "reward", "Answers differ", "red"
    ),
    "longer is better": (lambda on: {"reward": {"data": on.rows(on.pairs(4, 3))}}, "reward", "Length bias", "amber"),
    "all are ties": (
        lambda on: {"reward": {"data": on.rows(on.pairs(probability=0.5))}}, "reward", "Label balance", "red"
    ),
    "swapped columns": (
        lambda on: {"reward": {"data": on.rows(on.pairs(probability=0.2))}}, "reward", "Label balance", "red"
    ),
    "pairs twice": (lambda on: {"reward": {"data": on.rows(on.pairs(count=5) * 4)}}, "reward", "Duplicates", "red"),
    "one side wins": (
        lambda on: {"reward": {"data": None}, "preferences": {"labels": {"data": on.rows(on.verdicts())}}},
        "preferences", "Sides", "amber",
    ),
    "prompts twice": (lambda on: {"rl": {"prompts": on.rows(on.prompts(8) * 3)}}, "ppo", "Duplicates", "red"),
    "prompts too long": (
        lambda on: {"rl": {"prompts": on.rows([*on.prompts(12), *on.prompts(12, words=20)])}},
        "ppo", "Prompts fit", "red",
    ),
    "prompts that were trained on": (
        lambda on: {"evaluation": {"prompts": on.data["prompts"]}}, "evaluation", "Train/test overlap", "red"
    ),
    "one reward for all": (lambda on: NO_SFT | on.reward("same"), "ppo", "Reward spread", "red"),
    "one reward for all, before SFT": (lambda on: on.reward("same"), "ppo", "Reward spread", "amber"),
    "a reward that is no number": (lambda on: on.reward("nan"), "ppo", "Reward spread", "red"),
}  # fmt: skip
"""How a fault is planted, and the stage, check and verdict that it must come out as."""


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(fault: str, data: dict[str, str], tmp_path: Path) -> None:
    base = language_model(tmp_path / "base")
    tokenizer = own_words()
    tokenizer.bos_token = "<bos>"
    tokenizer.save_pretrained(base)
    plant, stage, name, verdict = FAULTS[fault]
    changes = plant(Bench(tmp_path, data, random.Random(fault)))
    before = preflight(space_of(sound(base, data, tmp_path, **changes), tmp_path), stage)
    (one,) = (one for one in before.findings if one.check == name)
    assert one.verdict == verdict, one.message
    assert one.message.endswith(".") or "cannot be rendered" in one.message
    assert one.remedy
    assert "\n" not in one.message + one.remedy


def test_both_answers_of_a_pair_are_searched(
    base: Path, data: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the number of rows: one in so many texts would be always the chosen answer, or never."""
    on = Bench(tmp_path, data, random.Random("both"))
    for searched in (COUNT, COUNT // 2, COUNT // 4):
        monkeypatch.setattr("keel.preflight.wording.TEXTS", searched)
        for name in ("chosen", "rejected"):
            marked = [one | {name: f"{one[name]} [/INST]"} for one in on.pairs()]
            settings = sound(base, data, tmp_path, reward={"data": on.rows(marked)})
            (one,) = (
                one for one in preflight(space_of(settings, tmp_path), "reward").findings if "Foreign" in one.check
            )
            assert one.message.startswith(f"0 of {searched} prompts and {searched} of {2 * searched} answers hold")


def test_a_limit_counts_equal_answers_no_larger(base: Path, data: dict[str, str], tmp_path: Path) -> None:
    """Six equal ones among 600 rows are about one among the first hundred."""
    on = Bench(tmp_path, data, random.Random("limit"))
    rows = on.rows([*on.pairs(count=594), *on.equal(6)])
    settings = sound(base, data, tmp_path, reward={"data": rows, "limit": 100})
    (one,) = (
        one for one in preflight(space_of(settings, tmp_path), "reward").findings if one.check == "Answers differ"
    )
    assert one.message.startswith("In 1 of 101 pairs")


def test_answers_that_never_end(base: Path, data: dict[str, str], tmp_path: Path) -> None:
    """An output layer that all but rules EOS out."""
    model = AutoModelForCausalLM.from_pretrained(base)
    with torch.no_grad():
        model.lm_head.weight[EOS] = 0
        model.lm_head.weight[EOS + 1 :] *= 5
    model.save_pretrained(base)
    settings = sound(base, data, tmp_path, sft={"data": None}, evaluation={"prompts": None})
    assert of(found(settings, tmp_path), "ppo", "Answers end").verdict == "red"


def test_a_template_that_the_recipe_ignores(base: Path, data: dict[str, str], tmp_path: Path) -> None:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(base)
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
    tokenizer.save_pretrained(base)
    checks = found(sound(base, data, tmp_path), tmp_path)
    assert set(wrong(checks)) == {(stage, "Template chosen") for stage in ("sft", "reward", "ppo")}
    assert wrong(found(sound(base, data, tmp_path, model={"template": "auto"}), tmp_path)) == {}


def test_a_machine_that_is_too_small(
    base: Path, data: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "room", lambda device: 2**20)
    checks = found(sound(base, data, tmp_path), tmp_path)
    assert {name for _, name in wrong(checks)} == {"Memory"}
    assert checks.verdict == "red"


def test_greedy_answers_cannot_be_compared(tmp_path: Path) -> None:
    given: Changes = {"device": "cpu", "dtype": "float32", "preferences": {"count": 8, "sampling": {"max_tokens": 8}}}
    given["rl"], given["sft"] = {"limit": 8}, {"limit": 8}
    for temperature, verdict in ((1.0, "ok"), (0.0, "red")):
        given["preferences"]["sampling"]["temperature"] = temperature
        settings = Recipe.model_validate(given)
        before = preflight(space_of(settings, tmp_path), "preferences")
        (one,) = (one for one in before.findings if one.check == "Answers differ")
        assert one.verdict == verdict


def test_within_a_run_the_models_are_those_of_the_run(
    base: Path, data: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the run's own stages nothing is open, the reward model's scores are read, and no random number is used."""
    monkeypatch.setattr("keel.pipeline.write_report", lambda directory: None)
    settings = sound(base, data, tmp_path, rl={"reward": [{"kind": "model"}], "critic": {"init": "reward"}})
    run(settings, tmp_path / "run", SilentDisplay())
    space = space_of(settings, tmp_path)
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    one = preflight(space, "ppo")
    assert torch.equal(torch.random.get_rng_state(), state)
    messages = {finding.check: finding.message for finding in one.findings}
    assert "Model" not in messages
    assert "over 16 answers" in messages["Reward spread"]
    assert messages["KL at step 0"].startswith("The KL is 0.0e+00")
    assert not any("Not yet" in message for message in messages.values())


@pytest.mark.parametrize("layout", ["separate", "shared"])
def test_adapters_start_as_the_reference(layout: str, base: Path, data: dict[str, str], tmp_path: Path) -> None:
    settings = sound(base, data, tmp_path, model={"tuning": "lora", "layout": layout, "lora": {"rank": 2}})
    assert wrong(found(settings, tmp_path)) == {}
