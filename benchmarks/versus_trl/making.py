"""Fills the folder of inputs: a tokenizer and rows from Python's standard library, models with random weights."""

from __future__ import annotations

import json
import random
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from benchmarks.versus_trl.inputs import Inputs, Size, Spec, Tokens
from keel.models.adapters import Lora
from keel.models.heads import ScalarHead
from keel.models.load import load_language_model, load_tokenizer
from keel.models.roles import scalar_role

SPECIAL = ("<pad>", "<eos>", "<|system|>", "<|user|>", "<|assistant|>")
TEMPLATE = (
    "{%- for message in messages -%}<|{{ message['role'] }}|>{{ message['content'] }}<eos>{%- endfor -%}"
    "{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}"
)


def make(spec: Spec, cache: Path) -> Inputs:
    """The inputs of `spec`, made if the cache has none; the whole folder or none of it."""
    folder = cache / f"inputs-{spec.name}"
    if not folder.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as room:
            draft = Path(room, "new")
            _fill(Inputs(draft), spec)
            draft.replace(folder)
    return Inputs(folder)


def _fill(inputs: Inputs, spec: Spec) -> None:
    files = sources(spec.sources)
    tokenizer = train_tokenizer(files, spec.vocabulary)
    for name, size in spec.sizes.items():
        _write_models(inputs, name, config_of(size, spec, tokenizer), tokenizer)
    stream = [token for file in files for token in tokenizer(file.read_text(encoding="utf-8"))["input_ids"]]
    data = inputs.folder / "data"
    data.mkdir()
    for name, rows in rows_of(stream, tokenizer, spec).items():
        lines = (json.dumps(row) for row in rows)
        (data / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (inputs.folder / "spec.json").write_text(json.dumps(asdict(spec), indent=2), encoding="utf-8")


def sources(count: int) -> list[Path]:
    """The first modules of the standard library, by name."""
    return sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))[:count]


def train_tokenizer(files: Sequence[Path], vocabulary: int) -> PreTrainedTokenizerBase:
    """Byte-level BPE; every text can be encoded, and is decoded to what it was."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
    )
    bpe.train([str(file) for file in files], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token=SPECIAL[0], eos_token=SPECIAL[1], padding_side="left"
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def config_of(size: Size, spec: Spec, tokenizer: PreTrainedTokenizerBase) -> LlamaConfig:
    """A Llama with a head of its own weights."""
    return LlamaConfig(
        vocab_size=spec.vocabulary,
        hidden_size=size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.heads,
        intermediate_size=size.inter,
        max_position_embeddings=spec.context,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _write_models(inputs: Inputs, name: str, config: LlamaConfig, tokenizer: PreTrainedTokenizerBase) -> None:
    """A language model, a reward and a value model of its shape, and a reward adapter on the language model."""
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(inputs.model(name))
    tokenizer.save_pretrained(inputs.model(name))
    config.num_labels = 1
    for seed, role in enumerate(("reward", "value"), start=1):
        torch.manual_seed(seed)
        LlamaForSequenceClassification(config).save_pretrained(inputs.model(f"{name}-{role}"))
        tokenizer.save_pretrained(inputs.model(f"{name}-{role}"))
    base = load_language_model(inputs.model(name), torch.float32, torch.device("cpu"))
    head = ScalarHead.normal(config.hidden_size, torch.Generator().manual_seed(3))
    scalar_role(base, head, Lora(), seed=3).save(inputs.model(f"{name}-adapter"), load_tokenizer(inputs.model(name)))


Row = Mapping[str, object]


def rows_of(stream: Sequence[int], tokenizer: PreTrainedTokenizerBase, spec: Spec) -> dict[str, list[Row]]:
    """Pieces of the stream from seeded places: demonstrations, pairs of both kinds, prompts."""
    chance = random.Random(spec.seed)

    def cut(length: int) -> Tokens:
        start = chance.randrange(len(stream) - length)
        return tuple(stream[start : start + length])

    def pair(prompt: int, chosen: int, rejected: int) -> Row:
        return {"prompt": cut(prompt), "chosen": cut(chosen), "rejected": cut(rejected)}

    def prompts() -> Iterator[Row]:
        while True:
            tokens = cut(spec.prompt)
            text = tokenizer.decode(tokens)
            # As a raw prompt, Keel ends it with a newline, if it does not end in white space anyway.
            if text[-1:].isspace() and text.strip() and tuple(tokenizer(text)["input_ids"]) == tokens:
                yield {"text": text, "tokens": tokens}

    def within(low: int, high: int) -> int:
        return chance.randint(low, high)

    return {
        "sft": [{"tokens": cut(within(32, 256))} for _ in range(spec.demonstrations)],
        "pairs-peer": [pair(16, within(32, 256) - 16, within(32, 256) - 16) for _ in range(spec.pairs)],
        "pairs-human": [pair(within(128, 192), within(32, 96), within(32, 96)) for _ in range(spec.pairs)],
        "prompts": list(islice(prompts(), spec.prompts)),
    }
