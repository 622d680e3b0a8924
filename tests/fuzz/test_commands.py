"""Whole commands on bad files and folders: one sentence and status 2, and nothing was written or run."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import logging

from diagnostics.finished import finished_run
from keel.config import Recipe, dump_recipe
from stages.small import language_model, own_data, reward_model

from . import files, folders
from .budget import cases
from .test_recipes import check_refusal, says

TRAINING = ("keel.stages.sft.fine_tune", "keel.stages.reward.fit_members", "keel.stages.practice.practise")
LATE = (" fits into model.max_length ", "the prompt has no tokens")
"""Said once the rows are tokens, which a stage makes of them after its folder is there."""


class Began(Exception):  # noqa: N818 (nothing went wrong)
    """A stage has begun to train: its input was found to be sound."""


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """Models, data and a reward function, all of them good; no stage trains, and no hub is asked."""

    def began(*_: object) -> None:
        raise Began

    with tempfile.TemporaryDirectory() as path, pytest.MonkeyPatch.context() as patch:
        for name in TRAINING:
            patch.setattr(name, began)
        patch.setenv("HF_HUB_OFFLINE", "1")
        logging.disable_progress_bar()  # as the command does, before the library is loaded
        home = Path(path)
        language_model(home / "language")
        reward_model(home / "judge")
        own_data(home / "data")
        yield home
        logging.enable_progress_bar()


def contents(folder: Path) -> dict[str, str]:
    """Every file in a folder with a digest of what it holds, and every folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in folder.rglob("*")
    }


@st.composite
def workplaces(draw: st.DrawFn, home: Path, place: Path) -> tuple[str, ...]:
    """Fills the folder with a run to be, spoils one thing in it, and gives the command line."""
    command = draw(st.sampled_from(("sft", "reward", "ppo", "run", "sample", "chat")))
    part = draw(st.sampled_from(("language", "judge", "data") if command == "ppo" else ("language", "data")))
    for name in ("language", "judge", "data"):
        copy = shutil.copytree if part == name else Path.symlink_to
        copy(*((home / name, place / name) if part == name else (place / name, home / name)))
    if draw(st.booleans()):
        (place / "run").mkdir()
        (place / "run" / "notes.txt").write_text("mine")
    if part != "data":
        draw(folders.spoilt(place / part, place / "ran"))
    kind, name = {
        "sft": (files.demonstrations, "sft.jsonl"),
        "reward": (files.preferences, "pairs.jsonl"),
    }.get(command, (files.prompts, "prompts.jsonl"))
    if part == "data":
        bad = draw(st.lists(files.faulty(kind), min_size=1, max_size=2).map(files.jsonl).flatmap(files.damaged))
        (place / "data" / name).write_bytes(bad)
    model = ("--model", "language", "--model.template", "plain", "--model.max_length", "24", "--device", "cpu",
             "--preflight", "off")  # fmt: skip
    match command:
        case "sft" | "reward":
            return (command, *model, "--data", f"data/{name}", "--dir", "run", "--json")
        case "ppo":
            return (command, *model, "--reward", "judge", "--prompts", f"data/{name}", "--dir", "run",
                    "--rl.sampling.max_tokens", "6", "--json")  # fmt: skip
        case "run":
            recipe = Recipe.model_validate(
                {"task": None, "device": "cpu", "dir": "run", "preflight": "off", "sft": {"data": "data/sft.jsonl"},
                 "model": {"path": "language", "template": "plain", "max_length": 24},
                 "rl": {"prompts": "data/prompts.jsonl", "sampling": {"max_tokens": 6},
                         "reward": [{"kind": "model", "path": "judge"}]}}
            )  # fmt: skip
            (place / "recipe.yaml").write_text(dump_recipe(recipe))
            return ("run", "recipe.yaml", "--json")
        case "sample":
            return ("sample", "language", "--template", "plain", "--max_tokens", "2", "--device", "cpu",
                    "--prompts", f"data/{name}", "--out", "run/answers.jsonl", "--json")  # fmt: skip
    return ("chat", "language", "--template", "plain", "--max_tokens", "2", "--device", "cpu")


@cases(40)
@given(data=st.data())
def test_a_run_on_bad_input_writes_nothing(home: Path, data: st.DataObject, monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as inside:
        place = Path(inside)
        argv = list(data.draw(workplaces(home, place)))
        before = contents(place)
        with monkeypatch.context() as patch:
            patch.chdir(place)
            patch.setattr("builtins.input", _ended)
            try:
                status, out, err = says(argv)
            except Began:
                pass
            else:
                if status:
                    check_refusal(status, out, err, argv)
                    assert contents(place) == before or any(said in err for said in LATE)
        assert not (place / "ran").exists()


@pytest.fixture(scope="module")
def finished(home: Path) -> Path:
    return finished_run(home / "finished")


@cases(15)
@given(data=st.data())
def test_report_of_a_damaged_run(finished: Path, data: st.DataObject) -> None:
    """A summary that cannot be read leaves the page that is there as it is."""
    with tempfile.TemporaryDirectory() as inside:
        run = Path(shutil.copytree(finished, Path(inside) / "run"))
        (run / "report.html").write_text("yesterday's")
        summary = run / "summary.json"
        bad = data.draw(files.damaged(summary.read_bytes()).filter(lambda told: told != summary.read_bytes()))
        if data.draw(st.booleans()):
            summary.write_bytes(bad)
        else:
            data.draw(
                st.sampled_from([path for path in sorted(run.rglob("*")) if path.suffix != ".html" and path.is_file()])
            ).unlink()
        before = contents(run)
        argv = ["report", str(run), "--json"]
        status, out, err = says(argv)
        if status:
            check_refusal(status, out, err, argv)
            assert contents(run) == before


def _ended(_: str) -> str:
    raise EOFError
