"""Decoding, fine-tuning and PPO on one GPU, beside what the chip does at best.

    python -m benchmarks.gpu [--model 0.5b 1.5b] [--only ceilings decode library sft ppo] [--micro N] [--here]
                             [--out FOLDER]

Models have the shapes of Qwen 2.5 and random weights. The ceilings are measured first: a product of two 8,192² matrices
in bfloat16, and a copy, bytes read and written. Then

    training   share of the rate of products = (6·weights·tokens + 12·layers·width·seen·tokens) / seconds / rate
    PPO        the same of the learning, with 2 and 4 for a pass that reads, and as much again for the gradients of
               inputs, which is all that adapters on a frozen base ask for; the head reads the answers alone
    decoding   share of the bandwidth = bytes that a step cannot but read / seconds / bandwidth:
               the layers in bfloat16, the head in its own format, keys and values of what each row has read

where the weights are those that multiply a token (the head too, for tokens that are trained), and `seen` is how many
tokens one sees on average. `library` is `generate` of transformers, weights in bfloat16, same prompts and lengths, once
it has written a batch of them before: it makes a plan of attention for every length that it meets. Each
work runs in a process of its own, unless --here, and prints a line of JSON for each row; all of them are left in
FOLDER/gpu.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from keel.config import Online, Optimizer
from keel.config import Sampling as SamplingSection
from keel.data.chat import Chat
from keel.data.forest import Branch, Tree
from keel.display import SilentDisplay
from keel.models.adapters import Lora
from keel.models.heads import ScalarHead
from keel.models.passes import Passes
from keel.models.roles import language_role, scalar_role, shared
from keel.rollout.generator import Request, Sampling
from keel.rollout.local import LocalGenerator
from keel.rollout.score import LearnedReward
from keel.stages.cast import RoleGenerator
from keel.stages.workspace import device_of, dtype_of
from keel.training.batches import micro_batches
from keel.training.learner import Learner
from keel.training.online import Update, practise
from keel.training.records import Record
from keel.types import Message, Prompt


@dataclass(frozen=True)
class Model:
    """The shapes of a model with grouped heads and tied embeddings."""

    width: int
    layers: int
    heads: int
    groups: int
    inner: int
    vocabulary: int = 151_936

    @property
    def body(self) -> int:
        """Weights of the layers that multiply every token."""
        beside = self.width * self.groups * self.width // self.heads
        return self.layers * (2 * self.width**2 + 2 * beside + 3 * self.width * self.inner)

    @property
    def head(self) -> int:
        return self.vocabulary * self.width

    @property
    def cache(self) -> int:
        """Numbers that are kept for each token that was read."""
        return 2 * self.layers * self.groups * self.width // self.heads

    def build(self, device: torch.device, dtype: torch.dtype = torch.float32) -> Qwen2ForCausalLM:
        """With random weights, always the same on a device."""
        torch.manual_seed(0)
        with device:
            model = Qwen2ForCausalLM(self.config())
        return model.to(dtype).eval()

    def config(self) -> Qwen2Config:
        return Qwen2Config(
            vocab_size=self.vocabulary,
            hidden_size=self.width,
            intermediate_size=self.inner,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.groups,
            max_position_embeddings=4096,
            tie_word_embeddings=True,
            use_sliding_window=False,
        )


@dataclass(frozen=True)
class Batch:
    """What is read and written: so many prompts, so many answers of each, how long both are."""

    prompts: int
    samples: int
    read: int
    new: int

    @property
    def rows(self) -> int:
        return self.prompts * self.samples

    def __str__(self) -> str:
        return f"{self.prompts} × {self.samples} × ({self.read} + {self.new})"


MODELS = {
    "tiny": Model(64, 2, 4, 2, 128, 512),
    "0.5b": Model(896, 24, 14, 2, 4864),
    "1.5b": Model(1536, 28, 12, 2, 8960),
}
SIZES = {
    "tiny": ((Batch(4, 1, 16, 8), Batch(2, 4, 16, 8)), (4, 32), Batch(4, 1, 16, 8)),
    "large": (
        (Batch(64, 1, 256, 256), Batch(256, 1, 256, 256), Batch(16, 16, 256, 256)),
        (32, 512),
        Batch(64, 1, 256, 256),
    ),
}
"""Of a tiny model and of others: what is decoded, texts of fine-tuning and their length, what PPO writes."""
EPOCHS = 4
UPDATES = 3
_SQUARE = 8192


@dataclass(frozen=True)
class Bench:
    """A model on a device, and in how large passes it is trained (None: as many tokens as it likes)."""

    name: str
    device: torch.device
    micro: int | None

    @property
    def model(self) -> Model:
        return MODELS[self.name]

    @property
    def passes(self) -> Passes:
        return Passes(dtype_of("auto", self.device))

    @property
    def sizes(self) -> tuple[tuple[Batch, ...], tuple[int, int], Batch]:
        return SIZES["tiny" if self.name == "tiny" else "large"]

    def wait(self) -> float:
        """The time, when the device is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def seconds(self, work: Callable[[], object], times: int = 3, warm: int = 1) -> float:
        """Median of so many after `warm` that do not count."""
        for _ in range(warm):
            work()
        found = []
        for _ in range(times):
            before = self.wait()
            work()
            found.append(self.wait() - before)
        return median(found)

    def peak_gb(self) -> float:
        """The most that PyTorch has held on the device, GiB; 0 on a processor, where it does not say."""
        return torch.cuda.max_memory_allocated(self.device) / 2**30 if self.device.type == "cuda" else 0.0

    def texts(self, count: int, length: int) -> list[tuple[int, ...]]:
        """Random tokens, always the same; the first three of the vocabulary are special."""
        draw = torch.Generator().manual_seed(0)
        return [tuple(row) for row in torch.randint(3, self.model.vocabulary, (count, length), generator=draw).tolist()]

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """Numbered words, after three that stand for themselves."""
        words = ["<unknown>", "<pad>", "<end>", *(f"w{number}" for number in range(3, self.model.vocabulary))]
        body = Tokenizer(models.WordLevel({word: token for token, word in enumerate(words)}, unk_token=words[0]))
        body.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        return PreTrainedTokenizerFast(
            tokenizer_object=body, unk_token=words[0], pad_token=words[1], eos_token=words[2]
        )


def ceilings(bench: Bench) -> Iterator[dict[str, object]]:
    """FLOP/s of a product in bfloat16, and bytes/s of a copy."""
    side = _SQUARE if bench.device.type == "cuda" else 512
    left, right = (torch.randn(side, side, device=bench.device, dtype=torch.bfloat16) for _ in range(2))
    product = bench.seconds(lambda: [left @ right for _ in range(10)]) / 10
    there = torch.randn(side**2 * 4, device=bench.device)
    here = torch.empty_like(there)
    copy = bench.seconds(lambda: [here.copy_(there) for _ in range(10)]) / 10
    yield {"flops": 2 * side**3 / product, "bytes": 2 * there.nbytes / copy}


def decode(bench: Bench) -> Iterator[dict[str, object]]:
    """`LocalGenerator.generate`; no answer ends early."""
    model = bench.model.build(bench.device)
    generator = LocalGenerator(model, bench.tokenizer(), eos_ids=(), products=bench.passes.products)
    for batch in bench.sizes[0]:
        texts = [text for text in bench.texts(batch.prompts, batch.read) for _ in range(batch.samples)]
        asked = [Request(text, seed, Sampling(batch.new)) for seed, text in enumerate(texts)]
        reading = bench.seconds(partial(generator.generate, [one_token(one) for one in asked]))
        seconds = bench.seconds(partial(generator.generate, asked), times=2)
        yield decoded(bench, batch, seconds, reading)


def library(bench: Bench) -> Iterator[dict[str, object]]:
    """`generate` of transformers."""
    model = bench.model.build(bench.device, bench.passes.products)
    for batch in bench.sizes[0]:
        texts = [text for text in bench.texts(batch.prompts, batch.read) for _ in range(batch.samples)]
        ids = torch.tensor(texts, device=bench.device)

        def write(new: int, ids: torch.Tensor = ids) -> object:
            return model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                do_sample=True,
                top_k=0,
                min_new_tokens=new,
                max_new_tokens=new,
                pad_token_id=1,
                eos_token_id=2,
            )

        reading = bench.seconds(partial(write, 1))
        seconds = bench.seconds(partial(write, batch.new), times=1)
        yield decoded(bench, batch, seconds, reading, head=2)


def one_token(request: Request) -> Request:
    return Request(request.prompt, request.seed, Sampling(1))


def decoded(bench: Bench, batch: Batch, seconds: float, reading: float, head: int = 4) -> dict[str, object]:
    """A row of decoding; `reading` is the time until the first token, `head` the bytes of a number of the head."""
    model, steps = bench.model, batch.new - 1
    # a prompt that several rows continue need be read once
    seen = batch.prompts * batch.read + batch.rows * batch.new / 2
    moved = 2 * model.body + head * model.head + 2 * model.cache * seen
    return {
        "batch": str(batch),
        "tokens_per_s": batch.rows * batch.new / seconds,
        "seconds": seconds,
        "reading": reading,
        "step": (seconds - reading) / steps,
        "bytes": moved,
        "bytes_per_s": moved * steps / (seconds - reading),
        "peak_gb": bench.peak_gb(),
    }


def sft(bench: Bench) -> Iterator[dict[str, object]]:
    """Full fine-tuning: the steps of `keel.training.sft.fine_tune`."""
    count, length = bench.sizes[1]
    role = language_role(bench.model.build(bench.device), None, 0, bench.passes)
    learner = Learner(role.parameters(), Optimizer(), 10_000)
    trees = [Tree(text[:1], (Branch(text[1:], (True,) * (length - 1)),)) for text in bench.texts(count, length)]

    def step() -> None:
        learner.step(role.logprobs(micro.forest, 1.0).mean() for micro in micro_batches(trees, bench.micro, role))

    seconds = bench.seconds(step)
    tokens = count * length
    flops = (6 * (bench.model.body + bench.model.head) + 6 * bench.model.layers * bench.model.width * length) * tokens
    yield {
        "batch": f"{count} × {length}",
        "tokens_per_s": tokens / seconds,
        "seconds": seconds,
        "flops_per_s": flops / seconds,
        "micro": bench.micro or role.pass_tokens,
        "peak_gb": bench.peak_gb(),
    }


def ppo(bench: Bench) -> Iterator[dict[str, object]]:
    """`keel.training.online.practise`: four roles on one base, four epochs; the first update does not count."""
    batch = bench.sizes[2]
    tokenizer = bench.tokenizer()
    model = bench.model.build(bench.device)
    with tempfile.TemporaryDirectory() as folder:
        head = ScalarHead.normal(bench.model.width, torch.Generator().manual_seed(0))
        scalar_role(model, head, Lora(), 0).save(Path(folder) / "reward", tokenizer)
        model = bench.model.build(bench.device)
        roles = shared(model, Lora(), "reward", Path(folder) / "reward", 0, bench.passes)
    if roles.reward is None:
        raise ValueError("the benchmark has a reward model")
    local = LocalGenerator(roles.policy.select(), tokenizer, eos_ids=(), products=bench.passes.products)
    settings = Online(
        updates=UPDATES,
        batch_size=batch.rows,
        epochs=EPOCHS,
        micro_tokens=bench.micro,
        sampling=SamplingSection(max_tokens=batch.new),
    )
    texts = (" ".join(f"w{token}" for token in text) for text in bench.texts(UPDATES * batch.prompts, batch.read))
    prompts = [Prompt(str(place), (Message("user", text),)) for place, text in enumerate(texts)]
    scorer = LearnedReward(roles.reward, budget=settings.micro_tokens)
    generator, chat = RoleGenerator(roles.policy, local), Chat(tokenizer, None, "plain")
    found: list[Mapping[str, float]] = []
    times = [bench.wait()]

    def keep(update: Update) -> None:
        found.append(update.metrics)
        times.append(bench.wait())

    with tempfile.TemporaryDirectory() as kept, Record(Path(kept), SilentDisplay()) as record:
        practise(roles, generator, scorer, chat, prompts, settings, 0, record, keep)
    seconds = median(after - before for before, after in pairwise(times[1:]))
    learning = median(one["seconds/learning"] for one in found[1:])
    yield {
        "batch": f"{batch}, {EPOCHS} epochs",
        "tokens_per_s": batch.rows * batch.new / seconds,
        "seconds": seconds,
        "sampling": median(one["seconds/sampling"] for one in found[1:]),
        "learning": learning,
        "flops_per_s": ppo_flops(bench.model, batch) / learning,
        "micro": settings.micro_tokens or roles.policy.pass_tokens,
        "sampler_kl": median(one["sampler_kl"] for one in found[1:]),
        "peak_gb": bench.peak_gb(),
    }


def ppo_flops(model: Model, batch: Batch) -> float:
    """Of one update's learning: policy, reference and critic read once; then policy and critic, with gradients, in each
    epoch."""
    tokens, answers = batch.rows * (batch.read + batch.new), batch.rows * batch.new
    seen = (batch.read + batch.new) / 2
    body = (2 * model.body + 4 * model.layers * model.width * seen) * tokens
    head = 2 * model.head * answers
    return 3 * body + 2 * head + EPOCHS * (2 * (body + head) + 2 * body)


WORKS: dict[str, Callable[[Bench], Iterator[dict[str, object]]]] = {
    "ceilings": ceilings,
    "decode": decode,
    "library": library,
    "sft": sft,
    "ppo": ppo,
}


def main(argv: Sequence[str]) -> int:
    """Measures each work in a process of its own, or all in this one."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", nargs="+", choices=list(MODELS), default=["0.5b", "1.5b"], help="default: 0.5b 1.5b")
    parser.add_argument("--only", nargs="+", choices=list(WORKS), default=list(WORKS), help="default: all")
    parser.add_argument("--micro", type=int, help="tokens of a pass in training; default: what Keel takes")
    parser.add_argument("--device", default="cuda", help="default: cuda")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results", help="default: %(default)s")
    parser.add_argument("--here", action="store_true", help="all in this process, which starts but once")
    given = parser.parse_args(argv)
    rows: list[dict[str, object]] = []
    for name in given.model:
        for work in given.only:
            for row in _here(name, work, given) if given.here else _child(name, work, given):
                rows.append(row)
                print(json.dumps(row), flush=True)
    if not rows:
        return 1
    given.out.mkdir(parents=True, exist_ok=True)
    content = {"machine": _machine(given.device), "rows": rows}
    (given.out / "gpu.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return 0


def _here(name: str, work: str, given: argparse.Namespace) -> Iterator[dict[str, object]]:
    device = device_of(given.device)
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    for row in WORKS[work](Bench(name, device, given.micro)):
        yield {"model": name, "work": work, **{key: _short(value) for key, value in row.items()}}


def _child(name: str, work: str, given: argparse.Namespace) -> Iterator[dict[str, object]]:
    """Rows as they come; what a work that fails says goes to stderr, and the next one has its turn."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--here", "--model", name, "--only", work]
    command += ["--device", given.device] + (["--micro", str(given.micro)] if given.micro else [])
    with tempfile.TemporaryDirectory() as folder:
        child = subprocess.Popen([*command, "--out", folder], stdout=subprocess.PIPE, text=True)
        for line in child.stdout or ():
            if line.startswith("{"):
                yield json.loads(line)
        if child.wait():
            print(f"{name} {work} ended with {child.returncode}", file=sys.stderr)


def _machine(device: str) -> dict[str, str]:
    name = torch.cuda.get_device_name() if device == "cuda" else device
    return {"device": name, "torch": torch.__version__}


def _short(value: object) -> object:
    return float(f"{value:.4g}") if isinstance(value, float) else value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
