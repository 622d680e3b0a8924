"""Time to quality: how long GRPO takes to a gold score that Keel and TRL both reach, on the same machine.

    python -m benchmarks.quality [--seeds 0 1 2] [--updates 60] [--out FOLDER]

For each seed the base model of Town Desk is fine-tuned once; then both sides practise from that model with the gold
score as the reward, by turns, each in a process of its own: GRPO as published (deviation of the group, k3 in the loss),
with the same prompts, batch, group, learning rate, limit of tokens and number of updates. Keel runs as `keel grpo` does
with Town Desk's recipe; TRL in its best setting (allocator variables, number format, micro-batch, threads and how they
wait: whichever took the least time for three updates), with the ratio left out of the KL as the paper has it.

Seconds count from the first update's beginning. The score is the mean over an update's answers, smoothed over five
updates; the mark is 90 % of the way from the first such mean to the lower of the two highest, of that seed. Leaves
quality.json and quality.png in FOLDER, and prints a table.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate, product
from pathlib import Path
from statistics import fmean, median
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot as plt

from benchmarks.versus_trl import environments, machine
from benchmarks.versus_trl.inputs import CACHE
from keel import pipeline
from keel.config import Recipe, dump_recipe, load_recipe
from keel.data.chat import Chat
from keel.display import SilentDisplay
from keel.models.load import load_tokenizer
from keel.process import set_up
from keel.tasks.town_desk.task import TownDesk

ROOT = environments.ROOT
BATCH, EACH, LONGEST = 128, 8, 64
RATE, BETA = 3e-4, 0.04
WINDOW = 5
WAY = 0.9


@dataclass(frozen=True)
class Curve:
    """The mean gold score of every update's answers, and the seconds that had gone by at its end."""

    seconds: tuple[float, ...]
    gold: tuple[float, ...]

    @property
    def smoothed(self) -> tuple[float, ...]:
        """The mean over the last `WINDOW` updates, from that many on."""
        return tuple(fmean(self.gold[end - WINDOW : end]) for end in range(WINDOW, len(self.gold) + 1))

    def reaches(self, mark: float) -> float:
        """Seconds until the smoothed score is there; infinite where it never is."""
        ends = zip(self.seconds[WINDOW - 1 :], self.smoothed, strict=True)
        return next((seconds for seconds, score in ends if score >= mark), float("inf"))


@dataclass(frozen=True)
class Setting:
    """What the peer may choose."""

    dtype: str
    micro: int
    threads: int
    wait: str


SETTINGS = tuple(
    Setting(*each) for each in product(("fp32", "bf16"), (BATCH, BATCH // 4), (1, 2), ("", "PASSIVE"))
    if each[2] > 1 or each[3] == ""
)  # fmt: skip


@dataclass(frozen=True)
class Trial:
    """One seed: both curves and the mark."""

    seed: int
    ours: Curve
    peer: Curve

    @property
    def mark(self) -> float:
        """Points of gold."""
        start = (self.ours.smoothed[0] + self.peer.smoothed[0]) / 2
        return start + WAY * (min(max(self.ours.smoothed), max(self.peer.smoothed)) - start)

    @property
    def row(self) -> dict[str, float]:
        """What is reported of it."""
        seconds = self.ours.reaches(self.mark), self.peer.reaches(self.mark)
        return {
            "seed": self.seed,
            "mark": self.mark,
            "ours_seconds": seconds[0],
            "peer_seconds": seconds[1],
            "ratio": seconds[1] / seconds[0],
            "ours_best": max(self.ours.smoothed),
            "peer_best": max(self.peer.smoothed),
            "ours_per_update": self.ours.seconds[-1] / len(self.ours.seconds),
            "peer_per_update": self.peer.seconds[-1] / len(self.peer.seconds),
        }


def start_of(seed: int, updates: int, folder: Path) -> Path:
    """A fine-tuned model, and the prompts that both sides practise on, written as the model reads them."""
    place = folder / f"seed-{seed}"
    recipe = _recipe(seed, updates, place)
    if not (place / "prompts.jsonl").exists():
        pipeline.run_stage("sft", recipe, place, SilentDisplay())
        tokenizer = load_tokenizer(place / "sft" / "model")
        chat, rows = Chat(tokenizer), []
        for prompt in TownDesk().prompts(BATCH // EACH * updates, seed, "ppo"):
            text = chat.template.cue(prompt.messages)
            if tuple(tokenizer(text)["input_ids"]) != chat.prompt(prompt.messages):
                raise ValueError(f"the peer would read other tokens: {text!r}")
            rows.append({"prompt": text, "facts": prompt.messages[-1].content})
        (place / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return place


def _recipe(seed: int, updates: int, place: Path) -> Recipe:
    """Town Desk's, with what both sides share."""
    return load_recipe(
        ROOT / "recipes" / "town_desk.yaml",
        {
            "method": "grpo",
            "seed": seed,
            "dir": str(place),
            "preflight": "off",
            "log.to": [],
            "rl.limit": BATCH // EACH * updates,
            "rl.updates": updates,
            "rl.batch_size": BATCH,
            "rl.samples_per_prompt": EACH,
            "rl.epochs": 1,
            "rl.minibatches": 1,
            "rl.sampling.max_tokens": LONGEST,
            "rl.sampling.temperature": 1.0,
            "rl.reward": [{"kind": "function", "path": f"{Path(__file__).with_name('gold_reward.py')}:points"}],
            "rl.kl.coef": BETA,
            "rl.optimizer.lr": RATE,
            "rl.optimizer.schedule": "constant",
            "rl.guards.best_every": 0,
        },
    )


def ours(seed: int, updates: int, start: Path, out: Path) -> Curve:
    """A process of `keel grpo`, from the fine-tuned model."""
    out.mkdir(parents=True, exist_ok=True)
    from_start = _recipe(seed, updates, out).model_copy(update={"dir": str(out)})
    arguments = ["grpo", str(_written(from_start, out)), "--model", str(start / "sft" / "model"), "--json"]
    program = [sys.executable, "-m", "keel", *arguments]
    subprocess.run(program, env=environments.ours(os.environ), check=True, stdout=subprocess.DEVNULL)
    rows = [json.loads(line) for line in (out / "grpo" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    spent = accumulate(row["seconds/sampling"] + row["seconds/learning"] for row in rows)
    return Curve(tuple(spent), tuple(row["reward/gold"] for row in rows))


def _written(recipe: Recipe, out: Path) -> Path:
    path = out / "recipe.yaml"
    path.write_text(dump_recipe(recipe, commented=False), encoding="utf-8")
    return path


def theirs(python: Path, setting: Setting, updates: int, start: Path) -> Curve:
    """A process of TRL's trainer."""
    environment = environments.peers(os.environ, setting.wait) | {"OMP_NUM_THREADS": str(setting.threads)}
    environment["PYTHONPATH"] = os.pathsep.join((str(ROOT), str(ROOT / "src")))
    arguments = [str(start), "--updates", str(updates), "--dtype", setting.dtype, "--micro", str(setting.micro)]
    arguments += ["--batch", str(BATCH), "--each", str(EACH), "--longest", str(LONGEST)]
    arguments += ["--rate", str(RATE), "--beta", str(BETA)]
    program = [str(python), "-m", "benchmarks.quality_peer", *arguments]
    done = subprocess.run(program, env=environment, cwd=ROOT, check=True, capture_output=True, text=True)
    found = json.loads(done.stdout.strip().splitlines()[-1])
    return Curve(tuple(found["seconds"]), tuple(found["gold"]))


def best_setting(python: Path, start: Path, memory: Path) -> Setting:
    """The peer's fastest, tried on three updates each, or remembered."""
    key = f"{machine.this().fingerprint} {environments.TRL} {BATCH} {EACH}"
    known: dict[str, Mapping[str, object]] = json.loads(memory.read_text()) if memory.exists() else {}
    if key not in known:
        took: dict[Setting, float] = {}
        for setting in SETTINGS:
            took[setting] = theirs(python, setting, 3, start).seconds[-1]
            print(f"  {setting}: {took[setting]:.1f} s for three updates", file=sys.stderr)
        known[key] = asdict(min(took, key=lambda setting: took[setting]))
        memory.write_text(json.dumps(known, indent=1), encoding="utf-8")
    return Setting(**known[key])  # type: ignore[arg-type]


def draw(trials: Sequence[Trial], path: Path) -> None:
    """The smoothed score over seconds, a panel for each seed."""
    figure, axes = plt.subplots(1, len(trials), figsize=(4 * len(trials), 3.2), sharey=True, squeeze=False)
    for axis, trial in zip(axes[0], trials, strict=True):
        for name, curve in (("Keel", trial.ours), ("TRL", trial.peer)):
            axis.plot(curve.seconds[WINDOW - 1 :], curve.smoothed, label=name)
        axis.axhline(trial.mark, color="grey", linewidth=0.8, linestyle="--")
        axis.set(title=f"seed {trial.seed}", xlabel="seconds", xscale="log")
    axes[0][0].set_ylabel("gold score, mean of five updates")
    axes[0][0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main(argv: Sequence[str]) -> int:
    """Both sides for every seed, and the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--updates", type=int, default=60)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    given = parser.parse_args(argv)
    set_up()
    given.out.mkdir(parents=True, exist_ok=True)
    folder = CACHE / "quality"
    python = environments.trl(CACHE).python
    trials = []
    for seed in given.seeds:
        start = start_of(seed, given.updates, folder)
        setting = best_setting(python, start, CACHE / "quality-settings.json")
        run = given.out / "quality-runs" / f"seed-{seed}"
        trial = Trial(seed, ours(seed, given.updates, start, run), theirs(python, setting, given.updates, start))
        print(f"  {json.dumps(trial.row)}", file=sys.stderr)
        trials.append(trial)
    rows = [trial.row for trial in trials]
    told: dict[str, Any] = {"machine": asdict(machine.this()), "peer": asdict(setting), "rows": rows}
    told["median_ratio"] = median(row["ratio"] for row in rows)
    told["curves"] = [{"seed": one.seed, "ours": asdict(one.ours), "peer": asdict(one.peer)} for one in trials]
    (given.out / "quality.json").write_text(json.dumps(told, indent=1), encoding="utf-8")
    draw(trials, given.out / "quality.png")
    print("| seed | mark | Keel, s | TRL, s | ratio |\n| --- | --- | --- | --- | --- |")
    for row in rows:
        print(
            f"| {row['seed']} | {row['mark']:.2f} | {row['ours_seconds']:.0f} | {row['peer_seconds']:.0f} |"
            f" {row['ratio']:.2f} |"
        )
    print(f"median ratio {told['median_ratio']:.2f}; the peer's setting: {setting}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
