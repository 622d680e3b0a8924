"""Several methods on one task: they begin alike, what is there is kept, and what cannot be is said before all else."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from keel import trials
from keel.config.load import read
from keel.config.source import Source, parse
from keel.diagnostics.bout import Bout
from keel.display import PlainDisplay, SilentDisplay
from keel.errors import UserError
from keel.stages.lineage import Lineage

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


def run(directory: Path, methods: tuple[str, ...], seeds: list[int], **changes: Any) -> tuple[Bout, list[str]]:
    """What a comparison came to, and what it said."""
    said: list[str] = []
    found = trials.compare(
        recipe(**changes), trials.contenders(methods, GROUPS), seeds, directory, PlainDisplay(said.append)
    )
    return found, said


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
    assert [(one.seed, one.name) for one in bout.trials] == [(0, "ppo"), (0, "dpo"), (1, "ppo"), (1, "dpo")]
    assert compared.first.titles == {"ppo": "PPO", "grpo": "GRPO", "dpo": "DPO", "kto": "KTO"}
    for one in (*compared.first.trials, *bout.trials):
        method = "dpo" if one.name == "kto" else one.name
        said = json.loads((compared.directory / one.directory / "summary.json").read_text(encoding="utf-8"))
        assert (one.win_rate, one.kl, one.judge) == (said["win_rate"], said["kl"], "gold")
        assert (one.gold_before, one.gold) == (said["gold_sft"], said[f"gold_{method}"])
        assert one.length == said["stages"]["evaluation"][f"length_{method}"]
        assert one.seconds == said["stages"][method]["seconds"]
        assert (compared.directory / one.directory / "report.html").is_file()
    assert len({one.gold_before for one in compared.first.trials}) == 1  # all are measured from one model


def test_the_same_command_keeps_all_and_one_more_method_makes_only_what_is_new(compared: Compared) -> None:
    again, said = run(compared.directory, METHODS, [0])
    assert again == compared.first
    assert kept(said) == 3 + 5 + 5 + 4 + 4
    assert not made_anew(said)
    written = json.loads((compared.directory / "methods.json").read_text(encoding="utf-8"))
    assert written == compared.first.to_json()

    more, said = run(compared.directory, ("dpo", "ipo"), [0])
    assert kept(said) == 2 + 4 + 2  # no reward model where no method learns from one
    assert not made_anew(said)
    assert [one.name for one in more.trials] == ["dpo", "ipo"]
    assert more.trials[0] == compared.first.trials[METHODS.index("dpo")]


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


def test_trials_before_a_fault_are_written_down(
    compared: Compared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared.copied(tmp_path, "before", "dpo")
    made = trials.pipeline.run

    def failing(one: Any, directory: Path, display: Any) -> Any:
        if one.method == "grpo":
            raise UserError("the disk is full")
        return made(one, directory, display)

    monkeypatch.setattr(trials.pipeline, "run", failing)
    with pytest.raises(UserError, match="the disk is full"):
        run(tmp_path, ("dpo", "grpo"), [0])
    (found,) = json.loads((tmp_path / "methods.json").read_text(encoding="utf-8"))["trials"]
    assert (found["name"], found["directory"]) == ("dpo", "seed-0/dpo")


@pytest.mark.parametrize(
    ("names", "settings", "sentence"),
    [
        (("ppo", "rlo"), "", "there is no method 'rlo' (did you mean 'rloo'?); there are ppo, grpo, "),
        (("ppo", "dpo", "ppo"), "", "method ppo is named twice; name each once"),
        (("ppo",), "gprp: {rl.clip: 0.1}", "mine.yaml:1: there is no method 'gprp' (did you mean 'grpo'?)"),
        (("ppo",), "\ngrpo: 3", "mine.yaml:2: grpo must hold settings, as in `grpo: {rl.kl.coef: 0.1}`"),
        (("ppo",), "ppo:\n  rl.clip: 0.1\n  sft: {epochs: 2}", "mine.yaml:3: sft.epochs cannot be ppo's alone"),
        (("ppo",), "ppo: {seed: 3}", "mine.yaml:1: seed cannot be ppo's alone"),
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


def test_a_seed_that_cannot_be_is_said_too(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--seeds: seed must be less than"):
        trials.compare(recipe(), trials.contenders(["ppo"], Source()), [0, 2**63], tmp_path, SilentDisplay())
    assert not list(tmp_path.iterdir())
