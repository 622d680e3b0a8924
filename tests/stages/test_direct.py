"""The policy straight from preferences as a stage: own data in, a model that plain transformers read out."""

from __future__ import annotations

import itertools
import json
import math
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import keel.pipeline
import keel.stages.evaluation
from keel.cli import run as command
from keel.config import Dpo, Recipe, dump_recipe, load_recipe
from keel.data.forest import Branch, Tree
from keel.display import SilentDisplay
from keel.errors import UserError
from keel.pipeline import run, run_stage
from keel.stages import direct
from keel.stages.direct import TIE, Labelled, elsewhere, matched, rated
from keel.stages.seen import fingerprint
from keel.training.checkpoint import Checkpoints
from keel.types import Message, Preference, Ranking, Rated

from .small import language_model, lines, merged, own_data, plain_language, recipe, rows, say, weights_of
from .test_resume import Runner

pytestmark = pytest.mark.usefixtures("unchecked_shapes")

COUNT = 12


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return language_model(tmp_path / "base")


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keel.pipeline, "write_report", lambda directory: None)


def settings(base: Path, data: str | None, **changes: Any) -> Recipe:
    """Nothing but preferences, two steps or three of them."""
    nothing = {"sft": None, "reward": None, "prompts": None}
    given = {
        "method": "dpo",
        "dpo": {"data": data, "batch_size": 2, "held_out": 0.25, "log_every": 1, "optimizer": {"lr": 1e-3}},
    }
    return recipe(base, nothing, **merged(given, changes))


def tune(chosen: Recipe, directory: Path) -> dict[str, Any]:
    return run_stage("dpo", chosen, directory, SilentDisplay()).stages["dpo"]


def pairs(count: int = COUNT) -> list[dict[str, Any]]:
    """A prompt for each two pairs, with margins, a soft label, one below ½, and a tie."""
    chance = random.Random("direct")
    asked = [say(chance, 3) for _ in range(count // 2)] * 2
    labels = [0.75, 0.2, 0.5, *[1.0] * (count - 3)]
    return [
        {"prompt": one, "chosen": say(chance, 3), "rejected": say(chance, 2), "probability": p, "margin": 0.5}
        for one, p in zip(asked, labels, strict=True)
    ]


def ratings(count: int = COUNT) -> list[dict[str, Any]]:
    chance = random.Random("rated")
    return [{"prompt": say(chance, 3), "completion": say(chance, 3), "label": n % 3 > 0} for n in range(count)]


@torch.no_grad()
def logprob(folder: Path, prompt: str, answer: str) -> float:
    """log π of an answer and its end, by plain transformers."""
    model, tokenizer = plain_language(folder)
    asked = tokenizer(f"{prompt}\n", add_special_tokens=False)["input_ids"]
    said = [*tokenizer(answer, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    logits: Tensor = model(input_ids=torch.tensor([asked + said])).logits[0]
    return sum(float(logits.log_softmax(-1)[len(asked) + t - 1, token]) for t, token in enumerate(said))


def moved(directory: Path, base: Path) -> float:
    before, after = (load_file(folder / "model.safetensors") for folder in (base, directory / "dpo" / "model"))
    return max(float((after[name] - tensor).abs().max()) for name, tensor in before.items())


def unseen(directory: Path, given: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows whose prompts were not trained on, by what the stage wrote down."""
    trained = (directory / "dpo" / "prompts.txt").read_text(encoding="utf-8").split()
    return [row for row in given if fingerprint((Message("user", row["prompt"]),)) not in trained]


def numbers(directory: Path) -> list[dict[str, Any]]:
    """The rows of metrics.jsonl, without what the clock says."""
    return [
        {name: value for name, value in row.items() if not name.endswith("_per_second")}
        for row in lines(directory / "dpo" / "metrics.jsonl")
    ]


def same(one: Path, other: Path) -> None:
    """Weights, metrics and report are the same to the last bit; no draft or checkpoint is left."""
    assert weights_of(one / "dpo" / "model") == weights_of(other / "dpo" / "model")
    assert numbers(one) == numbers(other)
    facts, others = (json.loads((each / "dpo" / "report.json").read_text()) for each in (one, other))
    for clock in ("seconds", "peak_mb"):
        del facts[clock], others[clock]
    assert facts == others
    names = [path.name for path in one.rglob("*")]
    assert not [name for name in names if name.startswith(".") or name == "checkpoints"]


def test_pairs_of_ones_own(base: Path, tmp_path: Path) -> None:
    """Every number of the report by plain transformers; the first loss is ln 2."""
    given, directory = pairs(), tmp_path / "run"
    facts = tune(settings(base, rows(tmp_path / "pairs.jsonl", given), dpo={"margin": "none"}), directory)
    first, _ = lines(directory / "dpo" / "metrics.jsonl")  # two steps for the four prompts that are not held out
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert moved(directory, base) > 1e-3
    held_out = unseen(directory, given)
    counted = ("objective", "prompts", "pairs", "held_out_pairs", "texts", "given", "dropped", "truncated")
    assert [facts[name] for name in counted] == ["dpo", 4, 8, 4, 24, 12, 0, 0]
    assert len(held_out) == 4
    losses, better, worse = [], [], []
    for row in held_out:
        chosen, rejected = (
            logprob(directory / "dpo" / "model", row["prompt"], row[side]) - logprob(base, row["prompt"], row[side])
            for side in ("chosen", "rejected")
        )
        h, p = 0.1 * (chosen - rejected), row["probability"]
        losses.append(p * math.log1p(math.exp(-h)) + (1 - p) * math.log1p(math.exp(h)))
        if p != 0.5:
            better.append(chosen if p > 0.5 else rejected)
            worse.append(rejected if p > 0.5 else chosen)
    assert facts["held_out_loss"] == pytest.approx(sum(losses) / 4, abs=1e-5)
    assert facts["chosen"] == pytest.approx(sum(better) / len(better), abs=1e-4)
    assert facts["rejected"] == pytest.approx(sum(worse) / len(worse), abs=1e-4)
    assert facts["margin"] == pytest.approx(0.1 * (facts["chosen"] - facts["rejected"]), abs=1e-6)
    assert facts["accuracy"] == sum(b > w for b, w in zip(better, worse, strict=True)) / len(better)


def test_rankings_train_as_their_pairs_do(base: Path, tmp_path: Path) -> None:
    chance = random.Random(5)
    content = [
        {"prompt": say(chance, 3), "completions": [say(chance, 2 + place) for place in range(4)]} for _ in range(6)
    ]
    written_out = [
        {"prompt": row["prompt"], "chosen": better, "rejected": worse}
        for row in content
        for better, worse in itertools.combinations(row["completions"], 2)
    ]
    found = {}
    for name, given in (("rankings", content), ("pairs", written_out)):
        data = rows(tmp_path / f"{name}.jsonl", given)
        facts = tune(settings(base, data, dpo={"loss": "simpo"}), tmp_path / name)
        found[name] = facts, weights_of(tmp_path / name / "dpo" / "model")
        assert (facts["pairs"], facts["prompts"]) == (24, 4)
    assert found["rankings"][1] == found["pairs"][1]
    assert found["rankings"][0]["held_out_loss"] == found["pairs"][0]["held_out_loss"]
    assert not (tmp_path / "pairs" / "dpo" / "reference.json").exists()  # simpo has none


def test_kto_from_ratings_and_from_pairs(base: Path, tmp_path: Path) -> None:
    """A pair is a good answer and a bad one, whichever stands first; a tie is neither, and is counted."""
    given = pairs()
    single = [
        {"prompt": row["prompt"], "completion": row[side], "label": (side == "chosen") == (row["probability"] > 0.5)}
        for row in given
        for side in ("chosen", "rejected")
        if row["probability"] != 0.5
    ]
    found = {}
    for name, content in (("pairs", given), ("single", single)):
        data = rows(tmp_path / f"{name}.jsonl", content)
        found[name] = tune(settings(base, data, dpo={"loss": "kto"}), tmp_path / name)
    assert weights_of(tmp_path / "pairs" / "dpo" / "model") == weights_of(tmp_path / "single" / "dpo" / "model")
    assert moved(tmp_path / "single", base) > 1e-3
    for name, dropped in (("pairs", {TIE: 1}), ("single", {})):
        facts = found[name]
        assert facts["objective"] == "kto"
        assert facts["answers"] + facts["held_out_answers"] == facts["texts"] == 22
        assert (facts["given"], facts["reasons"]) == (22 + len(dropped), dropped)
        assert {"held_out_loss", "accuracy", "chosen", "rejected"} <= facts.keys()
        assert not [name for name in facts if "/" in name]
        first = lines(tmp_path / name / "dpo" / "metrics.jsonl")[0]  # π = π_ref, for each answer and its companion
        assert (first["loss"], first["baseline"]) == pytest.approx((0.5, 0.0), abs=1e-5)


def test_what_teaches_nothing_is_counted(base: Path, tmp_path: Path) -> None:
    """In reading and in fitting; rows after the limit are neither given nor dropped."""
    alike = {"prompt": "w40", "chosen": "w41", "rejected": "w41"}
    chance = random.Random(3)
    long = {"prompt": say(chance, 30), "chosen": "w41", "rejected": "w42"}
    data = rows(tmp_path / "pairs.jsonl", [alike, long, *pairs(), alike])
    facts = tune(settings(base, data, dpo={"limit": 9}), tmp_path / "run")
    assert (facts["given"], facts["dropped"], facts["texts"]) == (10, 2, 16)
    assert facts["reasons"] == {"identical answers": 1, "no room for an answer within model.max_length": 1}


def test_adapters(base: Path, tmp_path: Path) -> None:
    """They start as the reference, and the model that is written down is a whole one."""
    model = {"tuning": "lora", "lora": {"rank": 2}}
    data = rows(tmp_path / "pairs.jsonl", pairs())
    tune(settings(base, data, model=model, dpo={"loss": "ipo", "optimizer": {"lr": 1e-2}}), tmp_path / "run")
    first, last = lines(tmp_path / "run" / "dpo" / "metrics.jsonl")
    assert first["loss"] == pytest.approx(25, abs=1e-4)  # 1/(4τ²)
    assert moved(tmp_path / "run", base) > 1e-3
    row = next(row for row in unseen(tmp_path / "run", pairs()))
    assert math.isfinite(logprob(tmp_path / "run" / "dpo" / "model", row["prompt"], row["chosen"]))
    assert last["held_out/loss"] == pytest.approx(
        json.loads((tmp_path / "run" / "dpo" / "report.json").read_text())["held_out_loss"]
    )


@pytest.mark.parametrize(("loss", "content"), [("dpo", pairs()), ("kto", ratings())])
def test_the_reference_is_read_once(
    loss: str, content: list[dict[str, Any]], base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the model as it began, in DIR/dpo/reference.json; not again when the stage goes on after a stop."""

    class Killed(BaseException):
        pass

    calls = 0
    read, after = direct.read_reference, Checkpoints.after

    def counted(*given: Any) -> Any:
        nonlocal calls
        calls += 1
        return read(*given)

    def killed(self: Checkpoints, step: int) -> None:
        after(self, step)
        if step == 2:
            raise Killed

    monkeypatch.setattr(direct, "read_reference", counted)
    data = rows(tmp_path / "rows.jsonl", content)
    chosen = settings(base, data, dpo={"loss": loss, "epochs": 2}, checkpoints={"minutes": 0})
    whole, directory = tmp_path / "whole", tmp_path / "run"
    tune(chosen, whole)
    monkeypatch.setattr(Checkpoints, "after", killed)
    with pytest.raises(Killed):
        tune(chosen, directory)
    monkeypatch.setattr(Checkpoints, "after", after)
    assert calls == 2
    tune(chosen, directory)
    assert calls == 2
    same(directory, whole)
    for folder in (whole, directory):
        kept = json.loads((folder / "dpo" / "reference.json").read_text(encoding="utf-8"))
        assert kept["key"]
        found = [number for sums in kept["sums"] for number in sums]
        assert len(found) == 2 * COUNT  # of ratings each one, and beside it one that belongs elsewhere
        by_hand = {
            logprob(base, row["prompt"], row[side])
            for row in content
            for side in ("chosen", "rejected", "completion")
            if side in row
        }
        assert all(min(abs(number - other) for other in found) < 1e-4 for number in by_hand)


def test_sums_of_another_start_are_not_taken(base: Path, tmp_path: Path) -> None:
    directory = tmp_path / "run"
    (directory / "dpo").mkdir(parents=True)
    (directory / "dpo" / "reference.json").write_text('{"key": "another", "sums": []}', encoding="utf-8")
    tune(settings(base, rows(tmp_path / "pairs.jsonl", pairs())), directory)
    assert lines(directory / "dpo" / "metrics.jsonl")[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)


# Stopped and gone on with


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    given = [sys.executable, "-m", "tests.stages.runner"]
    with subprocess.Popen(
        given, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield Runner(process)
        process.stdin.close()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither fork nor these signals")
@pytest.mark.parametrize(("loss", "content"), [("cdpo", pairs()), ("kto", ratings())])
def test_killed_at_random_steps(
    loss: str, content: list[dict[str, Any]], runner: Runner, base: Path, tmp_path: Path
) -> None:
    """At a random one of the calls that make a file last, four times in a row: the end is the same to the last bit."""
    data = rows(tmp_path / "rows.jsonl", content)
    chosen = settings(base, data, dpo={"loss": loss, "epochs": 3}, checkpoints={"minutes": 0, "keep": 2})
    (tmp_path / "dpo.yaml").write_text(dump_recipe(chosen), encoding="utf-8")
    whole, directory, log = tmp_path / "whole", tmp_path / "run", tmp_path / "log"
    ended = runner.run("dpo", tmp_path, whole, fault=("fsync", 0))
    assert ended["status"] == 0, log.read_text(encoding="utf-8")
    chance = random.Random(f"kills of {loss}")
    for _ in range(4):
        at = chance.randrange(1, int(ended["calls"]) // 2)
        assert runner.run("dpo", tmp_path, directory, fault=("fsync", at))["status"] in (0, -signal.SIGKILL)
    assert runner.run("dpo", tmp_path, directory)["status"] == 0, log.read_text(encoding="utf-8")
    assert "going on after step" in log.read_text(encoding="utf-8")
    same(directory, whole)
    assert len(numbers(directory)) == {"cdpo": 6, "kto": 15}[loss]


def test_what_makes_it_anew(base: Path, tmp_path: Path) -> None:
    """Another β, other data or another limit; not how much is read at a time."""
    said: list[str] = []

    class Listening(SilentDisplay):
        def note(self, text: str) -> None:
            said.append(text)

    def again(**changes: Any) -> str:
        said.clear()
        run_stage("dpo", settings(base, data, dpo=changes), tmp_path / "run", Listening())
        return next((line for line in said if line.startswith("DPO: ") and "starts from" not in line), "")

    data = rows(tmp_path / "pairs.jsonl", pairs())
    assert again() == ""
    assert again(micro_tokens=20).endswith("finished before and unchanged, so it is kept")
    assert again(beta=0.2).startswith("DPO: made anew, because dpo.beta was null and is 0.2")
    assert again(beta=0.2, loss="ipo").startswith('DPO: made anew, because dpo.loss was "dpo" and is "ipo"')
    rows(tmp_path / "pairs.jsonl", pairs()[::-1])
    assert again(beta=0.2, loss="ipo").startswith(f"DPO: made anew, because preferences ({data}) is not what it was")


# Whole runs


def test_a_whole_run_on_own_data(base: Path, tmp_path: Path) -> None:
    """SFT, then DPO from it, judged by the reward model that is given; pairs of its own are read, not those of the
    reward model."""
    data = own_data(tmp_path / "data")
    own = rows(tmp_path / "own.jsonl", pairs())
    changes = {
        "method": "dpo",
        "dpo": {"data": own, "batch_size": 4, "optimizer": {"lr": 1e-3}},
        "evaluation": {"prompts": data["prompts"], "count": 4, "sampling": {"max_tokens": 4}},
    }
    directory = tmp_path / "run"
    summary = run(recipe(base, data, **changes), directory, SilentDisplay())
    assert list(summary.stages) == ["sft", "preferences", "reward", "dpo", "evaluation"]
    assert summary.stages["dpo"]["given"] == 12
    lineage = json.loads((directory / "dpo" / "lineage.json").read_text(encoding="utf-8"))
    assert lineage["made"]["inputs"]["preferences"]["source"] == own
    prompt = pairs()[0]
    reference = json.loads((directory / "dpo" / "reference.json").read_text(encoding="utf-8"))["sums"]
    expected = logprob(directory / "sft" / "model", prompt["prompt"], prompt["chosen"])
    assert min(abs(number - expected) for sums in reference for number in sums) < 1e-4
    assert {"answers.jsonl", "report.json"} <= {path.name for path in (directory / "evaluation").iterdir()}


def test_the_runs_own_preferences_and_earlier_ones(base: Path, tmp_path: Path) -> None:
    """Verdicts of people, and those of a run before: what a reward model would learn from."""
    chance = random.Random(2)

    def verdicts(name: str, count: int) -> dict[str, Any]:
        content = [
            {"ask": say(chance, 3), "a": say(chance, 2), "b": say(chance, 3), "x": 1 + n % 2, "y": 1 + n % 3 % 2}
            for n in range(count)
        ]
        data = rows(tmp_path / f"{name}.jsonl", content)
        return {"data": data, "prompt": ["ask"], "first": "a", "second": "b", "annotators": ["x", "y"]}

    first = settings(base, None, preferences={"labels": verdicts("first", 8)})
    facts = tune(first, tmp_path / "first")
    assert facts["pairs"] + facts["held_out_pairs"] == 8
    earlier = {"earlier": [str(tmp_path / "first" / "preferences.db")], "labels": verdicts("second", 6)}
    facts = tune(settings(base, None, preferences=earlier), tmp_path / "second")
    assert facts["pairs"] + facts["held_out_pairs"] == facts["given"] == 14
    kto = tune(settings(base, None, preferences=earlier, dpo={"loss": "kto"}), tmp_path / "third")
    assert kto["answers"] + kto["held_out_answers"] == 2 * (14 - kto["reasons"].get(TIE, 0))


def test_the_built_in_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulated people judge; there is no reward model unless it is to be the judge."""
    golds = iter(([0.0, 0.0], [1.0, 3.0], [2.0, 6.0]))  # of base, SFT and policy, on two prompts
    monkeypatch.setattr(keel.stages.evaluation, "gold", lambda space, said: next(golds))
    few: dict[str, Any] = {
        "method": "dpo",
        "preflight": "off",
        "device": "cpu",
        "dtype": "float32",
        "sft": {"limit": 16, "max_steps": 1, "batch_size": 4, "optimizer": {"lr": 1e-3}},
        "preferences": {"count": 6, "samples_per_prompt": 3, "sampling": {"max_tokens": 12}, "spammers": 1},
        "dpo": {"batch_size": 2, "held_out": 0.3, "optimizer": {"lr": 1e-4}},
        "evaluation": {"count": 2, "sampling": {"max_tokens": 8}},
    }
    summary = run(Recipe.model_validate(few), tmp_path / "run", SilentDisplay())
    assert list(summary.stages) == ["sft", "preferences", "dpo", "evaluation"]
    measured = summary.stages["evaluation"]
    assert (summary.gold_sft, summary.gold_policy) == (2, 4)
    assert measured["gold_gain"] == 2
    reach = 1.959964  # of gains 1 and 3: their deviation is √2, over √2 prompts
    assert [measured[f"gold_gain_{end}"] for end in ("low", "high")] == pytest.approx([2 - reach, 2 + reach])
    facts = summary.stages["dpo"]
    assert facts["pairs"] + facts["held_out_pairs"] == summary.stages["preferences"]["pairs"]


def test_the_command(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = rows(tmp_path / "pairs.jsonl", pairs())
    given = ["dpo", "--model", str(base), "--data", data, "--loss", "robust", "--beta", "0.2", "--batch-size", "6"]
    given += ["--dir", str(tmp_path / "run"), "--preflight", "off", "--device", "cpu", "--model.template", "plain"]
    assert command(given) == 0, capsys.readouterr().err
    assert (tmp_path / "run" / "dpo" / "model" / "model.safetensors").is_file()
    report = json.loads((tmp_path / "run" / "dpo" / "report.json").read_text(encoding="utf-8"))
    assert report["objective"] == "robust"
    assert command([*given[:3], "--dir", str(tmp_path / "other")]) == 2
    assert "dpo.data is missing" in capsys.readouterr().err


def test_a_reward_model_that_lies_in_the_folder_is_no_part_of_its_story(base: Path, tmp_path: Path) -> None:
    """Practice would lean on it; what learns straight from preferences does not, unless it is the judge."""
    directory, data = tmp_path / "run", own_data(tmp_path / "data")
    pairs_of_its_own = rows(tmp_path / "pairs.jsonl", pairs())
    run_stage("reward", recipe(base, data), directory, SilentDisplay())
    chosen = settings(base, pairs_of_its_own)
    assert "reward" not in run_stage("dpo", chosen, directory, SilentDisplay()).stages
    judged = settings(
        base, pairs_of_its_own, evaluation={"prompts": data["prompts"], "count": 4, "sampling": {"max_tokens": 4}}
    )
    summary = run(judged, directory, SilentDisplay())
    assert summary.judge == "reward"
    assert "reward" in summary.stages


@pytest.mark.parametrize(
    ("loss", "name", "value", "losses"),
    [
        ("dpo", "flips", 0.2, "cdpo or robust"),
        ("ipo", "margin", "stated", "dpo or cdpo"),
        ("dpo", "length", "mean", "ipo"),
        ("orpo", "gamma", 0.5, "simpo"),
        ("dpo", "desirable_weight", 1.2, "kto"),
        ("ipo", "undesirable_weight", 2.0, "kto"),
    ],
)
def test_settings_that_the_loss_has_no_use_for(loss: str, name: str, value: Any, losses: str) -> None:
    said = refused(lambda: load_recipe(None, {"dpo.loss": loss, f"dpo.{name}": value}))
    assert f"dpo.{name} changes nothing with dpo.loss: {loss}, but only with {losses}; leave it out" in said
    for other in losses.split(" or "):
        assert getattr(load_recipe(None, {"dpo.loss": other, f"dpo.{name}": value}).dpo, name) == value
    left = {f"dpo.{name}": Dpo.model_fields[name].default, "dpo.loss": loss}
    assert load_recipe(None, left).dpo.loss == loss  # as a recipe with every key in it has it


# What is wrong


def refused(go: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        go()
    sentence = str(caught.value)
    assert sentence
    assert "\n" not in sentence
    return sentence


ONE_PROMPT = [{"prompt": "w40", "completion": f"w{41 + n}", "label": n % 2} for n in range(4)]
TIES = [{"prompt": f"w{40 + n}", "chosen": "w50", "rejected": "w51", "probability": 0.5} for n in range(4)]
WRONG: dict[str, tuple[str, list[dict[str, Any]], str]] = {
    "a label that is none": (
        "kto",
        [{"prompt": "w40", "completion": "w41", "label": "maybe"}],
        "rows.jsonl:1: 'label' should be true or false, not 'maybe'; correct the row.",
    ),
    "no label": ("kto", [{"prompt": "w40", "completion": "w41"}], "a rated answer needs"),
    "no rejected answer": ("dpo", [{"prompt": "w40", "chosen": "w41"}], "a preference needs"),
    "labels for pairs": ("ipo", ratings(), "a preference or a ranking needs"),
    "one prompt": ("kto", ONE_PROMPT, "all rows have the same prompt"),
    "ties only": ("kto", TIES, "every pair is a tie"),
    "no rows": ("dpo", [], "rows.jsonl"),
}


@pytest.mark.parametrize("name", WRONG)
def test_data_that_cannot_be_learnt_from(name: str, base: Path, tmp_path: Path) -> None:
    """Known before anything is written."""
    loss, content, sentence = WRONG[name]
    data = rows(tmp_path / "rows.jsonl", content)
    assert sentence in refused(lambda: tune(settings(base, data, dpo={"loss": loss}), tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("loss", ["dpo", "kto"])
def test_no_answer_fits(loss: str, base: Path, tmp_path: Path) -> None:
    chance = random.Random(4)
    content = [{"prompt": say(chance, 30), "chosen": "w40", "rejected": "w41"} for _ in range(4)]
    data = rows(tmp_path / "rows.jsonl", content)
    said = refused(lambda: tune(settings(base, data, dpo={"loss": loss}), tmp_path / "run"))
    assert said == "no answer fits into model.max_length 24; allow more tokens"
    assert not (tmp_path / "run" / "dpo" / "report.json").exists()
    assert not (tmp_path / "run" / "dpo" / "model").exists()


def test_one_prompt_is_left_that_fits(base: Path, tmp_path: Path) -> None:
    """Which is only known in tokens."""
    long = {"prompt": say(random.Random(4), 30), "completion": "w40", "label": True}
    data = rows(tmp_path / "rows.jsonl", [long, *ONE_PROMPT])
    said = refused(lambda: tune(settings(base, data, dpo={"loss": "kto"}), tmp_path / "run"))
    assert said.startswith("kto compares an answer with those to other prompts")


def test_only_good_answers(base: Path, tmp_path: Path) -> None:
    """The preflight stops it, unless it is told not to."""
    data = rows(tmp_path / "rows.jsonl", [row | {"label": True} for row in ratings()])
    chosen = settings(base, data, dpo={"loss": "kto"}, preflight="stop")
    said = refused(lambda: tune(chosen, tmp_path / "run"))
    assert said.startswith("DPO was not started, for “Good and bad answers” would spoil it")
    assert not (tmp_path / "run" / "dpo" / "metrics.jsonl").exists()
    assert "rejected" not in tune(settings(base, data, dpo={"loss": "kto"}), tmp_path / "other")


# Single answers from whatever there is, and those that belong elsewhere


def test_what_is_good_and_what_is_bad() -> None:
    asked = (Message("user", "q"),)
    a, b, c = ((Message("assistant", text),) for text in "abc")
    given = [
        Preference(asked, a, b),
        Preference(asked, a, b, 0.2),
        Preference(asked, a, b, 0.5),
        Ranking(asked, (c, a, b)),
        Rated(asked, c, False),
    ]
    assert rated(given) == [
        Rated(asked, a, True), Rated(asked, b, False), Rated(asked, a, False), Rated(asked, b, True),
        Rated(asked, c, True), Rated(asked, b, False), Rated(asked, c, False),
    ]  # fmt: skip


def tree(trunk: int, *tokens: int) -> Tree:
    return Tree((trunk,), (Branch(tokens, (True,) * len(tokens)),))


@pytest.mark.parametrize("trunks", [[1, 2], [1, 1, 1, 2], [1, 2, 1, 3, 1, 1, 1, 1], list(range(20)) * 2])
def test_every_prompt_gets_the_answer_to_another(trunks: list[int]) -> None:
    trees = [tree(trunk, 100 + trunk, place) for place, trunk in enumerate(trunks)]
    for seed in range(5):
        found = elsewhere(trees, seed)
        assert [one.trunk for one in found] == [one.trunk for one in trees]
        assert all(one.branches[0].tokens[0] - 100 != one.trunk[0] for one in found)
        assert found == elsewhere(trees, seed)
    drawn = {one.branches for seed in range(5) for one in elsewhere(trees, seed)[:1]}
    assert drawn <= {one.branches for one in trees}
    assert len(trunks) < 20 or len(drawn) > 1  # another seed, another answer
    for one in trees[:1], [tree(1, 5), tree(1, 6)]:
        with pytest.raises(UserError, match="all rows have the same prompt"):
            elsewhere(one, 0)


def labelled(trunks: Sequence[int]) -> list[Labelled]:
    return [Labelled(tree(trunk, 100 + place), place % 2 == 0) for place, trunk in enumerate(trunks)]


def test_an_answer_that_is_held_out_is_beside_none_that_is_trained_on() -> None:
    for seed in range(5):
        singles = labelled([*range(12), *range(12)])
        training, held_out = matched(singles, 0.25, seed, None)
        assert (len(training), len(held_out)) == (18, 6)
        for part in (training, held_out):
            own = {one.tree.branches for one in part}
            assert {one.mismatched.branches for one in part} <= own
            assert all(one.mismatched.trunk == one.tree.trunk for one in part)
            assert all(trunk_of(singles, one.mismatched) != one.tree.trunk for one in part)
        assert {(one.tree, one.desirable) for one in (*training, *held_out)} == {
            (one.tree, one.desirable) for one in singles
        }


def trunk_of(singles: Sequence[Labelled], other: Tree) -> tuple[int, ...]:
    """The prompt that an answer was given to."""
    (found,) = (one.tree.trunk for one in singles if one.tree.branches == other.branches)
    return found


def test_a_part_of_one_prompt_is_matched_with_all() -> None:
    """One prompt is held out, and no other is beside it there."""
    singles = labelled([1, 2, 3, 4])
    training, (alone,) = matched(singles, 0.25, 0, None)
    assert alone.mismatched.branches in {one.tree.branches for one in training}
    assert alone.tree.branches not in {one.mismatched.branches for one in training}
    assert matched(labelled([1, 2]), 0.0, 0, None)[1] == []
    with pytest.raises(UserError, match="all rows have the same prompt"):
        matched(labelled([1, 1]), 0.5, 0, None)


def test_a_long_prompt_with_a_long_answer_to_another_is_cut() -> None:
    """Each fits by itself; together they would be longer than the model reads."""
    long = Tree((1,) * 7, (Branch((5,), (True,)),))
    short = Tree((2,), (Branch((6, 7, 8, 9), (True, False, True, True)),))
    first, second = elsewhere([long, short], 0, most=9)
    assert first == Tree(long.trunk, (Branch((6, 7), (True, False)),))
    assert second == Tree(short.trunk, long.branches)


def test_what_the_stage_leaves_behind(base: Path, tmp_path: Path) -> None:
    """Beside the model: the report, the log, the lineage, the prompts and the reference's sums."""
    directory = tmp_path / "run"
    tune(settings(base, rows(tmp_path / "pairs.jsonl", pairs())), directory)
    shutil.rmtree(directory / "dpo" / "events", ignore_errors=True)
    assert {path.name for path in (directory / "dpo").iterdir()} == {
        "lineage.json", "metrics.jsonl", "model", "prompts.txt", "reference.json", "report.json"
    }  # fmt: skip
