"""Online training as a stage: prompts, the supervised model and a reward in; DIR/METHOD/model out."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from keel.config import Recipe, RewardTerm
from keel.data.chat import Chat, fitting
from keel.data.formats import Rows
from keel.data.write import new_folder
from keel.errors import UserError
from keel.models.ensemble import places
from keel.models.load import inspect_reward_model, load_tokenizer
from keel.models.roles import Judge, Roles
from keel.rollout.episode import converse
from keel.rollout.generator import Generator, Sampling
from keel.rollout.local import LocalGenerator
from keel.rollout.score import (
    FunctionReward,
    LearnedReward,
    MissingEos,
    Normalisation,
    Overlong,
    Scorer,
    WeightedSum,
    function_file,
    load_reward_function,
)
from keel.stages.answers import Asked, answerable
from keel.stages.cast import RoleGenerator, frozen_reward, online_roles
from keel.stages.fingerprints import of_file, of_rows
from keel.stages.inputs import model_read
from keel.stages.judges import folder_of, inspect_judge, judging, reading, same_tokens
from keel.stages.lineage import Input
from keel.stages.samples import is_shown, shown
from keel.stages.seen import fingerprint, remember
from keel.stages.sft import demonstrations
from keel.stages.workspace import Workspace
from keel.training.guards import Alarms
from keel.training.online import Update, drawn, practise
from keel.training.records import Lines
from keel.training.reward import scores
from keel.training.watch import Watch
from keel.types import Annotated, Prompt, Rollout

OWN = 4000
"""Prompts that an embedded task gives where the recipe sets no limit."""
TAKEN = ("gold", "missing_eos", "overlong", "std")
"""Names under `reward/` in the metrics that no function may have."""
CALIBRATION = 256
"""Answers from which the scale of a reward is measured."""


def check_practising(space: Workspace) -> None:
    """UserError where the prompts cannot be read, or the reward or the critic cannot be had."""
    recipe = space.recipe
    prompts_to_practise(space)
    names = [_name(place, term) for place, term in enumerate(recipe.rl.reward)]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"rl.reward: two terms are called '{name}'; give one of the functions another name")
        if name in TAKEN:
            raise UserError(f"rl.reward: '{name}' is what Keel calls a part of its own; give the function another name")
    for term in recipe.rl.reward:
        if term.kind == "function":
            load_reward_function(str(term.path))
        elif term.path is not None or "reward" not in space.stages:
            folder = folder_of(space, term)
            inspect_judge(folder)
            if term.aggregate != "mean" and len(places(inspect_reward_model(folder))) == 1:
                raise UserError(
                    f"rl.reward: aggregate: {term.aggregate} brings several reward models together, and {folder} holds "
                    "one; leave aggregate out, or train it with --reward.members 3 or more"
                )
    models = [term for term in recipe.rl.reward if term.kind == "model"]
    to_come = "reward" in space.stages and any(term.path is None for term in models)
    if not to_come:
        _own_reward(space, space.chat(space.base if "sft" in space.stages else space.supervised))
    if models and recipe.rl.reward_normalisation == "demonstrations":
        demonstrations(space)


def practising_reads(space: Workspace) -> dict[str, Input]:
    """What the policy follows from beside settings."""
    settings = space.recipe.rl
    found = model_read(space, space.supervised, "model")
    found["prompts"] = Input(settings.prompts or "the task's own", of_rows(_prompts(space)))
    for place, term in enumerate(settings.reward):
        name = f"reward {_name(place, term)}"
        if term.kind == "model":
            found |= model_read(space, folder_of(space, term), name)
        else:
            source = function_file(str(term.path))
            found[name] = Input(str(term.path), of_file(source) if source is not None else str(term.path))
    if settings.reward_normalisation == "demonstrations":
        found["demonstrations"] = Input(space.recipe.sft.data or "the task's own", of_rows(demonstrations(space)))
    return found


def practising(space: Workspace) -> None:
    """Let the supervised model practise by the recipe's method, and write the policy down."""
    settings, seed, method = space.recipe.rl, space.recipe.seed, space.recipe.method
    chat = space.chat(space.supervised)
    asked = prompts_to_practise(space)
    if asked.note:
        space.display.note(asked.note)
    prompts = asked.prompts
    path = _own_reward(space, chat)
    folder, best = space.directory / method, space.directory / method / "best"
    with space.stage(method, settings.updates) as facts, space.record(method) as record:
        roles = online_roles(space, path)
        generator = RoleGenerator(roles.policy, _sampler(space, roles, chat))
        scorer = _scorer(space, chat, roles, path, prompts, generator)
        with (
            Lines(folder / "rollouts.jsonl") as rollouts,
            Lines(folder / "alarms.jsonl") as alarms,
        ):
            guards = Alarms(settings.guards, settings.critic.warmup_updates if settings.has_critic else 0)
            watch = Watch(guards, alarms, lambda: roles.policy.save(best, chat.tokenizer), space.display.note)

            def keep(update: Update) -> None:
                rollouts.write(*(_row(update.version, one) for one in update.annotated))
                if is_shown(update.version, space.recipe.log):
                    record.texts(update.version + 1, shown(update.annotated, space.recipe.log.samples))
                watch.see(update.version + 1, update.metrics)

            with space.checkpoints(method, {"rollouts": rollouts, "alarms": alarms, "watch": watch}) as kept:
                practised = practise(
                    roles, generator, scorer, chat, prompts, settings, seed, record, keep, kept, watch, space.recipe.dpo
                )
        if watch.enough and watch.best is not None:
            _copy(best, space.policy)
        else:
            roles.policy.save(space.policy, chat.tokenizer)
        first, last = record.ends()
        met = drawn(prompts, seed, 0, min(practised, len(prompts)))
        remember(space, method, (fingerprint(one.messages) for one in met))
        facts |= {"updates": int(last["step"]), "stopped": watch.stopped, "alarms": watch.raised}
        facts |= {"best": None if watch.best is None else asdict(watch.best), "reward_first": first["reward"]}
        facts |= {"reward_last": last["reward"], "kl_last": last["kl"]}
        facts |= {"prompts": len(prompts), **asked.left_out, "layout": space.recipe.model.layout}
        facts |= {"learned_reward": any(term.kind == "model" for term in settings.reward)}
        facts |= {"held_by": _held_by(space.recipe)}


def _held_by(recipe: Recipe) -> str | None:
    """The setting that keeps the policy near to where it started; None where none does."""
    if recipe.rl.surrogate == "pair" and recipe.dpo.has_reference:
        return "dpo.beta"
    return "rl.kl" if recipe.rl.kl.coef > 0 else None


def _copy(folder: Path, path: Path) -> None:
    """The model of one folder under another name, too."""
    with new_folder(path) as draft:
        shutil.copytree(folder, draft, dirs_exist_ok=True)


def prompts_to_practise(space: Workspace) -> Asked:
    """The prompts that the policy practises on."""
    return answerable(space, "rl", _prompts(space), space.recipe.rl.sampling)


def _sampler(space: Workspace, roles: Roles, chat: Chat) -> LocalGenerator:
    return LocalGenerator(roles.policy.select(), chat.tokenizer, products=space.dtype)


def _prompts(space: Workspace) -> Rows[Prompt]:
    settings = space.recipe.rl
    if settings.prompts is not None:
        return space.sources.prompts(settings.prompts, settings.columns).first(settings.limit)
    if space.task is None:
        raise UserError("rl.prompts is missing: give prompts with --rl.prompts FILE")
    return Rows.made(space.task.prompts(settings.limit or OWN, space.recipe.seed, "ppo"), "ppo")


def _own_reward(space: Workspace, chat: Chat) -> Path | None:
    """The first reward model that reads the policy's own tokens; the critic may start from it."""
    for term in space.recipe.rl.reward:
        if term.kind == "model" and same_tokens(chat, load_tokenizer(folder_of(space, term))):
            return folder_of(space, term)
    if space.recipe.rl.has_critic and space.recipe.rl.critic.init == "reward":
        raise UserError(
            "rl.critic.init: no reward model reads the policy's own tokens, so the critic cannot start from one; "
            "set --rl.critic.init zero"
        )
    return None


def _scorer(
    space: Workspace, chat: Chat, roles: Roles, own: Path | None, prompts: Sequence[Prompt], generator: Generator
) -> Scorer:
    """The recipe's terms, summed, under the missing-EOS rule; a task's gold score rides along with weight 0."""
    settings = space.recipe.rl
    terms: list[tuple[float, str, Scorer]] = []
    judges = {} if own is None or roles.reward is None else {own: roles.reward}
    for place, term in enumerate(settings.reward):
        scorer: Scorer
        if term.kind == "function":
            scorer = load_reward_function(str(term.path))
        else:
            folder = folder_of(space, term)
            if folder not in judges:  # two terms may differ in what they make of the same models
                judges[folder] = frozen_reward(space, folder)
            scorer = _learned(space, term, chat, judges[folder], prompts, generator)
        terms.append((term.weight, _name(place, term), scorer))
    if space.task is not None:
        task = space.task
        terms.append((0.0, "gold", FunctionReward("gold", lambda rollouts: [_gold(task, one) for one in rollouts])))
    total: Scorer = WeightedSum(tuple(terms))
    if settings.overlong_buffer:
        total = Overlong(total, settings.sampling.max_tokens, settings.overlong_buffer)
    return total if settings.missing_eos_score is None else MissingEos(total, settings.missing_eos_score)


def _name(place: int, term: RewardTerm) -> str:
    """What a term of the reward is called in metrics: its function's name, or learned, learned_2, …"""
    if term.kind == "function":
        return str(term.path).rpartition(":")[2]
    return "learned" if place == 0 else f"learned_{place + 1}"


def _gold(task: Any, rollout: Rollout) -> float:
    return float(task.gold(rollout.prompt.messages, rollout.text))


def _learned(
    space: Workspace,
    term: RewardTerm,
    chat: Chat,
    judge: Judge,
    prompts: Sequence[Prompt],
    generator: Generator,
) -> LearnedReward:
    """A reward model with its normalisation, which is measured now and then stays."""
    folder, budget = folder_of(space, term), space.recipe.rl.micro_tokens
    role = judging(judge, term)
    reader, other = reading(space, chat, folder)
    raw = LearnedReward(role, reader, budget=budget)
    match space.recipe.rl.reward_normalisation:
        case "none":
            return raw
        case "demonstrations":
            return LearnedReward(role, reader, Normalisation(shift=_demonstrated(space, role, other)), budget)
        case "standard":
            settings = space.recipe.rl
            sampling = Sampling(**settings.sampling.model_dump())
            asked = prompts[:CALIBRATION]
            each = -(-CALIBRATION // len(asked))
            answers = converse(asked, generator, chat, sampling, space.recipe.seed, -1, each)
            return LearnedReward(
                role, reader, Normalisation.standard([one.reward for one in raw.score(answers)]), budget
            )


def _demonstrated(space: Workspace, role: Judge, chat: Chat) -> float:
    """The mean score of the demonstrations (at most `CALIBRATION` of them)."""
    rows = demonstrations(space).items[:CALIBRATION]
    trees = [tree for _, tree in fitting(lambda row: chat.demonstration(row.messages), rows)]
    if not trees:
        raise UserError(f"no demonstration fits into model.max_length {chat.max_length}; allow more tokens")
    return float(scores(role, trees, space.recipe.rl.micro_tokens).mean())


def _row(version: int, one: Annotated) -> dict[str, Any]:
    """One rollout as a line of rollouts.jsonl; the KL is the k1 sum, nats."""
    rollout = one.scored.rollout
    return {
        "update": version + 1,
        "id": rollout.prompt.id,
        "prompt": rollout.prompt.messages[-1].content,
        "text": rollout.text,
        "reward": round(one.scored.reward, 5),
        "parts": {name: round(value, 5) for name, value in one.scored.parts.items()},
        "kl": round(sum(one.logprobs) - sum(one.reference_logprobs), 5),
        "length": len(one.logprobs),
        "stop": rollout.stop,
    }
