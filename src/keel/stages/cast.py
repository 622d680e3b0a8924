"""Who plays which role: models from folders, weights in fp32, passes as the recipe has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from transformers import PreTrainedModel

from keel.config import Model
from keel.models.adapters import Lora
from keel.models.ensemble import Ensemble, places
from keel.models.heads import ScalarHead
from keel.models.load import inspect_reward_model, load_language_model, load_reward_model
from keel.models.members import Members
from keel.models.roles import (
    Judge,
    LanguageRole,
    Roles,
    ScalarRole,
    adapted_judge,
    frozen_language_role,
    frozen_scalar_role,
    has_adapters,
    is_adapted,
    language_role,
    separate,
    shared,
)
from keel.rollout.generator import Completion, Request
from keel.rollout.local import LocalGenerator
from keel.stages.workspace import Workspace


@dataclass(frozen=True)
class RoleGenerator:
    """The embedded sampler, reading as one role of several that may share a model."""

    role: LanguageRole
    local: LocalGenerator

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        """Completions of the role's current weights, in the order of the requests."""
        self.role.select()
        return self.local.generate(requests)


def policy_to_train(space: Workspace) -> LanguageRole:
    """The recipe's model, to be fine-tuned."""
    return language_role(_language(space, space.base), _lora(space.recipe.model), space.recipe.seed, space.passes)


def policy_to_tune(space: Workspace) -> LanguageRole:
    """The supervised model, to learn from preferences."""
    return language_role(_language(space, space.supervised), _lora(space.recipe.model), space.recipe.seed, space.passes)


def reward_to_train(space: Workspace) -> ScalarRole:
    """The supervised model with a fresh scalar head."""
    return rewards_to_train(space, [space.recipe.seed]).roles[0]


def rewards_to_train(space: Workspace, seeds: Sequence[int]) -> Members:
    """The supervised model with a fresh scalar head for each seed; with adapters on one copy of it, else one each."""
    lora = _lora(space.recipe.model)
    models = [_language(space, space.supervised) for _ in (seeds if lora is None else seeds[:1])]
    width = models[0].config.get_text_config().hidden_size
    heads = [ScalarHead.normal(width, torch.Generator().manual_seed(seed)) for seed in seeds]
    if lora is None:
        return Members.apart(models, heads, space.passes)
    return Members.adapted(models[0], heads, lora, seeds, space.passes)


def frozen_language(space: Workspace, path: Path) -> LanguageRole:
    """A language model that only reads."""
    return frozen_language_role(_language(space, path), space.passes)


def frozen_reward(space: Workspace, path: Path) -> Judge:
    """A reward model that only scores, or several as one.

    Several with adapters on the supervised model are read through them, on one copy of it.
    """
    folder = inspect_reward_model(path)  # where the hub's copy is, too
    found = places(folder)
    together = _on_one_base(space, folder) if len(found) > 1 else None
    if together is not None:
        return together
    members = [_frozen_scalar(space, place.folder) for place in found]
    return members[0] if len(members) == 1 else Ensemble(tuple(members), tuple(place.zero for place in found))


def fits_the_supervised_model(space: Workspace, path: Path) -> bool:
    """Whether all reward models of a folder are adapters on the supervised model, which is read to find out."""
    folder = inspect_reward_model(path)
    return has_adapters(folder) and is_adapted(_language(space, space.supervised), folder)


def _on_one_base(space: Workspace, folder: Path) -> Judge | None:
    """Reward models as adapters on the supervised model, which is not kept where it is another than theirs."""
    if not has_adapters(folder):
        return None
    base = _language(space, space.supervised)
    return adapted_judge(base, folder, space.passes) if is_adapted(base, folder) else None


def online_roles(space: Workspace, reward: Path | None) -> Roles:
    """Policy, reference, critic and reward in the layout of the recipe; `reward` is a reward model of the policy's own
    tokenizer, or None where there is no such."""
    recipe = space.recipe
    on_policy = recipe.rl.critic.body == "policy"
    if recipe.model.layout == "shared":
        base = _language(space, space.supervised)
        start: Literal["reward", "zero", "policy", "none"] = "policy" if on_policy else recipe.rl.critic.init
        start = start if recipe.rl.has_critic else "none"
        return shared(base, adapter_of(recipe.model), start, reward, recipe.seed, space.passes)
    policy, reference = (_language(space, space.supervised) for _ in range(2))
    alone = (
        reward is not None and len(places(inspect_reward_model(reward))) == 1
    )  # several are no role beside the others
    scored = _scalar(space, reward) if reward is not None and alone else None
    critic: tuple[PreTrainedModel, ScalarHead] | Literal["policy"] | None
    if not recipe.rl.has_critic:
        critic = None
    elif on_policy:
        critic = "policy"
    elif recipe.rl.critic.init == "reward" and reward is not None:
        critic = _scalar(space, reward)
    else:
        body = _language(space, space.supervised)
        critic = body, ScalarHead.zero(body.config.get_text_config().hidden_size)
    return separate(policy, reference, critic, scored, _lora(recipe.model), recipe.seed, space.passes)


def _language(space: Workspace, path: Path) -> PreTrainedModel:
    return load_language_model(path, torch.float32, space.device)


def _frozen_scalar(space: Workspace, path: Path) -> ScalarRole:
    return frozen_scalar_role(*_scalar(space, path), space.passes)


def _scalar(space: Workspace, path: Path) -> tuple[PreTrainedModel, ScalarHead]:
    model = load_reward_model(path, torch.float32, space.device)
    return model, ScalarHead.of(model)


def _lora(settings: Model) -> Lora | None:
    return adapter_of(settings) if settings.tuning == "lora" else None


def adapter_of(settings: Model) -> Lora:
    """The adapters that a recipe describes, whether it wants them or not."""
    return Lora(settings.lora.rank, settings.lora.alpha, settings.lora.target_modules)
