"""The policy straight from preferences as a stage: the supervised model and preferences in, DIR/dpo/model out."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass

from keel.data.chat import Chat, fitting
from keel.data.forest import Branch, Tree
from keel.data.formats import Rows, are_rated
from keel.data.write import write_json
from keel.errors import UserError
from keel.models.roles import LanguageRole
from keel.stages.cast import policy_to_tune
from keel.stages.fingerprints import of_rows
from keel.stages.inputs import model_read
from keel.stages.left_out import left_out, unfit
from keel.stages.lineage import Input
from keel.stages.preferences import preferences_of
from keel.stages.seen import fingerprint, remember
from keel.stages.workspace import Facts, Workspace
from keel.training.comparisons import Comparisons, comparisons, together
from keel.training.order import count_steps, split
from keel.training.preference import (
    Contested,
    Single,
    learn_preferences,
    learn_singles,
    measure_pairs,
    measure_singles,
    read_reference,
)
from keel.training.records import Record
from keel.types import Preference, Ranking, Rated

Row = Preference | Ranking | Rated
_REFERENCE = "reference.json"
TIE = "ties, of which neither answer is good or bad"
"""Why kto leaves out a pair."""
_ONE_PROMPT = "kto compares an answer with those to other prompts, and all rows have the same prompt; give other rows"


@dataclass(frozen=True)
class Labelled:
    """One answer in tokens, good or bad."""

    tree: Tree
    desirable: bool


@dataclass(frozen=True)
class Matched(Labelled):
    """And beside it the answer to another prompt."""

    mismatched: Tree


def check_preferring(space: Workspace) -> None:
    """UserError where the user's preferences cannot be read, or have nothing for kto."""
    if space.recipe.dpo.data is not None:
        rows = _rows(space)
        if space.recipe.dpo.loss == "kto":
            _single_answers(rows)


def preferring_reads(space: Workspace) -> dict[str, Input]:
    """What the policy follows from beside settings."""
    return {
        **model_read(space, space.supervised, "model"),
        "preferences": Input(space.recipe.dpo.data or "preferences", of_rows(list(rows_to_prefer(space)))),
    }


def rows_to_prefer(space: Workspace) -> Sequence[Row]:
    """The user's pairs, rankings or rated answers, or the run's own preferences."""
    return _rows(space).items


def as_tree(chat: Chat, row: Row) -> Tree:
    """One row in tokens."""
    return _tokens(chat, row).tree


def rated(rows: Sequence[Row]) -> list[Rated]:
    """Single answers, good or bad: of a pair the preferred one and the other (none of a tie), of a ranking the first
    and the last."""
    found: list[Rated] = []
    for row in rows:
        if isinstance(row, Rated):
            found.append(row)
        elif isinstance(row, Ranking):
            found += [Rated(row.prompt, row.completions[0], True), Rated(row.prompt, row.completions[-1], False)]
        elif row.probability != 0.5:
            won = row.probability > 0.5
            found += [Rated(row.prompt, row.chosen, won), Rated(row.prompt, row.rejected, not won)]
    return found


def preferring(space: Workspace) -> None:
    """Train the supervised model on preferences by the recipe's loss, and write the policy down.

    The policy begins as the reference, so it is the one that reads the reference's log-probs, before its first step;
    they are kept in DIR/dpo/reference.json, and are not read again when the stage goes on after a stop.
    """
    settings, chat = space.recipe.dpo, space.chat(space.supervised)
    rows = _rows(space)
    asked: Sequence[Row] = rows.items
    lost = [one.reason for one in rows.dropped]
    if settings.loss == "kto":
        asked = _single_answers(rows)
        lost += [TIE] * sum(isinstance(row, Preference) and row.probability == 0.5 for row in rows.items)
    made = fitting(lambda row: _tokens(chat, row), asked)
    space.display.note(chat.truncation.summary())
    if not made:
        raise UserError(f"no answer fits into model.max_length {chat.max_length}; allow more tokens")
    parts = _parts(space, [one for _, one in made], chat.max_length)
    total = count_steps(len(parts.training), settings.batch_size, settings.epochs, settings.max_steps)
    with space.stage("dpo", total) as facts, space.record("dpo") as record:
        policy = policy_to_tune(space)
        facts |= parts.learn(space, policy, record)
        policy.save(space.model("dpo"), chat.tokenizer)
        trained = {one.tree.trunk for one in parts.training}
        remember(space, "dpo", (fingerprint(row.prompt) for row, one in made if one.tree.trunk in trained))
        facts |= {"objective": settings.loss, "prompts": len(trained)}
        facts |= {"texts": sum(len(one.tree.branches) for _, one in made), "truncated": chat.truncation.truncated}
        facts |= left_out(len(asked) + len(lost), [*lost, *unfit(chat.truncation)])


@dataclass(frozen=True)
class _Pairs:
    """Compared answers, a prompt's together."""

    training: Sequence[Comparisons]
    held_out: Sequence[Comparisons]

    def learn(self, space: Workspace, policy: LanguageRole, record: Record) -> Facts:
        settings = space.recipe.dpo
        trees = [one.tree for one in (*self.training, *self.held_out)]
        sums = _reference(space, policy, trees) if settings.has_reference else [(0.0,) * len(t.branches) for t in trees]
        both = [Contested(one, mine) for one, mine in zip((*self.training, *self.held_out), sums, strict=True)]
        training, held_out = both[: len(self.training)], both[len(self.training) :]
        with space.checkpoints("dpo") as kept:
            learn_preferences(policy, training, held_out, settings, space.recipe.seed, record, kept)
        count, spared = (sum(len(one.pairs) for one in part) for part in (self.training, self.held_out))
        facts: Facts = {"pairs": count, "held_out_pairs": spared}
        if held_out:
            found = measure_pairs(policy, held_out, settings)
            facts |= {"held_out_loss": found.pop("loss"), **found}
        return facts


@dataclass(frozen=True)
class _Singles:
    """Single answers, each good or bad."""

    training: Sequence[Matched]
    held_out: Sequence[Matched]

    def learn(self, space: Workspace, policy: LanguageRole, record: Record) -> Facts:
        settings = space.recipe.dpo
        answers = (*self.training, *self.held_out)
        sums = _reference(space, policy, [tree for one in answers for tree in (one.tree, one.mismatched)])
        flat = [number for row in sums for number in row]
        made = [
            Single(one.tree, one.mismatched, one.desirable, mine, theirs)
            for one, mine, theirs in zip(answers, flat[::2], flat[1::2], strict=True)
        ]
        training, held_out = made[: len(self.training)], made[len(self.training) :]
        with space.checkpoints("dpo") as kept:
            learn_singles(policy, training, held_out, settings, space.recipe.seed, record, kept)
        facts: Facts = {"answers": len(training), "held_out_answers": len(held_out)}
        if held_out:
            found = measure_singles(policy, held_out, settings)
            facts |= {"held_out_loss": found.pop("loss"), **found}
        return facts


def _parts(space: Workspace, made: Sequence[Comparisons | Labelled], most: int | None) -> _Pairs | _Singles:
    share, seed = space.recipe.dpo.held_out, space.recipe.seed
    if space.recipe.dpo.loss == "kto":
        return _Singles(*matched([one for one in made if isinstance(one, Labelled)], share, seed, most))
    return _Pairs(*split(together(one for one in made if isinstance(one, Comparisons)), share, seed, _trunk))


def _trunk(one: Comparisons | Labelled) -> tuple[int, ...]:
    return one.tree.trunk


def matched(
    singles: Sequence[Labelled], share: float, seed: int, most: int | None
) -> tuple[list[Matched], list[Matched]]:
    """(kept for training, held out), each answer beside one to another prompt of its own part, so that nothing is read
    in training that is held out; beside one of all, where a part has one prompt only. UserError as in `elsewhere`."""
    places = range(len(singles))
    training, held_out = split(places, share, seed, lambda place: _trunk(singles[place]))

    def beside(part: Sequence[int]) -> list[Matched]:
        among = part if len({_trunk(singles[place]) for place in part}) > 1 else places
        others = dict(zip(among, elsewhere([singles[place].tree for place in among], seed, most), strict=True))
        return [Matched(singles[place].tree, singles[place].desirable, others[place]) for place in part]

    return beside(training), beside(held_out) if held_out else []


def elsewhere(trees: Sequence[Tree], seed: int, most: int | None = None) -> list[Tree]:
    """To each prompt the answer that was given to another, in a seeded order, cut off where both are longer than `most`
    tokens; UserError where all have one prompt."""
    order = list(range(len(trees)))
    random.Random(f"{seed} mismatched").shuffle(order)
    circle = list(zip(order, order[1:] + order[:1], strict=True))
    found: dict[int, Tree] = {}
    other: Tree | None = None
    # Backwards: the next one of another prompt is the neighbour, or else the neighbour's own, at the latest in round 2.
    for number, neighbour in circle[::-1] * 2:
        trunk = trees[number].trunk
        if trees[neighbour].trunk != trunk:
            other = trees[neighbour]
        if other is not None:
            found[number] = Tree(trunk, tuple(_cut(one, trunk, most) for one in other.branches))
    if other is None:
        raise UserError(_ONE_PROMPT)
    return [found[number] for number in range(len(trees))]


def _cut(branch: Branch, trunk: Sequence[int], most: int | None) -> Branch:
    room = None if most is None else max(1, most - len(trunk))
    return Branch(branch.tokens[:room], branch.mask[:room])


def _reference(space: Workspace, policy: LanguageRole, trees: Sequence[Tree]) -> list[tuple[float, ...]]:
    """log π_ref of every branch, read by the policy that has not moved yet, or before the stage was stopped."""
    path, key = space.directory / "dpo" / _REFERENCE, space.keys.get("dpo", "")
    if path.is_file():
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["key"] == key:
            return [tuple(row) for row in kept["sums"]]
    sums = read_reference(policy, trees, space.recipe.dpo.micro_tokens)
    write_json(path, {"key": key, "sums": sums})
    return sums


def _rows(space: Workspace) -> Rows[Preference | Ranking] | Rows[Rated]:
    """What is to be learnt from, within the limit; of the user's own file also what was dropped in reading it."""
    settings = space.recipe.dpo
    if settings.data is None:
        return Rows.made(preferences_of(space)[: settings.limit], "preferences")
    return _given(space).first(settings.limit)


def _single_answers(rows: Rows[Preference | Ranking] | Rows[Rated]) -> list[Rated]:
    """What kto learns from; UserError where there is nothing, or nothing to compare it with."""
    asked = rated(rows.items)
    if not asked:
        raise UserError(f"{rows.source}: every pair is a tie, of which kto learns nothing; choose another dpo.loss")
    if len({row.prompt for row in asked}) == 1:
        raise UserError(f"{rows.source}: {_ONE_PROMPT}")
    return asked


def _given(space: Workspace) -> Rows[Preference | Ranking] | Rows[Rated]:
    settings = space.recipe.dpo
    assert settings.data is not None
    if settings.loss == "kto" and are_rated(settings.data, settings.columns):
        return space.sources.rated(settings.data, settings.columns)
    return space.sources.comparisons(settings.data, settings.columns)


def _tokens(chat: Chat, row: Row) -> Comparisons | Labelled:
    if isinstance(row, Rated):
        return Labelled(chat.completion(row.prompt, row.answer), row.desirable)
    return comparisons(chat, row)
