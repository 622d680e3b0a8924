"""`keel check`: what it prints, for people and as JSON, and with which status it exits."""

from __future__ import annotations

import json
import random
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from keel.cli import run as command
from keel.config import Recipe, dump_recipe
from keel.diagnostics.findings import Finding
from keel.preflight.example import Example, Piece
from keel.preflight.table import Checked, Preflight, sorted_by_severity
from stages.small import language_model, only, own_data, recipe, rows, say

pytestmark = pytest.mark.usefixtures("unchecked_shapes")

ROOT = Path(__file__).parents[2]


@pytest.fixture
def own(tmp_path: Path) -> Recipe:
    return recipe(language_model(tmp_path / "base"), own_data(tmp_path / "data"))


def written(settings: Recipe, folder: Path) -> str:
    path = folder / "recipe.yaml"
    path.write_text(dump_recipe(settings), encoding="utf-8")
    return str(path)


def status(*argv: str) -> int:
    return command(argv)


def as_json(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(capsys.readouterr().out)
    return content


def test_json_lists_every_finding(own: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert status("check", written(own, tmp_path), "--dir", str(tmp_path / "run"), "--json") == 0
    assert sorted(tmp_path.rglob("*")) == sorted([*before, tmp_path / "recipe.yaml"])
    content = as_json(capsys)
    for one in content["findings"]:
        assert set(one) == {"stage", "check", "verdict", "message", "remedy"}
        assert one["verdict"] in ("ok", "amber", "red")
        assert all(isinstance(value, str) for value in one.values())
        assert one["verdict"] == "ok" or one["remedy"]
    assert [*dict.fromkeys(one["stage"] for one in content["findings"])] == ["sft", "reward", "ppo"]
    assert content["verdict"] == "amber"  # in own_data the chosen answer is always the longer one
    assert [(one["stage"], one["check"]) for one in content["findings"] if one["verdict"] == "amber"] == [
        ("reward", "Length bias")
    ]
    assert [piece["trained"] for piece in content["examples"]["sft"]] == [False, True]


def test_red_exits_with_3(own: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chance = random.Random(0)
    bad = rows(
        tmp_path / "bad.jsonl", [{"prompt": say(chance, 3), "completion": f"w41 [INST] w4{n}"} for n in range(9)]
    )
    path = written(only("sft", own), tmp_path)
    assert status("check", path, "--json", "--sft.data", bad) == 3
    content = as_json(capsys)
    assert content["verdict"] == "red"
    assert content["findings"][0]["check"] == "Foreign markers"
    assert status("check", path, "--sft.data", bad) == 3
    out = capsys.readouterr().out
    assert "  red    Foreign markers" in out
    assert "→ The data seems to have been through another chat template" in out
    assert out.splitlines()[-1].startswith("1 red, ")
    assert max(map(len, out[out.index("BEFORE STEP 1") :].splitlines())) <= 80


def test_colours_where_a_person_looks(
    own: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rich.console.Console", partial(Console, force_terminal=True, no_color=False))
    assert status("check", written(only("sft", own), tmp_path)) == 0
    out = capsys.readouterr().out
    assert "\x1b[32mok" in out
    assert "⟦" not in out


def test_a_mistake_in_the_input_exits_with_2(own: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(own, tmp_path)
    assert status("check", path, "--sft.data", str(tmp_path / "none.jsonl")) == 2
    assert "none.jsonl" in capsys.readouterr().err
    assert status("check", str(tmp_path / "nothing.yaml")) == 2
    assert status("check", path, "--rl.kl.coeff", "1") == 2


def test_help_names_the_statuses(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        status("check", "--help")
    said = " ".join(capsys.readouterr().out.split())
    assert "Exit status: 0 where nothing is red, 3 where something is" in said


@pytest.mark.parametrize("name", ["town_desk", "smoke"])
def test_shipped_recipes_have_nothing_amber_or_red(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(ROOT / "recipes" / f"{name}.yaml")
    few = ("--sft.limit", "100", "--rl.limit", "50", "--preferences.count", "50", "--evaluation.count", "20")
    assert status("check", path, "--json", "--dir", str(tmp_path / "run"), "--device", "cpu", *few) == 0
    content = as_json(capsys)
    assert [one for one in content["findings"] if one["verdict"] != "ok"] == []
    checks = {one["check"] for one in content["findings"]}
    assert checks >= {
        "EOS trained", "EOS is not pad", "Masks", "Ratio at step 0", "KL at step 0", "Sampler and trainer",
        "Reward spread", "Length limit", "Duplicates", "Train/test overlap", "Memory", "Foreign markers",
    }  # fmt: skip


def finding(verdict: Any, check: str = "Check", message: str = "A message.") -> Finding:
    return Finding(check, verdict, message, "A remedy.")


def test_the_table() -> None:
    """One line for what passed, cut where it is too long; message and remedy in full for what did not."""
    long = "word " * 40
    found = sorted_by_severity(
        [finding("ok", message=long), finding("amber", message=long), finding("red", "Red", "Evil\x1b[2J.")]
    )
    one = Preflight("sft", found, Example((Piece("asked ", False), Piece("said", True))))
    lines = str(one).splitlines()
    assert lines[0] == "BEFORE STEP 1: SFT"
    assert [line.split()[0] for line in lines[1:] if line[2] != " "] == ["red", "amber", "ok", "one"]
    assert lines[1] == "  red    Red"
    assert lines[2:4] == ["         Evil�[2J.", "         → A remedy."]
    assert sum(line.count("word") for line in lines[4:8]) == 40
    assert lines[-3].endswith("…")
    assert max(map(len, lines)) <= 80
    assert lines[-1] == "    asked ⟦said⟧"


def test_the_table_of_wide_letters_is_no_wider() -> None:
    wide = "'<｜结束｜>' 之后没有回答 " * 6
    found = sorted_by_severity([finding("ok", message=wide), finding("red", message=wide.replace(" ", ""))])
    lines = str(Preflight("sft", found, None)).splitlines()
    assert all(70 < cell_len(line) <= 80 for line in (lines[2], lines[-1]))
    assert max(map(cell_len, lines)) <= 80
    assert "".join(line.strip() for line in lines[2:-2]).startswith(wide.replace(" ", ""))


def test_the_worst_verdict_counts() -> None:
    for levels, worst in ((["ok"], "ok"), (["amber", "ok"], "amber"), (["ok", "red", "amber"], "red"), ([], "ok")):
        checks = Checked((Preflight("sft", tuple(map(finding, levels)), None),))
        assert checks.verdict == checks.to_json()["verdict"] == worst
