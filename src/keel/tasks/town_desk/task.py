"""Town Desk as a `Task`: base model, demonstrations, prompts, people and gold score."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from keel.preferences.simulate import Annotator, Spammer
from keel.tasks.task import Part
from keel.tasks.town_desk.crowd import crowd
from keel.tasks.town_desk.facts import SLOTS, draw_prompts, parse
from keel.tasks.town_desk.gold import read
from keel.tasks.town_desk.grammar import MIXED, write
from keel.types import Conversation, Demonstration, Message, Prompt


@dataclass(frozen=True)
class TownDesk:
    """The task; it has no state. Prompts are what `facts.render` writes, answers are one to four sentences."""

    def base(self) -> Path:
        """Folder of the shipped base model; its card is the README beside it."""
        return Path(__file__).parent / "base"

    def demonstrations(self, count: int, seed: int) -> tuple[Demonstration, ...]:
        """Notes by writers of mixed quality."""
        rng = random.Random(f"town desk demonstrations {seed}")

        def answer(prompt: Prompt) -> Message:
            return Message("assistant", write(parse(prompt.messages[-1].content), MIXED, rng))

        return tuple(Demonstration((*prompt.messages, answer(prompt))) for prompt in self.prompts(count, seed, "sft"))

    def prompts(self, count: int, seed: int, part: Part) -> tuple[Prompt, ...]:
        """Distinct prompts of one stream."""
        return draw_prompts(count, seed, part)

    def features(self, prompt: Conversation, answer: str) -> Mapping[str, float]:
        """The counts of the gold parser, by name."""
        return read(parse(prompt[-1].content), answer).features()

    def gold(self, prompt: Conversation, answer: str) -> float:
        """The gold score, in points; at most 5."""
        return read(parse(prompt[-1].content), answer).gold

    def gold_max(self) -> float:
        """One point for each of the five slots."""
        return float(len(SLOTS))

    def crowd(self, count: int, spammers: int, noise: float) -> tuple[Annotator | Spammer, ...]:
        """Readers of two tastes, and people who do not read."""
        return crowd(count, spammers, noise)
