"""Every command of docs/labelling.md is run, its rows are read, and its program labels."""

from __future__ import annotations

import json
import re
import shlex
import signal
from pathlib import Path

import httpx
import pytest

from keel.cli import run
from keel.preferences.candidates import read_candidates
from keel.preferences.people import People
from keel.preferences.store import PreferenceStore
from keel.preferences.web.address import remember
from tests.web.kit import pairs
from tests.web.processes import Serving

PAGE = (Path(__file__).parents[2] / "docs" / "labelling.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
PEOPLE = ("invite", "token", "revoke", "people")
SERVERS = [line for line in COMMANDS if line.split()[2] not in PEOPLE and "--tls-cert" not in line]
"""With a certificate one is started in tests/web/test_command.py."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files that the page names, and a run."""
    rows = [{"prompt": f"question {n}", "answers": ["short", "longer one", "third"]} for n in range(3)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "answers.jsonl").write_text(text, encoding="utf-8")
    two = "".join(json.dumps({"prompt": f"p {n}", "chosen": "yes", "rejected": "no"}) + "\n" for n in range(3))
    (tmp_path / "pairs.jsonl").write_text(two, encoding="utf-8")
    (tmp_path / "known.jsonl").write_text(two.replace("p ", "known "), encoding="utf-8")
    (tmp_path / "guidelines.md").write_text("# Guidelines", encoding="utf-8")
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    with PreferenceStore.open(tmp_path / "runs" / "mine" / "preferences.db") as store:
        store.add_items(pairs(3))
    remember(tmp_path / "runs" / "mine" / "preferences.db", "http://127.0.0.1:8765")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_page_has_commands() -> None:
    assert len(COMMANDS) >= 10
    assert all(line.startswith("keel label ") for line in COMMANDS)


@pytest.mark.parametrize("line", SERVERS)
def test_every_server_of_the_page_starts(line: str, folder: Path) -> None:
    with Serving(*shlex.split(line)[2:], "--port", "0", folder=folder) as server:
        assert server.stop(signal.SIGINT) == 0


def test_every_command_about_people(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with PreferenceStore.open("pairs.labels.db"):
        remember(Path("pairs.labels.db"), "http://127.0.0.1:8765")
    for line in COMMANDS:
        if line.split()[2] in PEOPLE:
            assert run(shlex.split(line)[1:]) == 0, f"{line}: {capsys.readouterr().err}"


def test_the_rows_of_the_page_are_items(tmp_path: Path) -> None:
    (rows,) = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    answers = []
    for number, row in enumerate(rows.splitlines()):
        path = tmp_path / f"{number}.jsonl"
        path.write_text(row, encoding="utf-8")
        (item,) = read_candidates(path).items
        answers.append(len(item.answers))
    assert answers == [2, 3, 2, 2]


def test_the_program_of_the_page_labels(folder: Path) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    with PreferenceStore.open("pairs.labels.db") as store:
        people = People(store.database)
        people.invite("robot", "annotator")
        token = people.issue("robot", "label")
    with Serving("--from", "pairs.jsonl", "--port", "0", folder=folder) as server:
        names = {"token": token, "httpx": httpx}
        exec(program.replace("http://127.0.0.1:8765", server.address), names)
        names["server"].close()  # type: ignore[attr-defined]
    with PreferenceStore.open("pairs.labels.db") as store:
        assert [said.annotator for said in store.judgements()] == ["robot"] * 3
