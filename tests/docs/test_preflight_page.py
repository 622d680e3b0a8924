"""What docs/preflight.md shows is what `keel check` prints of such data, but for numbers that hang on the machine."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest

from keel.cli import run as command
from keel.config import Recipe, dump_recipe
from keel.tasks.town_desk.task import TownDesk
from stages.small import rows

PAGE = (Path(__file__).parents[2] / "docs" / "preflight.md").read_text(encoding="utf-8")
MEASURED = re.compile(r"\d+\.\d GiB|[\d,]+ tokens|\d\.\de[+-]\d\d|\d\d\.\d%")
"""Memory, and what comes of rounding."""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """The faults that the page names: markers, length, a reward that is the same for all, and two known prompts."""
    task = TownDesk()
    found = [one.messages for one in task.demonstrations(480, 0)]
    asked = list(dict.fromkeys(turns[0].content for turns in found))
    said = {turns[0].content: turns[-1].content for turns in found}
    marked = {asked[place]: f"{said[asked[place]]} [/INST]" for place in (0, 30, 60, 90)}
    longer_first = [sorted((said[one], said[other]), key=len) for one, other in pairwise(asked)]
    (tmp_path / "rewards.py").write_text("def zero(rollouts):\n    return [0.0 for _ in rollouts]\n", encoding="utf-8")
    prompts = [{"prompt": one} for one in asked]
    settings = Recipe.model_validate(
        {
            "task": None,
            "device": "cpu",
            "model": {"path": str(task.base()), "max_length": 512},
            "sft": {
                "data": rows(
                    tmp_path / "demonstrations.jsonl",
                    [{"prompt": one, "completion": (said | marked)[one]} for one in asked[:120]],
                )
            },
            "reward": {
                "data": rows(
                    tmp_path / "pairs.jsonl",
                    [
                        {"prompt": one, "chosen": chosen, "rejected": rejected}
                        for one, (rejected, chosen) in zip(asked[120:220], longer_first, strict=False)
                    ],
                )
            },
            "rl": {
                "prompts": rows(tmp_path / "prompts.jsonl", prompts[220:300]),
                "sampling": {"max_tokens": 64},
                "reward": [{"kind": "function", "path": f"{tmp_path / 'rewards.py'}:zero"}],
                "critic": {"init": "zero"},
            },
            "evaluation": {
                "prompts": rows(tmp_path / "evaluation.jsonl", prompts[298:338]),
                "count": 40,
                "sampling": {"max_tokens": 64},
            },
        }
    )
    path = tmp_path / "recipe.yaml"
    path.write_text(dump_recipe(settings), encoding="utf-8")
    return path


def tables(text: str) -> dict[str, list[str]]:
    """The lines of each stage by its heading, measured numbers left out; the closing line under ''."""
    whole = text[text.index("BEFORE STEP 1") :].rstrip()
    *stages, closing = whole.split("\n\n")
    found = {stage.splitlines()[0]: stage.splitlines()[1:] for stage in stages} | {"": [closing]}
    return {name: [MEASURED.sub("#", line) for line in lines] for name, lines in found.items()}


def test_the_page_shows_what_the_command_prints(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
    assert command(["check", str(recipe), "--dir", str(recipe.parent / "run")]) == 0
    printed, shown = tables(capsys.readouterr().out), tables(block)
    assert list(shown) == ["BEFORE STEP 1: SFT", "BEFORE STEP 1: PPO", ""]
    assert shown == {name: printed[name][: len(lines)] for name, lines in shown.items()}
    assert {name: bool(len(printed[name]) > len(lines)) for name, lines in shown.items()} == {
        "BEFORE STEP 1: SFT": False,
        "BEFORE STEP 1: PPO": True,  # the example that the model has written, which the page leaves out
        "": False,
    }
