"""Reward models that learn one after the other from the same start, to judge together or to become one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from keel.maths.ensembles import mean_weights
from keel.models.adapters import Adapters, Lora
from keel.models.backbone import Backbone
from keel.models.heads import ScalarHead
from keel.models.passes import EXACT, Passes
from keel.models.roles import ScalarRole, Weights, scalar_role

_MEAN = "mean"


@dataclass(frozen=True)
class _Base:
    """The model that carries every member's adapter, by these names."""

    model: PreTrainedModel
    backbone: Backbone
    adapters: Adapters
    names: tuple[str, ...]


@dataclass(frozen=True)
class Members:
    """Reward models to train: each with a model of its own, or each an adapter and a head on one frozen base."""

    roles: tuple[ScalarRole, ...]
    base: _Base | None

    @classmethod
    def apart(cls, models: Sequence[PreTrainedModel], heads: Sequence[ScalarHead], passes: Passes = EXACT) -> Members:
        """All weights of each model train."""
        roles = [scalar_role(model, head, None, 0, passes) for model, head in zip(models, heads, strict=True)]
        return cls(tuple(roles), None)

    @classmethod
    def adapted(
        cls,
        model: PreTrainedModel,
        heads: Sequence[ScalarHead],
        lora: Lora,
        seeds: Sequence[int],
        passes: Passes = EXACT,
    ) -> Members:
        """Adapters on `model` and heads train; the adapters are drawn from `seeds`."""
        names = tuple("reward" if number == 1 else f"reward-{number}" for number in range(1, len(seeds) + 1))
        base = _Base(model, Backbone(model, passes), Adapters(model), names)
        for name, seed in zip(names, seeds, strict=True):
            base.adapters.add(name, lora, seed)
        roles = [
            ScalarRole(base.backbone, head.requires_grad_(True), Weights(model, base.adapters, name))
            for name, head in zip(names, heads, strict=True)
        ]
        return cls(tuple(roles), base)

    def averaged(self) -> ScalarRole:
        """One reward model with the mean of all their weights (WARM, 2401.12187).

        Without adapters it takes the place of the first, whose own weights are lost. With adapters of rank r its own
        has rank E·r, which holds the mean of E changes exactly (`Adapters.join`).
        """
        first = self.roles[0]
        if self.base is None:
            mean = mean_weights([dict(role.named_parameters()) for role in self.roles])
            with torch.no_grad():
                for name, parameter in first.named_parameters():
                    parameter.copy_(mean[name])
            return first
        head = mean_weights([{"weight": role.head.weight} for role in self.roles])["weight"]
        self.base.adapters.join(_MEAN, self.base.names)
        return ScalarRole(self.base.backbone, ScalarHead(head), Weights(self.base.model, self.base.adapters, _MEAN))
