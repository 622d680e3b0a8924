"""A few answers of PPO for people to read while it runs; all of them are in rollouts.jsonl."""

from __future__ import annotations

from collections.abc import Sequence

from keel.config import Log
from keel.types import Annotated


def is_shown(version: int, settings: Log) -> bool:
    """Whether answers of this round are shown: of the first, and of every `samples_every`-th after it."""
    return settings.samples_every > 0 and version % settings.samples_every == 0


def shown(annotated: Sequence[Annotated], count: int) -> dict[str, str]:
    """So many answers by name, evenly from the whole round, each with its prompt and reward.

    What the prompt and the model say is indented, so that neither can write a line that looks like one of ours.
    """
    spread = annotated[:: max(1, len(annotated) // count)][:count]
    return {f"samples/{place}": _words(one) for place, one in enumerate(spread, start=1)}


def _words(one: Annotated) -> str:
    rollout = one.scored.rollout
    return "\n".join(
        (
            f"reward {one.scored.reward:+.3f}, {len(one.logprobs)} tokens, ended by {rollout.stop}",
            "prompt:",
            *_indented(rollout.prompt.messages[-1].content),
            "answer:",
            *_indented(rollout.text),
        )
    )


def _indented(text: str) -> list[str]:
    return [f"  {line}" for line in text.splitlines() or [""]]
