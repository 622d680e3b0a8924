"""The base model that ships with the package loads anywhere, is small, and has learnt to copy and to compare facts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast

from keel.tasks.town_desk.corpus import END
from keel.tasks.town_desk.facts import SLOTS, draw_prompts
from keel.tasks.town_desk.grammar import lexicon
from keel.tasks.town_desk.pretrain import ASSISTANT, PAD, SYSTEM, USER, accuracy, build_model, save, verdicts
from keel.tasks.town_desk.task import TownDesk

BASE = TownDesk().base()


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(BASE)


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    return AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.float32).eval()


def test_it_is_small_and_complete() -> None:
    files = [path for path in BASE.iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 8 * 1024**2
    assert {path.name for path in files} >= {"README.md", "config.json", "model.safetensors", "tokenizer.json"}
    assert not [path for path in files if path.suffix in {".bin", ".pt", ".pkl"}]  # nothing that runs code when loaded


def test_config_tokenizer_and_weights_agree(tokenizer: PreTrainedTokenizerFast, model: LlamaForCausalLM) -> None:
    config = AutoConfig.from_pretrained(BASE)
    assert config.vocab_size == len(tokenizer) == model.get_input_embeddings().weight.shape[0]
    assert config.eos_token_id == tokenizer.eos_token_id == model.generation_config.eos_token_id
    assert config.pad_token_id == tokenizer.pad_token_id == model.generation_config.pad_token_id
    assert config.bos_token_id is None
    assert tokenizer.bos_token_id is None
    assert tokenizer.model_max_length == config.max_position_embeddings
    assert tokenizer("a b").input_ids == tokenizer("a b", add_special_tokens=False).input_ids
    assert all(torch.isfinite(weight).all() for weight in model.parameters())


def test_pad_is_not_eos_and_every_special_token_is_one_token(tokenizer: PreTrainedTokenizerFast) -> None:
    assert (tokenizer.pad_token, tokenizer.eos_token) == (PAD, END)
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    for token in (PAD, END, USER, ASSISTANT, SYSTEM):
        (index,) = tokenizer(token).input_ids
        assert tokenizer.convert_ids_to_tokens(index) == token
        assert tokenizer.decode([index], skip_special_tokens=True) == ""


def test_the_chat_template_marks_the_assistants_words_and_the_end(tokenizer: PreTrainedTokenizerFast) -> None:
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "One?"},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "Two?"},
        {"role": "assistant", "content": "No, three."},
    ]
    made = tokenizer.apply_chat_template(turns, return_dict=True, return_assistant_tokens_mask=True)
    written = [index for index, mask in zip(made["input_ids"], made["assistant_masks"], strict=True) if mask]
    assert tokenizer.decode(written) == "Yes.<|end|>No, three.<|end|>"
    assert tokenizer.decode(made["input_ids"]) == (
        "<|system|>Be brief.<|user|>One?<|assistant|>Yes.<|end|><|user|>Two?<|assistant|>No, three.<|end|>"
    )
    prompt = tokenizer.apply_chat_template(turns[:4], add_generation_prompt=True, return_dict=True)["input_ids"]
    assert made["input_ids"][: len(prompt)] == prompt


@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_survives_the_tokenizer(tokenizer: PreTrainedTokenizerFast, text: str) -> None:
    ids = tokenizer(text, split_special_tokens=True).input_ids
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text
    assert max(ids, default=0) < len(tokenizer)


def test_the_recipe_makes_the_tokenizer_that_ships(tokenizer: PreTrainedTokenizerFast) -> None:
    """Fails when a word of the corpus changes: then the model has to be trained again."""
    code = "import json, keel.tasks.town_desk.pretrain as p; print(json.dumps(p.train_tokenizer(0).get_vocab()))"
    # A process of its own: 20 000 documents take long where every call is checked.
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert json.loads(made) == tokenizer.get_vocab()


def test_digits_stand_alone_and_values_are_short(tokenizer: PreTrainedTokenizerFast) -> None:
    assert tokenizer.tokenize("at 11 pm")[-4:] == ["Ġ", "1", "1", "Ġpm"]
    for values in lexicon().values():
        for value in values:
            assert len(tokenizer(f" {value}").input_ids) <= 5, value


def test_it_has_learnt_to_copy_the_facts(tokenizer: PreTrainedTokenizerFast, model: LlamaForCausalLM) -> None:
    """Greedy notes get most facts right: 5 is the best, 2.5 would be every second fact."""
    found = accuracy(model, tokenizer, 32, seed=1)
    assert isinstance(found["gold"], float)
    assert found["gold"] > 3.5


def test_it_has_learnt_to_compare(tokenizer: PreTrainedTokenizerFast, model: LlamaForCausalLM) -> None:
    """Of each slot it knows right values and wrong ones, claimed ones too; one that only copies scores half of that."""
    found = verdicts(model, tokenizer, 60, seed=1)
    assert found.keys() == {"claim", *(f"{slot} {word}" for slot in SLOTS for word in ("right", "wrong"))}
    assert min(found.values()) > 0.7, found
    assert sum(found.values()) / len(found) > 0.9, found


def test_saving_rounds_the_copy_and_not_the_weights_in_training(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    model = build_model(tokenizer, seed=0)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    tokenizer(["a", "a b c"], padding=True, truncation=True, max_length=8)
    save(model, tokenizer, tmp_path)
    for name, weight in model.named_parameters():
        assert weight.dtype == torch.float32
        assert torch.equal(weight, before[name]), name
    saved = AutoModelForCausalLM.from_pretrained(tmp_path)
    for name, weight in saved.named_parameters():
        assert torch.equal(weight, before[name].to(torch.bfloat16)), name


@pytest.mark.parametrize("setting", ["padding", "truncation"])
def test_the_tokenizer_is_saved_without_what_a_batch_has_set(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path, setting: str
) -> None:
    tokenizer(["a", "a b c"], padding=True, truncation=True, max_length=8)
    save(build_model(tokenizer, seed=0), tokenizer, tmp_path)
    for folder in (tmp_path, BASE):
        assert json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))[setting] is None


def test_prompts_fit_with_an_answer_into_the_context(tokenizer: PreTrainedTokenizerFast) -> None:
    longest = max(len(tokenizer(prompt.messages[0].content).input_ids) for prompt in draw_prompts(500, 0, "ppo"))
    assert longest + 96 + 2 < tokenizer.model_max_length
