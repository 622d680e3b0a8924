"""Evaluation: prompts that no stage has trained on."""

from __future__ import annotations

from collections.abc import Iterator

from keel.config import OFFLINE
from keel.diagnostics.findings import Finding
from keel.preflight.repeats import overlap, repeats
from keel.preflight.reward import judged
from keel.preflight.sample import Start
from keel.preflight.truncation import unanswerable
from keel.stages.direct import rows_to_prefer
from keel.stages.evaluation import prompts_to_judge
from keel.stages.practice import prompts_to_practise
from keel.stages.preferences import prompts_to_compare
from keel.stages.seen import fingerprint, questions
from keel.stages.sft import demonstrations
from keel.stages.workspace import Workspace


def checks(space: Workspace, start: Start) -> Iterator[Finding]:
    """Whether the prompts fit, are all different, and are new to the models."""
    asked = prompts_to_judge(space)
    yield unanswerable(asked.left_out["dropped"], asked.left_out["given"], "evaluation")
    prompts = [fingerprint(one.messages) for one in asked.prompts[: space.recipe.evaluation.count]]
    yield repeats(prompts, "prompts", "evaluation.prompts")
    yield overlap(trained(space), prompts)


def trained(space: Workspace) -> dict[str, set[str]]:
    """Fingerprints of the prompts that the stages of this run train on, by stage."""
    found: dict[str, set[str]] = {}
    if "sft" in space.stages:
        found["sft"] = {fingerprint(one) for row in demonstrations(space) for one in questions(row.messages)}
    if "reward" in space.stages:
        found["reward"] = _compared(space)
    method = space.recipe.method
    if method in OFFLINE and method in space.stages:
        own = space.recipe.dpo.data is not None
        found[method] = {fingerprint(row.prompt) for row in rows_to_prefer(space)} if own else _compared(space)
    elif method in space.stages:
        found[method] = {fingerprint(one.messages) for one in prompts_to_practise(space).prompts}
    return found


def _compared(space: Workspace) -> set[str]:
    """Of the prompts whose answers people have compared, or will have."""
    rows = judged(space)
    if rows is not None:
        return {fingerprint(row.prompt) for row in rows}
    prompts = prompts_to_compare(space).prompts[: space.recipe.preferences.count]
    return {fingerprint(one.messages) for one in prompts}
