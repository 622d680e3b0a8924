"""What an embedded task brings along, so that the whole pipeline runs without anybody's data or labour."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from keel.preferences.simulate import Annotator, Spammer
from keel.types import Conversation, Demonstration, Prompt

Part = Literal["sft", "preferences", "ppo", "evaluation"]
"""Streams of prompts. "evaluation" shares no prompt with the others."""


@runtime_checkable
class Task(Protocol):
    """A base model, data, people and a hidden measure of quality."""

    def base(self) -> Path:
        """Folder of the base model and its tokenizer."""

    def demonstrations(self, count: int, seed: int) -> tuple[Demonstration, ...]:
        """Examples of mixed quality for supervised fine-tuning."""

    def prompts(self, count: int, seed: int, part: Part) -> tuple[Prompt, ...]:
        """Distinct prompts."""

    def features(self, prompt: Conversation, answer: str) -> Mapping[str, float]:
        """What a reader notices about an answer, by name; tastes weigh these."""

    def gold(self, prompt: Conversation, answer: str) -> float:
        """The hidden quality of an answer, in points. Evaluation only: it never reaches the reward model."""

    def gold_max(self) -> float:
        """The best gold score there is, in points."""

    def crowd(self, count: int, spammers: int, noise: float) -> tuple[Annotator | Spammer, ...]:
        """Simulated annotators; `noise` scales their Bradley–Terry noise, 1 = as the task describes them."""
