"""What newer runs leave beside their results, written by the code that writes it, and answers as a test wants them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keel.data.write import write_json
from keel.diagnostics.findings import Finding
from keel.preflight.table import Checked, Preflight
from keel.stages.lineage import Input, Lineage, Made
from keel.stages.workspace import StageName

VERSIONS = {"python": "3.12.1", "keel": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0"}


def mark(content: str) -> str:
    """The fingerprint of some content."""
    return hashlib.sha256(content.encode()).hexdigest()


def leave_lineage(
    directory: Path,
    stage: StageName,
    inputs: Mapping[str, tuple[str, str]],
    outputs: Mapping[str, str],
    versions: Mapping[str, str] = VERSIONS,
) -> None:
    """`inputs` are (source, content) by name, `outputs` contents by name."""
    read = {name: Input(source, mark(content)) for name, (source, content) in inputs.items()}
    made = {name: mark(content) for name, content in outputs.items()}
    Lineage(Made(stage, {"seed": 0}, read), made, versions).write(directory / stage)


def leave_lineages(directory: Path, **content: str) -> None:
    """A whole run's; `content` replaces what base, demonstrations, prompts and so on hold."""
    held = {
        "base": "base", "demonstrations": "demonstrations", "asked": "prompts", "practised": "prompts",
        "evaluated": "prompts", "sft": "sft", "preferences": "preferences", "reward": "reward", "ppo": "ppo",
        "answers": "answers",
    } | content  # fmt: skip
    model = {"model": ("sft/model", held["sft"])}
    leave_lineage(
        directory,
        "sft",
        {"model": ("tiny", held["base"]), "demonstrations": ("notes.jsonl", held["demonstrations"])},
        {"model": held["sft"]},
    )
    leave_lineage(
        directory,
        "preferences",
        {**model, "prompts": ("the task's own", held["asked"])},
        {"preferences": held["preferences"]},
    )
    leave_lineage(
        directory,
        "reward",
        {**model, "preferences": ("preferences", held["preferences"])},
        {"model": held["reward"]},
    )
    leave_lineage(
        directory,
        "ppo",
        {**model, "prompts": ("the task's own", held["practised"]), "reward learned": ("reward/model", held["reward"])},
        {"model": held["ppo"]},
    )
    leave_lineage(
        directory,
        "evaluation",
        {
            "base": ("tiny", held["base"]), **model, "policy": ("ppo/model", held["ppo"]),
            "prompts": ("the task's own", held["evaluated"]), "reward": ("reward/model", held["reward"]),
        },
        {"answers.jsonl": held["answers"]},
    )  # fmt: skip


def leave_preflight(directory: Path, stage: StageName, *found: Finding) -> None:
    write_json(directory / stage / "preflight.json", Checked((Preflight(stage, tuple(found), None),)).to_json())


def leave_answers(
    directory: Path, scores: Mapping[str, Sequence[float]], judge: str = "gold", texts: Mapping[str, str] | None = None
) -> None:
    """Scores of the policy's answers by the text of their prompt, in order; SFT's answers all score 0.

    `texts` are the policy's answers by prompt.
    """
    said = texts or {}
    rows: list[dict[str, Any]] = [
        {"id": f"evaluation-{place}", "prompt": prompt, "base": "", "sft": "before"}
        | {"ppo": said.get(prompt, f"{directory.name} says {score:g}")}
        | {f"{judge}_sft": 0.0, f"{judge}_ppo": score}
        for place, (prompt, given) in enumerate(scores.items())
        for score in given
    ]
    path = directory / "evaluation" / "answers.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def edit_summary(directory: Path, **changes: Any) -> None:
    """Other values in summary.json."""
    path = directory / "summary.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")
