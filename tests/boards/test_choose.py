"""Names become boards; what is not installed is one sentence with the command that installs it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import keel.boards.choose
from keel.boards import Board, Title, boards_of, require
from keel.boards.board import as_code, tame
from keel.boards.choose import NEEDS
from keel.errors import UserError

ROOT = Path(__file__).parents[2]
TITLE = Title("p", "r", {})


def test_none_and_each_once(tmp_path: Path) -> None:
    assert boards_of((), tmp_path, tmp_path, TITLE, print) == []
    (board,) = boards_of(("tensorboard", "tensorboard"), tmp_path, tmp_path, TITLE, print)
    assert isinstance(board, Board)


@pytest.mark.parametrize("name", NEEDS)
def test_what_is_not_installed_is_one_sentence(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(keel.boards.choose, "find_spec", lambda module: None)
    with pytest.raises(UserError) as caught:
        boards_of((name,), tmp_path, tmp_path, TITLE, print)
    assert re.fullmatch(rf"log\.to names {name}, but .* cannot be found; pip install \S.*", str(caught.value))


def test_a_folder_of_that_name_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """W&B leaves a folder `wandb` where it is run."""
    (tmp_path / "tracker").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(NEEDS, "tracker", ("tracker",))  # type: ignore[arg-type]
    monkeypatch.setitem(keel.boards.choose._INSTALL, "tracker", "pip install tracker")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="tracker cannot be found"):
        require(["tracker"])


def test_trackers_are_imported_only_where_a_recipe_names_them() -> None:
    program = (
        "import sys; import keel.boards, keel.stages.workspace; "
        "print([name for name in ('wandb', 'mlflow', 'trackio', 'alembic', 'tensorboard') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_tracker_has_an_extra_of_its_name() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for name, command in keel.boards.choose._INSTALL.items():
        if name != "tensorboard":
            assert [re.split("[><=]", one)[0] for one in extras[name]] == command.removeprefix("pip install ").split()


def test_taming_leaves_words_alone() -> None:
    text = "Grüße\tan\n日本, עברית and 👍"
    assert tame(text) == text
    assert as_code("a\n\nb") == "    a\n    \n    b"
    assert tame("x" * 20_003).endswith("x… (3 more characters)")
