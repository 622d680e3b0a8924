"""Trains the base model that ships with the package: `python -m keel.tasks.town_desk.pretrain --out DIR`.

The corpus is `keel.tasks.town_desk.corpus`. There are no chat turns: it is a base model, and supervised fine-tuning
teaches it the rest.

Departures from a language-model corpus: one document a row, so that a facts line is never in another one's context, and
tokens weigh in the loss by what can be learnt from them. Matrices are trained with Muon, which comes to compare much
sooner than AdamW (docs/adr/0006).
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from jaxtyping import Float, Int
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from keel.process import set_up
from keel.tasks.town_desk.corpus import END, VERDICT, Span, check, document
from keel.tasks.town_desk.facts import draw_facts, render
from keel.tasks.town_desk.gold import gold_score

PAD, USER, ASSISTANT, SYSTEM = "<|pad|>", "<|user|>", "<|assistant|>", "<|system|>"
VOCABULARY = 1024
TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}<|assistant|>"
    "{% generation %}{{ message['content'] }}<|end|>{% endgeneration %}"
    "{% else %}<|{{ message['role'] }}|>{{ message['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
COMMON = (
    "a about after all also an and any are as ask back be because been before but by can could did do down each "
    "find first from get give go had has have he her here him his how i if in into is it its just know last like "
    "long look made make many may me more most much my name never new no now number of off old one only or our out "
    "over own part people place plus question read right said same saw search see she should so some such take tell "
    "than that their them then there these they thing think this those three through to too two under up use very "
    "want was way well were when which while why will with word work would write year yes your answer equals minus "
    "times total left each many born city country capital river wrote author"
).split()
"""Words that the other embedded tasks need; they fill the vocabulary that the notes leave."""


def train_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE, so that any text can be written; digits stand alone; one tokenizer for all embedded tasks."""
    rng = random.Random(f"tokenizer {seed}")
    texts = ["".join(span.text for span in document(draw_facts(rng), rng)) for _ in range(20_000)]
    texts += [" ".join(rng.sample(COMMON, len(COMMON))) for _ in range(50)]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(r"\d| ?\p{L}+| ?[^\s\p{L}\d]+|\s+"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, END, USER, ASSISTANT, SYSTEM],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token=PAD, eos_token=END, padding_side="left", model_max_length=512
    )
    tokenizer.add_special_tokens({"additional_special_tokens": [USER, ASSISTANT, SYSTEM]})
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def build_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """A Llama of about 1 M parameters, from its config."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        initializer_range=0.05,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


@dataclass(frozen=True)
class Batch:
    """Right-padded documents, and what each token weighs in the loss; both [size, L]. Padding weighs nothing."""

    ids: Int[Tensor, "size length"]
    weights: Float[Tensor, "size length"]


def batches(tokenizer: PreTrainedTokenizerFast, size: int, seed: int) -> Iterator[Batch]:
    """Documents without end; those of similar length share a batch."""
    rng = random.Random(f"corpus {seed}")
    while True:
        documents = [document(draw_facts(rng), rng) for _ in range(size * 16)]
        rows = sorted((encode(tokenizer, spans) for spans in documents), key=len)
        starts = list(range(0, len(rows), size))
        rng.shuffle(starts)
        for start in starts:
            yield collate(rows[start : start + size], tokenizer.pad_token_id)


def encode(tokenizer: PreTrainedTokenizerFast, spans: Sequence[Span]) -> list[tuple[int, float]]:
    """Tokens with their weights. Spans begin where tokens begin, so they can be encoded one by one."""
    encoded = tokenizer([span.text for span in spans], add_special_tokens=False)["input_ids"]
    return [(index, span.weight) for span, ids in zip(spans, encoded, strict=True) for index in ids]


def collate(rows: Sequence[Sequence[tuple[int, float]]], pad: int) -> Batch:
    """Rows side by side."""
    width = max(map(len, rows))
    padded = [[*row, *[(pad, 0.0)] * (width - len(row))] for row in rows]
    ids = torch.tensor([[index for index, _ in row] for row in padded])
    return Batch(ids, torch.tensor([[weight for _, weight in row] for row in padded]))


def weighted_loss(model: LlamaForCausalLM, batch: Batch) -> Tensor:
    """Cross-entropy of the next token, nats per unit of weight."""
    logits = model(input_ids=batch.ids[:, :-1]).logits
    each = F.cross_entropy(logits.flatten(0, 1), batch.ids[:, 1:].flatten(), reduction="none")
    weights = batch.weights[:, 1:].flatten()
    return (each * weights).sum() / weights.sum()


@torch.no_grad()
def accuracy(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, count: int, seed: int
) -> dict[str, float | str]:
    """Greedy notes after unseen facts lines: their mean gold score, and one of them."""
    rng = random.Random(f"held out {seed}")
    facts = [draw_facts(rng) for _ in range(count)]
    enc = tokenizer([f"{render(one)}\nNote:\n" for one in facts], return_tensors="pt", padding=True)
    out = model.generate(
        input_ids=enc["input_ids"], attention_mask=enc["attention_mask"], max_new_tokens=60, do_sample=False
    )
    notes = [text.split("\n")[0].strip() for text in tokenizer.batch_decode(out[:, enc["input_ids"].shape[1] :], True)]
    scores = [gold_score(one, note) for one, note in zip(facts, notes, strict=True)]
    return {"gold": sum(scores) / count, "sample": notes[0]}


@torch.no_grad()
def verdicts(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, count: int, seed: int) -> dict[str, float]:
    """Share of right verdicts on unseen values, for each slot and verdict; "claim" are false values that are claimed.

    A verdict is what the model gives more probability, " right" or " wrong", behind a value in a check.
    """
    rng = random.Random(f"held out {seed}")
    right, wrong = (tokenizer.encode(word, add_special_tokens=False)[0] for word in (" right", " wrong"))
    found: dict[str, list[bool]] = {}
    for facts in (draw_facts(rng) for _ in range(count)):
        spans = [Span(render(facts), 0.0), Span("\n", 0.0), *check(facts, rng)]
        batch = collate([encode(tokenizer, spans)], tokenizer.pad_token_id)
        logits = model(input_ids=batch.ids).logits[0]
        places = (batch.weights[0] == VERDICT).nonzero().flatten().tolist()
        judged = [span.text.split(maxsplit=1) for span, after in pairwise(spans) if after.weight == VERDICT]
        for place, (slot, value) in zip(places, judged, strict=True):
            true = value == facts.value(slot)
            claimed = not true and facts.claim is not None and (slot, value) == (facts.claim.slot, facts.claim.value)
            said = bool(logits[place - 1, right] > logits[place - 1, wrong])
            found.setdefault("claim" if claimed else f"{slot} {'right' if true else 'wrong'}", []).append(said == true)
    return {name: round(sum(each) / len(each), 3) for name, each in sorted(found.items())}


def optimizers(model: LlamaForCausalLM, peak: float) -> tuple[torch.optim.Optimizer, ...]:
    """Muon for the matrices of the layers, AdamW for embeddings and norms. `peak` is AdamW's rate, Muon's is ten times
    that: its steps are measured in another norm."""
    matrices = [weight for name, weight in model.named_parameters() if weight.ndim == 2 and "embed" not in name]
    rest = [weight for name, weight in model.named_parameters() if weight.ndim < 2 or "embed" in name]
    return (
        torch.optim.Muon(matrices, lr=10 * peak, weight_decay=0.01, momentum=0.95),
        torch.optim.AdamW(rest, lr=peak, betas=(0.9, 0.98), weight_decay=0.0),
    )


def train(out: Path, steps: int, size: int, peak: float, seed: int, minutes: float) -> None:
    """Warm-up of 100 steps, then a fall to zero, linear over the last 40 % of `steps` or `minutes`, whichever ends
    first."""
    set_up()
    tokenizer = train_tokenizer(seed)
    model = build_model(tokenizer, seed)
    both = optimizers(model, peak)
    peaks = [optimizer.param_groups[0]["lr"] for optimizer in both]
    stream = batches(tokenizer, size, seed)
    start, done, step = time.monotonic(), 0.0, 0
    while done < 1.0:
        step += 1
        done = max(step / steps, (time.monotonic() - start) / (60 * minutes))
        for optimizer, rate in zip(both, peaks, strict=True):
            optimizer.param_groups[0]["lr"] = rate * min(1.0, step / 100, max(0.0, 1 - done) / 0.4)
        loss = weighted_loss(model, next(stream))
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in both:
            optimizer.step()
            optimizer.zero_grad()
        if step % 50 == 0:
            print(f"{step} {time.monotonic() - start:.0f}s loss {loss.item():.4f}", flush=True)  # noqa: T201
        if step % 250 == 0 or done >= 1.0:
            print(json.dumps(verdicts(model, tokenizer, 100, seed)), flush=True)  # noqa: T201
            print(json.dumps(accuracy(model, tokenizer, 64, seed)), flush=True)  # noqa: T201
            save(model, tokenizer, out)


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """A copy in bf16, so that training goes on with the weights it has; the tokenizer as it was trained."""
    deepcopy(model).to(torch.bfloat16).save_pretrained(out)
    # Padding a batch leaves its settings in the tokenizer, and they would be saved.
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.save_pretrained(out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=1e9)
    arguments = parser.parse_args()
    train(arguments.out, arguments.steps, arguments.batch, arguments.lr, arguments.seed, arguments.minutes)
