"""A user's own model and data, tiny: folders as `save_pretrained` leaves them, rows as JSONL, short recipes."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    LlamaConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from keel.config import Recipe
from models.small import BOS, CONFIGS, EOS, PAD, VOCABULARY, build

NAMES = tuple(f"w{token}" for token in range(40, VOCABULARY))
OTHER = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %} {{ m['content'] }} </s>"
    "{% else %}ask {{ m['content'] }} say{% endif %}{% endfor %}"
)
"""The chat template of the model with another tokenizer."""


def language_model(folder: Path, seed: int = 0, family: str = "llama") -> Path:
    """Random, and quick to end an answer."""
    model = build(copy.deepcopy(CONFIGS[family]), torch.float32, seed)
    with torch.no_grad():
        model.lm_head.weight[EOS] *= 4
    model.save_pretrained(folder)
    own_words().save_pretrained(folder)
    return folder


def reward_model(folder: Path, seed: int = 0, tokenizer: PreTrainedTokenizerBase | None = None) -> Path:
    """A sequence classifier with one label; with the policy's tokenizer unless another is given."""
    tokenizer = own_words() if tokenizer is None else tokenizer
    config = LlamaConfig(
        **(CONFIGS["llama"].to_diff_dict() | {"num_labels": 1, "pad_token_id": tokenizer.pad_token_id})
    )
    torch.manual_seed(seed)
    model = AutoModelForSequenceClassification.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.normal_(0, 0.3)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def ensemble(folder: Path, zeros: Sequence[float] = (0.0, 0.0, 0.0)) -> Path:
    """Reward models of random weights as one, with these zeros."""
    for number in range(1, len(zeros) + 1):
        reward_model(folder if number == 1 else folder / "members" / str(number), number)
    (folder / "ensemble.json").write_text(json.dumps({"members": len(zeros), "zeros": list(zeros)}), encoding="utf-8")
    return folder


def own_words() -> PreTrainedTokenizerFast:
    """Every word is a token; there is no chat template."""
    names = {"<pad>": PAD, "<bos>": BOS, "<eos>": EOS, "<unk>": 3}
    return _words(names | {f"w{token}": token for token in range(4, VOCABULARY)}, "<eos>", None)


def other_words() -> PreTrainedTokenizerFast:
    """The same words under other ids, other special tokens, and a template of its own."""
    names = {"<pad>": 0, "</s>": 1, "<unk>": 2, "ask": 3, "say": 4}
    return _words(names | {f"w{VOCABULARY + 3 - token}": token for token in range(5, VOCABULARY)}, "</s>", OTHER)


def _words(vocabulary: dict[str, int], eos: str, template: str | None) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token=eos, unk_token="<unk>", chat_template=template
    )


def rows(path: Path, content: Iterable[Mapping[str, Any]]) -> str:
    path.write_text("".join(json.dumps(dict(row)) + "\n" for row in content), encoding="utf-8")
    return str(path)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def say(chance: random.Random, count: int) -> str:
    return " ".join(chance.choices(NAMES, k=count))


def own_data(folder: Path, count: int = 12) -> dict[str, str]:
    """Demonstrations, pairs (with a soft label and a margin among them) and prompts, as JSONL files."""
    folder.mkdir(parents=True, exist_ok=True)
    chance = random.Random("own data")
    asked = [say(chance, 3) for _ in range(count)]
    return {
        "sft": rows(folder / "sft.jsonl", ({"prompt": one, "completion": say(chance, 3)} for one in asked)),
        "reward": rows(
            folder / "pairs.jsonl",
            (
                {"prompt": one, "chosen": say(chance, 3), "rejected": say(chance, 2), "probability": p, "margin": 0.5}
                for one, p in zip(asked, [0.75, *[1.0] * (count - 1)], strict=True)
            ),
        ),
        "prompts": rows(folder / "prompts.jsonl", ({"prompt": one} for one in asked)),
    }


def merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """`other` over `one`, section by section."""
    both = dict(one)
    for key, value in other.items():
        both[key] = (
            merged(both[key], value) if isinstance(value, Mapping) and isinstance(both.get(key), Mapping) else value
        )
    return both


def recipe(base: Path, data: Mapping[str, str], **changes: Any) -> Recipe:
    """All stages on the user's own data, a step or two each."""
    given: dict[str, Any] = {
        "task": None,
        "device": "cpu",
        "dtype": "float32",
        "preflight": "off",
        "model": {"path": str(base), "template": "plain", "max_length": 24},
        "sft": {"data": data["sft"], "batch_size": 6, "held_out": 0.25, "optimizer": {"lr": 1e-3}},
        "reward": {"data": data["reward"], "batch_size": 6, "held_out": 0.25, "optimizer": {"lr": 1e-3}},
        "rl": {
            "prompts": data["prompts"],
            "updates": 2,
            "batch_size": 8,
            "samples_per_prompt": 2,
            "epochs": 1,
            "sampling": {"max_tokens": 6, "temperature": 1.0},
            "reward_normalisation": "none",
            "optimizer": {"lr": 1e-3},
            "critic": {"lr": 1e-3},
        },
    }
    return Recipe.model_validate(merged(given, changes))


def only(stage: str, settings: Recipe) -> Recipe:
    """The recipe without the data of the other stages."""
    given = settings.model_dump()
    for name, section, key in (("sft", "sft", "data"), ("reward", "reward", "data"), ("ppo", "rl", "prompts")):
        if name != stage:
            given[section][key] = None
    return Recipe.model_validate(given)


def plain_language(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """As anybody loads it."""
    return AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)


@torch.no_grad()
def plain_score(folder: Path, text: str) -> float:
    """The score that plain transformers give to a text: the classifier's one logit."""
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    ids = AutoTokenizer.from_pretrained(folder)(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    return float(model(input_ids=ids).logits[0, 0])


def weights_of(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def complete(row: Mapping[str, Any], limit: int) -> bool:
    """An answer that is all words: it ended with EOS, and no special token was sampled before."""
    return row["stop"] == "eos" and len(row["text"].split()) == row["length"] - 1 and row["length"] <= limit
