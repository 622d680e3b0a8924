"""What four roles hold beside one: peak memory of PPO in the shared layout over that of SFT with LoRA.

    python -m benchmarks.memory [--only 256 512] [--out FOLDER]

Both start from the same Llama with random weights, in three sizes, and read as many tokens in a step: 64 texts of 128
tokens, for PPO 64 prompts of 64 with answers of 64. Each runs in a process of its own, with the defaults of a recipe,
once as it is and once with `model.recompute`. Peaks are those of resident memory above what the process held after its
imports. Leaves memory.json in FOLDER, and prints a table.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from benchmarks.growth import Case, model_of, texts_of, trees_of
from benchmarks.versus_trl import machine
from benchmarks.versus_trl.measure import Memory
from keel.config import Online, Sft
from keel.config import Sampling as SamplingSection
from keel.data.chat import Chat
from keel.display import SilentDisplay
from keel.models.adapters import Lora
from keel.models.heads import ScalarHead
from keel.models.load import load_language_model, load_tokenizer
from keel.models.passes import Passes
from keel.models.roles import language_role, scalar_role, shared
from keel.process import set_up
from keel.rollout.local import LocalGenerator
from keel.rollout.score import LearnedReward
from keel.stages.cast import RoleGenerator
from keel.stages.workspace import dtype_of
from keel.training.online import practise
from keel.training.records import Record
from keel.training.sft import fine_tune
from keel.types import Message, Prompt

CPU = torch.device("cpu")
TEXTS, NEW = 64, 64
SIZES = (Case(hidden=256, layers=6), Case(hidden=512, layers=8), Case(hidden=1024, layers=12))
STEPS = 2


@dataclass(frozen=True)
class Peak:
    """MiB above the imports, and seconds of all steps."""

    peak_mb: float
    seconds: float


@dataclass(frozen=True)
class Row:
    """One size: both works, as they are and recomputing."""

    hidden: int
    layers: int
    weights: int
    sft: Peak
    ppo: Peak
    sft_recomputed: Peak
    ppo_recomputed: Peak

    @property
    def ratio(self) -> float:
        """PPO over SFT."""
        return self.ppo.peak_mb / self.sft.peak_mb

    def __str__(self) -> str:
        plain = f"{self.sft.peak_mb:>10,.0f}{self.ppo.peak_mb:>10,.0f}{self.ratio:>8.2f}"
        again = f"{self.sft_recomputed.peak_mb:>12,.0f}{self.ppo_recomputed.peak_mb:>10,.0f}"
        longer = (self.sft_recomputed.seconds / self.sft.seconds, self.ppo_recomputed.seconds / self.ppo.seconds)
        size = f"{self.hidden:>6} × {self.layers:<3}{self.weights / 1e6:>8.1f} M"
        return f"{size}{plain}{again}{longer[0]:>12.2f}{longer[1]:>8.2f}"


HEAD = (
    f"{'size':>12}{'weights':>10}{'SFT, MiB':>10}{'PPO':>10}{'ratio':>8}{'SFT again':>12}{'PPO':>10}"
    f"{'time × SFT':>12}{'PPO':>8}"
)


def prepare(case: Case, folder: Path) -> None:
    """The base, its tokenizer of numbered words, and a reward model with an adapter on this base."""
    words = {f"w{number}": number for number in range(case.vocabulary)}
    body = Tokenizer(models.WordLevel(words, unk_token="w0"))
    body.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=body, pad_token="w1", eos_token="w2", unk_token="w0")
    model_of(case).save_pretrained(folder / "base")
    tokenizer.save_pretrained(folder / "base")
    base = load_language_model(folder / "base", torch.float32, CPU)
    head = ScalarHead.normal(case.hidden, torch.Generator().manual_seed(0))
    scalar_role(base, head, Lora(), 0).save(folder / "reward", load_tokenizer(folder / "base"))


def sft(case: Case, folder: Path, passes: Passes) -> None:
    """`keel.training.sft.fine_tune`, adapters alone."""
    role = language_role(load_language_model(folder / "base", torch.float32, CPU), Lora(), 0, passes)
    settings = Sft(batch_size=TEXTS, max_steps=STEPS)
    with tempfile.TemporaryDirectory() as kept, Record(Path(kept), SilentDisplay()) as record:
        fine_tune(role, trees_of(case, TEXTS), [], settings, 0, record)


def ppo(case: Case, folder: Path, passes: Passes) -> None:
    """`keel.training.online.practise`, four roles on one base; one epoch, since more of them hold no more."""
    base = load_language_model(folder / "base", torch.float32, CPU)
    tokenizer = load_tokenizer(folder / "base")
    roles = shared(base, Lora(), "reward", folder / "reward", 0, passes)
    assert roles.reward is not None
    local = LocalGenerator(roles.policy.select(), tokenizer, eos_ids=(), products=passes.products)
    settings = Online(
        updates=STEPS, batch_size=TEXTS, epochs=1, minibatches=1, sampling=SamplingSection(max_tokens=NEW)
    )  # fmt: skip
    texts = (" ".join(f"w{token}" for token in text[:-NEW]) for text in texts_of(case, TEXTS))
    prompts = [Prompt(str(place), (Message("user", text),)) for place, text in enumerate(texts)]
    scorer = LearnedReward(roles.reward, budget=settings.micro_tokens)
    generator, chat = RoleGenerator(roles.policy, local), Chat(tokenizer, None, "plain")
    with tempfile.TemporaryDirectory() as kept, Record(Path(kept), SilentDisplay()) as record:
        practise(roles, generator, scorer, chat, prompts, settings, 0, record, lambda update: None)


WORKS = {"sft": sft, "ppo": ppo}


def measured(case: Case) -> Row:
    """Everything about one size, each work in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        _child(case, "prepare", folder)
        peaks = [
            Peak(**json.loads(_child(case, work, folder, *again))) for again in ((), ("--recompute",)) for work in WORKS
        ]
        weights = case.body + 2 * case.head
        row = Row(case.hidden, case.layers, weights, *peaks)
    print(row, file=sys.stderr)
    return row


def _child(case: Case, *arguments: str) -> str:
    command = [sys.executable, "-m", "benchmarks.memory", "--work", str(SIZES.index(case)), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    lines: list[str] = done.stdout.strip().splitlines()
    return lines[-1] if lines else ""


def _work(place: int, name: str, folder: Path, recompute: bool) -> Iterator[str]:
    memory = Memory()
    set_up()
    if name == "prepare":
        prepare(SIZES[place], folder)
        return
    start = time.perf_counter()
    WORKS[name](SIZES[place], folder, Passes(dtype_of("auto", CPU), recompute))
    yield json.dumps(asdict(Peak(round(memory.peak_mb(), 1), round(time.perf_counter() - start, 2))))


def main(argv: Sequence[str]) -> int:
    """Measures the sizes that are asked for; with --work, does one work in this process."""
    if argv[:1] == ["--work"]:
        place, name, folder, *again = argv[1:]
        for line in _work(int(place), name, Path(folder), bool(again)):
            print(line)
        return 0
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="default: %(default)s")
    parser.add_argument("--only", nargs="*", type=int, help="widths; default: all")
    given = parser.parse_args(argv)
    rows = [measured(case) for case in SIZES if not given.only or case.hidden in given.only]
    given.out.mkdir(parents=True, exist_ok=True)
    content = {"machine": asdict(machine.this()), "rows": [asdict(row) for row in rows]}
    (given.out / "memory.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    print("\n".join([HEAD, *map(str, rows)]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
