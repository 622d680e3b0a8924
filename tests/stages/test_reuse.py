"""What is finished and unchanged is kept; what is made anew has a reason, and what it replaces is not lost."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest

import keel.pipeline
from keel.config import Recipe
from keel.errors import UserError
from keel.pipeline import run
from keel.stages.fingerprints import of_file, of_folder
from keel.stages.inputs import model_read
from keel.stages.occupied import occupied

from .small import language_model, merged, only, own_data, recipe, rows, say, weights_of

pytestmark = pytest.mark.usefixtures("unchecked_shapes")

STAGES = ("sft", "preferences", "reward", "ppo", "evaluation")
NAMES = {"sft": "SFT", "preferences": "preferences", "reward": "reward model", "ppo": "PPO", "evaluation": "evaluation"}
BREVITY = "def brevity(rollouts):\n    return [-len(one.tokens) / 10 for one in rollouts]\n"


class Listening:
    """A display that remembers what was said, and which stages ran."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.ran: list[str] = []

    def stage(self, name: str, total: int | None) -> AbstractContextManager[None]:
        self.ran.append(name)
        return nullcontext()

    def step(self, step: int, metrics: Mapping[str, float]) -> None: ...

    def resumed(self, step: int) -> None: ...

    def note(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keel.pipeline, "write_report", lambda directory: directory)


class Case:
    """A finished run of all five stages, and what another run in its folder does."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.directory = place / "run"
        self.data = own_data(place / "data")
        self.function = place / "rewards.py"
        self.function.write_text(BREVITY, encoding="utf-8")
        self.changes: dict[str, Any] = {
            "evaluation": {"prompts": self.data["prompts"], "count": 4, "sampling": {"max_tokens": 6}},
            "rl": {"reward": [{"kind": "model"}, {"kind": "function", "path": f"{self.function}:brevity"}]},
        }
        self.base = language_model(place / "base")

    def settings(self, **changes: Any) -> Recipe:
        return recipe(self.base, self.data, **merged(self.changes, changes))

    def again(self, **changes: Any) -> Listening:
        listening = Listening()
        run(self.settings(**changes), self.directory, listening)
        return listening


@pytest.fixture
def case(tmp_path: Path) -> Iterator[Case]:
    case = Case(tmp_path)
    assert case.again().ran == list(STAGES)
    return case


def remade(listening: Listening) -> dict[str, str]:
    """The reason that was given for each stage that was made anew; the others were kept, and that was said."""
    reasons = {}
    for stage, name in NAMES.items():
        (line,) = [one for one in listening.said if one.lower().startswith(f"{name.lower()}: ")]
        if stage in listening.ran:
            assert line.partition(": ")[2].startswith("made anew, because "), line
            reason, _, kept = line.partition("; what was there is kept in ")
            assert kept.startswith("replaced/")
            reasons[stage] = reason.partition("because ")[2]
        else:
            assert line.endswith("finished before and unchanged, so it is kept")
    return reasons


def test_a_finished_run_is_kept(case: Case) -> None:
    before = {path: path.stat().st_mtime_ns for path in case.directory.rglob("*") if path.is_file()}
    summary = json.loads((case.directory / "summary.json").read_text(encoding="utf-8"))
    assert remade(case.again()) == {}
    after = {path: path.stat().st_mtime_ns for path in case.directory.rglob("*") if path.is_file()}
    changed = {path.name for path in before if before[path] != after[path]}
    assert set(after) == set(before)
    assert changed <= {"resolved.yaml", "summary.json", "preferences.db"}
    assert json.loads((case.directory / "summary.json").read_text(encoding="utf-8")) == summary


@pytest.mark.parametrize(
    "changes",
    [
        {"sft": {"log_every": 1}},
        {"reward": {"micro_tokens": 30}},
        {"threads": 1},
        {"model": {"recompute": True}},
        {"checkpoints": {"minutes": 1.0}},
    ],
)
def test_what_only_changes_speed_changes_nothing(changes: dict[str, Any], case: Case) -> None:
    assert remade(case.again(**changes)) == {}


def test_renamed_data_are_the_same_data(case: Case) -> None:
    for name, path in case.data.items():
        moved = Path(path).rename(Path(path).with_name(f"moved {name}.jsonl"))
        case.data[name] = str(moved)
    case.changes["evaluation"]["prompts"] = case.data["prompts"]
    assert remade(case.again()) == {}


def test_a_setting_of_one_stage_leaves_those_before_it(case: Case) -> None:
    old = weights_of(case.directory / "ppo" / "model")
    reasons = remade(case.again(rl={"kl": {"coef": 0.3}}))
    assert list(reasons) == ["ppo", "evaluation"]
    assert reasons["ppo"] == "rl.kl.coef was 0.05 and is 0.3"
    assert reasons["evaluation"] == "policy (ppo/model) is not what it was"
    assert weights_of(case.directory / "replaced" / "ppo-1" / "model") == old
    assert weights_of(case.directory / "ppo" / "model") != old
    assert remade(case.again(rl={"kl": {"coef": 0.3}})) == {}
    back = remade(case.again())
    assert list(back) == ["ppo", "evaluation"]
    assert weights_of(case.directory / "ppo" / "model") == old
    assert sorted(path.name for path in (case.directory / "replaced").iterdir()) == [
        "evaluation-1", "evaluation-2", "ppo-1", "ppo-2",
    ]  # fmt: skip


def test_another_row_of_data_changes_all_that_follows_from_it(case: Case) -> None:
    path = Path(case.data["sft"])
    first, *rest = path.read_text(encoding="utf-8").splitlines()
    other = json.dumps({**json.loads(first), "completion": "w40 w41"})
    path.write_text("\n".join([other, *rest]) + "\n", encoding="utf-8")
    reasons = remade(case.again())
    assert reasons["sft"] == f"demonstrations ({path}) is not what it was"
    # The pairs are the user's own, so they do not follow from the model.
    assert list(reasons) == ["sft", "reward", "ppo", "evaluation"]
    assert reasons["reward"] == "model (sft/model) is not what it was"


def test_another_seed_makes_everything_anew(case: Case) -> None:
    reasons = remade(case.again(seed=1))
    assert list(reasons) == list(STAGES)
    assert reasons["sft"] == "seed was 0 and is 1"


def test_a_reward_function_that_was_edited(case: Case) -> None:
    case.function.write_text(BREVITY.replace("/ 10", "/ 20"), encoding="utf-8")
    reasons = remade(case.again())
    assert list(reasons) == ["ppo", "evaluation"]
    assert reasons["ppo"] == f"reward brevity ({case.function}:brevity) is not what it was"


def test_a_model_that_was_changed_or_lost_is_made_anew(case: Case) -> None:
    weights = case.directory / "reward" / "model" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    reasons = remade(case.again())
    assert reasons == {"reward": "reward/model is not as it was written"}  # and comes out as it was, so PPO stays
    assert weights.read_bytes() == whole
    for path in sorted((case.directory / "sft" / "model").iterdir()):
        path.unlink()
    (case.directory / "sft" / "model").rmdir()
    assert remade(case.again()) == {"sft": "sft/model is gone"}


def test_a_stage_of_an_older_version_does_not_say_what_it_was_made_from(case: Case) -> None:
    (case.directory / "sft" / "lineage.json").unlink()
    assert remade(case.again()) == {"sft": "it does not say what it was made from"}


def test_lineage_says_which_data_and_models_made_what(case: Case) -> None:
    found = {name: json.loads((case.directory / name / "lineage.json").read_text(encoding="utf-8")) for name in STAGES}
    inputs = {name: one["made"]["inputs"] for name, one in found.items()}
    assert {name: set(one) for name, one in inputs.items()} == {
        "sft": {"model", "demonstrations"},
        "preferences": {"pairs"},
        "reward": {"model", "preferences"},
        "ppo": {"model", "prompts", "reward learned", "reward brevity"},
        "evaluation": {"base", "model", "policy", "reward", "prompts"},
    }
    assert inputs["sft"]["demonstrations"]["source"] == case.data["sft"]
    made = {name: one["outputs"] for name, one in found.items()}
    assert inputs["reward"]["model"] == {"source": "sft/model", "fingerprint": made["sft"]["model"]}
    assert inputs["reward"]["preferences"]["fingerprint"] == made["preferences"]["preferences"]
    assert inputs["ppo"]["reward learned"]["fingerprint"] == made["reward"]["model"]
    assert inputs["evaluation"]["policy"]["fingerprint"] == made["ppo"]["model"]
    assert found["ppo"]["made"]["settings"]["rl.kl.coef"] == 0.05
    assert {"python", "keel", "torch"} <= set(found["ppo"]["versions"])


def test_two_runs_in_one_folder_are_refused(case: Case) -> None:
    with occupied(case.directory), pytest.raises(UserError, match=r"another run is at work in .*run; wait for its end"):
        case.again()
    assert remade(case.again()) == {}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_what_cannot_be_put_aside_is_a_sentence(case: Case) -> None:
    case.directory.chmod(0o500)
    with pytest.raises(UserError, match="cannot be"):
        case.again(seed=1)


def test_more_rows_than_before_are_other_data(case: Case) -> None:
    path = Path(case.data["prompts"])
    text = path.read_text(encoding="utf-8")
    path.write_text(text + json.dumps({"prompt": say(random.Random("one more"), 3)}) + "\n", encoding="utf-8")
    assert list(remade(case.again())) == ["ppo", "evaluation"]


ANNOUNCED = "what is made anew in this run:"


def announced(listening: Listening) -> list[str]:
    """What was said of stages before the first one was decided on; nothing where nothing was."""
    found = [one for one in listening.said if one.startswith(ANNOUNCED)]
    assert len(found) <= 1
    decided = [place for place, one in enumerate(listening.said) if one.startswith("SFT: ")]
    assert not found or listening.said.index(found[0]) < decided[0]
    return found[0].splitlines()[1:] if found else []


def test_what_a_change_makes_anew_is_said_before_the_first_stage(case: Case) -> None:
    assert announced(case.again()) == []
    first, *rest = Path(case.data["sft"]).read_text(encoding="utf-8").splitlines()
    other = json.dumps({**json.loads(first), "completion": "w40 w41"})
    Path(case.data["sft"]).write_text("\n".join([other, *rest]) + "\n", encoding="utf-8")
    listening = case.again(rl={"kl": {"coef": 0.3}})
    assert announced(listening) == [
        f"  SFT, because demonstrations ({case.data['sft']}) is not what it was",
        "  reward model, because SFT is made anew (kept if that comes out as it was)",
        "  PPO, because rl.kl.coef was 0.05 and is 0.3; SFT is made anew; reward model is made anew",
        "  evaluation, because SFT is made anew; reward model is made anew; PPO is made anew "
        "(kept if that comes out as it was)",
    ]
    assert list(remade(listening)) == ["sft", "reward", "ppo", "evaluation"]


def test_what_was_lost_is_said_before_the_first_stage_and_may_come_out_as_it_was(case: Case) -> None:
    shutil.rmtree(case.directory / "sft" / "model")
    listening = case.again()
    lines = announced(listening)
    assert lines[:2] == [
        "  SFT, because sft/model is gone",
        "  reward model, because SFT is made anew (kept if that comes out as it was)",
    ]
    assert remade(listening) == {"sft": "sft/model is gone"}


def test_what_is_to_come_is_no_reason_to_stop(case: Case) -> None:
    """PPO was rewarded by a function alone, and there was no reward model: now there will be one."""
    for name in ("ppo", "evaluation", "reward", "preferences"):
        shutil.rmtree(case.directory / name)
    alone = [{"kind": "function", "path": f"{case.function}:brevity"}]
    settings = case.settings(rl={"reward": alone, "critic": {"init": "zero"}})
    keel.pipeline.run_stage("ppo", only("ppo", settings), case.directory, Listening())
    listening = case.again()
    (line,) = announced(listening)
    assert line.startswith('  PPO, because rl.critic.init was "zero" and is "reward"; rl.reward was [')
    assert listening.ran == ["preferences", "reward", "ppo", "evaluation"]


def votes(case: Case) -> Recipe:
    """A reward model from verdicts in a table of the user's own."""
    pairs = [json.loads(line) for line in Path(case.data["reward"]).read_text(encoding="utf-8").splitlines()]
    rows(
        case.place / "votes.jsonl",
        (
            {"prompt": one["prompt"], "response1": one["chosen"], "response2": one["rejected"], "annotator1": "1"}
            for one in pairs
        ),
    )
    given = {"labels": {"data": str(case.place / "votes.jsonl")}}
    return case.settings(reward={"data": None}, preferences=given)


def test_the_database_goes_aside_with_the_preferences(case: Case) -> None:
    """What was judged is not lost where other judgements take its place."""
    directory = case.place / "judged"
    keel.pipeline.run_stage("reward", votes(case), directory, Listening())
    before = (directory / "preferences.db").read_bytes()
    assert before.startswith(b"SQLite")
    listening = Listening()
    keel.pipeline.run_stage("reward", votes(case).model_copy(update={"seed": 1}), directory, listening)
    assert any(one.endswith("what was there is kept in replaced/preferences-1") for one in listening.said)
    assert (directory / "replaced" / "preferences-1" / "preferences.db").read_bytes() == before
    assert (directory / "preferences.db").is_file()


def test_checkpoints_that_do_not_say_what_they_are_of_go_aside(case: Case) -> None:
    folder = case.directory / "sft"
    (folder / "checkpoints" / "00000007").mkdir(parents=True)
    for name in ("lineage.json", "report.json"):
        (folder / name).unlink()
    assert remade(case.again()) == {"sft": "it does not say what it was made from"}
    assert (case.directory / "replaced" / "sft-1" / "checkpoints" / "00000007").is_dir()


def test_what_is_refused_leaves_what_was_there_where_it_was(case: Case) -> None:
    """The preflight looks before anything is moved: with the old recipe the old model is still the run's."""
    flat = case.place / "flat.py"
    flat.write_text("def flat(rollouts):\n    return [1.0 for _ in rollouts]\n", encoding="utf-8")
    old = weights_of(case.directory / "ppo" / "model")
    reward = {"reward": [{"kind": "function", "path": f"{flat}:flat"}], "critic": {"init": "zero"}}
    refused = case.settings(rl=reward).model_copy(update={"preflight": "stop"})
    with pytest.raises(UserError, match="PPO was not started"):
        run(refused, case.directory, Listening())
    assert weights_of(case.directory / "ppo" / "model") == old
    assert not (case.directory / "ppo" / "preflight.json").exists()  # which would be another recipe's
    assert not (case.directory / "replaced").exists()
    assert remade(case.again()) == {}


def test_a_folder_that_cannot_be_locked_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl")

    def none(*_: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with pytest.raises(UserError, match=r"cannot be locked \(No locks available\); choose"), occupied(tmp_path):
        pass
    with pytest.raises(UserError, match=r"nowhere cannot be locked"), occupied(tmp_path / "nowhere"):
        pass


def test_a_number_that_is_none_is_null_in_the_report_of_a_stage(case: Case) -> None:
    space = keel.pipeline.checked(["sft"], case.settings(), case.place / "other", Listening())
    with space.stage("sft", None) as facts:
        facts |= {"held_out_loss": float("nan"), "most": float("inf"), "count": 3}
    content = (case.place / "other" / "sft" / "report.json").read_text(encoding="utf-8")
    found = json.loads(content, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert (found["held_out_loss"], found["most"], found["count"]) == (None, None, 3)


def test_a_model_in_ones_home_counts_by_what_it_holds(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(case.place))
    (case.place / "own.jinja").write_text("{% for one in messages %}{{ one['content'] }}{% endfor %}", encoding="utf-8")
    settings = case.settings(model={"path": "~/base", "template": "~/own.jinja"})
    space = keel.pipeline.checked(["sft"], settings, case.place / "other", Listening())
    read = model_read(space, space.base, "model")
    assert read["model"].fingerprint == of_folder(case.base)
    assert read["template"].fingerprint == of_file(case.place / "own.jinja")
