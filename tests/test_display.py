"""What people see while a run goes on."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress

from keel.display import (
    SHOWN,
    Clock,
    Display,
    PlainDisplay,
    RichDisplay,
    SilentDisplay,
    duration,
    fitting,
    for_terminal,
    remaining,
    shown,
)

METRICS = {"reward": 1.25, "kl": 2.5, "reward/gold": 3.0, "tokens_per_second": 1234.5, "lr": 1e-5}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def play(display: Display, steps: int = 4) -> None:
    with display.stage("ppo", steps):
        for step in range(1, steps + 1):
            display.step(step, METRICS)
    display.note("all is well")


def test_what_is_shown_is_what_the_stages_log() -> None:
    """Every name on the screen is one of docs/metrics.md."""
    documented = (Path(__file__).parents[1] / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert [name for name in SHOWN if f"`{name}`" not in documented] == []


def test_metrics_are_shown_in_order_and_the_others_left_to_the_log() -> None:
    assert shown(METRICS) == ["reward +1.25", "gold 3.00", "KL 2.50", "1,234 tokens/s"]
    assert shown({"loss": 0.5, "accuracy": 0.625}) == ["loss 0.500", "accuracy 62.5%"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (65.0, "1 min 05 s"), (7380.0, "2 h 03 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_what_is_left_is_at_the_pace_so_far() -> None:
    assert remaining(step=10, total=40, elapsed=5.0) == 15.0
    assert remaining(step=0, total=40, elapsed=5.0) is None
    assert remaining(step=10, total=None, elapsed=5.0) is None


def test_plain_lines_come_now_and_then_and_the_last_step_always() -> None:
    ticks: Iterator[float] = (10.0 * i for i in range(100))  # ten seconds go by each time the clock is read
    lines: list[str] = []
    play(PlainDisplay(lines.append, every=25.0, clock=lambda: next(ticks)))
    assert lines == [
        "ppo 1/4  reward +1.25  gold 3.00  KL 2.50  1,234 tokens/s  30 s left",
        "ppo 4/4  reward +1.25  gold 3.00  KL 2.50  1,234 tokens/s",
        "ppo: done in 50 s",
        "all is well",
    ]


def test_a_step_without_numbers_leaves_no_gap() -> None:
    ticks: Iterator[float] = (10.0 * i for i in range(100))
    lines: list[str] = []
    display = PlainDisplay(lines.append, every=5.0, clock=lambda: next(ticks))
    with display.stage("evaluation", 36):
        display.step(12, {})
    assert lines[0] == "evaluation 12/36  20 s left"


def test_a_stage_that_fails_is_not_called_done() -> None:
    lines: list[str] = []
    console = Console(file=Terminal(), record=True)
    for display in (PlainDisplay(lines.append), RichDisplay(console)):
        with pytest.raises(RuntimeError, match="no"), display.stage("sft", 2):
            raise RuntimeError("no")
    assert lines == []
    assert "✓" not in console.export_text()


@pytest.mark.parametrize("width", [80, 50, 120])
def test_the_live_display_fits_the_terminal_and_leaves_one_line(width: int) -> None:
    recorded = Console(file=Terminal(), width=width, record=True, force_terminal=True)
    play(RichDisplay(recorded))
    lines = [line.rstrip() for line in recorded.export_text().splitlines() if line.strip()]
    assert all(len(line) <= width for line in lines)
    assert re.match(r"✓ ppo +0 s  reward \+1", lines[-2])
    assert lines[-1] == "all is well"


def test_a_narrow_line_leaves_numbers_out_but_cuts_none() -> None:
    metrics = {"loss": 0.7, "accuracy": 0.6, "pairs_per_second": 90.0, "held_out/loss": 1.1, "held_out/accuracy": 0.5}
    recorded = Console(file=Terminal(), width=80, record=True, force_terminal=True)
    display = RichDisplay(recorded)
    with display.stage("reward", 1):
        display.step(1, metrics)
    assert recorded.export_text().splitlines()[-1].split("0 s  ")[1] == "held-out loss 1.100  held-out accuracy 50.0%"
    assert fitting(shown(metrics), 200) == "  ".join(shown(metrics))
    assert fitting(["longer than that"], 5) == ""


@pytest.mark.parametrize(("done", "words"), [(0, "0 s"), (2, "10 s, 15 s left")])
def test_the_clock_says_what_is_left_where_that_is_known(done: int, words: str) -> None:
    now = [0.0]
    bar = Progress(Clock(), get_time=lambda: now[0])
    task = bar.add_task("ppo", total=5)
    for step in range(1, done + 1):
        now[0] = 5.0 * step
        bar.update(task, completed=step)
    assert Clock().render(bar.tasks[0]).plain.strip() == words


def test_a_step_without_a_stage_is_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="outside a stage"):
        RichDisplay(Console(file=Terminal())).step(1, METRICS)


def test_piped_output_is_plain_and_a_terminal_is_live(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", io.StringIO())
    assert isinstance(for_terminal(), PlainDisplay)
    monkeypatch.setattr("sys.stdout", Terminal())
    assert isinstance(for_terminal(), RichDisplay)


def test_silence(capsys: pytest.CaptureFixture[str]) -> None:
    play(SilentDisplay())
    assert capsys.readouterr() == ("", "")
