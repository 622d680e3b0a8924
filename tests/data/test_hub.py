"""Data sets through the `datasets` library, without a network."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pytest

from keel.data.formats import read_prompts
from keel.errors import UserError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is read from or written to the user's cache, and no progress bars are drawn."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


def contents(source: str | Path) -> list[str]:
    return [item.messages[0].content for item in read_prompts(source)]


def table(*prompts: str) -> datasets.Dataset:
    return datasets.Dataset.from_list([{"prompt": prompt} for prompt in prompts])


def test_saved_data_set(tmp_path: Path) -> None:
    table("a", "b").save_to_disk(str(tmp_path / "saved"))
    assert contents(tmp_path / "saved") == ["a", "b"]
    assert contents(f"datasets:{tmp_path / 'saved'}") == ["a", "b"]
    with pytest.raises(UserError, match="has no splits; leave out ':test'"):
        read_prompts(f"datasets:{tmp_path / 'saved'}:test")


def test_saved_splits(tmp_path: Path) -> None:
    datasets.DatasetDict(train=table("a"), test=table("b")).save_to_disk(str(tmp_path / "both"))
    assert contents(tmp_path / "both") == ["a"]
    assert contents(f"datasets:{tmp_path / 'both'}:test") == ["b"]
    with pytest.raises(UserError, match=r"has no split 'tset' \(did you mean 'test'\?\); add one of 'train', 'test'"):
        read_prompts(f"datasets:{tmp_path / 'both'}:tset")
    datasets.DatasetDict(dev=table("c"), eval=table("d")).save_to_disk(str(tmp_path / "other"))
    with pytest.raises(UserError, match="several splits and none is 'train'; add one of 'dev', 'eval'"):
        read_prompts(tmp_path / "other")


def test_folder_that_datasets_loads(tmp_path: Path) -> None:
    for split, text in (("train", "a"), ("test", "b")):
        (tmp_path / f"{split}.jsonl").write_text(json.dumps({"prompt": text}) + "\n")
    assert contents(f"datasets:{tmp_path}") == ["a"]
    assert contents(f"datasets:{tmp_path}:test") == ["b"]
    assert contents(f"datasets:{tmp_path}:train[:1]") == ["a"]
    with pytest.raises(UserError, match=r"`datasets` cannot load .*dev"):
        read_prompts(f"datasets:{tmp_path}:dev")


def test_place_of_a_bad_row(tmp_path: Path) -> None:
    datasets.Dataset.from_list([{"prompt": "a"}, {"prompt": None}]).save_to_disk(str(tmp_path / "saved"))
    with pytest.raises(UserError, match=r"saved, row 1: a prompt needs"):
        read_prompts(tmp_path / "saved")


def test_damaged_data_set(tmp_path: Path) -> None:
    table("a").save_to_disk(str(tmp_path / "saved"))
    (tmp_path / "saved" / "state.json").write_text("{}")
    with pytest.raises(UserError, match=r"saved: cannot be loaded as a saved data set"):
        read_prompts(tmp_path / "saved")


@pytest.mark.parametrize(
    ("file", "told"),
    [("state.json", "[]"), ("state.json", '{"_data_files": []}'), ("dataset_info.json", '{"features": [1]}')],
)
def test_damaged_descriptions_of_a_data_set(tmp_path: Path, file: str, told: str) -> None:
    table("a").save_to_disk(str(tmp_path / "saved"))
    (tmp_path / "saved" / file).write_text(told)
    with pytest.raises(UserError, match=r"saved: cannot be loaded as a saved data set"):
        read_prompts(tmp_path / "saved")


def test_a_row_that_cannot_be_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(self: Any, *_: Any, **__: Any) -> Any:
        yield {"prompt": "a"}
        raise ImportError("To support decoding images, please install 'Pillow'.")

    table("a", "b").save_to_disk(str(tmp_path / "saved"))
    monkeypatch.setattr(datasets.Dataset, "__iter__", decode)
    with pytest.raises(UserError, match=r"saved, row 1: cannot be read \(To support decoding images"):
        read_prompts(tmp_path / "saved")


def test_a_folder_of_pickles_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "rows.pkl").write_bytes(b"cposix\nsystem\n(S'touch ran'\ntR.")
    with pytest.raises(UserError, match=r"is stored as 'pandas', which Keel does not open|cannot load"):
        read_prompts(f"datasets:{tmp_path}")


def test_other_kinds_of_storage_are_not_opened(tmp_path: Path) -> None:
    (tmp_path / "page.xml").write_text("<a>Hi</a>")
    with pytest.raises(UserError, match="is stored as 'xml', which Keel does not open; convert it to Parquet"):
        read_prompts(f"datasets:{tmp_path}")


@pytest.mark.parametrize("name", ["imdb", "openai/gsm8k#main:test", "org/name"])
def test_bare_name_goes_to_datasets(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[tuple[Any, ...]] = []

    def unreachable(*arguments: Any) -> None:
        asked.append(arguments)
        raise ConnectionError("Couldn't reach the Hub\nRetry.")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets, "load_dataset_builder", unreachable)
    sentence = r"no file or folder is called '.*', and `datasets` cannot load '.*' \(Couldn't reach the Hub\); check"
    with pytest.raises(UserError, match=sentence):
        read_prompts(name)
    assert asked == [("openai/gsm8k", "main") if "#" in name else (name, None)]


def test_mistyped_path_does_not_go_to_datasets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    for name in ("trian.jsonl", "trian.txt", "./train", "data/train"):
        with pytest.raises(UserError, match="no such file or folder"):
            read_prompts(name)


def test_name_that_is_none() -> None:
    with pytest.raises(UserError, match="is no data set's name; write datasets:NAME"):
        read_prompts("datasets:")
