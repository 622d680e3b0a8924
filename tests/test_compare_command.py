"""`keel compare` as it is called: what it hands on, what it writes, and what it refuses before anything runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from keel import cli, trials
from keel.commands.compare import _of_the_task
from keel.config import ONLINE, PRESETS
from keel.config.load import build
from keel.config.recipe import Recipe
from keel.config.source import Source
from keel.diagnostics.bout import Bout, Trial
from keel.display import Display

FOUND = Bout(
    (Trial("ppo", 3, "gold", 0.625, 0.5, 0.75, 2.0, 2.5, 0.2, 0.8, 1.0, 4.0, 30.0, 60.0, "seed-3/ppo"),),
    {"ppo": "PPO"},
)


class Asked:
    """Stands in for the comparison, and remembers what it was asked to do and told meanwhile."""

    def __init__(self) -> None:
        self.calls: list[tuple[Source, list[trials.Contender], list[int], Path]] = []
        self.others: list[str] = []
        self.found = FOUND

    def __call__(
        self,
        source: Source,
        methods: Sequence[trials.Contender],
        seeds: Sequence[int],
        directory: Path,
        display: Display,
        others: Sequence[trials.Contender] = (),
    ) -> Bout:
        self.calls.append((source, list(methods), list(seeds), directory))
        self.others = [one.name for one in others]
        return self.found


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Asked:
    """No comparison, in an empty folder."""
    found = Asked()
    monkeypatch.setattr(trials, "compare", found)
    monkeypatch.chdir(tmp_path)
    return found


def changes(one: trials.Contender) -> dict[str, Any]:
    return {change.field: change.value for change in one.changes}


def test_without_a_recipe_it_is_the_task_of_the_demo(asked: Asked, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["compare"]) == 0
    ((source, methods, seeds, directory),) = asked.calls
    assert [one.name for one in methods] == ["ppo", "grpo", "rloo", "dpo"]
    assert seeds == [0, 1, 2]
    assert directory == Path("runs/compared")
    assert build(source, Recipe).task == "town_desk"
    assert changes(methods[3])["dpo.optimizer.lr"] > Recipe().dpo.optimizer.lr  # settings that come with Keel
    printed = capsys.readouterr().out
    assert "ppo" in printed
    assert "62.5" in printed
    assert printed.endswith("\nThe page is in runs/compared/methods.html\n")
    assert "settings that come with Keel for this task are used for grpo, rloo, dpo (tasks/town_desk/" in printed
    assert sorted([*asked.others, "ppo", "grpo", "rloo", "dpo"]) == sorted(trials.NAMES)


def test_settings_that_come_with_keel_are_for_its_own_task_alone(
    asked: Asked, capsys: pytest.CaptureFixture[str]
) -> None:
    """A recipe of that task has them too; one's own data have none."""
    Path("mine.yaml").write_text("rl: {updates: 7}\n", encoding="utf-8")
    Path("own.yaml").write_text("task: null\nrl: {updates: 7}\n", encoding="utf-8")
    for name in ("mine", "own"):
        given = ["compare", f"{name}.yaml", "--methods", "dpo, ipo", "--seeds", "5, 3", "--rl.clip", "0.3"]
        assert cli.run(given) == 0
        source, methods, seeds, directory = asked.calls[-1]
        said = {"dpo.batch_size": 32, "dpo.epochs": 2, "dpo.optimizer.lr": 3e-4} if name == "mine" else {}
        assert [changes(one) for one in methods] == [
            {"method": "dpo"} | said,
            {"method": "dpo", "dpo.loss": "ipo"} | said,
        ]
        assert seeds == [5, 3]
        assert directory == Path(f"runs/{name}")
        assert (build(source, Recipe).rl.updates, build(source, Recipe).rl.clip) == (7, 0.3)
        assert ("come with Keel" in capsys.readouterr().out) is (name == "mine")


def made(asked: Asked) -> dict[str, Recipe]:
    """The recipe of each method."""
    source, methods, _, _ = asked.calls[-1]
    found = {}
    for one in methods:
        mine = source
        for change in one.changes:
            mine = mine.overridden(change.field, change.value, change.origin)
        found[one.name] = build(mine, Recipe)
    return found


def test_flags_win_over_the_settings_of_a_method(asked: Asked) -> None:
    """Those that come with Keel, and those of a file, by either name of a section; what has no flag stays."""
    argv = ["compare", "--methods", "dpo,grpo,rloo", "--dpo.epochs", "1", "--ppo.kl.coef", "0.15", "--rl.updates", "9"]
    assert cli.run(argv) == 0
    found = made(asked)
    assert (found["dpo"].dpo.epochs, found["dpo"].dpo.batch_size) == (1, 32)
    assert {one.rl.kl.coef for one in found.values()} == {0.15}
    assert {one.rl.updates for one in found.values()} == {9}
    assert found["rloo"].rl.optimizer.lr == 5e-4
    Path("own.yaml").write_text("grpo: {rl: {clip: 0.1, kl: {coef: 0.3}}}\n", encoding="utf-8")
    assert cli.run(["compare", "--methods", "grpo,ppo", "--with", "own.yaml", "--rl.clip", "0.25"]) == 0
    assert (made(asked)["grpo"].rl.clip, made(asked)["grpo"].rl.kl.coef) == (0.25, 0.3)
    assert (made(asked)["ppo"].rl.clip, made(asked)["ppo"].rl.kl.coef) == (0.25, 0.1)


def test_a_loss_that_the_name_says_is_not_the_flags(asked: Asked) -> None:
    assert cli.run(["compare", "--methods", "dpo,ipo", "--dpo.loss", "orpo"]) == 0
    assert [one.dpo.loss for one in made(asked).values()] == ["orpo", "ipo"]


def test_methods_whose_source_has_no_kl_have_none_here() -> None:
    """The rows of the comparison are those of docs/algorithms.md."""
    said = _of_the_task().values
    free = [name for name in ONLINE if PRESETS[name].choices.get("kl", {}).get("coef") == 0]
    assert {"dr-grpo", "dapo", "gspo", "cispo", "rft", "online-dpo"} <= set(free)
    assert [said[name]["rl.kl.coef"] for name in free] == [0.0] * len(free)


def test_what_failed_is_said_one_by_one(asked: Asked, capsys: pytest.CaptureFixture[str]) -> None:
    """The rest is reported all the same."""
    asked.found = replace(FOUND, failures=("method dpo, seed 3: no", "method kto, seed 3: no more"))
    assert cli.run(["compare"]) == 2
    out, err = capsys.readouterr()
    assert "62.5" in out
    assert err == "keel: error: method dpo, seed 3: no\nkeel: error: method kto, seed 3: no more\n"


def test_a_setting_of_a_loss_that_only_some_methods_have(asked: Asked, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["compare", "--methods", "dpo,cdpo", "--dpo.flips", "0.2"]) == 0
    assert cli.run(["compare", "--methods", "dpo,ipo", "--dpo.flips", "0.2"]) == 2
    assert "--dpo.flips changes nothing with dpo.loss: dpo, but only with cdpo or robust" in capsys.readouterr().err
    assert len(asked.calls) == 1


def test_settings_of_ones_own(asked: Asked) -> None:
    Path("own.yaml").write_text("grpo: {rl.samples_per_prompt: 4}\nrloo: {rl.clip: 0.1}\n", encoding="utf-8")
    assert cli.run(["compare", "--methods", "grpo,dpo", "--with", "own.yaml", "--dir", "here"]) == 0
    ((_, methods, _, directory),) = asked.calls
    assert [changes(one) for one in methods] == [{"method": "grpo", "rl.samples_per_prompt": 4}, {"method": "dpo"}]
    assert directory == Path("here")


def test_json_is_all_that_is_printed(asked: Asked, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["compare", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == FOUND.to_json()


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--methods", "ppo,grop"], "there is no method 'grop' (did you mean 'grpo'?)"),
        (["--methods", "ppo,dpo,ppo"], "method ppo is named twice"),
        (["--methods", ""], "there is no method ''"),
        (["--seeds", "0,one"], "--seeds 0,one: give different whole numbers, as in 0,1,2"),
        (["--seeds", "0,1,00"], "--seeds 0,1,00: give different whole numbers"),
        (["--seeds", "²"], "--seeds ²: give different whole numbers"),
        (["--seeds", "-1"], "--seeds -1: give different whole numbers"),
        (["--seeds", ""], "--seeds : give different whole numbers"),
        (["--seeds", "9" * 500], "--seeds 999"),
        (["--seed", "3"], "--seed: a comparison has several; give them with --seeds"),
        (["--method", "grpo"], "--method: a comparison has several; give them with --methods"),
        (["--with", "nowhere.yaml"], "--with nowhere.yaml: there is no such file"),
        (["--with", "broken.yaml"], "broken.yaml:1: not valid YAML"),
        (["--with", "list.yaml"], "list.yaml:1: a recipe is made of"),
        (["--with", "number.yaml"], "number.yaml:2: grpo must hold settings"),
        (["--with", "unknown.yaml"], "unknown.yaml:1: there is no method 'gropo' (did you mean 'grpo'?)"),
        (["nowhere.yaml"], "there is no recipe nowhere.yaml"),
        (["--rl.clip", "2"], "--rl.clip must be at most 1"),
        (["--method_s", "ppo"], "there is no flag --method_s"),
    ],
)
def test_mistakes_are_one_sentence(
    argv: list[str], sentence: str, asked: Asked, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in (
        ("broken", "grpo: {rl.clip: 0.1"),
        ("list", "- grpo"),
        ("number", "ppo: {}\ngrpo: 3"),
        ("unknown", "gropo: {rl.clip: 0.1}"),
    ):
        Path(f"{name}.yaml").write_text(text, encoding="utf-8")
    assert cli.run(["compare", *argv]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"keel: error: {sentence}")
    assert err.count("\n") == 1
    assert not asked.calls
    assert not Path("runs").exists()


@pytest.mark.parametrize("method", trials.NAMES)
def test_every_method_can_be_compared_on_the_task_of_the_demo(method: str, asked: Asked) -> None:
    """The settings that come with Keel make a recipe of each."""
    assert cli.run(["compare", "--methods", method, "--seeds", "0"]) == 0
    ((source, (one,), _, _),) = asked.calls
    for change in one.changes:
        source = source.overridden(change.field, change.value, change.origin)
    recipe = build(source, Recipe)
    assert (recipe.method, recipe.dpo.loss) == (("dpo", method) if method in trials.LOSSES else (method, "dpo"))
