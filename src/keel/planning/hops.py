"""What a run will do: the hops of every stage, each with a batch as it will meet them.

A batch is made of the run's own data, in tokens. Only how long the answers will be cannot be known before: they are
taken to be as long as those of the demonstrations, cut at `max_tokens`, and as long as `max_tokens` where there are no
demonstrations. `Run.assumed` says which.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from keel.config import ONLINE, Supervised
from keel.data.chat import Chat, fitting
from keel.data.forest import Branch, Tree
from keel.stages.answers import BATCH
from keel.stages.direct import Labelled, as_tree, matched, rated, rows_to_prefer
from keel.stages.evaluation import prompts_to_judge
from keel.stages.judges import judges_of, members_of
from keel.stages.practice import CALIBRATION, prompts_to_practise
from keel.stages.preferences import prompts_to_compare
from keel.stages.selecting import reads_candidates
from keel.stages.sft import demonstrations
from keel.stages.workspace import StageName, Workspace
from keel.training.comparisons import comparisons, together
from keel.training.online import algorithm_of, reads_once
from keel.training.order import count_steps, split
from keel.types import Preference, Ranking

Kind = Literal[
    "sample",
    "read logprobs",
    "read values",
    "read scores",
    "learn logprobs",
    "learn policy",
    "learn both",
    "learn values",
    "learn scores",
]


@dataclass(frozen=True)
class Hop:
    """One kind of work: `times` batches like `trees`, which hold what is read or, for "sample", what is written."""

    stage: StageName
    name: str
    kind: Kind
    trees: tuple[Tree, ...]
    times: float

    @property
    def tokens(self) -> int:
        """Of one batch, a prompt once for all its answers."""
        return sum(tree.size for tree in self.trees)


@dataclass(frozen=True)
class Run:
    """All hops, in order, and how the lengths of answers were come by, in words."""

    hops: tuple[Hop, ...]
    assumed: str


class _Answers:
    """Answers yet to be sampled: drawn lengths, and token 0 all through."""

    def __init__(self, lengths: Sequence[int], seed: int) -> None:
        self._lengths = lengths
        self._draw = random.Random(f"{seed} plan")

    def tree(self, prompt: tuple[int, ...], answers: int, most: int) -> Tree:
        """A prompt with so many answers of at most so many tokens."""
        lengths = [min(self._draw.choice(self._lengths), most) if self._lengths else most for _ in range(answers)]
        return Tree(prompt, tuple(Branch((0,) * length, (True,) * length) for length in lengths))


def hops_of(space: Workspace) -> Run:
    """What the stages of this workspace will do. Raises UserError as the stages themselves do."""
    chat = space.chat(space.base if "sft" in space.stages else space.supervised)
    lengths: list[int] = []
    assumed = "as long as max_tokens: there are no demonstrations to tell better"
    if space.task is not None or space.recipe.sft.data is not None:
        made = fitting(lambda row: chat.demonstration(row.messages), demonstrations(space))
        lengths = [len(tree.branches[-1].tokens) for _, tree in made]
        assumed = "as long as those of the demonstrations, and at most max_tokens"
    answers = _Answers(lengths, space.recipe.seed)
    stages: dict[StageName, Callable[[Workspace, Chat, _Answers], Iterator[Hop]]] = {
        "sft": _sft,
        "preferences": _preferences,
        "reward": _reward,
        **dict.fromkeys(ONLINE, _practice),
        "dpo": _dpo,
        "evaluation": _evaluation,
    }
    found = [hop for name, hops in stages.items() if name in space.stages for hop in hops(space, chat, answers)]
    return Run(tuple(found), assumed)


def _sft(space: Workspace, chat: Chat, answers: _Answers) -> Iterator[Hop]:
    settings = space.recipe.sft
    trees = [tree for _, tree in fitting(lambda row: chat.demonstration(row.messages), demonstrations(space))]
    training, held_out = split(trees, settings.held_out, space.recipe.seed, lambda tree: tree.trunk)
    yield Hop("sft", "model learns", "learn logprobs", *_steps(training, settings))
    if held_out:
        yield Hop("sft", "held-out loss", "read logprobs", tuple(held_out), 2.0)


def _preferences(space: Workspace, chat: Chat, answers: _Answers) -> Iterator[Hop]:
    if space.recipe.reward.data is not None or space.recipe.preferences.labels.data is not None:
        return
    trees = _compared(space, chat, answers)
    yield from _sampled("preferences", "answers", trees)
    settings = space.recipe.preferences
    if reads_candidates(space) and len(_pairs(trees)) > (settings.budget or 0):
        single = [Tree(tree.trunk, (branch,)) for tree in trees for branch in tree.branches]
        batch = _spread(single, BATCH)
        members = members_of(space, settings.scorer)
        yield Hop("preferences", "scorer reads candidates", "read scores", batch, members * len(single) / len(batch))


def _reward(space: Workspace, chat: Chat, answers: _Answers) -> Iterator[Hop]:
    recipe = space.recipe
    settings = recipe.reward
    trees = _gathered(space, chat, answers, settings.limit)
    training, held_out = split(trees, settings.held_out, recipe.seed, lambda tree: tree.trunk)
    batch, times = _steps(training, settings)
    yield Hop("reward", "model learns", "learn scores", batch, settings.members * times)
    several = float(settings.members)
    if settings.members > 1 and settings.combine == "scores":
        all_once = several * len(training) / len(batch)
        yield Hop("reward", "each member's zero", "read scores", batch, all_once)
    if held_out:
        of_the_mean = 1.0 if settings.combine == "weights" else 0.0
        yield Hop("reward", "held-out pairs", "read scores", tuple(held_out), 2 * several + of_the_mean)


def _practice(space: Workspace, chat: Chat, answers: _Answers) -> Iterator[Hop]:
    settings, seed, stage = space.recipe.rl, space.recipe.seed, space.recipe.method
    prompts = prompts_to_practise(space).prompts
    draw = random.Random(f"{seed} plan")
    most, each = settings.sampling.max_tokens, settings.samples_per_prompt
    drawn = draw.choices(prompts, k=settings.batch_size // each)
    trees = tuple(answers.tree(chat.prompt(prompt.messages), each, most) for prompt in drawn)
    read = sum(float(members) for members in judges_of(space))
    learned = read > 0
    if learned and settings.reward_normalisation != "none":
        calibration = _spread(trees, CALIBRATION // each)
        yield Hop(stage, "reward's scale: sampling", "sample", calibration, 1.0)
        yield Hop(stage, "reward's scale: reading", "read scores", calibration, read)
    updates = float(settings.updates)
    warmup = min(settings.critic.warmup_updates, settings.updates) if settings.has_critic else 0
    yield Hop(stage, "policy samples", "sample", trees, updates)
    if learned:
        yield Hop(stage, "reward model reads", "read scores", trees, read * updates)
    if not reads_once(algorithm_of(settings), settings):
        yield Hop(stage, "policy reads", "read logprobs", trees, updates)
    yield Hop(stage, "reference reads", "read logprobs", trees, updates)
    if settings.has_critic:
        yield Hop(stage, "critic reads", "read values", trees, updates)
    learnt = {"best": 1, "pair": 2}.get(settings.credit, each)
    kept = tuple(Tree(tree.trunk, tree.branches[:learnt]) for tree in trees)
    part = _spread(kept, -(-len(trees) // settings.minibatches))
    steps = settings.epochs * settings.minibatches
    if settings.critic.body == "policy":
        yield Hop(stage, "policy and critic learn", "learn both", part, steps * (updates - warmup))
        if warmup:
            yield Hop(stage, "critic learns alone", "read values", part, steps * warmup)
        return
    yield Hop(stage, "policy learns", "learn policy", part, steps * (updates - warmup))
    if settings.has_critic:
        yield Hop(stage, "critic learns", "learn values", part, steps * updates)


def _dpo(space: Workspace, chat: Chat, answers: _Answers) -> Iterator[Hop]:
    settings, seed = space.recipe.dpo, space.recipe.seed
    if settings.loss == "kto":
        yield from _kto(space, chat, answers)
        return
    if settings.data is not None:
        rows = space.sources.comparisons(settings.data, settings.columns).first(settings.limit)
        trees = [one.tree for one in together(one for _, one in fitting(lambda row: comparisons(chat, row), rows))]
    else:
        trees = _gathered(space, chat, answers, settings.limit)
    training, held_out = split(trees, settings.held_out, seed, lambda tree: tree.trunk)
    if settings.has_reference:
        yield _read_once(trees)
    yield Hop("dpo", "policy learns", "learn logprobs", *_steps(training, settings))
    if held_out:
        yield Hop("dpo", "held-out pairs", "read logprobs", tuple(held_out), 2.0)


def _kto(space: Workspace, chat: Chat, answers: _Answers) -> Iterator[Hop]:
    """Beside each answer one to another prompt is read: by the reference once, by the policy at every step."""
    settings = space.recipe.dpo
    if settings.data is not None:
        made = fitting(lambda row: as_tree(chat, row), rated(rows_to_prefer(space)))
        trees = [tree for _, tree in made]
    else:
        trees = _gathered(space, chat, answers, settings.limit)
    # which of them are good changes nothing of how much is read
    singles = [Labelled(Tree(tree.trunk, (branch,)), True) for tree in trees for branch in tree.branches]
    training, held_out = matched(singles, settings.held_out, space.recipe.seed, chat.max_length)
    yield _read_once([tree for one in (*training, *held_out) for tree in (one.tree, one.mismatched)])
    yield Hop("dpo", "policy reads other answers", "read logprobs", *_steps([x.mismatched for x in training], settings))
    yield Hop("dpo", "policy learns", "learn logprobs", *_steps([one.tree for one in training], settings))
    if held_out:
        both = tuple(tree for one in held_out for tree in (one.tree, one.mismatched))
        yield Hop("dpo", "held-out answers", "read logprobs", both, 2.0)


def _read_once(trees: Sequence[Tree]) -> Hop:
    """What the policy reads as its own reference, before its first step."""
    batch = _spread(trees, BATCH)
    return Hop("dpo", "reference reads", "read logprobs", batch, len(trees) / len(batch))


def _evaluation(space: Workspace, chat: Chat, answers: _Answers) -> Iterator[Hop]:
    settings = space.recipe.evaluation
    prompts = prompts_to_judge(space).prompts[: settings.count]
    most = settings.sampling.max_tokens
    trees = [answers.tree(chat.prompt(prompt.messages), settings.samples, most) for prompt in prompts]
    for hop in _sampled("evaluation", "base, SFT and policy answer", trees):
        yield Hop(hop.stage, hop.name, hop.kind, hop.trees, 3 * hop.times)
    if "reward" in space.stages or space.model("reward").is_dir():
        yield Hop("evaluation", "reward model reads", "read scores", tuple(trees), 3.0 * members_of(space, None))
    yield Hop("evaluation", "KL: policy and SFT model read", "read logprobs", tuple(trees), 2.0)


def _gathered(space: Workspace, chat: Chat, answers: _Answers, limit: int | None = None) -> list[Tree]:
    """The compared answers of each prompt, of at most `limit` rows."""
    recipe = space.recipe
    if recipe.reward.data is not None or recipe.preferences.labels.data is not None:
        made = together(one for _, one in fitting(lambda row: comparisons(chat, row), _judged(space)[:limit]))
        return [one.tree for one in made]
    return _chosen(space, _compared(space, chat, answers))[:limit]


def _chosen(space: Workspace, trees: list[Tree]) -> list[Tree]:
    """The answers in the pairs that are judged (or the prompts, where they are ranked as a whole): of more than the
    budget any."""
    settings = space.recipe.preferences
    if settings.budget is None:
        return trees
    draw = random.Random(f"{space.recipe.seed} plan")
    if settings.judges == "people" and settings.people.ranked:
        return draw.sample(trees, min(settings.budget, len(trees)))
    pairs = _pairs(trees)
    judged: dict[int, set[int]] = {}
    for number, *pair in sorted(draw.sample(pairs, min(settings.budget, len(pairs)))):
        judged.setdefault(number, set()).update(pair)
    return [
        Tree(trees[number].trunk, tuple(trees[number].branches[answer] for answer in sorted(answers)))
        for number, answers in judged.items()
    ]


def _pairs(trees: Sequence[Tree]) -> list[tuple[int, int, int]]:
    """Every pair of answers to a prompt: the prompt's number, and theirs."""
    return [(number, *pair) for number, tree in enumerate(trees) for pair in combinations(range(len(tree.branches)), 2)]


def _judged(space: Workspace) -> Sequence[Preference | Ranking]:
    """The user's pairs, or one for each item that people judged."""
    recipe = space.recipe
    if recipe.reward.data is not None:
        return space.sources.comparisons(recipe.reward.data, recipe.reward.columns).items
    items = space.sources.labels(recipe.preferences.labels).items
    return [Preference(item.prompt, item.answers[0].messages, item.answers[1].messages) for item in items]


def _compared(space: Workspace, chat: Chat, answers: _Answers) -> list[Tree]:
    settings = space.recipe.preferences
    prompts = prompts_to_compare(space).prompts[: settings.count]
    most, each = settings.sampling.max_tokens, settings.samples_per_prompt
    return [answers.tree(chat.prompt(prompt.messages), each, most) for prompt in prompts]


def _sampled(stage: StageName, name: str, trees: Sequence[Tree]) -> Iterator[Hop]:
    batch = _spread(trees, BATCH)
    yield Hop(stage, name, "sample", batch, len(trees) / len(batch))


def _steps(trees: Sequence[Tree], settings: Supervised) -> tuple[tuple[Tree, ...], float]:
    """A batch of usual size, and how many such batches are learnt from."""
    batch = _spread(trees, settings.batch_size)
    steps = count_steps(len(trees), settings.batch_size, settings.epochs, settings.max_steps)
    visited = min(steps * settings.batch_size, settings.epochs * len(trees))
    return batch, visited / len(batch)


def _spread(items: Sequence[Tree], count: int) -> tuple[Tree, ...]:
    """So many of them, or all, from the shortest to the longest at even distances, so that they weigh what all do."""
    ordered = sorted(items, key=lambda tree: tree.size)
    count = min(count, len(ordered))
    chosen = [ordered[int((place + 0.5) * len(ordered) / count)] for place in range(count)]
    random.Random(0).shuffle(chosen)
    return tuple(chosen)
