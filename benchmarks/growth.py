"""How Keel's speed grows: tokens per second against batch, length, vocabulary and model size, beside what theory says.

    python -m benchmarks.growth [--out FOLDER] [--only batch length vocabulary size]

Training is forward, backward and an optimizer step on plain sequences; generation is the sampler, on a prompt
of its own for each row. Models are Llamas with random weights. Theory counts multiply-adds alone:

    training     tokens/s = rate / (6·(body + head) + 12·layers·hidden·length/2)
    generation   tokens/s = rate / (2·body·seen/new + 2·head + 4·layers·hidden·seen²/(2·new)),   seen = prompt + new

and its one unknown, the rate, is set so that theory meets the fastest point. Where the dots leave the line, something
else than arithmetic takes the time. Leaves growth.json and growth.svg in FOLDER.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import torch
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from benchmarks.versus_trl import machine
from keel.config import Optimizer
from keel.data.forest import Branch, Tree
from keel.models.passes import Passes
from keel.models.roles import language_role
from keel.process import set_up
from keel.rollout.generator import Request, Sampling
from keel.rollout.local import LocalGenerator
from keel.stages.workspace import dtype_of
from keel.training.batches import micro_batches
from keel.training.learner import Learner

NEW = 64
PASS = 2048
_WAIT = 4.0
"""Seconds that a point is repeated for."""


@dataclass(frozen=True)
class Case:
    """One point: a model, how long its texts are, and how many are written at once."""

    hidden: int = 256
    layers: int = 6
    vocabulary: int = 4096
    length: int = 128
    rows: int = 64

    @property
    def body(self) -> int:
        """Weights of the layers that multiply every token: a feed-forward width of 8/3 of the stream's."""
        return self.layers * (4 * self.hidden**2 + 3 * self.hidden * self.wide)

    @property
    def wide(self) -> int:
        return -(-8 * self.hidden // 3 // 16) * 16

    @property
    def head(self) -> int:
        return self.vocabulary * self.hidden

    def training_flops(self) -> float:
        """Of a token, forward and backward."""
        return 6.0 * (self.body + self.head) + 6.0 * self.layers * self.hidden * self.length

    def generation_flops(self) -> float:
        """Of a new token, its share of the prompt included."""
        seen = self.length + NEW
        return 2.0 * self.body * seen / NEW + 2.0 * self.head + 2.0 * self.layers * self.hidden * seen**2 / NEW


@dataclass(frozen=True)
class Axis:
    """What is changed, and the points."""

    name: str
    unit: str
    cases: tuple[Case, ...]
    value: str
    works: tuple[str, ...] = ("training", "generation")


AXES = (
    Axis("batch", "rows decoded at once", tuple(Case(rows=n) for n in (1, 4, 16, 64, 256)), "rows", ("generation",)),
    Axis("length", "tokens of a text (of a prompt)", tuple(Case(length=n) for n in (32, 128, 512, 2048)), "length"),
    Axis("vocabulary", "tokens", tuple(Case(vocabulary=1024 * n) for n in (4, 16, 64, 128)), "vocabulary"),
    Axis("size", "width of the stream", tuple(Case(hidden=n) for n in (128, 256, 512, 1024)), "hidden"),
)


@dataclass(frozen=True)
class Point:
    """Tokens per second, as measured and as arithmetic alone would have it."""

    at: int
    measured: float
    theory: float


def train(case: Case) -> float:
    """Tokens per second of optimizer steps on two passes."""
    role = language_role(model_of(case), None, 0, Passes(dtype_of("auto", torch.device("cpu"))))
    learner = Learner(role.parameters(), Optimizer(), 10_000)
    count = max(1, 2 * PASS // case.length)
    trees = trees_of(case, count)

    def step() -> None:
        learner.step(role.logprobs(micro.forest, 1.0).mean() for micro in micro_batches(trees, None, role))

    return count * case.length / _seconds(step)


def generate(case: Case) -> float:
    """Sampled tokens per second, none of which ends a text."""
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), pad_token="<pad>")
    sampler = LocalGenerator(model_of(case), tokenizer, eos_ids=(), products=dtype_of("auto", torch.device("cpu")))
    asked = [Request(text, seed, Sampling(NEW)) for seed, text in enumerate(texts_of(case, case.rows))]
    return case.rows * NEW / _seconds(lambda: sampler.generate(asked))


WORKS: dict[str, tuple[Callable[[Case], float], Callable[[Case], float]]] = {
    "training": (train, Case.training_flops),
    "generation": (generate, Case.generation_flops),
}


def measure(axis: Axis) -> dict[str, list[Point]]:
    """Every work at every point of an axis."""
    found: dict[str, list[Point]] = {}
    for name in axis.works:
        work, flops = WORKS[name]
        speeds = [work(case) for case in axis.cases]
        rate = max(speed * flops(case) for speed, case in zip(speeds, axis.cases, strict=True))
        found[name] = [
            Point(getattr(case, axis.value), round(speed, 1), round(rate / flops(case), 1))
            for speed, case in zip(speeds, axis.cases, strict=True)
        ]
        for point in found[name]:
            print(
                f"{axis.name:12}{name:12}{point.at:>8}{point.measured:>12,.0f}{point.theory:>12,.0f}", file=sys.stderr
            )
    return found


def model_of(case: Case) -> LlamaForCausalLM:
    """With random weights, always the same."""
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=case.vocabulary,
            hidden_size=case.hidden,
            intermediate_size=case.wide,
            num_hidden_layers=case.layers,
            num_attention_heads=max(1, case.hidden // 32),
            max_position_embeddings=4096,
            tie_word_embeddings=False,
        )
    )


def trees_of(case: Case, count: int) -> list[Tree]:
    """Texts of which every token but the first is trained."""
    return [Tree(text[:1], (Branch(text[1:], (True,) * (case.length - 1)),)) for text in texts_of(case, count)]


def texts_of(case: Case, count: int) -> list[tuple[int, ...]]:
    """Random tokens, always the same."""
    draw = torch.Generator().manual_seed(0)
    return [tuple(row) for row in torch.randint(case.vocabulary, (count, case.length), generator=draw).tolist()]


def _seconds(work: Callable[[], object]) -> float:
    work()
    found: list[float] = []
    start = time.perf_counter()
    while len(found) < 3 or time.perf_counter() - start < _WAIT:
        before = time.perf_counter()
        work()
        found.append(time.perf_counter() - before)
    return median(found)


_W, _H, _LEFT, _TOP, _GAP = 330, 220, 56, 56, 84
_STYLE = """
  .ink { fill: #1c2733; font: 12px system-ui, sans-serif } .faint { fill: #5b6b7a; font: 11px system-ui, sans-serif }
  .grid { stroke: #d5dde4; stroke-width: 1 } .line { fill: none; stroke-width: 2; stroke-dasharray: 5 4 }
  .t { fill: #0b6e8a; stroke: #0b6e8a } .g { fill: #b3701c; stroke: #b3701c } .line.t, .line.g { fill: none }
  .paper { fill: #ffffff }
  @media (prefers-color-scheme: dark) {
    .ink { fill: #e6edf3 } .faint { fill: #9aa9b7 } .grid { stroke: #33414e } .paper { fill: #11181f }
    .t { fill: #4fb6d3; stroke: #4fb6d3 } .g { fill: #e0a458; stroke: #e0a458 } .line.t, .line.g { fill: none }
  }
"""


def picture(found: Mapping[str, Mapping[str, Sequence[Point]]]) -> str:
    """All axes as one SVG: dots are measured, dashed lines are theory; both scales are logarithmic."""
    columns = 2
    rows = -(-len(found) // columns)
    width = columns * (_W + _LEFT + 30) + 10
    height = rows * (_H + _GAP) + 60
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
        f"<title>Tokens per second against {', '.join(found)}; dashed lines are arithmetic alone</title>",
        f"<style>{_STYLE}</style>",
        f'<rect class="paper" width="{width}" height="{height}"/>',
        '<circle class="t" cx="62" cy="22" r="4"/><text class="ink" x="72" y="26">training</text>',
        '<circle class="g" cx="142" cy="22" r="4"/><text class="ink" x="152" y="26">generation</text>',
        '<path class="line t" d="M238 22h28"/><text class="ink" x="272" y="26">what arithmetic alone would give</text>',
    ]
    axes = {axis.name: axis for axis in AXES}
    for place, (name, works) in enumerate(found.items()):
        left = _LEFT + (place % columns) * (_W + _LEFT + 30)
        top = _TOP + 10 + (place // columns) * (_H + _GAP)
        parts += _panel(axes[name], works, left, top)
    return "\n".join([*parts, "</svg>", ""])


def _panel(axis: Axis, works: Mapping[str, Sequence[Point]], left: int, top: int) -> list[str]:
    points = [point for some in works.values() for point in some]
    speeds = [speed for point in points for speed in (point.measured, point.theory)]
    low, high = math.floor(math.log10(min(speeds))), math.ceil(math.log10(max(speeds)))
    first, last = math.log2(min(point.at for point in points)), math.log2(max(point.at for point in points))

    def x(at: float) -> float:
        return round(left + 12 + (math.log2(at) - first) / (last - first) * (_W - 24), 1)

    def y(speed: float) -> float:
        return round(top + _H - (math.log10(speed) - low) / (high - low) * _H, 1)

    parts = [f'<text class="ink" x="{left}" y="{top - 8}">tokens/s against {axis.name}</text>']
    for power in range(low, high + 1):
        level = y(10**power)
        parts.append(f'<path class="grid" d="M{left} {level}h{_W}"/>')
        parts.append(f'<text class="faint" x="{left - 6}" y="{level + 4}" text-anchor="end">{10**power:,}</text>')
    for at in sorted({point.at for point in points}):
        parts.append(f'<text class="faint" x="{x(at)}" y="{top + _H + 16}" text-anchor="middle">{at:,}</text>')
    parts.append(f'<text class="faint" x="{left + _W / 2}" y="{top + _H + 34}" text-anchor="middle">{axis.unit}</text>')
    for name, some in works.items():
        tone = name[0]
        path = " ".join(f"{'L' if place else 'M'}{x(p.at)} {y(p.theory)}" for place, p in enumerate(some))
        parts.append(f'<path class="line {tone}" d="{path}"/>')
        parts += [
            f'<circle class="{tone}" cx="{x(p.at)}" cy="{y(p.measured)}" r="4">'
            f"<title>{name}, {p.at:,}: {p.measured:,.0f} tokens/s; arithmetic alone {p.theory:,.0f}</title></circle>"
            for p in some
        ]
    return parts


def main(argv: Sequence[str]) -> int:
    """Measures the axes that are asked for, and leaves numbers and picture."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="default: %(default)s")
    parser.add_argument("--only", nargs="*", choices=[axis.name for axis in AXES], help="default: all")
    given = parser.parse_args(argv)
    set_up()
    found = {axis.name: measure(axis) for axis in AXES if not given.only or axis.name in given.only}
    given.out.mkdir(parents=True, exist_ok=True)
    numbers = {name: {work: [asdict(p) for p in some] for work, some in works.items()} for name, works in found.items()}
    content = {"machine": asdict(machine.this()), "axes": numbers}
    (given.out / "growth.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    (given.out / "growth.svg").write_text(picture(found), encoding="utf-8")
    print(f"wrote {given.out / 'growth.svg'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
