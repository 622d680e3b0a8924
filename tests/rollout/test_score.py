"""Rewards: learned, written in Python, summed, and under the missing-EOS rule."""

from __future__ import annotations

import math
import os
import py_compile
import random
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from keel.data.chat import Chat
from keel.errors import UserError
from keel.maths.ensembles import worst_case
from keel.models.backbone import Backbone
from keel.models.ensemble import Ensemble
from keel.models.heads import ScalarHead
from keel.models.roles import ScalarRole, Weights
from keel.rollout.score import (
    FunctionReward,
    LearnedReward,
    MissingEos,
    Normalisation,
    WeightedSum,
    as_sampled,
    load_reward_function,
    retold,
)
from keel.types import Message, Prompt, Rollout, Scored, StopReason

from .conftest import CONFIGS, small


def rollout(
    name: str, tokens: tuple[int, ...] = (5,), text: str = "", stop: StopReason = "eos", asked: tuple[int, ...] = (6, 7)
) -> Rollout:
    prompt = Prompt(name, (Message("user", f"The bake sale {name}"),), {"target": len(name)})
    return Rollout(prompt, asked, tokens, (True,) * len(tokens), (-1.0,) * len(tokens), text, stop, 0, 0)


def lengths(rollouts: Sequence[Rollout]) -> list[float]:
    return [float(len(each.text)) for each in rollouts]


def role(model: PreTrainedModel) -> ScalarRole:
    head = ScalarHead.normal(model.config.hidden_size, torch.Generator().manual_seed(0))
    return ScalarRole(Backbone(model), head, Weights(model))


def plain_score(of: ScalarRole, model: PreTrainedModel, tokens: Sequence[int]) -> float:
    """w·h at the last token of one unpadded sequence."""
    with torch.no_grad():
        hidden = model.base_model(torch.tensor([list(tokens)]), use_cache=False).last_hidden_state[0, -1]
        return (hidden @ of.head.weight).item()


@pytest.mark.parametrize("budget", [1, 60, 10_000])
def test_a_learned_reward_reads_the_sampled_tokens_at_the_last_of_them(budget: int) -> None:
    model = small(CONFIGS["llama"])
    reward = role(model)
    chance = random.Random(0)

    def ids(most: int) -> tuple[int, ...]:
        return tuple(chance.randrange(5, 300) for _ in range(chance.randrange(1, most)))

    prompts = [ids(9) for _ in range(4)]
    rollouts = [rollout(f"{i}", ids(12), asked=prompts[i % 4]) for i in range(12)]  # the samples of a prompt lie apart
    scored = LearnedReward(reward, as_sampled, Normalisation(shift=0.5, scale=3.0), budget).score(rollouts)
    for each, answer in zip(rollouts, scored, strict=True):
        assert answer.rollout is each
        exact = (plain_score(reward, model, each.prompt_tokens + each.tokens) - 0.5) * 3
        assert answer.reward == pytest.approx(exact, abs=3e-5)
        assert answer.parts == {"learned": answer.reward}
    assert LearnedReward(reward).score([]) == []


def test_text_is_the_bridge_to_a_reward_model_with_another_tokenizer(tokenizer: PreTrainedTokenizerFast) -> None:
    letters = Tokenizer(BPE())
    letters.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    letters.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    letters.train_from_iterator(
        [""], BpeTrainer(special_tokens=["<nil>", "<stop>"], initial_alphabet=alphabet, show_progress=False)
    )
    other = PreTrainedTokenizerFast(tokenizer_object=letters, pad_token="<nil>", eos_token="<stop>")
    model = small(CONFIGS["llama"])
    reward = role(model)
    rollouts = [rollout("a", (7, 9), "on Friday."), rollout("b", (8,), "bring a plate"), rollout("a", (9,), "é")]
    scored = LearnedReward(reward, retold(Chat(other, template="plain"))).score(rollouts)
    for each, answer in zip(rollouts, scored, strict=True):
        text = each.prompt.messages[0].content + "\n" + each.text
        tokens = [*other.encode(text, add_special_tokens=False), other.eos_token_id]
        assert len(tokens) == len(text.encode()) + 1  # so nothing of the policy's tokens is left
        assert answer.reward == pytest.approx(plain_score(reward, model, tokens), abs=1e-5)


def test_a_reward_model_that_gives_no_number_is_named() -> None:
    reward = role(small(CONFIGS["llama"]))
    with torch.no_grad():
        reward.head.weight.fill_(torch.nan)
    with pytest.raises(UserError, match="the reward model returned nan for an answer to 'fair'"):
        LearnedReward(reward).score([rollout("fair")])


def test_normalisation_by_hand() -> None:
    assert Normalisation()(1.5) == 1.5
    assert Normalisation(shift=2.0, scale=0.5)(5.0) == 1.5
    scores = [1.0, 2.0, 3.0, 6.0]
    normal = Normalisation.standard(scores)
    assert (normal.shift, normal.scale) == (3.0, pytest.approx(1 / math.sqrt(3.5)))
    after = [normal(score) for score in scores]
    assert np.mean(after) == pytest.approx(0)
    assert np.std(after) == pytest.approx(1)
    with pytest.raises(UserError, match="gives 2 to every answer"):
        Normalisation.standard([2.0, 2.0])


def test_a_function_sees_the_rollouts_and_may_answer_in_any_kind_of_number() -> None:
    rollouts = [rollout("a", text="xx"), rollout("bcd", text="y")]

    def function(batch: Sequence[Rollout]) -> list[float]:
        return [len(each.text) + each.prompt.columns["target"] for each in batch]

    assert FunctionReward("size", function).score(rollouts) == [
        Scored(rollouts[0], 3.0, {"size": 3.0}),
        Scored(rollouts[1], 4.0, {"size": 4.0}),
    ]
    for values in ((0.5, 2), np.array([0.5, 2]), torch.tensor([0.5, 2.0]), [np.float32(0.5), torch.tensor(2)]):
        found = FunctionReward("f", lambda batch, values=values: values).score(rollouts)
        assert [each.reward for each in found] == [0.5, 2.0]
    assert [each.reward for each in FunctionReward("f", lambda batch: [True, False]).score(rollouts)] == [1.0, 0.0]
    assert FunctionReward("f", lambda batch: 1 / 0).score([]) == []


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ([1.0], "reward function f returned 1 values for 2 rollouts"),
        ([1.0, 2.0, 3.0], "reward function f returned 3 values for 2 rollouts"),
        (2.5, "reward function f returned float, not a list"),
        (None, "reward function f returned NoneType, not a list"),
        ([1.0, float("nan")], "returned nan for an answer to 'second'"),
        ([float("-inf"), 1.0], "returned -inf for an answer to 'first'"),
        ([1.0, None], "returned None for an answer to 'second'"),
        ([1.0, "2"], "returned '2' for an answer to 'second'"),
        ([[1.0, 2.0], 1.0], r"returned [1.0, 2.0] for an answer to 'first'"),
        (torch.ones(2, 2), "for an answer to 'first'"),
        (np.ones((2, 2)), "for an answer to 'first'"),
    ],
)
def test_a_function_that_returns_anything_else_is_told_so(values: object, complaint: str) -> None:
    with pytest.raises(UserError, match=re.escape(complaint)):
        FunctionReward("f", lambda batch: values).score([rollout("first"), rollout("second")])


def test_a_weighted_sum_keeps_its_unweighted_parts() -> None:
    rollouts = [rollout("a", text="xx", stop="eos"), rollout("b", text="yyyy", stop="length")]
    short = FunctionReward("short", lambda batch: [-len(each.text) for each in batch])
    flat = MissingEos(FunctionReward("flat", lambda batch: [10.0] * len(batch)), penalty=-1.0)
    first, second = WeightedSum(((0.5, "brief", short), (2.0, "fixed", flat))).score(rollouts)
    assert first.reward == 0.5 * -2 + 2 * 10
    assert first.parts == {"brief": -2, "fixed": 10, "fixed/flat": 10, "fixed/missing_eos": 0}
    assert second.reward == 0.5 * -4 + 2 * -1
    assert second.parts == {"brief": -4, "fixed": -1, "fixed/flat": 10, "fixed/missing_eos": -11}
    with pytest.raises(ValueError, match="same name: a, a"):
        WeightedSum(((1.0, "a", short), (1.0, "a", flat)))


@pytest.mark.parametrize("stop", ["eos", "stop", "length"])
def test_being_cut_off_replaces_the_score(stop: StopReason) -> None:
    each = rollout("a", text="xyz", stop=stop)
    (scored,) = MissingEos(FunctionReward("length", lengths), penalty=-1.5).score([each])
    assert scored.reward == (-1.5 if stop == "length" else 3.0)
    assert scored.parts == {"length": 3.0, "missing_eos": -4.5 if stop == "length" else 0.0}
    assert sum(scored.parts.values()) == scored.reward


def test_a_function_is_loaded_from_a_file_or_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "my_rewards.py"
    source.write_text(
        "from __future__ import annotations\nfrom dataclasses import dataclass\n\n"
        "@dataclass\nclass Taste:\n    weight: float = 2.0\n\n"
        "def short(rollouts):\n    return [-Taste().weight * len(each.text) for each in rollouts]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for spec in (f"{source}:short", "my_rewards:short"):
        reward = load_reward_function(spec)
        assert reward.name == "short"
        assert [each.reward for each in reward.score([rollout("a", text="xxx")])] == [-6.0]
    monkeypatch.chdir(tmp_path)
    assert load_reward_function("my_rewards.py:short").name == "short"


def test_an_edit_counts_whatever_python_compiled_before(tmp_path: Path) -> None:
    """As long as before, and of the same second: Python itself would take what it keeps beside the file."""
    file, found = tmp_path / "edited.py", []
    for number in (10, 20):
        file.write_text(f"def constant(rollouts):\n    return [{number} for _ in rollouts]\n", encoding="utf-8")
        os.utime(file, (1_000_000_000, 1_000_000_000))
        if number == 10:
            py_compile.compile(str(file))
        (scored,) = load_reward_function(f"{file}:constant").score([rollout("a")])
        found.append(scored.reward)
    assert found == [10, 20]


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ("short", "does not say where it is"),
        ("my_rewards.py:", "does not say where it is"),
        (":short", "does not say where it is"),
        ("./my rewards:short", "does not say where it is"),
        ("absent.py:short", "there is no file absent.py"),
        ("no_such_package_here.rewards:short", "cannot be imported (No module named 'no_such_package_here')"),
        ("fine.py:shrot", "fine.py has no 'shrot' (did you mean 'short'?)"),
        ("fine.py:zzz", "fine.py has no 'zzz'; correct the name"),
        ("fine.py:number", "is of type int; name a function"),
        ("broken.py:short", "broken.py, line 2: "),
        ("needy.py:short", "cannot be imported (No module named 'no_such_package_here')"),
    ],
)
def test_a_function_that_cannot_be_loaded(
    spec: str, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fine.py").write_text("number = 3\ndef short(rollouts):\n    return [0.0 for _ in rollouts]\n")
    (tmp_path / "broken.py").write_text("number = 3\ndef short(rollouts:\n")
    (tmp_path / "needy.py").write_text("import no_such_package_here\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=re.escape(complaint)) as raised:
        load_reward_function(spec)
    assert str(raised.value).startswith("reward function")
    assert "\n" not in str(raised.value)


def test_an_answer_is_scored_by_what_follows_its_own_prompt() -> None:
    """The same tokens after two prompts are two trees."""
    model = small(CONFIGS["llama"])
    reward = role(model)
    one, other = rollout("a", (5, 6, 1)), replace(rollout("b", (5, 6, 1)), prompt_tokens=(9, 10, 11))
    found = [each.reward for each in LearnedReward(reward).score([one, other])]
    assert found == pytest.approx(
        [plain_score(reward, model, (6, 7, 5, 6, 1)), plain_score(reward, model, (9, 10, 11, 5, 6, 1))], abs=1e-5
    )


def test_several_reward_models_as_one_say_how_far_they_are_apart() -> None:
    """Score, mean and standard deviation in the units of the normalised score; of one model the score alone."""
    model = small(CONFIGS["llama"])
    members = tuple(
        ScalarRole(Backbone(model), ScalarHead.normal(32, torch.Generator().manual_seed(seed)), Weights(model))
        for seed in range(3)
    )
    chance = random.Random(3)
    rollouts = [rollout(f"{i}", tuple(chance.randrange(5, 300) for _ in range(1 + i))) for i in range(5)]
    normal = Normalisation(shift=0.5, scale=-3.0)
    ensemble = Ensemble(members, (0.1, 0.2, -0.4), worst_case)
    scored = LearnedReward(ensemble, as_sampled, normal, 20).score(rollouts)
    for each, answer in zip(rollouts, scored, strict=True):
        tokens = each.prompt_tokens + each.tokens
        exact = [plain_score(one, model, tokens) - zero for one, zero in zip(members, ensemble.zeros, strict=True)]
        assert answer.reward == pytest.approx((min(exact) - 0.5) * -3, abs=5e-5)
        assert answer.parts["mean"] == pytest.approx((sum(exact) / 3 - 0.5) * -3, abs=5e-5)
        assert answer.parts["disagreement"] == pytest.approx(3 * float(np.std(exact)), abs=5e-5)
        assert set(answer.parts) == {"mean", "disagreement"}
    (summed, *_) = WeightedSum(((2.0, "learned", LearnedReward(ensemble, as_sampled, normal)),)).score(rollouts)
    assert set(summed.parts) == {"learned", "learned/mean", "learned/disagreement"}
    assert summed.reward == pytest.approx(2 * summed.parts["learned"])
    alone = LearnedReward(Ensemble(members[:1], (0.0,)), as_sampled, normal).score(rollouts)
    assert [one.reward for one in alone] == [
        one.reward for one in LearnedReward(members[0], as_sampled, normal).score(rollouts)
    ]
    assert {one.parts["disagreement"] for one in alone} == {0.0}
