"""The random states of the process. Keel's own draws have seeds of their own; a user's reward function may not."""

from __future__ import annotations

import random

import numpy as np
import torch

from keel.training.state import State


def seed_process(seed: int, stage: str) -> None:
    """Every library's own random numbers follow from the seed and the stage from here on."""
    drawn = random.Random(f"{seed} process {stage}").getrandbits(32)
    random.seed(drawn)
    np.random.seed(drawn)
    torch.manual_seed(drawn)


class Randomness:
    """The states of `random`, numpy and torch, as a part of a checkpoint."""

    def state(self) -> State:
        """Generators of GPUs stand under their numbers."""
        version, words, gauss = random.getstate()
        name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
        numbers = {
            "random": [version, list(words), gauss],
            "numpy": [name, np.asarray(keys).tolist(), int(position), int(has_gauss), float(cached)],
        }
        tensors = {"cpu": torch.get_rng_state()}
        tensors |= {f"cuda/{place}": one for place, one in enumerate(torch.cuda.get_rng_state_all())}
        return State(numbers, tensors)

    def restore(self, state: State) -> None:
        """ValueError, or TypeError, where the numbers are no states."""
        version, words, gauss = state.numbers["random"]
        name, keys, *rest = state.numbers["numpy"]
        random.setstate((version, tuple(words), gauss))
        np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
        torch.set_rng_state(state.tensors["cpu"])
        for place in range(torch.cuda.device_count()):
            if f"cuda/{place}" in state.tensors:
                torch.cuda.set_rng_state(state.tensors[f"cuda/{place}"], place)
