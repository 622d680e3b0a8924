"""`keel compare` as it is called: what it hands on, what it writes, and what it refuses before anything runs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from keel import cli, trials
from keel.config.load import build
from keel.config.recipe import Recipe
from keel.config.source import Source
from keel.diagnostics.bout import Bout, Trial
from keel.display import Display

FOUND = Bout(
    (Trial("ppo", 3, "gold", 0.625, 0.5, 0.75, 2.0, 2.5, 1.0, 4.0, 30.0, 60.0, "seed-3/ppo"),),
    {"ppo": "PPO"},
)


class Asked:
    """Stands in for the comparison, and remembers what it was asked to do."""

    def __init__(self) -> None:
        self.calls: list[tuple[Source, list[trials.Contender], list[int], Path]] = []

    def __call__(
        self,
        source: Source,
        methods: Sequence[trials.Contender],
        seeds: Sequence[int],
        directory: Path,
        display: Display,
    ) -> Bout:
        directory.mkdir(parents=True)
        self.calls.append((source, list(methods), list(seeds), directory))
        return FOUND


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
    assert "PPO, alone" in Path("runs/compared/methods.html").read_text(encoding="utf-8")


def test_settings_that_come_with_keel_are_for_its_own_task_alone(asked: Asked) -> None:
    Path("mine.yaml").write_text("rl: {updates: 7}\n", encoding="utf-8")
    assert cli.run(["compare", "mine.yaml", "--methods", "dpo, ipo", "--seeds", "5, 3", "--rl.clip", "0.3"]) == 0
    ((source, methods, seeds, directory),) = asked.calls
    assert [changes(one) for one in methods] == [{"method": "dpo"}, {"method": "dpo", "dpo.loss": "ipo"}]
    assert seeds == [5, 3]
    assert directory == Path("runs/mine")
    assert (build(source, Recipe).rl.updates, build(source, Recipe).rl.clip) == (7, 0.3)


def test_settings_of_ones_own(asked: Asked) -> None:
    Path("own.yaml").write_text("grpo: {rl.samples_per_prompt: 4}\nrloo: {rl.clip: 0.1}\n", encoding="utf-8")
    assert cli.run(["compare", "--methods", "grpo,dpo", "--with", "own.yaml", "--dir", "here"]) == 0
    ((_, methods, _, directory),) = asked.calls
    assert [changes(one) for one in methods] == [{"method": "grpo", "rl.samples_per_prompt": 4}, {"method": "dpo"}]
    assert directory == Path("here")


def test_json_is_all_that_is_printed(asked: Asked, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["compare", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == FOUND.to_json()
    assert Path("runs/compared/methods.html").is_file()


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
