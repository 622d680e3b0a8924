"""What every board must do, read back from where each keeps it, by other means than its own.

Boards work in children: a stage that goes on does so in a process of its own, and a tracker fills the one it is in with
threads. Trackers that are not installed are left out, with the reason.
"""

from __future__ import annotations

import json
import math
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from keel.boards import require
from keel.boards.choose import NEEDS
from keel.errors import UserError

ROOT = Path(__file__).parents[2]
BOARDS = tuple(NEEDS)
HOSTILE = {
    "script": "<script>alert(1)</script>",
    "picture": "![x](http://example.com/track.png) [go](javascript:alert(1))",
    "lines": "one\ntwo\r\nthree\u2028four\x0bfive\x85six",
    "terminal": "\x1b]0;title\x07\x1b[2J red",
    "null": "a\x00b",
    "half": "\ud800 and \udfff",
    "backwards": "abc\u202etxt.exe",
    "fence": "```\n</code></pre><img src=x onerror=alert(1)>\n```\n\n# not a heading",
    "template": "{{ 7 * 7 }} {% raw %} ${jndi:ldap://example.com/a} %s {0}",
    "path": "../../../../etc/passwd",
    "nothing": "",
    "long": "x" * 100_000,
}


@dataclass(frozen=True)
class Ended:
    """How a child came to its end; `answer` is empty where it was killed."""

    status: int
    answer: dict[str, Any]
    said: str


Show = Callable[..., Ended]


@pytest.fixture(params=BOARDS)
def board(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    try:
        require([name])
    except UserError as missing:
        pytest.skip(str(missing))
    return name


@pytest.fixture
def show(board: str, tmp_path: Path) -> Iterator[Show]:
    """Makes calls on the board in a child; no child, nor a process that it starts, may ask a proxy for anything."""
    proxy = socket.create_server(("127.0.0.1", 0))
    proxy.setblocking(False)
    address = f"http://127.0.0.1:{proxy.getsockname()[1]}"
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB", "MLFLOW", "TRACKIO"))}
    ours |= {name: address for one in ("http", "https", "all") for name in (f"{one}_proxy", f"{one.upper()}_PROXY")}
    ours |= {"TRACKIO_DIR": str(tmp_path / "trackio"), "HF_TOKEN": "hf_nobody", "HF_HOME": str(tmp_path / "hub")}
    ours |= {"OMP_NUM_THREADS": "1"}
    ours.pop("HF_HUB_OFFLINE", None)

    def shown(*calls: list[Any]) -> Ended:
        request = json.dumps({"board": board, "home": str(tmp_path), "calls": calls})
        command = [sys.executable, "-m", "tests.boards.child", request]
        done = subprocess.run(command, cwd=ROOT, env=ours, capture_output=True, text=True, check=False)
        lines = done.stdout.splitlines()
        if done.returncode == -signal.SIGKILL:
            return Ended(done.returncode, {}, done.stdout + done.stderr)
        assert done.returncode == 0, done.stdout + done.stderr
        return Ended(0, json.loads(lines[-1]), "\n".join(lines[:-1]) + done.stderr)

    yield shown
    with pytest.raises(BlockingIOError):
        proxy.accept()
    proxy.close()


# What each of them holds


def numbers_of(board: str, home: Path) -> dict[str, list[tuple[int, float]]]:
    """Metric → (step, value) in order of steps; where a step was shown twice, as it was last."""
    found: dict[str, dict[int, float]] = {}
    for step, metrics in _ROWS[board](home):
        for name, value in metrics.items():
            found.setdefault(name, {})[step] = value
    return {name: sorted(values.items()) for name, values in found.items()}


def _events(home: Path) -> EventAccumulator:
    events = EventAccumulator(str(home / "ppo" / "events"), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    return events


def _of_tensorboard(home: Path) -> Iterator[tuple[int, dict[str, float]]]:
    events = _events(home)
    for name in events.Tags()["scalars"]:
        for one in events.Scalars(name):
            yield one.step, {name: one.value}


def _of_wandb(home: Path) -> Iterator[tuple[int, dict[str, float]]]:
    for row in _history(home):
        of_ours = {name: value for name, value in row.items() if name[0] != "_" and name.partition("/")[0] != "texts"}
        yield int(of_ours.pop("step")), {name: float(value) for name, value in of_ours.items()}


def _history(home: Path) -> Iterator[dict[str, Any]]:
    """The rows of the stage's one run, from all files that it has."""
    from wandb.proto.wandb_internal_pb2 import Record

    name = (home / "ppo" / "wandb.run").read_text().strip()
    # by their time; the second of two from one second ends in -1
    for path in sorted((home / "wandb").glob(f"offline-run-*-{name}*/run-{name}.wandb")):
        for content in _records(path.read_bytes()):
            record = Record()
            record.ParseFromString(content)
            if record.WhichOneof("record_type") == "history":
                items = record.history.item
                yield {one.key or "/".join(one.nested_key): json.loads(one.value_json) for one in items}


def _records(content: bytes) -> Iterator[bytes]:
    """The records of a log as LevelDB writes them: blocks of 32 KiB, each part with checksum, length and kind."""
    place, parts = 7, b""  # the file's own header
    while place + 7 <= len(content):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        length, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        parts += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield parts
            parts = b""


def _of_mlflow(home: Path) -> Iterator[tuple[int, dict[str, float]]]:
    run = (home / "ppo" / "mlflow.run").read_text().strip()
    query = "select step, key, value, is_nan from metrics where run_uuid = ? order by timestamp"
    with sqlite3.connect(home / "mlflow.db") as base:
        for step, name, value, is_nan in base.execute(query, [run]):
            yield step, {name: math.nan if is_nan else value}


def _of_trackio(home: Path) -> Iterator[tuple[int, dict[str, float]]]:
    for step, row in _trackio(home):
        yield step, {name: float(value) for name, value in row.items() if not isinstance(value, dict)}


def _trackio(home: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    name = (home / "ppo" / "trackio.run").read_text().strip()
    (path,) = (home / "trackio").glob("*.db")
    with sqlite3.connect(path) as base:
        for step, row in base.execute("select step, metrics from metrics where run_name = ? order by id", [name]):
            yield step, json.loads(row)


_ROWS: dict[str, Callable[[Path], Iterator[tuple[int, dict[str, float]]]]] = {
    "tensorboard": _of_tensorboard,
    "wandb": _of_wandb,
    "mlflow": _of_mlflow,
    "trackio": _of_trackio,
}


def texts_of(board: str, home: Path) -> dict[str, str]:
    """Name → the text of step 1 as the board hands it to whoever draws it."""
    match board:
        case "tensorboard":
            events = _events(home)
            found = {name: events.Tensors(name) for name in events.Tags()["tensors"]}
            return {
                name.removesuffix("/text_summary"): one.tensor_proto.string_val[0].decode()
                for name, (one,) in found.items()
            }
        case "wandb":
            (path,) = home.glob("wandb/offline-run-*/files/media/table/*.json")
            table = json.loads(path.read_text(encoding="utf-8"))
            assert table["columns"] == ["step", "name", "text"]
            return {name: text for step, name, text in table["data"] if step == 1}
        case "mlflow":
            (folder,) = home.glob("mlflow/*/artifacts/texts/000001")
            return {
                str(path.relative_to(folder).with_suffix("")): path.read_text(encoding="utf-8")
                for path in folder.rglob("*.txt")
            }
        case _:
            rows = [row for step, row in _trackio(home) if step == 1]
            return {name: value["_value"] for row in rows for name, value in row.items() if isinstance(value, dict)}


# The contract


def test_numbers_come_back_and_nothing_is_said(board: str, show: Show, tmp_path: Path) -> None:
    ended = show(
        ["begin", 0],
        ["numbers", 1, {"loss": 0.5, "policy/kl_old": 1e-9}],
        ["numbers", 7, {"loss": 0.25, "held_out/loss": 2.0, "reward/größe_2": -3.0}],
        ["end"],
    )
    assert numbers_of(board, tmp_path) == {
        "loss": [(1, 0.5), (7, 0.25)],
        "policy/kl_old": [(1, pytest.approx(1e-9))],
        "held_out/loss": [(7, 2.0)],
        "reward/größe_2": [(7, -3.0)],
    }
    assert ended.said == ""
    assert not ended.answer["drew"]
    assert ended.answer["asked"] == []
    assert len(ended.answer["notes"]) == (board == "wandb")


def test_what_is_no_number_is_shown_as_such_and_spoils_nothing(board: str, show: Show, tmp_path: Path) -> None:
    rows = {"a": math.nan, "b": math.inf, "c": -math.inf, "d": 1.0}
    show(["begin", 0], ["numbers", 1, rows], ["numbers", 2, {"a": 2.0}], ["end"])
    found = numbers_of(board, tmp_path)
    assert found["d"] == [(1, 1.0)]
    assert found["a"][1] == (2, 2.0)
    assert math.isnan(found["a"][0][1])
    largest = sys.float_info.max if board == "mlflow" else math.inf  # a database has no ∞
    assert found["b"] == [(1, largest)]
    assert found["c"] == [(1, -largest)]


def test_hostile_texts_stay_texts(board: str, show: Show, tmp_path: Path) -> None:
    """Where Markdown is read, every line is one of a block of code; elsewhere the text is plain. Controls are gone."""
    show(["begin", 0], ["numbers", 1, {"loss": 1.0}], ["texts", 1, HOSTILE], ["end"])
    found = texts_of(board, tmp_path)
    assert found.keys() == HOSTILE.keys()
    for name, text in found.items():
        lines = text.split("\n")
        if board in ("tensorboard", "trackio"):
            assert all(line.startswith("    ") for line in lines), name
            lines = [line[4:] for line in lines]
        assert all(line.isprintable() for line in lines), name
        assert len(text) < 21_000
    plain = {name: text.replace("\n    ", "\n").removeprefix("    ") for name, text in found.items()}
    for name in ("script", "picture", "template", "path"):
        assert plain[name] == HOSTILE[name]
    assert plain["half"] == "� and �"
    assert plain["lines"] == "one\ntwo\nthree�four�five�six"
    assert numbers_of(board, tmp_path) == {"loss": [(1, 1.0)]}


def test_a_stage_that_goes_on_shows_its_later_steps_anew(board: str, show: Show, tmp_path: Path) -> None:
    first: list[list[Any]] = [["numbers", step, {"loss": 1.0 * step}] for step in range(1, 6)]
    killed = show(["begin", 0], *first, ["wait", 2], ["kill"])
    assert killed.status == -signal.SIGKILL
    show(["begin", 3], *[["numbers", step, {"loss": 10.0 * step}] for step in (4, 5, 6)], ["end"])
    expected = [(1, 1.0), (2, 2.0), (3, 3.0), (4, 40.0), (5, 50.0), (6, 60.0)]
    assert numbers_of(board, tmp_path) == {"loss": expected}


def test_a_stage_that_begins_anew_shows_nothing_of_the_one_before(board: str, show: Show, tmp_path: Path) -> None:
    show(["begin", 0], ["numbers", 1, {"loss": 1.0}], ["numbers", 2, {"loss": 2.0}], ["wait", 2], ["kill"])
    show(["begin", 0], ["numbers", 1, {"loss": 5.0}], ["end"])
    assert numbers_of(board, tmp_path) == {"loss": [(1, 5.0)]}


def test_ends_twice_ends_without_a_beginning_and_after_a_failure(board: str, show: Show, tmp_path: Path) -> None:
    ended = show(["end"], ["begin", 0], ["numbers", 1, {"loss": 1.0}], ["fail"], ["numbers", 2, {"loss": 2.0}])
    assert numbers_of(board, tmp_path) == {"loss": [(1, 1.0)]}
    ended = show(["begin", 1], ["numbers", 2, {"loss": 2.0}], ["end"], ["end"])
    assert ended.said == ""
    assert numbers_of(board, tmp_path) == {"loss": [(1, 1.0), (2, 2.0)]}


def test_a_stage_may_go_on_though_nothing_is_known_of_it(board: str, show: Show, tmp_path: Path) -> None:
    """As where the recipe names a board only now."""
    show(["begin", 3], ["numbers", 4, {"loss": 1.0}], ["end"])
    assert numbers_of(board, tmp_path) == {"loss": [(4, 1.0)]}


# TensorBoard alone


def test_tensorboard_drops_the_steps_after_the_checkpoint(tmp_path: Path) -> None:
    """Not only the last value of a step counts: a step that never comes again is gone."""
    from keel.boards.tensorboard import TensorBoard

    for done, steps in ((0, (1, 2, 3, 4, 5)), (3, (4,))):
        board = TensorBoard(tmp_path / "ppo" / "events")
        board.begin(done)
        for step in steps:
            board.numbers(step, {"loss": float(10 * done + step)})
        board.end()
    events = _events(tmp_path)
    assert [(one.step, one.value) for one in events.Scalars("loss")] == [(1, 1), (2, 2), (3, 3), (4, 34)]


# A server that is not there


def test_mlflow_says_once_that_its_server_is_gone(tmp_path: Path) -> None:
    pytest.importorskip("mlflow", reason="mlflow is not installed")
    program = """
import os, sys
from pathlib import Path
from keel.boards import Title, boards_of
home, notes = Path(sys.argv[1]), []
(board,) = boards_of(["mlflow"], home, home / "ppo", Title("p", "r", {}), notes.append)
board.begin(0)
board.numbers(1, {"loss": 1.0})
(home / "mlflow.db").unlink()
for step in (2, 3):
    board.numbers(step, {"loss": 1.0})
board.end()
assert len(notes) == 1 and notes[0].startswith("MLflow took no more ("), notes
"""
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
