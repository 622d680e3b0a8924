"""Reward models of one member, of several, of averaged weights, and of whole rankings, on Town Desk.

    python -m benchmarks.reward_models [--seeds 0] [--members 3] [--out FOLDER]

For each seed the base model is fine-tuned once, with the demo's recipe. Pairs: 2000 prompts with two answers each,
judged by the demo's annotators; one member (`reward.members: 1`), the scores of several together (mean, worst case,
uncertainty-weighted), and their averaged weights. Rankings: 500 prompts with four answers each, which one of five
annotators who all read ranks from best to worst, by utility and Gumbel noise, so that the ranking of any two is that
annotator's Bradley–Terry vote; the loss over the pairs of a ranking, and Plackett–Luce. What is reported is how often
each ranks two answers to 600 unseen prompts as the gold score does. Leaves reward_models.json in FOLDER.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any, get_args

from benchmarks.annotators import unseen_pairs
from keel import pipeline
from keel.config import Aggregated, Recipe, RewardTerm, load_recipe
from keel.data.write import write_json, write_text
from keel.display import SilentDisplay
from keel.models.ensemble import Ensemble
from keel.models.roles import Judge
from keel.preferences.assign import seeded
from keel.preferences.simulate import Annotator
from keel.process import set_up
from keel.stages.answers import answers
from keel.stages.cast import frozen_reward
from keel.stages.judges import way_of
from keel.stages.workspace import Workspace, open_workspace
from keel.training.reward import scores
from keel.types import Preference

RANKED, ANSWERS, UNSEEN = 500, 4, 600


def recipe_of(seed: int, sft: Path | None, **changes: Any) -> Recipe:
    """The demo's."""
    given = {"seed": seed, "preflight": "off", "log.to": [], **changes}
    return load_recipe(Path("recipes") / "town_desk.yaml", given if sft is None else {**given, "model.path": str(sft)})


def right(judge: Judge, space: Workspace, pairs: Sequence[tuple[Preference, float]]) -> float:
    """How often two answers stand as gold has them; two scores that are the same are not right."""
    chat = space.chat(space.supervised)
    read: list[float] = scores(judge, [chat.preference(pair) for pair, _ in pairs], None).tolist()
    return fmean((one - other) * gap > 0 for one, other, (_, gap) in zip(read[::2], read[1::2], pairs, strict=True))


def rankings(space: Workspace, seed: int) -> Iterator[dict[str, Any]]:
    """Rows of a data file: a prompt and its different answers, best first."""
    assert space.task is not None
    people = [who for who in space.task.crowd(5, 0, 0.7) if isinstance(who, Annotator)]
    prompts = space.task.prompts(RANKED, seed, "preferences")
    said = answers(space, space.supervised, prompts, space.recipe.preferences.sampling, ANSWERS)
    for place, prompt in enumerate(prompts):
        texts = {one.text for one in said[place * ANSWERS : (place + 1) * ANSWERS] if one.text.strip()}
        if len(texts) < 2:
            continue
        chance = seeded(seed, "ranking", str(place))
        who = people[int(chance.integers(len(people)))]
        felt = {
            text: who.taste.utility(space.task.features(prompt.messages, text)) / who.noise + chance.gumbel()
            for text in sorted(texts)
        }
        yield {"prompt": prompt.messages[-1].content, "completions": sorted(felt, key=lambda text: -felt[text])}


def measured(seed: int, members: int, folder: Path) -> dict[str, float]:
    """The gold accuracy of each reward model."""
    pipeline.run_stage("sft", recipe_of(seed, None), folder / "sft", SilentDisplay())
    sft = folder / "sft" / "sft" / "model"
    pairs: list[tuple[Preference, float]] = []
    found: dict[str, float] = {}

    def learn(name: str, **changes: Any) -> tuple[Workspace, Judge]:
        recipe, place = recipe_of(seed, sft, **changes), folder / name
        pipeline.run_stage("reward", recipe, place, SilentDisplay())
        space = open_workspace(recipe, place, SilentDisplay(), sft, ["reward"])
        pairs[:] = pairs or unseen_pairs(space, seed, UNSEEN)
        return space, frozen_reward(space, space.model("reward"))

    def tell(name: str, judge: Judge, space: Workspace) -> None:
        found[name] = right(judge, space, pairs)
        print(f"seed {seed}, {name}: {found[name]:.3f} of {len(pairs)} pairs", file=sys.stderr, flush=True)

    space, several = learn("scores", **{"reward.members": members})
    assert isinstance(several, Ensemble)
    for number, member in enumerate(several.members, start=1):
        tell(f"member {number}", member, space)  # type: ignore[arg-type]
    for way in get_args(Aggregated):
        term = RewardTerm(aggregate=way, penalty=0.5)
        tell(way, replace(several, together=way_of(term)), space)
    space, averaged = learn("weights", **{"reward.members": members, "reward.combine": "weights"})
    tell("weights", averaged, space)
    data = folder / "rankings.jsonl"
    write_text(data, "".join(json.dumps(row) + "\n" for row in rankings(space, seed)))
    for loss in ("pairs", "plackett-luce"):
        space, judge = learn(loss, **{"reward.data": str(data), "reward.loss": loss, "reward.batch_size": 8})
        tell(f"rankings, {loss}", judge, space)
    return found


def table(rows: Mapping[int, Mapping[str, float]]) -> str:
    """One row a reward model, in Markdown."""
    names = list(next(iter(rows.values())))
    lines = ["| reward model | " + " | ".join(f"seed {seed}" for seed in rows) + " |", "| --- |" + " --- |" * len(rows)]
    lines += [f"| {name} | {' | '.join(f'{row[name]:.3f}' for row in rows.values())} |" for name in names]
    return "\n".join(lines)


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reward_models", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--members", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("benchmarks") / "results")
    given = parser.parse_args(argv)
    set_up()
    rows: dict[int, dict[str, float]] = {}
    for seed in given.seeds:
        with tempfile.TemporaryDirectory() as folder:
            rows[seed] = measured(seed, given.members, Path(folder))
        write_json(given.out / "reward_models.json", {"members": given.members, "accuracy": rows})
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
