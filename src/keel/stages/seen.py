"""Which prompts the stages of a run have trained on, so that evaluation can say whether its own are new to the models.

Every stage that trains leaves DIR/<stage>/prompts.txt, one fingerprint a line: a later run in the same folder has it
too, and no data is read twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Literal
from unicodedata import normalize

from keel.config import Method
from keel.data.write import write_text
from keel.stages.workspace import Facts, Workspace
from keel.types import Conversation, Prompt

Trained = Literal["sft", "reward"] | Method
_FILE = "prompts.txt"


def fingerprint(prompt: Conversation) -> str:
    """16 hex digits that two conversations share where they ask the same.

    System turns, case, white space and the form of characters (NFKC) make no difference.
    """
    turns = [
        (turn.role, " ".join(normalize("NFKC", turn.content).casefold().split()))
        for turn in prompt
        if turn.role != "system"
    ]
    return blake2b(repr(turns).encode(), digest_size=8).hexdigest()


def questions(messages: Conversation) -> list[Conversation]:
    """What a demonstration's assistant turns answer: the conversation before each of them."""
    return [messages[:place] for place, turn in enumerate(messages) if turn.role == "assistant"]


def remember(space: Workspace, stage: Trained, fingerprints: Iterable[str]) -> None:
    """Write down which prompts a stage has trained on."""
    write_text(space.directory / stage / _FILE, "".join(f"{one}\n" for one in sorted(set(fingerprints))))


def seen(space: Workspace, prompts: Sequence[Prompt]) -> Facts:
    """How many of the prompts the models of this folder have trained on, in all and by stage.

    Stages are those that have written down theirs; SFT counts where the supervised model is the one in this folder.
    """
    own = space.supervised.resolve() == space.model("sft").resolve()
    method = space.recipe.method
    stages: list[Trained] = ["sft", "reward", method] if own else ["reward", method]
    files = {stage: space.directory / stage / _FILE for stage in stages}
    known = {stage: set(path.read_text(encoding="utf-8").split()) for stage, path in files.items() if path.is_file()}
    asked = [fingerprint(prompt.messages) for prompt in prompts]
    return {
        "seen": sum(any(one in trained for trained in known.values()) for one in asked),
        "seen_by": {stage: sum(one in trained for one in asked) for stage, trained in known.items()},
    }
