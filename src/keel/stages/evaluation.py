"""Evaluation as a stage: every model answers the same unseen prompts, and a judge compares."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from keel.data.formats import Rows
from keel.data.write import write_text
from keel.diagnostics.winrate import gain, win_rate
from keel.errors import UserError
from keel.rollout.score import LearnedReward
from keel.stages.answers import Asked, answerable, answers
from keel.stages.cast import frozen_language, frozen_reward
from keel.stages.fingerprints import of_rows
from keel.stages.inputs import model_read
from keel.stages.judges import judging
from keel.stages.lineage import Input
from keel.stages.seen import seen
from keel.stages.workspace import Workspace
from keel.training.annotate import annotate
from keel.types import Prompt, Rollout, Scored


def check_evaluation(space: Workspace) -> None:
    """UserError where the prompts cannot be read, or nothing could judge the answers."""
    settings = space.recipe.evaluation
    if settings.prompts is not None:
        space.sources.prompts(settings.prompts, settings.columns)
    if _judge(space) == "reward" and "reward" not in space.stages and not space.model("reward").is_dir():
        raise UserError(
            "evaluation.prompts: this run has no reward model to judge the answers; give reward.data or "
            "preferences.labels.data, or leave evaluation.prompts out"
        )


def evaluation_reads(space: Workspace) -> dict[str, Input]:
    """What the evaluation follows from beside settings."""
    found = {
        **model_read(space, space.base, "base"),
        **model_read(space, space.supervised, "model"),
        **model_read(space, space.policy, "policy"),
        "prompts": Input(space.recipe.evaluation.prompts or "the task's own", of_rows(_prompts(space))),
    }
    if space.model("reward").is_dir():
        found |= model_read(space, space.model("reward"), "reward")
    return found


def evaluation(space: Workspace) -> None:
    """Answers of base, SFT model and policy; gold or reward of each; win rate of the policy; the KL that it cost."""
    settings, method = space.recipe.evaluation, space.recipe.method
    asked = prompts_to_judge(space)
    if asked.note:
        space.display.note(asked.note)
    prompts = asked.prompts[: settings.count]
    paths = {"base": space.base, "sft": space.supervised, method: space.policy}
    each = len(prompts) * settings.samples
    with space.stage("evaluation", len(paths) * each) as facts:
        said = {
            name: answers(space, path, prompts, settings.sampling, settings.samples, before=place * each)
            for place, (name, path) in enumerate(paths.items())
        }
        scores = rewards(space, said) if space.model("reward").is_dir() else {}
        if space.task is not None:
            scores |= {f"gold_{name}": gold(space, said[name]) for name in paths}
            facts["gold_max"] = space.task.gold_max()
        judge = _judge(space)
        ids = [one.prompt.id for one in said[method]]
        if space.task is not None:
            rose = gain(scores[f"gold_{method}"], scores["gold_sft"], ids, settings.confidence)
            facts |= {"gold_gain": rose.mean, "gold_gain_low": rose.low, "gold_gain_high": rose.high}
        outcome = win_rate(scores[f"{judge}_{method}"], scores[f"{judge}_sft"], settings.confidence, ids)
        facts |= {
            "win_rate": outcome.rate,
            "win_rate_low": outcome.low,
            "win_rate_high": outcome.high,
            "wins": outcome.wins,
            "ties": outcome.ties,
            "losses": outcome.losses,
            "judge": judge,
            "confidence": settings.confidence,
            "kl": sequence_kl(space, said[method]),
            "length_sft": fmean(len(one.tokens) for one in said["sft"]),
            f"length_{method}": fmean(len(one.tokens) for one in said[method]),
        }
        facts |= {name: fmean(values) for name, values in scores.items()}
        facts |= {"prompts": len(prompts), **asked.left_out, **seen(space, prompts)}
        _write(space, said, scores)
        facts["examples"] = _examples(said, scores, judge, method)


def prompts_to_judge(space: Workspace) -> Asked:
    """The prompts that all models answer, at least `evaluation.count` of them where there are so many."""
    return answerable(space, "evaluation", _prompts(space), space.recipe.evaluation.sampling)


def gold(space: Workspace, rollouts: Sequence[Rollout]) -> list[float]:
    """The task's hidden score of each answer."""
    assert space.task is not None
    return [space.task.gold(one.prompt.messages, one.text) for one in rollouts]


def rewards(space: Workspace, said: Mapping[str, Sequence[Rollout]]) -> dict[str, list[float]]:
    """The learned reward of each answer of every model, as the reward model gives it; of several reward models as the
    policy met them."""
    judge = judging(frozen_reward(space, space.model("reward")), space.recipe.own_term)
    scorer = LearnedReward(judge, budget=space.recipe.rl.micro_tokens)
    return {f"reward_{name}": [one.reward for one in scorer.score(rollouts)] for name, rollouts in said.items()}


def sequence_kl(space: Workspace, rollouts: Sequence[Rollout]) -> float:
    """KL(policy ‖ supervised model) in nats per answer: the mean k1 sum over the policy's own answers.

    At the temperature at which they were sampled (1 for greedy ones).
    """
    temperature = space.recipe.evaluation.sampling.temperature or 1.0
    budget = space.recipe.rl.micro_tokens
    policy, reference = (frozen_language(space, path) for path in (space.policy, space.supervised))
    read = annotate([Scored(one, 0.0, {}) for one in rollouts], policy, reference, temperature, budget)
    return fmean(sum(one.logprobs) - sum(one.reference_logprobs) for one in read)


def _judge(space: Workspace) -> str:
    wanted = space.recipe.evaluation.judge
    return ("gold" if space.task is not None else "reward") if wanted == "auto" else wanted


def _prompts(space: Workspace) -> Rows[Prompt]:
    settings = space.recipe.evaluation
    if settings.prompts is not None:
        return space.sources.prompts(settings.prompts, settings.columns)
    if space.task is None:
        raise UserError(
            "evaluation.prompts is missing, so there is nothing to answer; name a file of prompts there, and for a "
            "finished run in its resolved.yaml"
        )
    return Rows.made(space.task.prompts(settings.count, space.recipe.seed, "evaluation"), "evaluation")


def _write(space: Workspace, said: dict[str, list[Rollout]], scores: dict[str, list[float]]) -> None:
    lines = []
    for place, one in enumerate(said[space.recipe.method]):
        row: dict[str, Any] = {"id": one.prompt.id, "prompt": one.prompt.messages[-1].content}
        row |= {name: answers[place].text for name, answers in said.items()}
        row |= {name: round(values[place], 4) for name, values in scores.items()}
        lines.append(json.dumps(row, ensure_ascii=False))
    write_text(space.directory / "evaluation" / "answers.jsonl", "\n".join(lines) + "\n")


def _examples(
    said: dict[str, list[Rollout]], scores: dict[str, list[float]], judge: str, method: str
) -> list[dict[str, str]]:
    """Three prompts: where the policy gained most, the median, and where it lost most; of ties the earlier prompt."""
    gains = [mine - theirs for mine, theirs in zip(scores[f"{judge}_{method}"], scores[f"{judge}_sft"], strict=True)]
    order = sorted(range(len(gains)), key=lambda place: -gains[place])
    chosen = dict.fromkeys((order[0], order[len(order) // 2], order[-1]))
    return [
        {
            "prompt": said[method][place].prompt.messages[-1].content,
            "sft": said["sft"][place].text,
            method: said[method][place].text,
        }
        for place in chosen
    ]
