"""Model folders: loaded as they are or refused in one sentence, before anything is written; nothing in them is run."""

from __future__ import annotations

import json
import pickle
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from keel.data.chat import Chat
from keel.errors import UserError
from keel.models.load import (
    inspect_language_model,
    inspect_reward_model,
    load_language_model,
    load_reward_model,
    load_tokenizer,
)
from keel.types import Message
from stages.small import language_model, reward_model

from . import folders
from .budget import cases

CPU = torch.device("cpu")
ASKED = (Message("user", "w40 w41"),)


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as path:
        language_model(Path(path) / "language")
        reward_model(Path(path) / "reward")
        yield Path(path)


def sentence(error: UserError) -> str:
    said = str(error)
    assert not re.search(r"[\x00-\x1f\x7f\u2028\u2029\ud800-\udfff]", said), said
    assert 20 < len(said) < 1200, said
    return said


@cases(60)
@given(st.data(), st.sampled_from(("language", "reward")))
def test_spoilt_folders(home: Path, data: st.DataObject, kind: str) -> None:
    inspect, load = {
        "language": (inspect_language_model, load_language_model),
        "reward": (inspect_reward_model, load_reward_model),
    }[kind]
    with tempfile.TemporaryDirectory(dir=home) as inside:
        folder, marker = Path(inside) / "model", Path(inside) / "ran"
        shutil.copytree(home / kind, folder)
        for _ in range(data.draw(st.integers(1, 2))):
            data.draw(folders.spoilt(folder, marker))
        try:
            chat = Chat(load_tokenizer(inspect(folder), data.draw(st.sampled_from((None, "plain")))), 30)
            chat.completion(ASKED, (Message("assistant", "w42"),))
        except UserError as error:
            sentence(error)
        else:
            load(folder, torch.float32, CPU)  # what was found to be sound before anything is written must load
        assert not marker.exists()


@pytest.fixture
def folder(home: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(home / "language", tmp_path / "model"))


def refused(folder: Path) -> str:
    """What is said of the folder by everything that reads one."""
    with pytest.raises(UserError) as caught:
        load_language_model(folder, torch.float32, CPU)
    said = sentence(caught.value)
    with pytest.raises(UserError) as caught:
        inspect_language_model(folder)
    assert str(caught.value) == said
    return said


def without_safetensors(folder: Path, marker: Path) -> None:
    (folder / "model.safetensors").unlink()
    folders.plant(folder, "pytorch_model.bin", marker)


def called_safetensors(folder: Path, marker: Path) -> None:
    folders.plant(folder, "model.safetensors", marker)


def beside_other_safetensors(folder: Path, marker: Path) -> None:
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    folders.plant(folder, "pytorch_model.bin", marker)


def in_the_index(folder: Path, marker: Path) -> None:
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    folders.plant(folder, "part.bin", marker)
    index = {"metadata": {}, "weight_map": {"model.norm.weight": "part.bin"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def outside_the_folder(folder: Path, marker: Path) -> None:
    in_the_index(folder, marker)
    (folder / "part.bin").rename(folder.parent / "part.safetensors")
    index = {"metadata": {}, "weight_map": {"model.norm.weight": "../part.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def as_an_adapter(folder: Path, marker: Path) -> None:
    folders.plant(folder, "adapter_model.bin", marker)
    told = {"peft_type": "LORA", "base_model_name_or_path": ".", "r": 1, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(told))


def named_in_the_config(folder: Path, marker: Path) -> None:
    folders.plant(folder, "adapter_model.bin", marker)
    told = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(told | {"transformers_weights": "adapter_model.bin"}))


@pytest.mark.parametrize(
    ("plant", "said"),
    [
        (without_safetensors, "pytorch_model.bin is a pickle, which can run code"),
        (called_safetensors, "the weights in"),
        (beside_other_safetensors, "pytorch_model.bin is a pickle, which can run code"),
        (in_the_index, "names 'part.bin', which is no safetensors file beside it"),
        (outside_the_folder, "names '../part.safetensors', which is no safetensors file beside it"),
        (as_an_adapter, "holds an adapter beside the model"),
        (named_in_the_config, "names transformers_weights"),
    ],
)
def test_no_pickle_is_ever_loaded(plant: Callable[[Path, Path], None], said: str, folder: Path, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    plant(folder, marker)
    assert said in refused(folder)
    assert not marker.exists()


def test_a_pickle_that_nothing_reads_is_left_alone(folder: Path, tmp_path: Path) -> None:
    folders.plant(folder, "pytorch_model.bin", tmp_path / "ran")
    load_language_model(folder, torch.float32, CPU)
    assert not (tmp_path / "ran").exists()


def test_the_planted_pickle_would_run(tmp_path: Path) -> None:
    """Or the tests above would show nothing."""
    folders.plant(tmp_path, "pytorch_model.bin", tmp_path / "ran")
    pickle.loads((tmp_path / "pytorch_model.bin").read_bytes())
    assert (tmp_path / "ran").exists()


def test_code_of_a_known_architecture_is_not_run(folder: Path, tmp_path: Path) -> None:
    """The library has a class of its own for it, which is used."""
    folders.plant_code(folder, tmp_path / "ran")
    assert type(load_language_model(folder, torch.float32, CPU)).__module__.startswith("transformers.models.")
    load_tokenizer(folder)
    assert not (tmp_path / "ran").exists()
    assert not (folder / "ran").exists()


def test_code_of_an_unknown_architecture_is_refused(folder: Path, tmp_path: Path) -> None:
    folders.plant_code(folder, tmp_path / "ran")
    told = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(told | {"model_type": "mine"}))
    assert "without running the model's own code" in refused(folder)
    assert not (tmp_path / "ran").exists()
    assert not (folder / "ran").exists()


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation", "experts_implementation"])
def test_kernels_from_elsewhere_are_refused(key: str, folder: Path) -> None:
    told = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(told | {key: "someone/their-kernel"}))
    assert "asks for someone/their-kernel, which is code from elsewhere and is not run" in refused(folder)


@pytest.mark.parametrize("window", [{"a": 1}, [1], "llama", 2**63, 0.5, True, 0, -1])
def test_a_sliding_window_that_is_no_number_of_tokens_is_refused(window: object, folder: Path) -> None:
    told = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(told | {"sliding_window": window}))
    assert "sliding_window is " in refused(folder)


@pytest.mark.parametrize("key", ["padding_side", "pad_token"])
def test_a_long_setting_of_a_tokenizer_makes_no_long_sentence(key: str, folder: Path) -> None:
    told = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(told | {key: "x" * 3000}))
    assert "tokenizer" in refused(folder)
