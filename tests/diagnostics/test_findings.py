"""Every check speaks at its threshold, and is silent below."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from keel.diagnostics.findings import Finding, findings
from keel.diagnostics.recorded import Attempts, Metrics, Recorded, read_run
from keel.preferences.agreement import ceiling
from keel.summary import Summary

from .finished import finished_run, kept, unseen

NOBODY = Attempts(*(np.array([], dtype=kind) for kind in (np.int64, float, float, float, bool)))
STEPS = 20


def run(
    stages: dict[str, dict[str, Any]] | None = None,
    attempts: Attempts = NOBODY,
    **ppo: list[float | None],
) -> Recorded:
    """A run of which only these things are known; `__` in the name of a metric stands for a slash."""
    stages = {name: {"seconds": 1.0, "peak_mb": 1.0, **facts} for name, facts in (stages or {}).items()}
    metrics: dict[str, Metrics] = {}
    if ppo:
        stages["ppo"] = {"seconds": 1.0, "peak_mb": 1.0}
        columns = {name.replace("__", "/"): values for name, values in ppo.items()}
        rows = [
            {"step": place + 1.0} | {name: column[place] for name, column in columns.items()} for place in range(STEPS)
        ]
        metrics["ppo"] = Metrics(tuple(rows))
    summary = Summary.of(stages, 1.0, 1.0, 0, {}, "ppo", Path("run"))
    return Recorded(summary, "", metrics, attempts, ())


def verdict(run: Recorded, check: str) -> str:
    found = [one for one in findings(run) if one.check == check]
    assert len(found) == 1, f"{check} is said {len(found)} times"
    return found[0].verdict


def flat(value: float) -> list[float | None]:
    return [value] * STEPS


def late(value: float, first: float) -> list[float | None]:
    """From `first` to `value` for the last WINDOW updates and a few more."""
    return [first] * (STEPS // 2) + [value] * (STEPS // 2)


CHECKS = {
    "kl": "Distance from SFT (KL)",
    "length": "Length of answers",
    "policy__entropy": "Variety (entropy)",
    "truncated": "Answers cut off",
    "reward__learned__disagreement": "Reward models agree",
    "policy__clip_fraction": "Clipped tokens",
    "value__explained_variance": "Critic",
    "sampler_kl": "Sampler against trainer",
    "groups__flat": "Groups that score alike",
}


@pytest.mark.parametrize(
    ("metric", "values", "expected"),
    [
        ("kl", late(9.99, 0.0), "ok"),
        ("kl", late(10.01, 0.0), "amber"),
        ("kl", late(29.9, 0.0), "amber"),
        ("kl", late(30.1, 0.0), "red"),
        ("kl", flat(-0.2), "ok"),
        ("length", late(25.9, 20.0), "ok"),
        ("length", late(26.1, 20.0), "amber"),
        ("length", late(36.1, 20.0), "red"),
        ("length", late(10.0, 20.0), "ok"),
        ("policy__entropy", late(0.61, 1.0), "ok"),
        ("policy__entropy", late(0.59, 1.0), "amber"),
        ("policy__entropy", late(0.29, 1.0), "red"),
        ("policy__entropy", late(1.5, 1.0), "ok"),
        ("truncated", flat(0.049), "ok"),
        ("truncated", late(0.051, 0.0), "amber"),
        ("truncated", late(0.201, 0.0), "red"),
        ("reward__learned__disagreement", late(0.29, 0.2), "ok"),
        ("reward__learned__disagreement", late(0.31, 0.2), "amber"),
        ("reward__learned__disagreement", late(0.51, 0.2), "red"),
        ("reward__learned__disagreement", flat(0.2), "ok"),
        ("policy__clip_fraction", flat(0.299), "ok"),
        ("policy__clip_fraction", late(0.301, 0.1), "amber"),
        ("value__explained_variance", flat(0.01), "ok"),
        ("value__explained_variance", late(0.1, -3.0), "ok"),
        ("value__explained_variance", late(-0.01, 0.5), "amber"),
        ("sampler_kl", flat(9.9e-4), "ok"),
        ("sampler_kl", flat(1.1e-3), "amber"),
        ("groups__flat", flat(0.49), "ok"),
        ("groups__flat", flat(0.51), "amber"),
    ],
)
def test_thresholds_of_the_known_answers(metric: str, values: list[float | None], expected: str) -> None:
    assert verdict(run(**{metric: values}), CHECKS[metric]) == expected


def test_of_several_terms_the_one_whose_reward_models_are_furthest_apart_is_judged() -> None:
    """Of 0.2 and 0.1 at first, 0.2 and 0.51 at the end: 0.51 / 0.2."""
    check = CHECKS["reward__learned__disagreement"]
    apart = {"reward__learned_2__disagreement": late(0.51, 0.1)}
    assert verdict(run(**apart), check) == "red"
    (found,) = [one for one in findings(run(reward__learned__disagreement=flat(0.2), **apart)) if one.check == check]
    assert (found.verdict, "2.55 times" in found.message) == ("red", True)
    assert not [one for one in findings(run(reward__disagreement=late(9.0, 0.1))) if one.check == check]


def test_one_bad_update_is_averaged_with_its_neighbours() -> None:
    spike = flat(5.0)
    spike[10] = 24.9  # mean of five: 8.98
    assert verdict(run(kl=spike), CHECKS["kl"]) == "ok"
    spike[10] = 30.1  # mean of five: 10.02
    assert verdict(run(kl=spike), CHECKS["kl"]) == "amber"


def test_the_message_says_how_much_and_when() -> None:
    values = flat(1.0)
    values[8:13] = [12.0] * 5
    (found,) = [one for one in findings(run(kl=values)) if one.check == CHECKS["kl"]]
    assert "12.0 nats per answer around update 11" in found.message
    assert "rl.kl.coef" in found.remedy


def attempts(correlation: float, drift: float, cut: bool = False) -> Attempts:
    """Ten updates of forty answers; reward and length correlate within an update, and drift from one to the next."""
    rng = np.random.default_rng(0)
    update = np.repeat(np.arange(1, 11), 40)
    one, two = rng.normal(size=(2, 400))
    length = 30 + 5 * one + drift * update
    reward = correlation * one + math.sqrt(1 - correlation**2) * two + drift * update
    finished = np.ones(400, dtype=bool)
    if cut:  # long and badly rewarded: the missing-EOS rule, not the taste of the reward model
        finished[::4] = False
        length[::4], reward[::4] = 500.0, -20.0
    return Attempts(update, reward, np.full(400, np.nan), length, finished)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (attempts(0.7, 0.0), "amber"),
        (attempts(0.3, 0.0), "ok"),
        (attempts(-0.9, 0.0), "ok"),
        (attempts(0.1, 3.0), "ok"),  # both drift upwards, but within an update length does not pay
        (attempts(0.7, 3.0), "amber"),
        (attempts(0.7, 0.0, cut=True), "amber"),
    ],
)
def test_correlation_of_reward_and_length(given: Attempts, expected: str) -> None:
    assert verdict(run(attempts=given, kl=flat(0.0)), "Reward and length") == expected


def test_gold_that_falls_while_the_reward_rises() -> None:
    over = np.linspace(0, 1, STEPS)
    fallen = run(reward=(3 * over).tolist(), reward__gold=(1 - (over - 0.3) ** 2 * 4).tolist())
    assert verdict(fallen, "Reward over-optimisation") == "red"
    healthy = run(reward=(3 * over).tolist(), reward__gold=(2 * over).tolist())
    assert verdict(healthy, "Reward over-optimisation") == "ok"
    hollow = run(reward=(3 * over).tolist(), reward__gold=[1.0, 1.1] * (STEPS // 2))
    assert verdict(hollow, "Reward over-optimisation") == "amber"
    both = run(reward=(-3 * over).tolist(), reward__gold=(-2 * over).tolist())
    assert verdict(both, "Reward over-optimisation") == "amber"


def test_a_run_too_short_to_judge_has_passed_nothing() -> None:
    short: list[float | None] = [0.0, 1.0, 2.0, 3.0, 2.0, 1.0, 0.0]
    rows = [{"step": place + 1.0, "reward": value, "reward/gold": value} for place, value in enumerate(short)]
    given = run(kl=flat(1.0))
    found = findings(replace(given, metrics={"ppo": Metrics(tuple(rows))}))
    assert [one.check for one in found] == ["Finite numbers, PPO"]


AGREED = {"value": 0.726, "low": 0.70, "high": 0.75}


@pytest.mark.parametrize(
    ("accuracy", "low", "expected"),
    [(0.80, 0.75, "ok"), (0.85, 0.80, "ok"), (0.9, ceiling(0.75).accuracy - 1e-6, "ok"), (0.95, 0.91, "red")],
)
def test_accuracy_beyond_what_agreement_allows_is_leakage(accuracy: float, low: float, expected: str) -> None:
    stages = {
        "preferences": {"agreement_without_ties": AGREED, "ceiling": 0.801, "ceiling_high": ceiling(0.75).accuracy},
        "reward": {"accuracy": accuracy, "accuracy_low": low, "accuracy_high": 0.99},
    }
    assert verdict(run(stages), "Reward model against the ceiling") == expected


def test_without_agreement_there_is_no_ceiling() -> None:
    found = findings(run({"reward": {"accuracy": 0.99, "accuracy_low": 0.98, "accuracy_high": 1.0}}))
    assert [one.check for one in found] == ["Reward model against a coin"]


@pytest.mark.parametrize(
    ("low", "high", "expected", "said"),
    [
        (0.49, 0.7, "amber", "which a coin could be by chance."),
        (0.51, 0.7, "ok", "clearly more than a coin."),
        (0.2, 0.51, "amber", "which a coin could be by chance."),
        (0.2, 0.49, "red", "clearly less than a coin."),
    ],
)
def test_a_reward_model_that_may_be_a_coin(low: float, high: float, expected: str, said: str) -> None:
    stages = {"reward": {"accuracy": (low + high) / 2, "accuracy_low": low, "accuracy_high": high}}
    (found,) = findings(run(stages))
    assert (found.check, found.verdict) == ("Reward model against a coin", expected)
    assert found.message.endswith(said)


def test_annotators_who_do_not_read() -> None:
    reliability = {"Ana": 0.8, "Ben": 0.49, "Carla": None, "David": 0.3}
    found = findings(run({"preferences": {"shared_pairs": 100, "reliability": reliability}}))
    assert [(one.check, one.verdict) for one in found] == [("Annotators", "amber")]
    assert found[0].message.startswith("The votes of Ben and David fit ")
    assert findings(run({"preferences": {"shared_pairs": 29, "reliability": reliability}})) == []
    fine = {"preferences": {"shared_pairs": 100, "reliability": {"Ana": 0.8}}}
    assert verdict(run(fine), "Annotators") == "ok"


@pytest.mark.parametrize(("value", "expected"), [(0.649, "amber"), (0.651, "ok")])
def test_an_annotator_far_below_the_median(value: float, expected: str) -> None:
    reliability = {"Ana": 0.88, "Ben": 0.83, "Carla": 0.8, "David": 0.78, "Elena": value}
    assert verdict(run({"preferences": {"shared_pairs": 400, "reliability": reliability}}), "Annotators") == expected


def test_numbers_that_are_not_finite_and_steps_that_were_skipped() -> None:
    assert verdict(run(kl=flat(1.0), policy__skipped=flat(0.0)), "Finite numbers, PPO") == "ok"
    broken = flat(1.0)
    broken[3:5] = [None, None]
    (found,) = [one for one in findings(run(kl=broken)) if one.check == "Finite numbers, PPO"]
    assert found.verdict == "red"
    assert "kl was not a finite number at 2 of the logged steps" in found.message
    skipped = [0.0] * (STEPS - 1) + [2.0]
    (found,) = [one for one in findings(run(policy__skipped=skipped)) if one.check == "Finite numbers, PPO"]
    assert found.verdict == "red"
    assert "2 optimizer steps were skipped" in found.message


@pytest.mark.parametrize(("cut", "expected"), [(0, "ok"), (4, "ok"), (5, "amber"), (20, "red")])
def test_texts_that_were_cut(cut: int, expected: str, tmp_path: Path) -> None:
    facts = {"sft": {"texts": 100, "truncated": cut}}
    found = findings(read_run(finished_run(tmp_path, stages=("sft",), facts=facts)))
    assert [one.verdict for one in found if one.check == "Length limit, SFT"] == [expected]

    assert f"{cut} of 100 texts ({cut}.0%)" in next(one.message for one in found if one.check.startswith("Length l"))


@pytest.mark.parametrize(("dropped", "expected"), [(4, "ok"), (5, "amber"), (20, "red")])
def test_rows_that_were_left_out(dropped: int, expected: str) -> None:
    facts = kept(100, **{"empty prompt": 3, "answers that are alike": dropped - 3})
    (found,) = findings(run({"reward": facts}))
    assert (found.check, found.verdict) == ("Rows left out, reward model", expected)
    assert f"{dropped} of 100 rows ({dropped}.0%) were left out: 3 × empty prompt; " in found.message
    assert f"{dropped - 3} × answers that are alike (" in found.message


def test_where_no_row_was_left_out_that_is_said_and_where_none_was_counted_nothing_is() -> None:
    (found,) = findings(run({"preferences": kept(1200)}))
    assert (found.verdict, found.message) == ("ok", "None of 1,200 rows was left out.")
    assert findings(run({"preferences": {"pairs": 7}})) == []


@pytest.mark.parametrize(("low", "high", "expected"), [(0.6, 0.8, "ok"), (0.4, 0.6, "ok"), (0.2, 0.4, "red")])
def test_a_policy_that_became_worse(low: float, high: float, expected: str) -> None:
    stages = {"evaluation": {"win_rate": (low + high) / 2, "win_rate_low": low, "win_rate_high": high}}
    assert verdict(run(stages), "PPO against SFT") == expected


def test_prompts_that_were_trained_on() -> None:
    (found,) = findings(run({"evaluation": unseen(200, sft=3, ppo=1)}))
    assert (found.check, found.verdict) == ("Prompts of the evaluation", "amber")
    assert found.message.startswith("4 of 200 prompts of the evaluation were trained on too (SFT 3, PPO 1), ")
    (found,) = findings(run({"evaluation": unseen(200)}))
    assert (found.verdict, found.message) == (
        "ok", "No stage has trained on any of the 200 prompts of the evaluation."
    )  # fmt: skip
    assert findings(run({"evaluation": {}})) == []


def test_a_clean_run_has_no_warnings_and_red_comes_first(tmp_path: Path) -> None:
    clean = findings(read_run(finished_run(tmp_path / "clean")))
    assert [one.check for one in clean if one.verdict != "ok"] == []
    assert len(clean) >= 15
    sick = findings(
        read_run(finished_run(tmp_path / "sick", curves={"kl": lambda t: 15 * t, "truncated": lambda t: 0.5 * t}))
    )
    assert [(one.check, one.verdict) for one in sick][:2] == [
        ("Answers cut off", "red"),
        ("Distance from SFT (KL)", "amber"),
    ]
    assert all(one.verdict == "ok" for one in sick[2:])


def test_findings_are_sentences() -> None:
    over = np.linspace(0, 1, STEPS)
    found: list[Finding] = findings(run(kl=flat(50.0), length=late(50.0, 10.0), reward=over.tolist()))
    assert all(text.endswith((".", ".)")) for one in found for text in (one.message, one.remedy))
