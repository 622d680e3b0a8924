"""The arrows between modules, held by import-linter, and that import-linter would notice a wrong one."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Runs the contracts of `folder`/pyproject.toml on `folder`/src/keel."""
    program = (
        "import sys; sys.path.insert(0, 'src'); from importlinter.cli import lint_imports; "
        "sys.exit(lint_imports(no_cache=True))"
    )
    return subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    return tmp_path


def test_the_arrows_point_down() -> None:
    result = lint(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "0 broken" in result.stdout


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("maths/reduce.py", "import keel.types", "maths imports nothing of ours"),
        ("types.py", "import torch", "types import nothing of ours"),
        ("preferences/store.py", "import torch", "preferences import no torch"),
        ("data/forest.py", "import keel.models.decoder", "arrows point down"),
        ("errors.py", "import pydantic", "keel --help loads nothing heavy"),
        ("config/recipe.py", "import torch", "recipes are read without torch"),
    ],
)
def test_a_wrong_arrow_is_noticed(copy: Path, module: str, line: str, contract: str) -> None:
    path = copy / "src" / "keel" / module
    path.write_text(f"{path.read_text(encoding='utf-8')}\n{line}\n", encoding="utf-8")
    result = lint(copy)
    assert result.returncode == 1
    assert f"{contract} BROKEN" in result.stdout
