"""Every command of the guides is run, on small data and with small numbers, in such a folder as they assume."""

from __future__ import annotations

import csv
import io
import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from keel.cli import COMMANDS, run
from keel.data.formats import read_comparisons, read_demonstrations, read_prompts
from keel.tasks.town_desk.task import TownDesk
from stages.small import rows

pytestmark = pytest.mark.usefixtures("unchecked_shapes")

ROOT = Path(__file__).parents[2]
GUIDES = sorted((ROOT / "docs" / "guides").glob("*.md"))
ROWS = 24
SMALL = {
    "sft": ["--sft.batch_size", "8"],
    "reward": ["--reward.batch_size", "8"],
    "ppo": [
        "--rl.updates", "2", "--rl.batch_size", "8", "--rl.epochs", "1", "--rl.sampling.max_tokens", "8",
        # After three steps of fine-tuning nothing ends by itself, and the preflight would rightly stop.
        "--preflight", "say",
    ],
    "loop": [
        "--sft.max_steps", "2", "--sft.limit", "32", "--sft.batch_size", "8", "--preferences.count", "12",
        "--preferences.sampling.max_tokens", "16", "--reward.max_steps", "2", "--reward.batch_size", "8",
        "--rl.limit", "32", "--rl.updates", "1", "--rl.critic.warmup_updates", "0", "--rl.batch_size", "8",
        "--rl.epochs", "1", "--rl.samples_per_prompt", "1", "--rl.minibatches", "1",
        "--rl.sampling.max_tokens", "8",
        "--evaluation.count", "8", "--evaluation.sampling.max_tokens", "8", "--preflight", "off",
    ],
}  # fmt: skip
"""What is put behind a command of this name, in place of numbers that take hours."""
BEFORE = (
    "keel init mine --model ./base --sft.data demonstrations.jsonl --reward.data pairs.jsonl "
    "--rl.prompts prompts.jsonl",
    "keel run mine/recipe.yaml --dir runs/mine",
)
"""What a guide that names it takes for granted, unless it says it itself."""


def commands(page: Path) -> list[str]:
    """The lines of the blocks marked sh, without comments."""
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    lines = [shlex.join(shlex.split(line, comments=True)) for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


def small(line: str) -> list[str]:
    """The arguments of a `keel` line, with small numbers."""
    program, *arguments = shlex.split(line)
    assert program == "keel", f"{line} is not run here"
    if arguments[0] == "init" and "--model" in arguments:  # else it is the demo's recipe, for which others have numbers
        return [*arguments, *SMALL["sft"], *SMALL["reward"], *SMALL["ppo"]]
    return [*arguments, *SMALL.get(arguments[0], [])]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Model and data under the names that the guides use."""
    task = TownDesk()
    shutil.copytree(task.base(), tmp_path / "base")
    said = [one.messages for one in task.demonstrations(2 * ROWS, 0)]
    asked, answers = [turns[0].content for turns in said], [turns[-1].content for turns in said]
    rows(
        tmp_path / "demonstrations.jsonl",
        [{"prompt": p, "completion": a} for p, a in zip(asked[:ROWS], answers, strict=False)],
    )
    rows(
        tmp_path / "pairs.jsonl",
        [
            {"prompt": p, "chosen": a, "rejected": b}
            for p, a, b in zip(asked[:ROWS], answers, answers[ROWS:], strict=False)
        ],
    )
    rows(tmp_path / "prompts.jsonl", [{"prompt": p} for p in asked[ROWS:]])
    table = io.StringIO()
    writer = csv.writer(table)
    writer.writerows([("question", "reply"), *zip(asked[:ROWS], answers, strict=False)])
    (tmp_path / "tickets.csv").write_text(table.getvalue(), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield tmp_path
    torch.set_num_threads(threads)


def test_the_guides_are_there() -> None:
    assert [page.stem for page in GUIDES] == [
        "kl-explodes", "own-data", "own-model", "reading-the-report", "resuming", "rounds",
    ]  # fmt: skip
    assert all(commands(page) for page in GUIDES)


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)
def test_every_command_of_a_guide_runs(page: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = commands(page)
    granted = page.stem != "own-model" and any(re.search(r"\bmine\b", line) for line in said)
    for line in [one for one in BEFORE if granted and one not in said] + said:
        status = run(small(line))
        assert status == 0, f"{line}: {capsys.readouterr().err}"


def test_the_rows_of_the_guide_are_what_it_says_they_are(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "guides" / "own-data.md").read_text(encoding="utf-8")
    shown = re.findall(r"```json\n(.*?)\n```", text, re.DOTALL)
    assert len(shown) == 3
    for row, read in zip(shown, (read_demonstrations, read_comparisons, read_prompts), strict=True):
        path = tmp_path / "rows.jsonl"
        path.write_text(row + "\n", encoding="utf-8")
        found = read(path)
        assert (found.read, len(found), found.unused) == (1, 1, ())


def test_links_of_the_pages_lead_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_command_that_there_is_is_named_in_the_readme() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [one.name for one in COMMANDS if f"keel {one.name}" not in text] == []
