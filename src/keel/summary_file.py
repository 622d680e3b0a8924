"""What stands in a summary.json, and what can be wrong with it."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

MEASURED = (
    "win_rate", "win_rate_low", "win_rate_high", "wins", "ties", "losses", "judge", "confidence",
    "gold_base", "gold_sft", "gold_policy", "reward_sft", "reward_policy", "kl",
)  # fmt: skip
_WHOLE = ("wins", "ties", "losses", "seed")
_ESTIMATE = {"value", "low", "high"}  # of a number with its interval, such as the agreement of people
_KINDS: Mapping[str, type | tuple[type, ...]] = {
    **dict.fromkeys((*MEASURED, "seconds", "peak_mb", "seed"), (int, float)),
    "judge": str,
    "stages": dict,
    "versions": dict,
    "examples": list,
}


def exact(name: str, value: Any) -> Any:
    """A whole number as a float where the field is one: JSON does not tell 1 from 1.0."""
    return float(value) if isinstance(value, int) and name not in _WHOLE else value


def said(name: str, method: str) -> str:
    """What summary.json and the evaluation call a number of the policy: gold_ppo, or after whichever method made it."""
    return f"{name.removesuffix('_policy')}_{method}" if name.endswith("_policy") else name


def faults(content: Any, names: Sequence[str], stages: Collection[str], methods: Collection[str]) -> Iterator[str]:
    """What is wrong with the content, if anything: `names` must be there, no stage but one of `stages`, and one of
    `methods`, ppo where it does not say."""
    if not isinstance(content, dict):
        yield "it holds no object"
        return
    method = content.get("method", "ppo")
    if method not in tuple(methods):
        yield f"there is no method {method!r}"
    called = {name: said(name, method) for name in names if name != "method"}
    yield from (f"it lacks {name}" for name in called.values() if name not in content)
    for name, kind in _KINDS.items():
        found, optional = content[called[name]], name in MEASURED
        endless = isinstance(found, float) and not math.isfinite(found)
        if endless or not (isinstance(found, kind) or (optional and found is None)):
            yield f"{called[name]} cannot be {found!r}"
    if content["judge"] not in (None, "gold", "reward"):
        yield f"judge cannot be {content['judge']!r}"
    for name, facts in content["stages"].items():
        if name not in stages:
            yield f"there is no stage {name!r}"
        elif not isinstance(facts, dict) or not {"seconds", "peak_mb"} <= set(facts):
            yield f"stage {name} lacks seconds or peak_mb"
        else:
            yield from (
                f"{fact} of stage {name} lacks {lacking.pop()}"
                for fact, held in facts.items()
                if isinstance(held, dict) and len(held) <= 3 and len(lacking := _ESTIMATE - set(held)) == 1
            )
    for example in content["examples"]:
        if not isinstance(example, dict) or not {"prompt", "sft", method} <= set(example):
            yield f"an example lacks prompt, sft or {method}"
