"""Preferences: verdicts that people gave, or answers that are to be compared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from keel.diagnostics.findings import Finding
from keel.display import SilentDisplay
from keel.preflight.pairs import one_side
from keel.preflight.repeats import repeats
from keel.preflight.sample import PROMPTS, TOKENS, Start, spread_out
from keel.preflight.spread import same_answers
from keel.preflight.truncation import cut_answers, unanswerable
from keel.preflight.wording import wording
from keel.stages.answers import answers
from keel.stages.preferences import prompts_to_compare
from keel.stages.seen import fingerprint
from keel.stages.workspace import Workspace


def checks(space: Workspace, start: Start) -> Iterator[Finding]:
    """Of the user's verdicts or of a few sampled answers; of the user's pairs the reward model's preflight speaks."""
    recipe = space.recipe
    if recipe.reward.data is not None:
        return
    if recipe.preferences.labels.data is not None:
        labels = space.sources.labels(recipe.preferences.labels)
        said = [one.strength for one in labels.judgements if one.pressed is not None]
        yield one_side(sum(one < 0 for one in said), sum(one > 0 for one in said))
        rows = [
            " ".join(map(fingerprint, (item.prompt, *(one.messages for one in item.answers)))) for item in labels.items
        ]
        yield repeats(rows, "rows", "preferences.labels.data")
        return
    settings, asked = recipe.preferences, prompts_to_compare(space)
    prompts = asked.prompts[: settings.count]
    yield unanswerable(asked.left_out["dropped"], asked.left_out["given"], "preferences")
    yield repeats([fingerprint(one.messages) for one in prompts], "prompts", "preferences.prompts")
    most = min(settings.sampling.max_tokens, TOKENS)
    sampling = settings.sampling.model_copy(update={"max_tokens": most})
    quiet = replace(space, display=SilentDisplay())
    found = answers(quiet, start.path, spread_out(prompts, PROMPTS), sampling, settings.samples_per_prompt)
    yield from wording(space, start, [(one.messages,) for one in prompts], [one.prompt_tokens for one in found])
    yield same_answers([one.text for one in found], [one.prompt.id for one in found])
    yield cut_answers(found, most, settings.sampling.max_tokens, "preferences", start.stand_in)
