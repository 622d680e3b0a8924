"""What is wrong with a model folder is said in one sentence, with a remedy."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    LlamaForSequenceClassification,
    LlamaModel,
    PreTrainedModel,
    T5Config,
    T5ForConditionalGeneration,
)

from keel.errors import UserError
from keel.models import load
from keel.models.load import load_language_model, load_reward_model, load_tokenizer

from .small import CONFIGS, PAD, VOCABULARY, build, words

CPU = torch.device("cpu")
BERT = BertConfig(
    vocab_size=VOCABULARY, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    build(CONFIGS["llama"]).save_pretrained(tmp_path / "model")
    words().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def refused(path: Path | str, read: Callable[..., PreTrainedModel] = load_language_model) -> str:
    with pytest.raises(UserError) as caught:
        read(path, torch.float32, CPU)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.endswith(".")
    return sentence


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_language_model_and_its_tokenizer(folder: Path, dtype: torch.dtype) -> None:
    model = load_language_model(folder, dtype, CPU)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    original = dict(build(CONFIGS["llama"]).named_parameters())
    assert all(torch.equal(original[name].to(dtype), parameter) for name, parameter in model.named_parameters())
    tokenizer = load_tokenizer(folder)
    assert tokenizer.pad_token_id == PAD != tokenizer.eos_token_id


def test_a_template_stays_with_the_tokenizer(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.jinja"
    file.write_text("{{ messages[0]['content'] }}")
    tokenizer = load_tokenizer(str(folder), str(file))
    assert tokenizer.chat_template == file.read_text()
    tokenizer.save_pretrained(tmp_path / "again")
    assert load_tokenizer(tmp_path / "again").chat_template == file.read_text()


def test_pad_that_is_eos_is_not_taken_over(folder: Path) -> None:
    tokenizer = words()
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.save_pretrained(folder)
    assert load_tokenizer(folder).pad_token_id == PAD


def test_no_such_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "there is no folder" in refused(tmp_path / "nothing")
    file = tmp_path / "file"
    file.write_text("")
    assert "is a file" in refused(file)

    def offline(name: str, allow_patterns: list[str]) -> str:
        raise LocalEntryNotFoundError(f"cannot find {name}\nand more")

    monkeypatch.setattr(load, "snapshot_download", offline)
    assert "the hub has none to give (cannot find owner/name)" in refused("owner/name")
    with pytest.raises(UserError, match="the hub has none"):
        load_tokenizer("owner/name")


def test_a_name_on_the_hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(name: str, allow_patterns: list[str]) -> str:
        asked.append((name, tuple(allow_patterns)))
        return str(folder)

    monkeypatch.setattr(load, "snapshot_download", download)
    assert load_language_model("owner/name", torch.float32, CPU).config.vocab_size == VOCABULARY
    assert asked == [("owner/name", ("*.json", "*.safetensors", "*.model", "*.jinja", "*.txt"))]


def test_a_folder_without_a_model(folder: Path, tmp_path: Path) -> None:
    (folder / "config.json").unlink()
    assert "config.json is missing" in refused(folder)
    (folder / "adapter_config.json").write_text("{}")
    assert "merge the adapter" in refused(folder)
    (folder / "config.json").write_text("{broken")
    assert "config.json is not a configuration" in refused(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "unheard-of"}))
    assert "not a configuration that transformers can read" in refused(folder)


def test_models_that_are_no_causal_language_models(tmp_path: Path) -> None:
    t5 = T5Config(
        vocab_size=VOCABULARY, d_model=16, d_kv=4, d_ff=16, num_layers=1, num_heads=2, decoder_start_token_id=0
    )
    for model in (
        BertForMaskedLM(BERT),
        T5ForConditionalGeneration(t5),
        LlamaForSequenceClassification(CONFIGS["llama"]),
        LlamaModel(CONFIGS["llama"]),
    ):
        model.save_pretrained(tmp_path / "model")
        sentence = refused(tmp_path / "model")
        assert f"of type {type(model).__name__}, which is no causal language model" in sentence
        shutil.rmtree(tmp_path / "model")


def test_pickled_weights_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert "there is no *.safetensors file" in refused(folder)
    torch.save(build(CONFIGS["llama"]).state_dict(), folder / "pytorch_model.bin")
    assert "pytorch_model.bin is a pickle" in refused(folder)


def test_broken_or_incomplete_weights(folder: Path) -> None:
    state = build(CONFIGS["llama"]).state_dict()
    del state["model.norm.weight"]
    build(CONFIGS["llama"]).save_pretrained(folder, state_dict=state)
    assert "lacks the weights model.norm.weight" in refused(folder)
    (folder / "model.safetensors").write_bytes(b"\x10\x00\x00")
    assert "the weights in" in refused(folder)
    build(CONFIGS["llama"]).save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 44}))
    assert "have the shape [24, 40], but config.json asks for [24, 44]" in refused(folder)


def test_a_tokenizer_with_more_tokens_than_the_model(folder: Path) -> None:
    tokenizer = words()
    tokenizer.add_tokens(["extra"])
    tokenizer.save_pretrained(folder)
    sentence = refused(folder)
    assert f"'extra' has the id {VOCABULARY}" in sentence
    assert f"embeddings for {VOCABULARY} tokens only" in sentence
    assert "resize_token_embeddings" in sentence


def test_no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{broken")
    with pytest.raises(UserError, match="cannot be read"):
        load_tokenizer(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    with pytest.raises(UserError, match="holds no tokenizer"):
        load_tokenizer(folder)
    assert load_language_model(folder, torch.float32, CPU).config.vocab_size == VOCABULARY


def test_reward_models(folder: Path, tmp_path: Path) -> None:
    assert "LlamaForCausalLM, which is no reward model" in refused(folder, load_reward_model)
    config = CONFIGS["llama"].to_diff_dict()
    three = LlamaForSequenceClassification(type(CONFIGS["llama"])(**config, num_labels=3))
    three.save_pretrained(tmp_path / "three")
    assert "with 3 labels, which is no reward model" in refused(tmp_path / "three", load_reward_model)
    bert = BertForSequenceClassification(BertConfig(**BERT.to_diff_dict() | {"num_labels": 1}))
    bert.save_pretrained(tmp_path / "bert")
    assert "has no score layer" in refused(tmp_path / "bert", load_reward_model)
    one = AutoModelForSequenceClassification.from_config(type(CONFIGS["llama"])(**config, num_labels=1))
    one.save_pretrained(tmp_path / "one")
    assert load_reward_model(tmp_path / "one", torch.float32, CPU).score.weight.shape == (1, 24)
    state = one.state_dict()
    del state["score.weight"]
    one.save_pretrained(tmp_path / "one", state_dict=state)
    assert "lacks the weights score.weight" in refused(tmp_path / "one", load_reward_model)


def changed(folder: Path, file: str = "config.json", **settings: object) -> Path:
    """The folder, with these settings in one of its files."""
    told = json.loads((folder / file).read_text())
    (folder / file).write_text(json.dumps(told | settings))
    return folder


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"architectures": True}, "config.json is not a configuration that transformers can read"),
        ({"architectures": {"a": 1}}, "architectures is no list of names"),
        ({"text_config": True}, "config.json is not a configuration that transformers can read"),
        ({"dtype": "no such"}, "config.json is not a configuration that transformers can read"),
        ({"num_attention_heads": 0}, "config.json is not a configuration that transformers can read"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "is a quantised model, which cannot be trained"),
        (
            {"attn_implementation": "someone/kernel"},
            "config.json asks for someone/kernel, which is code from elsewhere",
        ),
        ({"num_hidden_layers": 3}, "lacks the weights model.layers.2.input_layernorm.weight and 8 others"),
        ({"num_hidden_layers": 1}, "has weights that its config.json, of 1 layers, has no place for (model.layers.1."),
        ({"num_hidden_layers": 10**9}, "config.json asks for 1000000000 layers, but there are only 21 weights"),
        ({"transformers_weights": "adapter_model.bin"}, "config.json names transformers_weights; remove it"),
    ],
)
def test_a_damaged_configuration(settings: dict[str, object], said: str, folder: Path) -> None:
    assert said in refused(changed(folder, **settings))


@pytest.mark.parametrize("value", [[[1]], "3", 2**63, 0.5])
def test_special_tokens_that_are_none(value: object, folder: Path) -> None:
    sentence = refused(changed(folder, "generation_config.json", eos_token_id=value))
    assert "generation_config.json: eos_token_id is" in sentence or "is not a configuration" in sentence


def test_an_index_that_names_a_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    index = folder / "model.safetensors.index.json"
    for named in ("part.bin", "../part.safetensors"):
        index.write_text(json.dumps({"weight_map": {"model.norm.weight": named}}))
        assert f"names '{named}', which is no safetensors file beside it" in refused(folder)
    for damaged in ("[]", "{", '{"weight_map": {"a": 3}}'):
        index.write_text(damaged)
        assert "model.safetensors.index.json is damaged" in refused(folder)
    index.write_text(json.dumps({"weight_map": {"model.norm.weight": "nowhere.safetensors"}}))
    assert "the weights in" in refused(folder)


def test_sharded_weights_are_read(folder: Path) -> None:
    model = build(CONFIGS["llama"])
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="10KB")
    assert (folder / "model.safetensors.index.json").is_file()
    read = load_language_model(folder, torch.float32, CPU)
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), read.parameters(), strict=True))


def test_an_adapter_beside_the_model(folder: Path) -> None:
    """The library would put it on top of the model, and read it from a pickle."""
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "."}')
    assert "holds an adapter beside the model" in refused(folder)


@pytest.mark.parametrize(
    ("file", "settings"),
    [
        ("tokenizer.json", {"model": None}),
        ("tokenizer_config.json", {"model_max_length": ""}),
        ("tokenizer_config.json", {"added_tokens_decoder": 3}),
    ],
)
def test_a_damaged_tokenizer(file: str, settings: dict[str, object], folder: Path) -> None:
    changed(folder, file, **settings)
    with pytest.raises(UserError, match=r"the tokenizer in .* cannot be read \("):
        load_tokenizer(folder)


def test_paths_of_models_that_no_folder_can_have(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    assert "(did you mean 'models'?)" in refused(tmp_path / "model")
    for path, said in (
        ("", "an empty text"),
        ("a" * 300, "File name too long"),
        ("~nobody-of-this-name/m", "home folder"),
    ):
        assert said in refused(path)
