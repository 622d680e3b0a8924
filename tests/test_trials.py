"""Several methods on one task: they begin alike, what is there is kept, and what cannot be is said before all else."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from functools import reduce
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from keel import trials
from keel.config import ONLINE, RewardTerm, load_recipe
from keel.config.load import read
from keel.config.section import leaves
from keel.config.source import Source, parse
from keel.diagnostics.bout import Bout
from keel.display import PlainDisplay, SilentDisplay
from keel.errors import UserError
from keel.stages.lineage import Lineage
from keel.summary import Summary
from keel.training.checkpoint import Checkpoints

pytestmark = pytest.mark.usefixtures("unchecked_shapes")

FEW: dict[str, Any] = {
    "log.to": [], "preflight": "off", "sft.limit": 32, "sft.batch_size": 8, "sft.max_steps": 1,
    "preferences.count": 16, "preferences.sampling.max_tokens": 16, "reward.batch_size": 8, "reward.max_steps": 1,
    "rl.limit": 32, "rl.updates": 1, "rl.critic.warmup_updates": 0, "rl.batch_size": 8, "rl.sampling.max_tokens": 8,
    "dpo.batch_size": 8, "dpo.max_steps": 1, "evaluation.count": 4, "evaluation.sampling.max_tokens": 16,
}  # fmt: skip
"""Few of everything: what is shared and kept does not hang on how much was learnt."""
METHODS = ("ppo", "grpo", "dpo", "kto")
GROUPS = parse("grpo: {rl: {samples_per_prompt: 4}}", "mine.yaml")


def recipe(**changes: Any) -> Source:
    """Every stage with few of everything."""
    source = read(Path("recipes/smoke.yaml"))
    for field, value in {**FEW, **changes}.items():
        source = source.overridden(field, value, f"test, {field}")
    return source


def run(
    directory: Path, methods: tuple[str, ...], seeds: list[int], own: Source = GROUPS, **changes: Any
) -> tuple[Bout, list[str]]:
    """What a comparison came to, and what it said; methods that are not named stay in the table."""
    said: list[str] = []
    chosen = trials.contenders(methods, own)
    others = trials.contenders([name for name in METHODS if name not in methods], own)
    found = trials.compare(recipe(**changes), chosen, seeds, directory, PlainDisplay(said.append), others)
    return found, said


def listed(bout: Bout) -> list[tuple[int, str]]:
    return [(one.seed, one.name) for one in bout.trials]


def written(directory: Path) -> dict[str, Any]:
    """methods.json; the page beside it is of the same trials."""
    found: dict[str, Any] = json.loads((directory / "methods.json").read_text(encoding="utf-8"))
    page = (directory / "methods.html").read_text(encoding="utf-8")
    assert all(one["directory"] in page for one in found["trials"])
    assert page.count('<span class="break">seed-') == len(found["trials"])
    return found


def kept(said: list[str]) -> int:
    return sum("so it is kept" in line for line in said)


def made_anew(said: list[str]) -> list[str]:
    return [line for line in said if "made anew" in line]


@dataclass(frozen=True)
class Compared:
    """Four methods from one seed, and then two of them from one more; what each time was said and came of it."""

    directory: Path
    first: Bout
    second: Bout
    said: list[str]
    said_again: list[str]

    def copied(self, place: Path, *parts: str) -> None:
        """Some of what it left of the first seed, in another folder."""
        for part in parts:
            shutil.copytree(self.directory / "seed-0" / part, place / "seed-0" / part)
        for database in (self.directory / "seed-0" / "before").glob("preferences.db*"):
            shutil.copy2(database, place / "seed-0" / "before")


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Compared:
    directory = tmp_path_factory.mktemp("compared")
    first, said = run(directory, METHODS, [0])
    second, said_again = run(directory, ("ppo", "dpo"), [0, 1])
    return Compared(directory, first, second, said, said_again)


def test_what_methods_share_is_made_once_for_each_seed(compared: Compared) -> None:
    assert kept(compared.said) == 3 + 3 + 2 + 2  # in each folder SFT, preferences, and of two a reward model
    assert kept(compared.said_again) == (3 + 5 + 4) + (3 + 2)  # all of the seed that was there; of the new one as above
    assert not made_anew([*compared.said, *compared.said_again])
    for seed, methods in ((0, METHODS), (1, ("ppo", "dpo"))):
        folder = compared.directory / f"seed-{seed}"
        for stage in ("sft", "preferences", "reward"):
            shared = Lineage.read(folder / "before" / stage)
            assert shared is not None
            assert shared.outputs
            among = [name for name in methods if stage != "reward" or name in ("ppo", "grpo")]
            assert [Lineage.read(folder / name / stage) for name in among] == [shared] * len(among)
    first, second = (Lineage.read(compared.directory / f"seed-{seed}" / "before" / "sft") for seed in (0, 1))
    assert first
    assert second
    assert first.outputs != second.outputs


def test_every_policy_starts_from_the_model_that_all_share(compared: Compared) -> None:
    for seed, name in [*((0, name) for name in METHODS), (1, "ppo"), (1, "dpo")]:
        shared = Lineage.read(compared.directory / f"seed-{seed}" / "before" / "sft")
        policy = Lineage.read(compared.directory / f"seed-{seed}" / name / ("dpo" if name == "kto" else name))
        assert shared
        assert policy
        assert policy.made.inputs["model"].fingerprint == shared.outputs["model"]
        assert policy.made.settings["seed"] == seed
        assert policy.outputs["model"] != shared.outputs["model"]


def test_weights_that_are_shared_lie_on_the_disk_once(compared: Compared) -> None:
    (shared,) = (compared.directory / "seed-0" / "before" / "sft" / "model").glob("*.safetensors")
    assert shared.stat().st_nlink == 1 + len(METHODS)


def test_trials_hold_what_the_summaries_say(compared: Compared) -> None:
    bout = compared.second
    named = [(0, "ppo"), (0, "dpo"), (0, "grpo"), (0, "kto"), (1, "ppo"), (1, "dpo")]
    assert listed(bout) == named  # those that were not named again come after those that were
    assert bout.shared == ("sft", "preferences", "reward")
    assert not bout.failures
    assert compared.first.titles == {"ppo": "PPO", "grpo": "GRPO", "dpo": "DPO", "kto": "KTO"}
    for one in (*compared.first.trials, *bout.trials):
        method = "dpo" if one.name == "kto" else one.name
        said = json.loads((compared.directory / one.directory / "summary.json").read_text(encoding="utf-8"))
        assert (one.win_rate, one.kl, one.judge) == (said["win_rate"], said["kl"], "gold")
        assert (one.gold_before, one.gold) == (said["gold_sft"], said[f"gold_{method}"])
        assert one.length == said["stages"]["evaluation"][f"length_{method}"]
        measured = said["stages"]["evaluation"]
        assert (one.gain_low, one.gain_high) == (measured["gold_gain_low"], measured["gold_gain_high"])
        assert one.gain == pytest.approx(measured["gold_gain"])
        assert (one.gain_low or 0) <= measured["gold_gain"] <= (one.gain_high or 0)
        trained = [method, *(["reward"] if method in ("ppo", "grpo") else [])]
        assert one.seconds == sum(said["stages"][stage]["seconds"] for stage in trained)
        assert (compared.directory / one.directory / "report.html").is_file()
    assert len({one.gold_before for one in compared.first.trials}) == 1  # all are measured from one model


def test_the_same_command_keeps_all_and_one_more_method_makes_only_what_is_new(compared: Compared) -> None:
    again, said = run(compared.directory, METHODS, [0])
    assert listed(again) == [(0, name) for name in METHODS] + [(1, "ppo"), (1, "dpo")]
    assert again.trials[: len(METHODS)] == compared.first.trials
    assert kept(said) == 3 + 5 + 5 + 4 + 4
    assert not made_anew(said)
    assert written(compared.directory) == again.to_json()

    more, said = run(compared.directory, ("dpo", "ipo"), [0])
    assert kept(said) == 2 + 4 + 2  # no reward model where no method learns from one
    assert not made_anew(said)
    assert listed(more) == [(0, "dpo"), (0, "ipo"), (0, "ppo"), (0, "grpo"), (0, "kto"), (1, "dpo"), (1, "ppo")]
    assert more.trials[0] == compared.first.trials[METHODS.index("dpo")]
    assert written(compared.directory) == more.to_json()


def test_trials_of_another_recipe_leave_the_table(compared: Compared, tmp_path: Path) -> None:
    """A rate of dpo changes what dpo is, and a count of evaluation what all are; the runs stay where they are."""
    compared.copied(tmp_path, "before", "dpo", "grpo")
    found, _ = run(tmp_path, ("dpo",), [0])
    assert listed(found) == [(0, "dpo"), (0, "grpo")]
    found, _ = run(tmp_path, ("grpo",), [0], **{"dpo.optimizer.lr": 3e-3})
    assert listed(found) == [(0, "grpo")]
    found, _ = run(tmp_path, ("dpo",), [0], **{"evaluation.count": 5})
    assert listed(found) == [(0, "dpo")]
    assert (tmp_path / "seed-0" / "grpo" / "summary.json").is_file()


def test_a_reward_model_that_comes_later_changes_no_method_that_needs_none(compared: Compared, tmp_path: Path) -> None:
    compared.copied(tmp_path, "before/sft", "before/preferences", "dpo")
    _, said = run(tmp_path, ("dpo",), [0])
    assert kept(said) == 2 + 4
    assert not (tmp_path / "seed-0" / "before" / "reward").exists()
    _, said = run(tmp_path, ("dpo", "ppo"), [0])
    assert not made_anew(said)
    assert kept(said) == 2 + 4 + 3


def test_a_change_of_what_is_shared_is_made_once_and_loses_nothing(compared: Compared, tmp_path: Path) -> None:
    compared.copied(tmp_path, "before", "dpo")
    place = tmp_path / "seed-0" / "dpo"
    old = Lineage.read(place / "sft")
    _, said = run(tmp_path, ("dpo",), [0], **{"sft.limit": 24})
    new = Lineage.read(tmp_path / "seed-0" / "before" / "sft")
    assert new != old
    assert Lineage.read(place / "sft") == new
    assert Lineage.read(place / "replaced" / "sft-1") == old
    assert (place / "replaced" / "preferences-1" / "preferences.db").is_file()
    assert (place / "preferences.db").is_file()
    assert kept(said) == 2  # in the method's folder, what was made anew in the one before


def test_a_method_that_fails_takes_no_other_with_it(
    compared: Compared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared.copied(tmp_path, "before", "dpo", "kto")
    made = trials.pipeline.run

    def failing(one: Any, directory: Path, display: Any) -> Any:
        if one.method == "grpo":
            raise UserError("the disk is full")
        return made(one, directory, display)

    monkeypatch.setattr(trials.pipeline, "run", failing)
    found, said = run(tmp_path, ("dpo", "grpo", "kto"), [0])
    assert found.failures == ("method grpo, seed 0: the disk is full",)
    assert found.failures[0] in said
    assert listed(found) == [(0, "dpo"), (0, "kto")]
    assert written(tmp_path) == found.to_json()
    assert "the disk is full" in (tmp_path / "methods.html").read_text(encoding="utf-8")
    monkeypatch.undo()
    found, _ = run(tmp_path, ("dpo", "grpo", "kto"), [0])
    assert not found.failures
    assert listed(found) == [(0, "dpo"), (0, "grpo"), (0, "kto")]


def test_a_method_that_fails_once_keeps_its_place(
    compared: Compared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that was named first is what the others are paired with, for the seeds that it has."""
    shutil.copytree(compared.directory, tmp_path / "runs")
    made = trials.pipeline.run

    def failing(one: Any, directory: Path, display: Any) -> Any:
        if (one.method, one.seed) == ("ppo", 0):
            raise UserError("no")
        return made(one, directory, display)

    monkeypatch.setattr(trials.pipeline, "run", failing)
    found, _ = run(tmp_path / "runs", ("ppo", "dpo"), [0, 1])
    assert listed(found)[0] == (0, "dpo")
    assert [row.name for row in found.rows()] == ["ppo", "dpo", "grpo", "kto"]
    assert [row.seeds for row in found.rows()] == [1, 2, 1, 1]
    assert found.rows()[1].rate_ahead.seeds == 1


def test_a_seed_whose_beginnings_fail_takes_no_other_with_it(
    compared: Compared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared.copied(tmp_path, "before", "dpo")
    made = trials.pipeline.run_before

    def failing(one: Any, directory: Path, display: Any) -> Any:
        if one.seed == 7:
            raise UserError("nothing fits")
        return made(one, directory, display)

    monkeypatch.setattr(trials.pipeline, "run_before", failing)
    found, _ = run(tmp_path, ("dpo",), [7, 0])
    assert found.failures == ("seed 7, what all methods begin with: nothing fits",)
    assert listed(found) == [(0, "dpo")]
    assert written(tmp_path) == found.to_json()


class Interrupted(BaseException):
    """As Ctrl-C, which no stage takes for a fault."""


def test_a_comparison_that_is_stopped_within_a_method_goes_on_there(
    compared: Compared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was finished is in the table; the same command goes on after the step that is kept, to the same weights."""
    compared.copied(tmp_path, "before", "dpo")
    steps = {"rl.updates": 3, "checkpoints.minutes": 0}
    after = Checkpoints.after

    def stopping(self: Checkpoints, step: int) -> None:
        after(self, step)
        if step == 2:
            raise Interrupted

    monkeypatch.setattr(Checkpoints, "after", stopping)
    with pytest.raises(Interrupted):
        run(tmp_path, ("dpo", "grpo", "kto"), [0], **steps)
    monkeypatch.undo()
    assert [one["name"] for one in written(tmp_path)["trials"]] == ["dpo"]
    assert not (tmp_path / "seed-0" / "kto").exists()
    found, said = run(tmp_path, ("dpo", "grpo"), [0], **steps)
    assert listed(found) == [(0, "dpo"), (0, "grpo")]
    assert not made_anew(said)
    place = tmp_path / "seed-0" / "grpo" / "grpo"
    stopped = Lineage.read(place)
    assert stopped is not None
    assert [one.step for one in stopped.resumed] == [2]
    compared.copied(tmp_path / "whole", "before")
    run(tmp_path / "whole", ("grpo",), [0], **steps)
    whole = Lineage.read(tmp_path / "whole" / "seed-0" / "grpo" / "grpo")
    assert whole is not None
    assert whole.outputs == stopped.outputs
    assert not whole.resumed


def test_seconds_are_those_of_what_was_trained_for_it(tmp_path: Path) -> None:
    """A reward model that is given, or judges only, is none of a method's own."""
    own = RewardTerm()
    given, function = own.model_copy(update={"path": "there"}), RewardTerm(kind="function", path="mine.py:score")
    for terms, method, seconds in (
        ((own,), "grpo", 12.0), ((function, own), "grpo", 12.0), ((given,), "grpo", 2.0), ((function,), "grpo", 2.0),
        ((own,), "dpo", 2.0),
    ):  # fmt: skip
        made = load_recipe(None, {"method": method})
        made = made.model_copy(update={"rl": made.rl.model_copy(update={"reward": terms})})
        stages = {name: {"seconds": spent, "peak_mb": 1.0} for name, spent in (("reward", 10.0), (method, 2.0))}
        summary = Summary.of(stages, 12.0, 1.0, 0, {}, made.method, tmp_path / "seed-0" / method)
        assert trials._trial(method, 0, made, summary, tmp_path).seconds == seconds


@pytest.mark.parametrize(
    ("method", "changes", "shared"),
    [
        ("ppo", {}, ("sft", "preferences", "reward")),
        ("dpo", {}, ("sft", "preferences")),
        ("dpo", {"evaluation.judge": "reward"}, ("sft", "preferences")),
        ("ppo", {"rl.reward": [{"kind": "function", "path": "mine.py:score"}]}, ("sft",)),
        ("ppo", {"task": None, "rl.prompts": "asked.jsonl", "rl.reward": [{"path": "there"}]}, ()),
        ("dpo", {"task": None, "dpo.data": "pairs.jsonl", "sft.data": "said.jsonl"}, ("sft",)),
    ],
)
def test_what_is_said_to_be_shared_is(method: str, changes: dict[str, Any], shared: tuple[str, ...]) -> None:
    assert trials._alike_before([load_recipe(None, {"method": method, **changes})]) == shared


def test_pairs_of_ones_own_are_not_the_preferences_of_a_reward_model() -> None:
    both = [load_recipe(None, {"method": name, "task": None, "rl.prompts": "asked.jsonl", "reward.data": "pairs.jsonl",
                               "dpo.data": "others.jsonl"}) for name in ("ppo", "dpo")]  # fmt: skip
    assert trials._alike_before(both) == ("reward",)


@pytest.mark.parametrize(
    ("names", "settings", "sentence"),
    [
        (("ppo", "rlo"), "", "there is no method 'rlo' (did you mean 'rloo'?); there are ppo, grpo, "),
        (("ppo", "dpo", "ppo"), "", "method ppo is named twice; name each once"),
        (("ppo",), "gprp: {rl.clip: 0.1}", "mine.yaml:1: there is no method 'gprp' (did you mean 'grpo'?)"),
        (("ppo",), "\ngrpo: 3", "mine.yaml:2: grpo must hold settings, as in `grpo: {rl.kl.coef: 0.1}`"),
        (("ppo",), "ppo:\n  rl.clip: 0.1\n  sft: {epochs: 2}", "mine.yaml:3: sft.epochs cannot be ppo's alone"),
        (("ppo",), "ppo: {seed: 3}", "mine.yaml:1: seed cannot be ppo's alone"),
        (("dpo",), "dpo: {dpo.data: other.jsonl}", "mine.yaml:1: dpo.data cannot be dpo's alone"),
        (("ppo",), "ppo: {rl: {prompts: a.jsonl}}", "mine.yaml:1: rl.prompts cannot be ppo's alone"),
        (("ppo",), "ppo: {rl.columns: {prompt: q}}", "mine.yaml:1: rl.columns cannot be ppo's alone"),
        (("ppo",), "ppo: {ppo.columns.prompt: q}", "mine.yaml:1: rl.columns.prompt cannot be ppo's alone"),
        (("ppo",), "ppo: {rl.reward: [{path: there}]}", "mine.yaml:1: rl.reward cannot be ppo's alone"),
        (("ppo",), "ppo: {evaluation.judge: reward}", "mine.yaml:1: evaluation.judge cannot be ppo's alone"),
        (("ipo",), "ipo: {dpo.loss: kto}", "mine.yaml:1: ipo is dpo.loss: ipo; leave dpo.loss out here"),
        (("ppo",), "ppo:\n  rl.clip: 0.1\n  rl: {clip: 0.2}", "mine.yaml:3: rl.clip is given twice for ppo"),
        (("ppo",), "ppo: {ppo.clip: 0.1, rl.clip: 0.2}", "mine.yaml:1: rl.clip is given twice for ppo"),
    ],
)
def test_what_no_comparison_can_be_of(names: tuple[str, ...], settings: str, sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        trials.contenders(names, parse(settings, "mine.yaml") if settings else Source())
    assert str(caught.value).startswith(sentence)


def test_settings_may_be_dotted_or_nested() -> None:
    dotted = parse("grpo: {rl.kl.coef: 0.1, rl.kl.place: loss, rl.clip: 0.3}", "a")
    nested = parse("grpo: {rl: {kl: {coef: 0.1, place: loss}, clip: 0.3, sampling: }}", "a")
    mixed = parse("grpo: {ppo.kl: {coef: 0.1, place: loss}, rl: {clip: 0.3}}", "a")
    found = [trials.contenders(["grpo"], one) for one in (dotted, nested, mixed)]
    assert found[0] == found[1] == found[2]
    (one,) = found[0]
    assert {change.field: change.value for change in one.changes} == {
        "method": "grpo",
        "rl.kl.coef": 0.1,
        "rl.kl.place": "loss",
        "rl.clip": 0.3,
    }


@pytest.mark.parametrize(
    ("methods", "settings", "changes", "sentence"),
    [
        (("ppo", "grpo"), "ppo: {rl.clip: 0.1}", {}, "method grpo: .*rl.samples_per_prompt must divide batch_size"),
        (("dpo", "ppo"), "\nppo: {rl.clip: 2}", {}, "method ppo: mine.yaml:2: rl.clip must be at most 1, found 2"),
        (("dpo", "ppo"), "ppo: {rl.clipp: 2}", {}, "method ppo: mine.yaml:1: unknown key rl.clipp; did you mean"),
        (("dpo", "ipo"), "ppo: {rl.clip: 0.1}", {"dpo.loss": "ipo"}, "dpo and ipo come to the same recipe here"),
        (
            ("dpo", "ipo"),
            "ppo: {rl.clip: 0.1}",
            {"dpo.flips": 0.2},
            "method dpo: .*dpo.flips changes nothing with dpo.loss",
        ),
        (
            ("dpo", "ppo"),
            "ppo: {rl.clip: 0.1}",
            {"task": None, "dpo.data": "nowhere.jsonl"},
            "method dpo: .*nowhere.jsonl",
        ),
        (
            ("dpo", "ppo"),
            "ppo: {rl.clip: 0.1}",
            {"task": None, "reward.data": "shared/pairs.jsonl", "evaluation.prompts": None},
            "method ppo: the recipe has nothing that it could learn from; give rl.prompts",
        ),
    ],
)
def test_a_recipe_that_cannot_be_is_said_before_the_first_trial(
    methods: tuple[str, ...], settings: str, changes: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    if "reward.data" in changes:
        pairs = tmp_path / "pairs.jsonl"
        pairs.write_text(json.dumps({"prompt": "a", "chosen": "b", "rejected": "c"}) + "\n", encoding="utf-8")
        changes = {**changes, "reward.data": str(pairs)}
    chosen = trials.contenders(methods, parse(settings, "mine.yaml"))
    with pytest.raises(UserError, match=sentence):
        trials.compare(recipe(**changes), chosen, [0], tmp_path / "runs", SilentDisplay())
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("one", "other"), list(combinations(ONLINE, 2)))
def test_a_recipe_that_leaves_no_choice_to_the_method_compares_nothing(one: str, other: str, tmp_path: Path) -> None:
    """As resolved.yaml does: whatever else the methods say, they are one, but with their own choices they are two."""
    choices, presets = load_recipe(None, {"method": one}).rl, [load_recipe(None, {"method": x}) for x in (one, other)]
    assert trials._kind(presets[0]) != trials._kind(presets[1])
    source = Source()
    for name, _ in leaves(type(choices)):
        source = source.overridden(f"rl.{name}", reduce(getattr, name.split("."), choices), "resolved.yaml")
    chosen = trials.contenders([one, other], parse(f"{other}: {{rl.optimizer.lr: 1e-4}}", "mine.yaml"))
    with pytest.raises(UserError) as caught:
        trials.compare(source, chosen, [0], tmp_path / "runs", SilentDisplay())
    assert f"{one} and {other} come to the same method here, for the recipe writes down the choices" in str(
        caught.value
    )
    assert not (tmp_path / "runs").exists()


def test_a_setting_that_a_loss_has_no_use_for_is_left_to_the_others() -> None:
    """Not the method's own: that one is a mistake."""
    source = recipe(**{"dpo.flips": 0.2, "dpo.margin": "stated"})
    chosen = trials.contenders(["dpo", "cdpo", "kto"], Source())
    losses = trials._losses(source, chosen)
    made = {one.name: trials._recipe(source, one, 0, losses).dpo for one in chosen}
    assert {name: (one.loss, one.flips, one.margin) for name, one in made.items()} == {
        "dpo": ("dpo", 0.1, "stated"),
        "cdpo": ("cdpo", 0.2, "stated"),
        "kto": ("kto", 0.1, "none"),
    }
    assert trials.common(source, chosen).dpo.flips == 0.1
    (own,) = trials.contenders(["kto"], parse("kto: {dpo.flips: 0.3}", "mine.yaml"))
    with pytest.raises(UserError, match=r"method kto: mine.yaml:1: dpo.flips changes nothing with dpo.loss: kto"):
        trials._recipe(source, own, 0, losses)


def test_what_is_left_out_for_a_loss_is_said(compared: Compared, tmp_path: Path) -> None:
    compared.copied(tmp_path, "before")
    found, said = run(tmp_path, ("dpo", "cdpo"), [0], **{"dpo.flips": 0.2})
    assert "dpo: without dpo.flips, for which dpo.loss: dpo has no use" in said
    assert listed(found) == [(0, "dpo"), (0, "cdpo")]


def test_a_seed_that_cannot_be_is_said_too(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--seeds: seed must be less than"):
        trials.compare(recipe(), trials.contenders(["ppo"], Source()), [0, 2**63], tmp_path, SilentDisplay())
    assert not list(tmp_path.iterdir())
