"""Run folders as a finished run leaves them, with seeded numbers: what the report is tested on."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Row = dict[str, Any]
Curve = Callable[[float], float]
"""A planted course of a metric: from the share of the run that is over, 0 to 1, to its value."""

EVENTS = ("bake sale", "book fair", "chess night", "lantern parade", "quiz night", "science fair", "toy swap")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
PLACES = ("park", "library", "town hall", "old mill", "market square", "river bank", "fire station")
NAMES = ("Ana", "Ben", "Carla", "David", "Elena")


def saturating(start: float, end: float, rate: float = 4.0) -> Curve:
    return lambda t: end + (start - end) * math.exp(-rate * t)


HEALTHY: Mapping[str, Curve] = {
    "reward": saturating(-0.1, 2.3),
    "reward/gold": saturating(1.9, 3.9),
    "reward/learned": saturating(-0.1, 2.3),
    "reward/missing_eos": lambda t: 0.0,
    "reward/std": lambda t: 0.9 - 0.3 * t,
    "kl": lambda t: 6.5 * (1 - math.exp(-3 * t)) if t > 0 else 0.0,
    "kl_coef": lambda t: 0.05,
    "length": saturating(31.0, 35.0),
    "truncated": lambda t: 0.004,
    "sampler_kl": lambda t: 4e-13,
    "policy/entropy": saturating(0.62, 0.47),
    "policy/clip_fraction": lambda t: 0.06 + 0.06 * math.sin(3 * t),
    "policy/kl_old": lambda t: 0.004,
    "policy/skipped": lambda t: 0.0,
    "value/explained_variance": saturating(-0.6, 0.72, 12.0),
    "value/loss": saturating(0.9, 0.2),
    "value/skipped": lambda t: 0.0,
}
NOISE: Mapping[str, float] = {
    "reward": 0.1,
    "reward/gold": 0.13,
    "kl": 0.35,
    "length": 0.8,
    "policy/entropy": 0.012,
    "policy/clip_fraction": 0.015,
    "value/explained_variance": 0.05,
}


def finished_run(
    directory: Path,
    *,
    updates: int = 40,
    curves: Mapping[str, Curve] | None = None,
    facts: Mapping[str, Row] | None = None,
    stages: Sequence[str] = ("sft", "preferences", "reward", "ppo", "evaluation"),
    prompts: int = 60,
    length_taste: float = 0.1,
    gold: bool = True,
    words: Mapping[str, str] | None = None,
    seed: int = 0,
) -> Path:
    """Fill a folder. `curves` replaces courses of PPO metrics, `facts` adds to what stages report of themselves,
    `words` replaces texts of the first answer, `length_taste` is the correlation of reward and length."""
    rng = np.random.default_rng(seed)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "resolved.yaml").write_text(
        f"task: town_desk\nseed: {seed}\nppo:\n  updates: {updates}\n", encoding="utf-8"
    )
    reports = {name: _facts(name) | dict((facts or {}).get(name, {})) for name in stages}
    for name in stages:
        (directory / name).mkdir(exist_ok=True)
    if "sft" in stages:
        _lines(directory / "sft" / "metrics.jsonl", _sft_rows(rng))
    if "reward" in stages:
        _lines(directory / "reward" / "metrics.jsonl", _reward_rows(rng))
    if "ppo" in stages:
        planted = {
            name: curve for name, curve in {**HEALTHY, **(curves or {})}.items() if gold or name != "reward/gold"
        }
        rows = [_ppo_row(planted, step, updates, rng) for step in range(1, updates + 1)]
        _lines(directory / "ppo" / "metrics.jsonl", rows)
        _lines(directory / "ppo" / "rollouts.jsonl", _rollouts(rows, length_taste, gold, rng))
    if "evaluation" in stages:
        answers = _answers(prompts, gold, random.Random(seed))
        answers[0] |= dict(words or {})
        _lines(directory / "evaluation" / "answers.jsonl", answers)
        reports["evaluation"] = _measured(answers, "gold" if gold else "reward") | reports["evaluation"]
    for name, said in reports.items():
        (directory / name / "report.json").write_text(json.dumps(said), encoding="utf-8")
    (directory / "summary.json").write_text(json.dumps(_summary(reports, seed)), encoding="utf-8")
    return directory


def kept(given: int, **reasons: int) -> Row:
    """What a stage says of so many rows, of which some were left out."""
    return {"given": given, "dropped": sum(reasons.values()), "reasons": reasons}


def unseen(prompts: int, **by: int) -> Row:
    """What an evaluation says of so many prompts, of which some were trained on: no prompt by two stages."""
    return {"prompts": prompts, "seen": sum(by.values()), "seen_by": {"sft": 0, "reward": 0, "ppo": 0} | by}


def _facts(stage: str) -> Row:
    """What a healthy stage says of itself."""
    time = {"sft": (48.2, 640), "preferences": (31.0, 655), "reward": (24.9, 702), "ppo": (151.3, 818)}
    seconds, peak = time.get(stage, (19.4, 818))
    own: dict[str, Row] = {
        "sft": {
            "demonstrations": 1900, "held_out": 100, "held_out_loss": 0.412, "truncated": 0, "texts": 2000,
            **kept(2000),
        },
        "preferences": {
            "pairs": 1460, "judgements": 2044, "annotators": 5, "shared_pairs": 292, "ties": 131,
            "agreement": {"value": 0.612, "low": 0.571, "high": 0.652},
            "agreement_without_ties": {"value": 0.703, "low": 0.661, "high": 0.744},
            "unanimous": {"value": 0.43, "low": 0.38, "high": 0.49},
            "cohen": {"value": 0.36, "low": 0.29, "high": 0.43},
            "fleiss": {"value": 0.35, "low": 0.28, "high": 0.42},
            "alpha": {"value": 0.351, "low": 0.282, "high": 0.421},
            "ac1": {"value": 0.444, "low": 0.39, "high": 0.5},
            "ceiling": 0.7828, "ceiling_low": 0.7471, "ceiling_high": 0.8156,
            "reliability": {"brief-1": 0.81, "detailed-2": 0.77, "brief-3": 0.79, "detailed-4": 0.763, "brief-5": 0.8},
        },
        "reward": {
            "pairs": 1387, "held_out_pairs": 73, "truncated": 0, "texts": 2920, **kept(1460),
            "accuracy": 0.7397, "accuracy_low": 0.6287, "accuracy_high": 0.8266, "loss": 0.529, "calibration": 0.043,
            "calibration_bins": [
                [0.05, 0.09, 0.12], [0.16, 0.2, 0.11], [0.26, 0.23, 0.1], [0.35, 0.4, 0.09], [0.46, 0.47, 0.08],
                [0.54, 0.53, 0.08], [0.65, 0.6, 0.09], [0.74, 0.77, 0.1], [0.84, 0.8, 0.11], [0.95, 0.91, 0.12],
            ],
        },
        "ppo": {"updates": 100, "reward_first": -0.1, "reward_last": 2.3, "kl_last": 6.2, "prompts": 4000} | kept(4000),
        "evaluation": {"kl": 6.31, "length_sft": 31.2, "length_ppo": 34.8} | kept(60) | unseen(60),
    }  # fmt: skip
    return own[stage] | {"seconds": seconds, "peak_mb": peak}


def _sft_rows(rng: np.random.Generator) -> list[Row]:
    steps = [1, *range(10, 301, 10)]
    return [
        {"step": step, "loss": 0.41 + 0.9 * math.exp(-step / 60) + 0.02 * rng.normal(), "lr": 1e-3, "skipped": 0.0}
        | ({"held_out/loss": 0.412} if step == 300 else {})
        for step in steps
    ]


def _reward_rows(rng: np.random.Generator) -> list[Row]:
    return [
        {
            "step": step,
            "loss": 0.51 + 0.18 * math.exp(-step / 8) + 0.02 * rng.normal(),
            "accuracy": min(1.0, 0.76 - 0.24 * math.exp(-step / 6) + 0.04 * rng.normal()),
            "skipped": 0.0,
        }
        | ({"held_out/accuracy": 0.7397, "held_out/loss": 0.529, "held_out/calibration": 0.043} if step == 40 else {})
        for step in range(1, 41)
    ]


def _ppo_row(curves: Mapping[str, Curve], step: int, updates: int, rng: np.random.Generator) -> Row:
    over = (step - 1) / max(updates - 1, 1)
    row: Row = {"step": step}
    for name, curve in curves.items():
        value = curve(over)
        wander = NOISE.get(name, 0.0) * float(rng.normal()) if math.isfinite(value) else 0.0
        row[name] = value + wander if math.isfinite(value) else None
    if row["kl"] is not None and row["reward"] is not None:
        row["objective"] = row["reward"] - row["kl_coef"] * row["kl"]
    return row


def _rollouts(rows: Sequence[Row], length_taste: float, gold: bool, rng: np.random.Generator) -> list[Row]:
    found = []
    for row in rows:
        shared, other = rng.normal(size=(2, 16))
        for place, (one, two) in enumerate(zip(shared, other, strict=True)):
            pleased = length_taste * one + math.sqrt(1 - length_taste**2) * two
            found.append(
                {
                    "update": row["step"],
                    "id": f"ppo-{place}",
                    "prompt": "Facts: …",
                    "text": "…",
                    "reward": (row["reward"] or 0.0) + 0.8 * pleased,
                    "parts": {"learned": 0.0, **({"gold": (row["reward/gold"] or 0.0) + 1.1 * two} if gold else {})},
                    "kl": row["kl"],
                    "length": max(1, round((row["length"] or 1.0) + 6 * one)),
                    "stop": "length" if rng.random() < (row["truncated"] or 0.0) else "eos",
                }
            )
    return found


def _answers(count: int, gold: bool, rng: random.Random) -> list[Row]:
    """Notes of three writers: a careless base, a fair SFT and a good PPO model."""
    rows = []
    for place in range(count):
        event, day, site, name = (rng.choice(group) for group in (EVENTS, DAYS, PLACES, NAMES))
        wrong, hour = rng.choice([other for other in DAYS if other != day]), rng.randrange(1, 9)
        prompt = (
            f"Facts: {event}, {day} {hour} pm, {site}. {name} thinks it is {wrong}. Write a short note for members."
        )
        good = f"Join us for the {event} on {day} at {hour} pm at the {site}."
        misled = f"The {event} is on {wrong} at {hour} pm at the {site}. {name} is right."
        bare = f"Dear members, the {event} is on {day}. It will be a lot of fun."
        sft, before = rng.choice(((good, 4.0), (misled, 2.25), (bare, 1.5), (bare, 1.5)))
        ppo, after = rng.choice(
            ((good, 4.0), (f"{good} It is on {day}, not on {wrong}.", 4.0), (misled, 2.25), (good, 4.0))
        )
        row: Row = {"id": f"evaluation-{place}", "prompt": prompt, "base": f"The {event} is", "sft": sft, "ppo": ppo}
        kind = "gold" if gold else "reward"
        scores = {"reward_base": -0.4, "reward_sft": before / 2, "reward_ppo": after / 2 + 0.4}
        rows.append(row | scores | ({f"{kind}_base": 0.0, f"{kind}_sft": before, f"{kind}_ppo": after} if gold else {}))
    return rows


def _measured(answers: Sequence[Row], judge: str) -> Row:
    """Evaluation facts of these answers; the interval is the textbook's Wilson interval with z = 1.96."""
    pairs = [(one[f"{judge}_ppo"], one[f"{judge}_sft"]) for one in answers]
    wins, ties = sum(a > b for a, b in pairs), sum(a == b for a, b in pairs)
    n, z = len(pairs), 1.96
    rate = (wins + ties / 2) / n
    centre, reach = rate + z * z / (2 * n), z * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    low, high = ((centre + side * reach) / (1 + z * z / n) for side in (-1, 1))
    means = {
        key: sum(one[key] for one in answers) / n
        for key in (f"{kind}_{model}" for kind in ("reward", "gold") for model in ("base", "sft", "ppo"))
        if key in answers[0]
    }
    return {
        "win_rate": rate, "win_rate_low": low, "win_rate_high": high, "confidence": 0.95,
        "wins": wins, "ties": ties, "losses": n - wins - ties, "judge": judge, **means,
        "examples": [{key: one[key] for key in ("prompt", "sft", "ppo")} for one in answers[:3]],
    }  # fmt: skip


def _summary(reports: Mapping[str, Row], seed: int) -> Row:
    measured = reports.get("evaluation", {})
    names = (
        "win_rate", "win_rate_low", "win_rate_high", "wins", "ties", "losses", "judge", "confidence",
        "gold_base", "gold_sft", "gold_ppo", "reward_sft", "reward_ppo", "kl",
    )  # fmt: skip
    return {name: measured.get(name) for name in names} | {
        "seconds": 281.4,
        "peak_mb": 818,
        "stages": reports,
        "examples": measured.get("examples", []),
        "versions": {"python": "3.12.1", "keel": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0"},
        "seed": seed,
        "method": "ppo",
    }


def _lines(path: Path, rows: Sequence[Row]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
