"""A model that answers: loaded once, asked by `keel sample` and `keel chat`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from keel.config import Sampling as SamplingSection
from keel.data.chat import Chat
from keel.models.load import load_language_model, load_tokenizer
from keel.rollout.episode import converse
from keel.rollout.generator import Sampling
from keel.rollout.local import LocalGenerator
from keel.stages.workspace import device_of, dtype_of
from keel.types import Prompt, Rollout


class Writer:
    """A language model with its chat template and its way of sampling."""

    def __init__(self, path: Path, template: str, device: str, sampling: SamplingSection, seed: int) -> None:
        place = device_of(device)
        self._chat = Chat(load_tokenizer(path, None if template == "auto" else template))
        model = load_language_model(path, dtype_of("auto", place), place)
        self._generator = LocalGenerator(model, self._chat.tokenizer)
        self._sampling = Sampling(**sampling.model_dump())
        self._seed = seed

    def answer(self, prompts: Sequence[Prompt], samples: int) -> list[Rollout]:
        """`samples` answers to each prompt, prompt by prompt; the same for the same seed and prompt id.

        UserError where a prompt with its answer is longer than the model's context.
        """
        return converse(prompts, self._generator, self._chat, self._sampling, self._seed, 0, samples)
