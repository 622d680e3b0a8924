"""Trains the base model that ships with the package: `python -m keel.tasks.town_desk.pretrain --out DIR`.

The corpus is text about facts: a facts line, then two pieces of writing drawn from notes, record cards, questions with
answers, and poor drafts with a proof-reader's remarks. Cards and answers make the model learn to copy, which a note
needs; remarks make it learn to notice what a note leaves out. There are no chat turns: it is a base model, and
supervised fine-tuning teaches it the rest.

Departures from a language-model corpus: one document a row, so that a facts line is never in another one's context.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn import functional as F  # noqa: N812
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from keel.tasks.town_desk.facts import SLOTS, Facts, draw_facts, render
from keel.tasks.town_desk.gold import gold_score
from keel.tasks.town_desk.grammar import Quality, write
from keel.tasks.town_desk.sentence import sentences

PAD, END, USER, ASSISTANT, SYSTEM = "<|pad|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"
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
DRAFT = Quality(omit=0.25, wrong=0.15, follow=0.5, correct=0.3, greet=0.5, filler=0.3, flatter=0.12, repeat=0.08)
WRITER = Quality(omit=0.1, wrong=0.02, follow=0.2, correct=0.3, greet=0.5, filler=0.2, flatter=0.08, repeat=0.02)


def document(facts: Facts, rng: random.Random) -> str:
    """A facts line and two pieces of writing about it."""
    kinds = rng.choices((_note, _card, _answers, _draft), (0.45, 0.1, 0.1, 0.35), k=2)
    pieces = [kind(facts, rng) for kind in kinds]
    return "\n".join((render(facts), *pieces))


def _note(facts: Facts, rng: random.Random) -> str:
    return f"Note:\n{write(facts, WRITER, rng)}"


def _draft(facts: Facts, rng: random.Random) -> str:
    """A poor note, and a proof-reader's remark on each of its facts."""
    note = write(facts, DRAFT, rng)
    stated = {value for sentence in sentences(note) for value in sentence.stated}
    remarks = [f"{slot} {_remark(facts, slot, stated)}" for slot in SLOTS]
    return f"Draft:\n{note}\nRemarks: {', '.join(remarks)}."


def _remark(facts: Facts, slot: str, stated: set[tuple[str, str]]) -> str:
    said = {value for of, value in stated if of == slot}
    if not said:
        return "absent" if facts.value(slot) is None else "missing"
    return "right" if said == {facts.value(slot)} else "wrong"


def _card(facts: Facts, rng: random.Random) -> str:
    lines = [f"Event: {facts.event}.", f"Day: {facts.day}.", f"Time: {facts.time}.", f"Place: {facts.place}."]
    lines += [f"Bring: {facts.item}."] if facts.item else []
    lines += [f"{facts.claim.name} says: {facts.claim.value}."] if facts.claim else []
    rng.shuffle(lines)
    return "Card: " + " ".join(lines)


def _answers(facts: Facts, rng: random.Random) -> str:
    pairs = [
        ("What is it?", f"It is the {facts.event}."),
        ("Which day is it on?", f"It is on {facts.day}."),
        ("What time does it start?", f"It starts at {facts.time}."),
        ("Where do we meet?", f"We meet at the {facts.place}."),
        ("What do we bring?", f"Bring {facts.item}." if facts.item else "Nothing."),
        ("Who is it for?", f"It is for {facts.audience}."),
    ]
    return " ".join(f"{question} {answer}" for question, answer in rng.sample(pairs, 4))


def train_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE, so that any text can be written; digits stand alone; one tokenizer for all embedded tasks."""
    rng = random.Random(f"tokenizer {seed}")
    texts = [document(draw_facts(rng), rng) for _ in range(20_000)]
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


def batches(tokenizer: PreTrainedTokenizerFast, size: int, seed: int) -> Iterator[torch.Tensor]:
    """Right-padded documents, [size, L]; documents of similar length share a batch."""
    rng = random.Random(f"corpus {seed}")
    while True:
        texts = [document(draw_facts(rng), rng) for _ in range(size * 16)]
        rows = sorted(
            ([*ids, tokenizer.eos_token_id] for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]), key=len
        )
        starts = list(range(0, len(rows), size))
        rng.shuffle(starts)
        for start in starts:
            part = rows[start : start + size]
            width = max(map(len, part))
            yield torch.tensor([row + [tokenizer.pad_token_id] * (width - len(row)) for row in part])


def accuracy(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, count: int, seed: int
) -> dict[str, float | str]:
    """Greedy notes after unseen facts lines: their mean gold score, and one of them."""
    rng = random.Random(f"held out {seed}")
    facts = [draw_facts(rng) for _ in range(count)]
    enc = tokenizer([f"{render(one)}\nNote:\n" for one in facts], return_tensors="pt", padding=True)
    with torch.no_grad():
        out = model.generate(
            input_ids=enc["input_ids"], attention_mask=enc["attention_mask"], max_new_tokens=60, do_sample=False
        )
    notes = [text.split("\n")[0].strip() for text in tokenizer.batch_decode(out[:, enc["input_ids"].shape[1] :], True)]
    scores = [gold_score(one, note) for one, note in zip(facts, notes, strict=True)]
    return {"gold": sum(scores) / count, "sample": notes[0]}


def weighted_loss(logits: torch.Tensor, target: torch.Tensor, tokenizer: PreTrainedTokenizerFast) -> torch.Tensor:
    """Cross-entropy, nats per unit of weight: facts lines, which are random, weigh a tenth; padding weighs nothing."""
    newline = tokenizer.encode("\n", add_special_tokens=False)[0]
    facts = (target == newline).cumsum(1) == 0
    weight: torch.Tensor = torch.where(facts, 0.1, 1.0) * (target != tokenizer.pad_token_id)
    each = F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none").view_as(weight)
    return (each * weight).sum() / weight.sum()


def train(out: Path, steps: int, size: int, peak: float, seed: int, minutes: float) -> None:
    """AdamW in fp32, warm-up and cosine decay to zero over `steps` or `minutes`, whichever ends first."""
    tokenizer = train_tokenizer(seed)
    model = build_model(tokenizer, seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak, betas=(0.9, 0.98), weight_decay=0.05)
    stream = batches(tokenizer, size, seed)
    start, done = time.monotonic(), 0.0
    step = 0
    while done < 1.0:
        step += 1
        done = max(step / steps, (time.monotonic() - start) / (60 * minutes))
        rate = peak * min(1.0, step / 200) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        ids = next(stream)
        logits = model(input_ids=ids[:, :-1]).logits
        loss = weighted_loss(logits, ids[:, 1:], tokenizer)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 100 == 0:
            print(f"{step} {time.monotonic() - start:.0f}s loss {loss.item():.4f} lr {rate:.2e}", flush=True)  # noqa: T201
        if step % 500 == 0 or done >= 1.0:
            print(json.dumps(accuracy(model, tokenizer, 64, seed)), flush=True)  # noqa: T201
            model.to(torch.bfloat16).save_pretrained(out)
            model.float()
            tokenizer.save_pretrained(out)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=1e9)
    arguments = parser.parse_args()
    train(arguments.out, arguments.steps, arguments.batch, arguments.lr, arguments.seed, arguments.minutes)
