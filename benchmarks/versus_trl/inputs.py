"""The folders that both sides read: models and rows of token ids. Imports neither torch nor Keel."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CACHE = Path(__file__).resolve().parents[1] / ".cache"
Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Size:
    """A Llama: hidden width, layers, attention heads (as many for keys and values), width of the feed-forward layer."""

    hidden: int
    layers: int
    heads: int
    inter: int

    @property
    def body(self) -> int:
        """Weights of the decoder stack's matrix products: four of [h, h] and three of [h, i] a layer."""
        return self.layers * (4 * self.hidden**2 + 3 * self.hidden * self.inter)


TINY = Size(256, 6, 8, 688)
SMALL = Size(512, 8, 8, 1376)


@dataclass(frozen=True)
class Spec:
    """All that the inputs depend on, besides the version of Python, whose standard library is the text.

    `demonstrations`, `pairs` (of either kind) and `prompts` say how many rows are drawn.
    """

    sizes: dict[str, Size] = field(default_factory=lambda: {"tiny": TINY, "small": SMALL})
    vocabulary: int = 4096
    context: int = 512
    sources: int = 150
    demonstrations: int = 512
    pairs: int = 256
    prompts: int = 1024
    prompt: int = 64
    seed: int = 0

    @property
    def name(self) -> str:
        """A digest of the spec: inputs made otherwise lie elsewhere."""
        return hashlib.sha256(f"{platform.python_version()} {self!r}".encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Demonstration:
    """A text to imitate; all its tokens but the first are trained."""

    tokens: Tokens


@dataclass(frozen=True)
class Pair:
    """Two completions of one prompt, the chosen one first."""

    prompt: Tokens
    chosen: Tokens
    rejected: Tokens


@dataclass(frozen=True)
class Prompt:
    """A text and its tokens: encoding the one gives exactly the other."""

    text: str
    tokens: Tokens


@dataclass(frozen=True)
class Inputs:
    """A folder that `making` has filled."""

    folder: Path

    def model(self, name: str) -> Path:
        """A language model ("tiny"), a classifier ("tiny-reward", "tiny-value") or a reward adapter ("…-adapter")."""
        return self.folder / "models" / name

    def size(self, name: str) -> Size:
        """The shape of a language model, as its configuration says it."""
        config = json.loads((self.model(name) / "config.json").read_text(encoding="utf-8"))
        keys = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
        return Size(*(int(config[key]) for key in keys))

    def vocabulary(self, name: str) -> int:
        """Rows of a model's embedding and of its head."""
        return int(json.loads((self.model(name) / "config.json").read_text(encoding="utf-8"))["vocab_size"])

    def demonstrations(self) -> list[Demonstration]:
        """16 to a step, in order."""
        return [Demonstration(tuple(row["tokens"])) for row in self._rows("sft")]

    def pairs(self, kind: str) -> list[Pair]:
        """`kind` is "pairs-peer" or "pairs-human"; 16 to a step, in order."""
        return [Pair(*(tuple(row[key]) for key in ("prompt", "chosen", "rejected"))) for row in self._rows(kind)]

    def prompts(self) -> list[Prompt]:
        """64 to a step (8 where each gets 8 samples), in order."""
        return [Prompt(row["text"], tuple(row["tokens"])) for row in self._rows("prompts")]

    def _rows(self, name: str) -> list[dict[str, Any]]:
        text = (self.folder / "data" / f"{name}.jsonl").read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]


def endings(vocabulary: int, count: int) -> list[int]:
    """The ids that end a completion where ends are random: evenly spread over the vocabulary, specials left out."""
    return [vocabulary - 1 - place * (vocabulary // count) for place in range(count)]
