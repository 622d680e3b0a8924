"""Online training: prompts, what holds before the first update, and a reward that tells answers apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from statistics import fmean

from keel.data.forest import Tree
from keel.diagnostics.findings import Finding
from keel.models.roles import LanguageRole
from keel.preflight.example import Example
from keel.preflight.first_step import agreement, distance, ratio
from keel.preflight.objective import objective
from keel.preflight.repeats import repeats
from keel.preflight.rewards import reward_spread
from keel.preflight.sample import ANSWERS, TOKENS, Start, cast, sampled
from keel.preflight.truncation import cut_answers, unanswerable
from keel.preflight.wording import wording
from keel.stages.practice import prompts_to_practise
from keel.stages.seen import fingerprint
from keel.stages.workspace import Workspace
from keel.training.annotate import annotate, tree_of
from keel.training.batches import micro_batches
from keel.types import Scored

CLIP = 0.2
"""What a ratio of single tokens is held against where the algorithm has no bound of its own for it."""


def checks(space: Workspace, start: Start) -> Iterator[Finding | Example]:
    """Everything that can be seen from a handful of sampled answers, and one of them."""
    settings, asked = space.recipe.rl, prompts_to_practise(space)
    yield from objective(settings)
    yield unanswerable(asked.left_out["dropped"], asked.left_out["given"], "rl")
    yield repeats([fingerprint(one.messages) for one in asked.prompts], "prompts", "rl.prompts")
    if start.stand_in:
        yield Finding("Model", "ok", "Checked on the base: SFT comes first.", "")
    roles = cast(space, start.path)
    rollouts = sampled(space, roles, start.chat, asked.prompts, settings.sampling)
    yield from wording(
        space, start, [(one.messages,) for one in asked.prompts], [one.prompt_tokens for one in rollouts]
    )
    scored = [Scored(one, 0.0, {}) for one in rollouts]
    temperature, budget = settings.sampling.temperature, settings.micro_tokens
    read = annotate(scored, roles.policy, roles.reference, temperature, budget)
    once = [x for one in read for x in one.logprobs]
    trees = [tree_of(rollouts[first : first + ANSWERS]) for first in range(0, len(rollouts), ANSWERS)]
    again = read_as_learnt(roles.policy, trees, temperature)
    bound = settings.clip if settings.surrogate == "clipped" else CLIP
    if settings.ratio == "sequence":
        lengths = [len(one.logprobs) for one in read]
        yield ratio(_means(once, lengths), _means(again, lengths), space.dtype, min(bound, settings.clip_high or bound))
        bound = CLIP
    else:
        yield ratio(once, again, space.dtype, bound)
    yield distance(once, [x for one in read for x in one.reference_logprobs])
    yield agreement([x for one in rollouts for x in one.logprobs], once, space.dtype, bound)
    most = settings.sampling.max_tokens
    yield cut_answers(rollouts, min(most, TOKENS), most, "rl", start.stand_in)
    yield from reward_spread(space, start, rollouts)
    yield Example.of(trees[0], start.decode)


def _means(logprobs: Sequence[float], lengths: Sequence[int]) -> list[float]:
    """Of each answer, so many tokens long, the mean: what the ratio of a whole answer is made from."""
    ends = accumulate(lengths)
    return [fmean(logprobs[end - length : end]) for end, length in zip(ends, lengths, strict=True)]


def read_as_learnt(policy: LanguageRole, trees: Sequence[Tree], temperature: float) -> list[float]:
    """Log-probs (nats) of every sampled token as a step reads them, with a gradient; each tree in its own batch."""
    return [
        number
        for tree in trees
        for micro in micro_batches([tree], None, policy)
        for number in policy.read(micro.forest, temperature).logprobs.tolist()
    ]
