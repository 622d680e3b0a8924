"""The closing summary: its numbers, and its words on a terminal of eighty columns."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from keel.config import load_recipe
from keel.errors import UserError
from keel.stages.practice import _held_by
from keel.summary import Example, Summary, kl_in_words, outcome, story

from .finished import finished_run, unseen

KEYS = {
    "win_rate", "win_rate_low", "win_rate_high", "wins", "ties", "losses", "judge", "confidence", "gold_base",
    "gold_sft", "gold_ppo", "reward_sft", "reward_ppo", "kl", "seconds", "peak_mb", "stages", "examples", "versions",
    "seed", "method",
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finished_run(tmp_path_factory.mktemp("runs") / "demo", updates=10)


@pytest.fixture
def summary(run: Path) -> Summary:
    return replace(Summary.read(run / "summary.json"), directory=Path("runs/demo"))


def words(summary: Summary) -> str:
    return " ".join(str(summary).split())


def fits(summary: Summary) -> bool:
    return all(cell_len(line) <= 80 for line in str(summary).split("\n"))


def test_of_stage_reports_is_what_was_written(run: Path, summary: Summary) -> None:
    written = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    stages = {name: json.loads((run / name / "report.json").read_text(encoding="utf-8")) for name in written["stages"]}
    made = Summary.of(stages, 281.4, 818.0, 0, written["versions"], "ppo", Path("runs/demo"))
    assert made == summary
    assert made.to_json() == written
    assert set(made.to_json()) == KEYS


def test_it_reads_back_what_it_wrote(summary: Summary, tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    path.write_text(json.dumps(summary.to_json()), encoding="utf-8")
    assert Summary.read(path) == replace(summary, directory=tmp_path)


def test_stages_that_were_not_run_are_null() -> None:
    facts = {"reward": {"pairs": 7, "held_out_pairs": 3, "seconds": 1.0, "peak_mb": 9}}
    content = Summary.of(facts, 1.234, 9.6, 5, {"keel": "0"}, "ppo", Path("own")).to_json()
    assert set(content) == KEYS
    assert {name for name, value in content.items() if value is None} == KEYS - {
        "seconds", "peak_mb", "stages", "examples", "versions", "seed", "method"
    }  # fmt: skip
    assert (content["seconds"], content["peak_mb"], content["seed"], content["examples"]) == (1.23, 10, 5, [])


def test_a_newcomer_finds_every_number_in_words(summary: Summary) -> None:
    said = words(summary)
    for sentence in (
        "Done in 4 min 41 s, with at most 818 MB of memory.",
        "The model learnt to imitate 1,900 demonstrations",
        "5 annotators compared 1,460 pairs of answers in 2,044 judgements.",
        "On 73 pairs that it had not seen it is right 74% of the time; a coin is right 50%.",
        f"{100 * (summary.win_rate or 0):.0f}% of the time",
        f"interval is {100 * (summary.win_rate_low or 0):.0f}% to {100 * (summary.win_rate_high or 0):.0f}%",
        "50% would be a draw",
        "base 0.00 → SFT",
        f"PPO {summary.gold_policy:.2f}",
        "hidden from every model",
        "6.3 nats per answer: a moderate distance",
        "people's agreement allows about 78% (75% to 82%)",
        "PPO 2 min 31 s 818 MB",
        "3 PROMPTS, ANSWERED BEFORE PPO AND AFTER IT",
        "runs/demo/report.html",
        "runs/demo/ppo/model",
        "keel chat runs/demo",
        "keel init mine --model PATH",
    ):
        assert sentence in said, sentence
    assert said.count("before ") >= 3
    assert fits(summary)


def test_gold_is_given_with_its_maximum_where_the_task_says_it(summary: Summary) -> None:
    stages: dict[str, Any] = {**summary.stages, "evaluation": {**summary.stages["evaluation"], "gold_max": 5}}
    assert "at most 5." in words(replace(summary, stages=stages))
    assert "at most 5." not in words(summary)


def test_a_gain_is_given_with_its_interval(summary: Summary) -> None:
    assert "lies within" not in words(summary)
    measured = {**summary.stages["evaluation"], "gold_gain": 0.5, "gold_gain_low": -0.25, "gold_gain_high": 1.25}
    changed = replace(summary, stages={**summary.stages, "evaluation": measured})
    assert "The gain over SFT lies within -0.25 and +1.25." in words(changed)
    assert fits(changed)


@pytest.mark.parametrize(
    ("held_by", "sentence"),
    [
        ("rl.kl", "score higher with the reward, while a KL penalty held it near to what it was."),
        ("dpo.beta", "score higher with the reward, while the loss of its pairs held it near to what it was."),
        (None, "score higher with the reward, and nothing held it near to what it was."),
    ],
)
def test_what_held_the_policy_is_said_as_it_was(summary: Summary, held_by: str | None, sentence: str) -> None:
    assert "score higher with the reward. " in " ".join(story(summary)) + " "  # a run that does not say
    stages = {**summary.stages, "ppo": {**summary.stages["ppo"], "held_by": held_by}}
    assert sentence in words(replace(summary, stages=stages))


@pytest.mark.parametrize(
    ("changes", "held_by"),
    [
        ({}, "rl.kl"),
        ({"rl.kl.coef": 0.0}, None),
        ({"method": "dr-grpo"}, None),
        ({"method": "online-dpo"}, "dpo.beta"),
        ({"method": "online-dpo", "dpo.loss": "simpo"}, None),
        ({"method": "online-dpo", "dpo.loss": "simpo", "rl.kl.coef": 0.1}, "rl.kl"),
    ],
)
def test_a_stage_says_what_held_its_policy(changes: dict[str, Any], held_by: str | None) -> None:
    assert _held_by(load_recipe(None, changes)) == held_by


@pytest.mark.parametrize(
    ("low", "high", "verdict", "sentence"),
    [
        (0.51, 0.7, "better", "so PPO has made the model better, beyond what chance explains"),
        (0.49, 0.7, "unclear", "cannot tell whether PPO has made the model better or worse"),
        (0.3, 0.51, "unclear", "cannot tell whether PPO has made the model better or worse"),
        (0.3, 0.49, "worse", "so PPO has made the model worse, beyond what chance explains"),
    ],
)
def test_what_the_interval_says(summary: Summary, low: float, high: float, verdict: str, sentence: str) -> None:
    changed = replace(summary, win_rate=(low + high) / 2, win_rate_low=low, win_rate_high=high)
    assert changed.verdict == verdict
    assert sentence in outcome(changed)
    assert fits(changed)


@pytest.mark.parametrize(("confidence", "text"), [(0.95, "95%"), (0.9, "90%"), (0.995, "99.5%"), (0.999, "99.9%")])
def test_a_level_of_confidence_keeps_its_digits(summary: Summary, confidence: float, text: str) -> None:
    assert f"The {text} interval is" in outcome(replace(summary, confidence=confidence))


def test_prompts_are_called_unseen_only_where_somebody_has_looked(summary: Summary) -> None:
    def told(**facts: Any) -> str:
        stages = {**summary.stages, "evaluation": {"seconds": 1.0, "peak_mb": 1.0, **facts}}
        changed = replace(summary, stages=stages)
        assert fits(changed)
        return outcome(changed).split("beat")[0]

    assert told(**unseen(60)) == "In 60 comparisons on prompts that no stage had seen, the answer after PPO "
    assert told(**unseen(60, sft=2, reward=1)) == (
        "In 60 comparisons on prompts (3 of 60 of which a training stage had seen too), the answer after PPO "
    )
    assert told() == "In 60 comparisons, the answer after PPO "


def test_a_judge_that_is_the_reward_model_is_called_partial(summary: Summary) -> None:
    assert "hidden gold score, which no model was trained on" in words(summary)
    assert "this is a partial judge" in words(replace(summary, judge="reward"))


def test_a_judge_that_ppo_never_heard_of_is_not_called_pleased(summary: Summary) -> None:
    """PPO raised a function; the reward model only lay in the folder."""
    stages = {**summary.stages, "ppo": {**summary.stages["ppo"], "learned_reward": False}}
    said = words(replace(summary, judge="reward", stages=stages))
    assert "which PPO was not trained to please" in said
    assert not re.search("partial judge|this is what PPO raises", said)


def test_sft_is_named_only_where_it_ran(summary: Summary) -> None:
    stages = {name: facts for name, facts in summary.stages.items() if name != "sft"}
    said = words(replace(summary, stages=stages))
    assert re.search(r"beat the one before it \d+% of the time", said)
    assert re.search(r"base [-\d.]+ → start [-\d.]+ → PPO", said)
    assert "SFT" not in said


def test_a_kl_that_rounds_to_0_has_no_sign(summary: Summary) -> None:
    assert "0.0 nats per answer: below 0 by chance" in words(replace(summary, kl=-0.01))
    assert "-0.0" not in words(replace(summary, kl=-0.01))


@pytest.mark.parametrize(
    ("kl", "meaning"),
    [(-0.1, "below 0 by chance"), (0.2, "hardly any"), (5.0, "moderate"), (15.0, "read some answers"), (40.0, "gamed")],
)
def test_kl_has_a_meaning(kl: float, meaning: str) -> None:
    assert meaning in kl_in_words(kl)


def test_a_run_of_a_reward_model_alone(tmp_path: Path) -> None:
    summary = Summary.read(finished_run(tmp_path / "own", stages=("preferences", "reward")) / "summary.json")
    said = words(summary)
    assert summary.verdict is None
    assert outcome(summary) == ""
    assert len(story(summary)) == 2
    assert "reward model right on 74% of unseen pairs" in said
    assert "reward/model" in said
    assert not re.search(r"PPO|SFT|gold|KL|DID IT HELP", said.replace(str(tmp_path), ""))
    assert fits(replace(summary, directory=Path("runs/own")))


@pytest.mark.parametrize(
    "text",
    [
        "\x1b[31mred\x1b[0m \x07 \x9b2J \u202e reversed",
        "x" * 5000,
        "長い答えです。" * 60,
        "line\nline\r\nline\t\ttab",
        "",
        "[bold]not markup[/bold]",
        "👩‍👩‍👧 " * 100,
    ],
)
def test_whatever_a_model_says_stays_in_eighty_columns(summary: Summary, text: str) -> None:
    changed = replace(summary, examples=(Example(text, text, text),), directory=Path("run " * 60 + "x" * 200))
    assert fits(changed)
    assert all(char == "\n" or char.isprintable() for char in str(changed))
    assert len(str(changed).split("\n")) < 120


def test_markup_of_the_terminal_library_is_not_interpreted(summary: Summary) -> None:
    changed = replace(summary, examples=(Example("[bold]facts[/bold]", "[red]a", "b"),))
    assert "[bold]facts[/bold]" in words(changed)
    assert "before [red]a" in words(changed)
    assert "1 PROMPT, ANSWERED" in words(changed)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "is not the folder of a finished run"),
        ("{", "is damaged"),
        ("[]", "it holds no object"),
        ("{}", "it lacks win_rate"),
        ({"win_rate": "high"}, "win_rate cannot be 'high'"),
        ({"seconds": None}, "seconds cannot be None"),
        ({"judge": "golf"}, "judge cannot be 'golf'"),
        ({"stages": {"seward": {"seconds": 1.0, "peak_mb": 1.0}}}, "there is no stage 'seward'"),
        ({"win_rate_high": float("inf")}, "win_rate_high cannot be inf"),
        ({"kl": float("nan")}, "kl cannot be nan"),
        ({"stages": {"sft": {}}}, "stage sft lacks seconds or peak_mb"),
        (
            {"stages": {"preferences": {"seconds": 1.0, "peak_mb": 1.0, "agreement": {"value": 0.6, "low": 0.5}}}},
            "agreement of stage preferences lacks high",
        ),
        ({"examples": [{"prompt": "a"}]}, "an example lacks prompt, sft or ppo"),
    ],
)
def test_what_is_no_summary_is_refused(summary: Summary, tmp_path: Path, content: Any, sentence: str) -> None:
    path = tmp_path / "summary.json"
    if content is not None:
        whole = content if isinstance(content, str) else json.dumps(summary.to_json() | content)
        path.write_text(whole, encoding="utf-8")
    with pytest.raises(UserError, match=re.escape(sentence)):
        Summary.read(path)
