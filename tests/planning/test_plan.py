"""The plan of a run: what it counts, against the run's own loops and against arithmetic by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedConfig

import keel.planning.probe as probes
from keel.cli import run as command
from keel.config import Recipe, dump_recipe
from keel.display import SilentDisplay
from keel.models.adapters import Adapters, Lora
from keel.models.roles import LanguageRole, ScalarRole
from keel.pipeline import checked, run, run_stage, stages_of
from keel.planning.hops import Hop, hops_of
from keel.planning.memory import Model, parts_of
from keel.planning.plan import plan_of
from keel.planning.probe import Cost, Probe
from keel.stages.workspace import Workspace
from keel.training.learner import Learner, StepReport
from stages.small import ensemble, language_model, own_data, recipe, rows


@pytest.fixture
def own(tmp_path: Path) -> Recipe:
    """Twelve demonstrations of 3 + 4 tokens, twelve pairs, twelve prompts."""
    return recipe(language_model(tmp_path / "base"), own_data(tmp_path / "data"))


def space_of(settings: Recipe, folder: Path) -> Workspace:
    return checked(stages_of(settings), settings, folder / "run", SilentDisplay())


def test_hops_by_hand(own: Recipe, tmp_path: Path) -> None:
    """9 of 12 rows are trained on, 3 held out; answers are as long as the demonstrations': 3 words and the end."""
    found = {hop.name: hop for hop in hops_of(space_of(own, tmp_path)).hops if hop.stage == "ppo"}
    kinds = {name: (hop.kind, hop.times, hop.tokens) for name, hop in found.items()}
    prompt, answer = 3, 4
    batch = 4 * (prompt + 2 * answer)  # 8 answers, 2 to each prompt
    assert kinds == {
        "policy samples": ("sample", 2, batch),
        "reward model reads": ("read scores", 2, batch),
        "policy reads": ("read logprobs", 2, batch),
        "reference reads": ("read logprobs", 2, batch),
        "critic reads": ("read values", 2, batch),
        "policy learns": ("learn policy", 2, batch),
        "critic learns": ("learn values", 2, batch),
    }
    sft, held_out, reward, _ = (hop for hop in hops_of(space_of(own, tmp_path)).hops if hop.stage in ("sft", "reward"))
    assert (sft.kind, sft.times, sft.tokens) == ("learn logprobs", 9 / 6, 6 * (prompt + answer))
    assert (held_out.kind, held_out.times, held_out.tokens) == ("read logprobs", 2, 3 * (prompt + answer))
    assert (reward.kind, reward.times, reward.tokens) == ("learn scores", 9 / 6, 6 * (prompt + 4 + 3))


def dpo_hops(own: Recipe, folder: Path, content: list[dict[str, Any]], **changes: Any) -> dict[str, Hop]:
    given = own.model_dump()
    given["dpo"] |= {"data": rows(folder / "given.jsonl", content), "batch_size": 2, "epochs": 3, **changes}
    chosen = Recipe.model_validate({**given, "method": "dpo"})
    return {hop.name: hop for hop in hops_of(space_of(chosen, folder)).hops if hop.stage == "dpo"}


def counted(hop: Hop) -> tuple[float, float]:
    """How many trees a hop reads or learns from in all, and how many branches."""
    return hop.times * len(hop.trees), hop.times * sum(len(tree.branches) for tree in hop.trees)


def test_pairs_of_one_prompt_are_one_tree(own: Recipe, tmp_path: Path) -> None:
    """Three prompts with two pairs each, of which one answer is in both: as training reads them."""
    content = [
        {"prompt": f"w4{prompt}", "chosen": "w50", "rejected": f"w5{pair}"} for prompt in range(4) for pair in (1, 2)
    ]
    found = dpo_hops(own, tmp_path, content, held_out=0.25)
    assert set(found) == {"reference reads", "policy learns", "held-out pairs"}
    assert counted(found["reference reads"]) == (4, 4 * 3)
    assert counted(found["policy learns"]) == (3 * 3, 3 * 3 * 3)
    assert counted(found["held-out pairs"]) == (2, 2 * 3)
    assert "reference reads" not in dpo_hops(own, tmp_path, content, loss="orpo")


def test_kto_reads_answers_to_other_prompts_too(own: Recipe, tmp_path: Path) -> None:
    """Of eight answers two are held out: the reference reads sixteen, the policy learns from six three times and reads
    as many beside them."""
    content = [{"prompt": f"w4{n}", "completion": f"w5{n} w5{n}", "label": n % 2 == 0} for n in range(8)]
    found = dpo_hops(own, tmp_path, content, held_out=0.25, loss="kto")
    assert {name: hop.kind for name, hop in found.items()} == {
        "reference reads": "read logprobs",
        "policy reads other answers": "read logprobs",
        "policy learns": "learn logprobs",
        "held-out answers": "read logprobs",
    }
    assert counted(found["reference reads"]) == (16, 16)
    assert counted(found["policy reads other answers"]) == counted(found["policy learns"]) == (18, 18)
    assert counted(found["held-out answers"]) == (2 * 4, 2 * 4)
    pairs = [{"prompt": f"w4{n}", "chosen": "w50", "rejected": f"w5{n + 1}"} for n in range(4)]
    tie = {"prompt": "w49", "chosen": "w50", "rejected": "w59", "probability": 0.5}
    found = dpo_hops(own, tmp_path, [*pairs, tie], held_out=0.0, loss="kto")
    assert counted(found["policy learns"]) == (3 * 2 * 4, 3 * 2 * 4)  # a tie is neither good nor bad


@pytest.mark.parametrize("loss", ["dpo", "kto"])
def test_what_is_read_straight_from_preferences_is_what_the_run_reads(
    own: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loss: str
) -> None:
    """Answers that go through the policy: as many in the plan as in the stage."""
    content = [
        {"prompt": f"w4{n % 4}", "chosen": f"w5{n} w41", "rejected": f"w6{n}", "probability": 1.0} for n in range(8)
    ]
    planned = dpo_hops(own, tmp_path, content, held_out=0.25, loss=loss)
    read: list[int] = []
    real = LanguageRole.logprobs

    def listening(self: LanguageRole, forest: Any, temperature: float) -> Any:
        read.append(len(forest.ends))
        return real(self, forest, temperature)

    monkeypatch.setattr(LanguageRole, "logprobs", listening)
    monkeypatch.setattr("keel.pipeline.write_report", lambda directory: None)
    given = own.model_dump()
    given["dpo"] |= {
        "data": str(tmp_path / "given.jsonl"),
        "batch_size": 2,
        "epochs": 3,
        "held_out": 0.25,
        "loss": loss,
    }
    run_stage("dpo", Recipe.model_validate({**given, "method": "dpo"}), tmp_path / "run", SilentDisplay())
    assert sum(counted(hop)[1] for hop in planned.values()) == pytest.approx(sum(read))


def test_answers_are_cut_at_max_tokens_and_as_long_without_demonstrations(own: Recipe, tmp_path: Path) -> None:
    given = own.model_dump()
    given["rl"]["sampling"]["max_tokens"] = 2
    cut = hops_of(space_of(Recipe.model_validate(given), tmp_path))
    assert {len(b.tokens) for hop in cut.hops if hop.stage == "ppo" for t in hop.trees for b in t.branches} == {2}
    given["rl"]["sampling"]["max_tokens"] = 5
    given["sft"]["data"] = None
    full = hops_of(space_of(Recipe.model_validate(given), tmp_path))
    assert {len(b.tokens) for hop in full.hops if hop.stage == "ppo" for t in hop.trees for b in t.branches} == {5}
    assert "max_tokens" in full.assumed
    assert "no demonstrations" in full.assumed


@pytest.mark.parametrize(("minibatches", "epochs", "warmup"), [(1, 1, 0), (2, 3, 1)])
def test_optimizer_steps_are_those_of_the_run(
    own: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minibatches: int, epochs: int, warmup: int
) -> None:
    given = own.model_dump()
    given["rl"] |= {"minibatches": minibatches, "epochs": epochs, "critic": {"warmup_updates": warmup, "lr": 1e-3}}
    settings = Recipe.model_validate(given)
    planned = [hop for hop in hops_of(space_of(settings, tmp_path)).hops if hop.kind.startswith("learn")]
    steps = 0
    real = Learner.step

    def counted(self: Learner, shares: Any) -> StepReport:
        nonlocal steps
        steps += 1
        return real(self, shares)

    monkeypatch.setattr(Learner, "step", counted)
    monkeypatch.setattr("keel.pipeline.write_report", lambda directory: None)
    run(settings, tmp_path / "run", SilentDisplay())
    # of nine rows, six and three make two steps, which are one and a half batches
    assert sum(hop.times + (0.5 if hop.stage != "ppo" else 0) for hop in planned) == steps


def test_cost_is_linear_in_the_layers() -> None:
    for layers in (1, 2, 3, 4, 9):
        probe = Probe(config(layers), Linear)
        hop = Hop("sft", "", "learn logprobs", (), 1.0)
        assert probe.cost(hop, 100) == Cost(2.0 + 3 * layers, 10.0 * layers)
        assert probe.held(hop, 100) == 10.0 * layers


class Linear:
    """Costs 2 and 3 seconds a layer, and keeps 10 bytes in each."""

    def __init__(self, given: PreTrainedConfig) -> None:
        self.layers = given.num_hidden_layers

    def cost(self, *others: object) -> Cost:
        return Cost(2.0 + 3 * self.layers, 10.0 * self.layers)

    def held(self, *others: object) -> float:
        return 10.0 * self.layers


def config(layers: int = 2, tied: bool = False) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=50, hidden_size=24, intermediate_size=40, num_hidden_layers=layers, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=tied,
    )  # fmt: skip


@pytest.mark.parametrize("tied", [True, False])
def test_weights_are_those_of_the_model(tied: bool) -> None:
    model = LlamaForCausalLM(config(tied=tied))
    counted = Model.of(config(tied=tied), Lora(rank=3))
    assert counted.total == sum(one.numel() for one in model.parameters())
    assert counted.head == (0 if tied else 50 * 24)
    assert counted.linear == counted.narrow == 2 * (2 * 24 * 24 + 2 * 12 * 24 + 3 * 24 * 40)
    assert counted.column == 2 * 2 * 6
    adapters = Adapters(model)
    adapters.add("one", Lora(rank=3), 0)
    assert counted.adapters == sum(one.numel() for _, one in adapters.parameters("one"))
    some = Lora(rank=3, target_modules=("q_proj",))
    assert Model.of(config(tied=tied), some).adapters == 2 * 3 * (24 + 24)


@pytest.mark.parametrize(
    ("model", "stage", "bytes_each"),
    [
        ({}, "sft", {"total": 16}),
        ({}, "reward", {"total": 4, "stack": 12}),
        ({}, "ppo", {"total": 20, "stack": 20}),  # policy 16, reference 4; critic 16, reward 4
        ({"tuning": "lora"}, "sft", {"total": 4, "adapters": 16}),
        ({"tuning": "lora"}, "ppo", {"total": 8, "stack": 8, "adapters": 32}),
        ({"tuning": "lora", "layout": "shared"}, "ppo", {"total": 4, "adapters": 36}),
        ({"tuning": "lora", "layout": "shared", "body": "policy"}, "ppo", {"total": 4, "adapters": 20}),
        ({"body": "policy"}, "ppo", {"total": 20, "stack": 4}),
    ],
)
def test_what_roles_hold(
    own: Recipe, tmp_path: Path, model: dict[str, str], stage: Any, bytes_each: dict[str, int]
) -> None:
    given = own.model_dump()
    given["rl"]["critic"] = {"init": "zero", "body": "policy"} if "body" in model else {"init": "reward"}
    given["model"] |= {name: value for name, value in model.items() if name != "body"}
    counted = Model(total=1000, head=100, linear=800, narrow=800, adapters=10, layers=2, column=24, vocabulary=50)
    held = parts_of(stage, space_of(Recipe.model_validate(given), tmp_path), counted, [], {})
    assert sum(part.size for part in held) == sum(getattr(counted, name) * n for name, n in bytes_each.items())


@pytest.mark.parametrize(
    ("stage", "model", "frozen"),
    [
        ("sft", {}, 0),
        ("ppo", {}, 2),  # reference and reward model
        ("ppo", {"layout": "shared", "tuning": "lora"}, 0),
        ("evaluation", {}, 2),  # a model and its reference
    ],
)
def test_in_bfloat16_the_linear_layers_of_frozen_roles_hold_half(
    stage: Any, model: dict[str, str], frozen: int, own: Recipe, tmp_path: Path
) -> None:
    counted = Model(total=1000, head=100, linear=800, narrow=700, adapters=10, layers=2, column=24, vocabulary=50)
    given = own.model_dump()
    given["model"] |= model
    held = []
    for dtype in ("float32", "bfloat16"):
        given["dtype"] = dtype
        parts = parts_of(stage, space_of(Recipe.model_validate(given), tmp_path), counted, [], {})
        held.append(sum(part.size for part in parts if part.role != "all"))
    assert held[0] - held[1] == frozen * 2 * 700


@pytest.mark.parametrize(
    ("stage", "model", "reward", "bytes_each"),
    [
        # one learns (weights, gradients, optimizer), two wait
        ("reward", {}, {}, {"total": 4 + 2 * 4, "stack": 12}),
        ("reward", {}, {"combine": "weights"}, {"total": 4 + 2 * 4, "stack": 12}),
        ("reward", {"tuning": "lora"}, {}, {"total": 4, "adapters": 16 + 2 * 4}),
        # reference; policy and its gradients and optimizer; critic; three judges
        ("ppo", {}, {}, {"total": 4 + 16, "stack": 16 + 3 * 4}),
        ("ppo", {}, {"combine": "weights"}, {"total": 4 + 16, "stack": 16 + 4}),
        # the judges are adapters on a base of their own, or on that of all
        ("ppo", {"tuning": "lora"}, {}, {"total": 4 + 4 + 4, "stack": 4, "adapters": 2 * 16 + 3 * 4}),
        ("ppo", {"tuning": "lora", "layout": "shared"}, {}, {"total": 4, "adapters": 2 * 16 + 3 * 4}),
        # the mean of three adapters has three times their rank, and the critic is a copy of it
        (
            "ppo",
            {"tuning": "lora", "layout": "shared"},
            {"combine": "weights"},
            {"total": 4, "adapters": 16 + 3 * 16 + 3 * 4},
        ),
        # the policy and its reference, or the judges, whichever is more
        ("evaluation", {}, {}, {"stack": 3 * 4}),
        ("evaluation", {}, {"combine": "weights"}, {"total": 2 * 4}),
        ("evaluation", {"tuning": "lora"}, {}, {"total": 2 * 4}),
    ],
)
def test_three_reward_models_by_hand(
    stage: Any, model: dict[str, Any], reward: dict[str, Any], bytes_each: dict[str, int], own: Recipe, tmp_path: Path
) -> None:
    given = own.model_dump()
    given["model"] |= model
    given["reward"] |= {"members": 3, **reward}
    counted = Model(total=1000, head=100, linear=800, narrow=800, adapters=10, layers=2, column=24, vocabulary=50)
    held = parts_of(stage, space_of(Recipe.model_validate(given), tmp_path), counted, [], {})
    assert sum(part.size for part in held) == sum(getattr(counted, name) * n for name, n in bytes_each.items())


@pytest.mark.parametrize("layout", ["separate", "shared"])
def test_reward_models_of_several_terms_are_held_once_by_folder(layout: str, own: Recipe, tmp_path: Path) -> None:
    """Two terms of the run's own three members, and two of three without adapters from elsewhere."""
    path = str(ensemble(tmp_path / "other"))
    given = own.model_dump()
    given["model"] |= {"tuning": "lora", "layout": layout}
    given["reward"]["members"] = 3
    counted = Model(total=1000, head=100, linear=800, narrow=800, adapters=10, layers=2, column=24, vocabulary=50)
    held = []
    for terms in ([{}], [{}, {"aggregate": "worst"}, {"path": path}, {"path": path, "aggregate": "worst"}]):
        given["rl"]["reward"] = terms
        space = space_of(Recipe.model_validate(given), tmp_path)
        held.append(sum(part.size for part in parts_of("ppo", space, counted, [], {})))
    assert held[1] - held[0] == 3 * 4 * 900


def selecting(own: Recipe, folder: Path, **settings: Any) -> Workspace:
    """Two answers to each of twelve prompts, and no more pairs to be judged than the budget."""
    given = own.model_dump()
    given["reward"] |= {"data": None, "held_out": 0.0}
    given["preferences"] |= {"judges": "people", "prompts": own.rl.prompts, "sampling": {"max_tokens": 6}, **settings}
    return space_of(Recipe.model_validate(given), folder)


@pytest.mark.parametrize(("select", "budget", "read"), [("random", 5, 0), ("bald", 5, 3 * 24), ("bald", 12, 0)])
def test_candidates_that_a_scorer_reads_and_pairs_that_are_chosen(
    select: str, budget: int, read: int, own: Recipe, tmp_path: Path
) -> None:
    more = {} if select == "random" else {"scorer": str(ensemble(tmp_path / "scorer"))}
    found = hops_of(selecting(own, tmp_path, select=select, budget=budget, **more)).hops
    hops = {hop.name: hop for hop in found if hop.stage in ("preferences", "reward")}
    assert counted(hops["answers"]) == (12, 24)
    assert ("scorer reads candidates" in hops) == bool(read)
    if read:
        assert counted(hops["scorer reads candidates"]) == (pytest.approx(read), pytest.approx(read))
    assert counted(hops["model learns"]) == (pytest.approx(budget), pytest.approx(2 * budget))


@pytest.mark.parametrize(("select", "bytes_each"), [("random", {"total": 4}), ("disagreement", {"stack": 3 * 4})])
def test_the_scorer_is_held_when_the_answers_are_there(
    select: str, bytes_each: dict[str, int], own: Recipe, tmp_path: Path
) -> None:
    more = {} if select == "random" else {"scorer": str(ensemble(tmp_path / "scorer"))}
    space = selecting(own, tmp_path, select=select, budget=5, **more)
    counted = Model(total=1000, head=100, linear=800, narrow=800, adapters=10, layers=2, column=24, vocabulary=50)
    held = [part for part in parts_of("preferences", space, counted, [], {}) if part.role != "all"]
    assert sum(part.size for part in held) == sum(getattr(counted, name) * n for name, n in bytes_each.items())


def test_ranked_prompts_within_a_budget_are_learnt_from_whole(own: Recipe, tmp_path: Path) -> None:
    ranked = {"people": {"ranked": True}, "samples_per_prompt": 3}
    hops = {
        hop.name: hop for hop in hops_of(selecting(own, tmp_path, budget=5, **ranked)).hops if hop.stage == "reward"
    }
    assert counted(hops["model learns"]) == (pytest.approx(5), pytest.approx(15))


@pytest.mark.parametrize(("combine", "zeros", "held_out", "judges"), [("scores", 1, 6, 3), ("weights", 0, 7, 1)])
def test_three_reward_models_learn_and_read_in_turn(
    combine: str, zeros: int, held_out: int, judges: int, own: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By hand, and answers that go through them in the stage: as many as in the plan."""
    given = own.model_dump()
    given["reward"] |= {"members": 3, "combine": combine}
    settings = Recipe.model_validate(given)
    hops = {hop.name: hop for hop in hops_of(space_of(settings, tmp_path)).hops if hop.stage in ("reward", "ppo")}
    assert hops["reward model reads"].times == 2 * judges
    assert counted(hops["model learns"]) == (3 * 9, 3 * 9 * 2)
    assert ("each member's zero" in hops) == bool(zeros)
    assert counted(hops["held-out pairs"]) == (3 * held_out, 3 * held_out * 2)
    planned = [hop for hop in hops.values() if hop.stage == "reward"]
    read: list[int] = []
    real = ScalarRole.scores

    def listening(self: ScalarRole, forest: Any) -> Any:
        read.append(len(forest.ends))
        return real(self, forest)

    monkeypatch.setattr(ScalarRole, "scores", listening)
    monkeypatch.setattr("keel.pipeline.write_report", lambda directory: None)
    run_stage("reward", settings, tmp_path / "run", SilentDisplay())
    assert sum(counted(hop)[1] for hop in planned) == pytest.approx(sum(read))


def test_keys_and_values_of_what_is_decoded_at_once(own: Recipe, tmp_path: Path) -> None:
    """4 prompts of 3 tokens, 8 answers of 4: 16 columns for each prompt and each answer, the least there is."""
    space = space_of(own, tmp_path)
    counted = Model(total=1000, head=100, linear=800, narrow=800, adapters=10, layers=2, column=24, vocabulary=50)
    (hop,) = (one for one in hops_of(space).hops if one.name == "policy samples")
    sizes = {part.what: part.size for part in parts_of("ppo", space, counted, [hop], {})}
    assert sizes["keys and values"] == (4 * 16 + 8 * 16) * 2 * 24 * 4
    assert sizes["weights laid out"] == 4 * 800 + 4 * 100


def test_a_plan_beside_the_run_that_it_foretold(own: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "PATIENCE", 0.0)
    space = space_of(own, tmp_path)
    before = sorted(tmp_path.rglob("*"))
    plan = plan_of(space, None)
    assert sorted(tmp_path.rglob("*")) == before  # nothing is written
    told = plan.to_json()
    assert list(told["stages"]) == ["sft", "reward", "ppo"]
    assert told["seconds"] == pytest.approx(sum(stage["seconds"] for stage in told["stages"].values()), abs=0.02)
    assert all(seconds > 0 for stage in told["stages"].values() for seconds in stage["hops"].values())
    assert told["stages"]["ppo"]["memory_mb"]["policy: optimizer"] > 0
    (tmp_path / "run" / "ppo").mkdir(parents=True)
    (tmp_path / "run" / "ppo" / "report.json").write_text(json.dumps({"seconds": 61.0, "peak_mb": 1234}))
    beside = str(plan_of(space, tmp_path / "run"))
    assert "(measured: 1 min 01 s, 1,234 MiB)" in beside
    assert "policy learns" in beside


def test_the_command(
    own: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "PATIENCE", 0.0)
    path = tmp_path / "recipe.yaml"
    path.write_text(dump_recipe(own))
    assert command(["plan", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["peak_mb"] > 0
    assert command(["plan", str(path), "--sft.data", str(tmp_path / "none.jsonl")]) == 2
    assert "none.jsonl" in capsys.readouterr().err
