"""Town Desk's gold score as a reward function, as `rl.reward` names one: file.py:points."""

from __future__ import annotations

from collections.abc import Sequence

from keel.tasks.town_desk.facts import parse
from keel.tasks.town_desk.gold import gold_score
from keel.types import Rollout


def points(rollouts: Sequence[Rollout]) -> list[float]:
    """Points of each answer, at most 5."""
    return [gold_score(parse(one.prompt.messages[-1].content), one.text) for one in rollouts]
