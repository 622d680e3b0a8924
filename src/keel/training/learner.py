"""One optimizer step from any number of micro-batches."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from keel.config import Optimizer
from keel.training.state import State, fitting


@dataclass(frozen=True)
class StepReport:
    """What one optimizer step did.

    `loss` is the sum of the micro-batches' shares, so the loss of the whole batch; `grad_norm` is the 2-norm before
    clipping; `lr` is the rate that this step used. `skipped` is 1 when the gradient was not finite and the weights
    were therefore left alone, else 0; it is counted, never hidden.
    """

    loss: float
    grad_norm: float
    lr: float
    skipped: int


class Learner:
    """AdamW, its schedule and the clip, over one set of parameters.

    A loss comes in shares: each micro-batch yields its part of the batch's loss (its denominators are those of the
    batch), is run backward at once, and is forgotten. So the memory is that of one micro-batch and the gradient that of
    the batch, however it was split.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], settings: Optimizer, steps: int) -> None:
        self.parameters = list(parameters)
        self.settings = settings
        self.steps = steps
        self.taken = 0
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            lr=settings.lr,
            betas=settings.betas,
            eps=settings.eps,
            weight_decay=settings.weight_decay,
            fused=all(one.device.type in ("cpu", "cuda") for one in self.parameters),  # one pass over them, not ten
        )

    def step(self, shares: Iterable[Tensor]) -> StepReport:
        """Run every share backward, clip the sum's norm, and move the weights once.

        `shares` are scalars whose sum is the loss of the batch. A gradient that is not finite moves nothing.
        """
        loss = 0.0
        for share in shares:
            share.backward()  # type: ignore[no-untyped-call]
            loss += share.item()
        return self.move(loss)

    def move(self, loss: float) -> StepReport:
        """Clip the gradient that is there and move the weights once; `loss` is what it is the gradient of."""
        rate = self.settings.lr * schedule(self.settings, self.taken, self.steps)
        self.taken += 1
        norm = float(nn.utils.clip_grad_norm_(self.parameters, self.settings.max_grad_norm))
        finite = math.isfinite(norm)
        if finite:
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return StepReport(loss, norm, rate, int(not finite))

    def state(self) -> State:
        """Weights, the optimizer's moments and step counts, each under its parameter's place, and the steps taken."""
        tensors: dict[str, Tensor] = {}
        for place, parameter in enumerate(self.parameters):
            tensors[f"{place}/weight"] = parameter.detach()
            tensors |= {f"{place}/{name}": one for name, one in self.optimizer.state.get(parameter, {}).items()}
        return State({"taken": self.taken}, tensors)

    def restore(self, state: State) -> None:
        """ValueError, with nothing changed, where the state is not of these parameters."""
        moments: dict[int, dict[str, Tensor]] = {place: {} for place in range(len(self.parameters))}
        for key, tensor in state.tensors.items():
            number, _, name = key.partition("/")
            if int(number) not in moments:
                raise ValueError(f"there are {len(self.parameters)} parameters, and none is number {number}")
            moments[int(number)][name] = tensor
        weights = [
            fitting(moments[place].pop("weight", None), parameter, f"weight {place}")
            for place, parameter in enumerate(self.parameters)
        ]
        for place, (parameter, weight) in enumerate(zip(self.parameters, weights, strict=True)):
            with torch.no_grad():
                parameter.copy_(weight)
            self.optimizer.state.pop(parameter, None)
            if moments[place]:
                held = {name: tensor.to(parameter.device) for name, tensor in moments[place].items()}
                self.optimizer.state[parameter] = held
        self.taken = int(state.numbers["taken"])


def schedule(settings: Optimizer, taken: int, steps: int) -> float:
    """The learning rate of the step after `taken` steps, as a share of its peak.

        warm-up:   (t+1)/(w+1)   for t < w,   w = ⌈warmup_ratio·steps⌉
        then, x = (t−w)/(steps−w):   1,   1 − x,   or   ½(1 + cos πx)

    The first step never has rate 0, nor has the last.
    """
    warmup = math.ceil(settings.warmup_ratio * steps)
    if taken < warmup:
        return (taken + 1) / (warmup + 1)
    done = min(1.0, (taken - warmup) / max(1, steps - warmup))
    match settings.schedule:
        case "constant":
            return 1.0
        case "linear":
            return 1.0 - done
        case "cosine":
            return 0.5 * (1.0 + math.cos(math.pi * done))
