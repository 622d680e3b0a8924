"""The page of a run: what must be on it, and what must not get into it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from keel.commands.report import report
from keel.config import Guards
from keel.diagnostics.curves import curve_groups
from keel.diagnostics.recorded import Metrics, read_run
from keel.diagnostics.report import write_report
from keel.errors import UserError

from .finished import finished_run, unseen
from .page import Page

HOSTILE = (
    '<script>alert(1)</script><img src=x onerror="alert(2)"></p></article></main>'
    "<svg onload=alert(3)>{{ 7*7 }}{% raw %}&lt;b&gt;'\"--><style>*{display:none}</style>"
)


def page_of(directory: Path) -> Page:
    return Page(write_report(directory).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = finished_run(tmp_path_factory.mktemp("runs") / "harbour")
    write_report(directory)
    return directory


@pytest.fixture(scope="module")
def page(full: Path) -> Page:
    return Page((full / "report.html").read_text(encoding="utf-8"))


def test_every_section_is_there(page: Page) -> None:
    sections = ["short", "checks", "answers", "over-optimised", "reward-model", "people", "curves", "repeat"]
    assert [one["id"] for one in page.all("section")] == sections
    for words in (
        "PPO has made the answers better",
        "1,900 demonstrations",
        "In 60 comparisons on prompts that no stage had seen",
        "no sign of over-optimisation",
        "keel run harbour/resolved.yaml --dir harbour-again",
        "task: town_desk seed: 0 ppo: updates: 40",
        "2.13.0",
        "Krippendorff’s α",
        "detailed-4",
        "Critic’s foresight",
        "Answers before and after",
        "Largest losses",
    ):
        assert words in page.text, words
    for title in ("SFT: loss", "Reward model: accuracy", "Gold score", "KL", "Length", "Entropy", "Clip fraction"):
        assert title in page.text, title


def test_the_links_lead_somewhere_and_ids_are_unique(page: Page) -> None:
    assert len(set(page.ids)) == len(page.ids)
    links = [one["href"] for one in page.all("a")]
    assert links
    assert all(link.startswith("#") and link[1:] in page.ids for link in links)


def test_every_picture_has_words(page: Page) -> None:
    drawn = [one for one in page.all("svg") if "aria-hidden" not in one]
    assert len(drawn) >= 12
    for one in drawn:
        assert one["role"] == "img"
        assert all(name in page.ids for name in one["aria-labelledby"].split())
    assert "Reward, smoothed:" in page.text or "Reward, smoothed" in page.text


def test_the_numbers_are_those_of_the_summary(full: Path, page: Page) -> None:
    summary = json.loads((full / "summary.json").read_text(encoding="utf-8"))
    numbers = {name: value for name, value in summary.items() if isinstance(value, int | float)}
    for stage in summary["stages"].values():
        numbers |= {f"stage {name}": value for name, value in stage.items() if isinstance(value, int | float)}
    assert len(numbers) > 25
    shown = {float(value) for value in page.values if re.fullmatch(r"-?[\d.]+(e-?\d+)?", value)}
    assert [name for name, value in numbers.items() if float(value) not in shown] == []
    for words in (
        f"{100 * summary['win_rate']:.0f}%",
        f"{100 * summary['win_rate_low']:.0f}% to {100 * summary['win_rate_high']:.0f}%",
        f"{summary['gold_ppo']:.2f}",
        f"{summary['kl']:.2f} nats",
        "4 min 41 s",
        f"{summary['wins']} won, {summary['ties']} tied, {summary['losses']} lost",
    ):
        assert words in page.text, words


def test_the_page_is_complete_in_itself(page: Page) -> None:
    loading = ("src", "href", "srcset", "data", "action", "poster", "background", "xlink:href")
    loaded = [value for _, attributes in page.elements for name, value in attributes.items() if name in loading]
    assert all(value.startswith("#") for value in loaded)
    assert not re.search(r"url\(|@import|@font-face", page.style)
    assert not page.all("script")
    assert not page.all("link")
    assert not page.all("iframe")
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    (policy,) = [one["content"] for one in page.all("meta") if one.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'")


def test_light_dark_and_small_screens_are_provided_for(page: Page) -> None:
    assert "prefers-color-scheme: dark" in page.style
    assert "max-width: 560px" in page.style
    (viewport,) = [one["content"] for one in page.all("meta") if one.get("name") == "viewport"]
    assert "width=device-width" in viewport


def test_texts_of_models_and_data_stay_texts(tmp_path: Path) -> None:
    words = dict.fromkeys(("prompt", "base", "sft", "ppo"), HOSTILE)
    facts = {"preferences": {"reliability": {HOSTILE: 0.3, "Ana": 0.9}}}
    directory = finished_run(tmp_path / "run", words=words, facts=facts, prompts=6)
    (directory / "resolved.yaml").write_text(HOSTILE, encoding="utf-8")
    summary = json.loads((directory / "summary.json").read_text(encoding="utf-8"))
    summary["versions"][HOSTILE] = HOSTILE
    (directory / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    _rename_metric(directory, "reward/learned", f"reward/{HOSTILE}")
    _rename_metric(directory, "reward/std", "reward/other")
    hostile = page_of(directory)
    clean = page_of(finished_run(tmp_path / "clean", prompts=6))
    assert hostile.text.count("<script>alert(1)</script>") >= 7
    assert "{{ 7*7 }}" in hostile.text
    assert "<script" not in hostile.source
    assert "<img" not in hostile.source
    assert not any(name.startswith("on") for _, attributes in hostile.elements for name in attributes)
    assert {tag for tag, _ in hostile.elements} <= {tag for tag, _ in clean.elements} | {"b"}
    assert len(hostile.all("style")) == 1


def test_a_run_folder_with_a_hostile_name(tmp_path: Path) -> None:
    directory = finished_run(tmp_path / "<script>alert(1)<; ls", stages=("sft",))
    page = page_of(directory)
    assert "<script" not in page.source
    assert "keel run '<script>alert(1)<; ls/resolved.yaml' --dir '<script>alert(1)<; ls-again'" in page.text


def test_a_run_of_a_reward_model_alone(tmp_path: Path) -> None:
    page = page_of(finished_run(tmp_path / "own", stages=("preferences", "reward")))
    assert [one["id"] for one in page.all("section")] == [
        "short",
        "checks",
        "reward-model",
        "people",
        "curves",
        "repeat",
    ]
    assert "A reward model that is right on 74% of unseen pairs" in page.text
    assert "Win rate" not in page.text
    assert "KL spent" not in page.text
    assert "PPO" not in page.text


def test_pairs_without_annotators_have_no_section_on_people(tmp_path: Path) -> None:
    directory = finished_run(tmp_path / "own", stages=("preferences", "reward"))
    _edit(directory, lambda summary: summary["stages"]["preferences"].clear())
    _edit(directory, lambda summary: summary["stages"]["preferences"].update(pairs=1460, seconds=1.0, peak_mb=9.0))
    page = page_of(directory)
    assert [one["id"] for one in page.all("section")] == ["short", "checks", "reward-model", "curves", "repeat"]
    assert "1,460 pairs of answers were read" in page.text
    assert "there is no ceiling to show" in page.text


def test_a_reward_model_without_held_out_pairs(tmp_path: Path) -> None:
    directory = finished_run(tmp_path / "own", stages=("reward",))
    _edit(
        directory, lambda summary: [summary["stages"]["reward"].pop(name) for name in ("accuracy", "calibration_bins")]
    )
    page = page_of(directory)
    assert "A reward model, not yet put to the test" in page.text
    assert "reward-model" not in page.ids


def test_fine_tuning_alone_and_ppo_alone(tmp_path: Path) -> None:
    tuned = page_of(finished_run(tmp_path / "sft", stages=("sft",)))
    assert "A fine-tuned model" in tuned.text
    assert [one["id"] for one in tuned.all("section")] == ["short", "checks", "curves", "repeat"]
    practised = page_of(finished_run(tmp_path / "ppo", stages=("ppo",), gold=False))
    assert "PPO is done; no evaluation was asked for" in practised.text
    assert [one["id"] for one in practised.all("section")] == ["short", "checks", "curves", "repeat"]


def test_without_a_task_the_reward_model_judges_and_the_page_says_so(tmp_path: Path) -> None:
    page = page_of(finished_run(tmp_path / "own", gold=False))
    assert "The judge is the reward model that PPO was trained to please" in page.text
    assert "Gold score" not in page.text
    assert "over-optimised" not in page.ids
    assert "Reward from" not in page.text
    assert "What the reward model thinks of the answers" in page.text


def test_the_page_says_how_many_prompts_had_been_seen(page: Page, tmp_path: Path) -> None:
    assert page.text.count("prompts that no stage had seen") == 2  # the sentence, and the line of the stage
    some = page_of(finished_run(tmp_path / "some", facts={"evaluation": unseen(60, reward=7)}))
    assert some.text.count("prompts (7 of 60 of which a training stage had seen too)") == 2
    assert "no stage had seen" not in some.text
    assert "7 of 60 prompts of the evaluation were trained on too (reward model 7)" in some.text


@pytest.mark.parametrize("updates", [1, 2, 7])
def test_a_run_that_is_hardly_a_run(tmp_path: Path, updates: int) -> None:
    page = page_of(finished_run(tmp_path / "short", updates=updates, prompts=1))
    assert "With fewer than 8 updates there is nothing to say" in page.text
    assert "over-optimisation-title" not in page.ids


def test_metrics_that_are_not_finite_leave_a_gap_and_a_warning(tmp_path: Path) -> None:
    nan = float("nan")
    curves = {"kl": lambda t: nan if 0.4 < t < 0.6 else 1.0, "reward/gold": lambda t: nan if t > 0.9 else 1.0}
    page = page_of(finished_run(tmp_path / "nan", curves=curves))
    assert "kl was not a finite number at 8 of the logged steps" in page.text
    assert "over-optimised" not in page.ids  # proxy, gold and KL do not cover the same updates


def test_shares_are_shown_in_percent(tmp_path: Path) -> None:
    page = page_of(finished_run(tmp_path / "cut", curves={"truncated": lambda t: 0.03}))
    assert "Cut off3.00%" in page.text.replace("Cut off 3", "Cut off3")


def test_several_reward_models_learn_one_after_the_other_and_the_page_says_so(tmp_path: Path) -> None:
    recorded = read_run(finished_run(tmp_path / "run", updates=4))
    learnt = recorded.metrics["reward"]
    turns = Metrics(tuple({**row, "member": 1.0 + (place >= 20)} for place, row in enumerate(learnt.rows)))
    several = replace(recorded, metrics={**recorded.metrics, "reward": turns})
    (note,) = curve_groups(several, Guards())[0].notes
    assert note.startswith("2 reward models learn one after the other")
    assert curve_groups(recorded, Guards())[0].notes == ()


@pytest.mark.parametrize(
    ("kept", "words"),
    [
        ({"combine": "weights"}, "one with the mean of their weights"),
        ({"combine": "scores", "aggregate": "mean"}, "the mean of their scores"),
        ({"combine": "scores", "aggregate": "worst"}, "the lowest of their scores"),
        ({"combine": "scores", "aggregate": "uncertainty"}, "the mean of their scores, less what they disagree"),
    ],
)
def test_of_several_reward_models_the_page_says_how_they_judge(
    kept: dict[str, str], words: str, tmp_path: Path
) -> None:
    run = finished_run(tmp_path / "run")
    assert "of these pairs alone" not in page_of(run).text
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    alone = [{"accuracy": share, "loss": 0.6, "calibration": 0.1} for share in (0.5, 0.9, 0.7)]
    summary["stages"]["reward"] |= {"members": 3, "alone": alone, **kept}
    (run / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    told = " ".join(page_of(run).text.split())
    assert f"3, right on 50% to 90% of these pairs alone; here {words}" in told


def test_disagreement_is_drawn_of_reward_models_and_not_of_a_function_of_that_name(tmp_path: Path) -> None:
    planted = {name: lambda t: 0.2 for name in ("reward/disagreement", "reward/learned_2/disagreement")}
    recorded = read_run(finished_run(tmp_path / "run", updates=4, curves=planted))
    titles = [chart.title for chart in curve_groups(recorded, Guards())[-1].charts]
    assert [one for one in titles if "isagreement" in one] == ["Disagreement: learned_2", "Term: disagreement"]


def test_kl_below_zero_is_explained(tmp_path: Path) -> None:
    page = page_of(finished_run(tmp_path / "below", curves={"kl": lambda t: -1.0}))
    assert re.search(r"KL came out below 0 at \d+ of 40 updates", page.text)
    assert "although the true KL never is" in page.text


def test_a_planted_fault_is_on_the_page(tmp_path: Path) -> None:
    page = page_of(finished_run(tmp_path / "far", curves={"kl": lambda t: 40 * t}))
    assert "1 of 23 checks needs a look" in page.text
    assert "What to do: Raise rl.kl.coef" in page.text


def test_the_same_run_gives_the_same_page(tmp_path: Path) -> None:
    one, other = (finished_run(tmp_path / part / "run") for part in ("a", "b"))
    assert write_report(one).read_bytes() == write_report(other).read_bytes()


def test_a_report_is_replaced_whole(full: Path) -> None:
    path = full / "report.html"
    before = path.read_bytes()
    path.write_text("an older report", encoding="utf-8")
    assert write_report(full) == path
    assert path.read_bytes() == before
    assert [one.name for one in full.iterdir() if one.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [
        ("summary.json", "is not the folder of a finished run"),
        ("resolved.yaml", "resolved.yaml cannot be read"),
        ("sft/metrics.jsonl", "metrics.jsonl cannot be read"),
        ("ppo/rollouts.jsonl", "rollouts.jsonl cannot be read"),
        ("evaluation/answers.jsonl", "answers.jsonl cannot be read"),
    ],
)
def test_a_missing_file_is_named(tmp_path: Path, missing: str, sentence: str) -> None:
    directory = finished_run(tmp_path / "run", updates=10)
    (directory / missing).unlink()
    with pytest.raises(UserError, match=sentence):
        write_report(directory)
    assert not (directory / "report.html").exists()


@pytest.mark.parametrize(
    ("path", "line", "sentence"),
    [
        ("ppo/metrics.jsonl", '{"step": 5, "kl": ', "ppo/metrics.jsonl, line 5 is damaged"),
        ("ppo/metrics.jsonl", '{"kl": 1.0}', "ppo/metrics.jsonl, line 5: 'step' is missing"),
        ("ppo/metrics.jsonl", '{"step": 5, "kl": "far"}', "ppo/metrics.jsonl, line 5 is damaged"),
        ("ppo/metrics.jsonl", "[]", "ppo/metrics.jsonl, line 5 is damaged"),
        ("ppo/rollouts.jsonl", '{"update": 1}', "ppo/rollouts.jsonl, line 5: 'parts' is missing"),
        ("evaluation/answers.jsonl", '{"prompt": "a"}', "evaluation/answers.jsonl, line 5: 'sft' is missing"),
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, path: str, line: str, sentence: str) -> None:
    directory = finished_run(tmp_path / "run", updates=10)
    lines = (directory / path).read_text(encoding="utf-8").splitlines()
    lines[4] = line
    (directory / path).write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(UserError, match=re.escape(sentence)):
        write_report(directory)


def test_text_that_is_not_utf_8_is_named(tmp_path: Path) -> None:
    directory = finished_run(tmp_path / "run", updates=10)
    (directory / "resolved.yaml").write_bytes(b"task: \xff\xfe")
    with pytest.raises(UserError, match="it is not UTF-8"):
        write_report(directory)


def test_no_folder_and_no_room_for_the_page(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no folder"):
        write_report(tmp_path / "nowhere")
    directory = finished_run(tmp_path / "run", updates=10)
    (directory / "report.html").mkdir()
    with pytest.raises(UserError, match="cannot be written"):
        write_report(directory)
    assert [one.name for one in directory.iterdir() if one.name.startswith(".")] == []


def test_the_command_prints_the_summary_or_json(full: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report([str(full)])
    assert "DID IT HELP?" in capsys.readouterr().out
    report([str(full), "--json"])
    printed = json.loads(capsys.readouterr().out)
    assert printed["report"] == str(full / "report.html")
    assert printed["win_rate"] == json.loads((full / "summary.json").read_text(encoding="utf-8"))["win_rate"]
    with pytest.raises(UserError, match="there is no folder"):
        report([str(full / "nowhere")])


def _edit(directory: Path, change: Any) -> None:
    path = directory / "summary.json"
    summary = json.loads(path.read_text(encoding="utf-8"))
    change(summary)
    path.write_text(json.dumps(summary), encoding="utf-8")


def _rename_metric(directory: Path, old: str, new: str) -> None:
    path = directory / "ppo" / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    renamed = [{new if name == old else name: value for name, value in row.items()} for row in rows]
    path.write_text("".join(json.dumps(row) + "\n" for row in renamed), encoding="utf-8")
