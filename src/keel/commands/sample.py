"""`keel sample`: completions of prompts, as JSON lines."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from keel.commands.arguments import Arguments
from keel.commands.model import add_model, find_model, sampling_of
from keel.data.place import place
from keel.errors import UserError
from keel.types import Message, Prompt, Rollout


def sample(argv: Sequence[str]) -> None:
    """keel sample MODEL (--prompt TEXT | --prompts FILE) [--n N] [--out FILE] [--json]"""
    arguments = Arguments(
        "sample",
        "Write completions of prompts as JSON lines: prompt, completion, why it stopped, its tokens and log-prob.",
        "keel sample runs/demo --prompts asked.jsonl --n 4",
    )
    add_model(arguments)
    arguments.add_argument("--prompt", metavar="TEXT", action="append", default=[], help="a prompt; may be repeated")
    arguments.add_argument("--prompts", metavar="FILE", help="a file, folder or data set of prompts")
    arguments.add_argument("--n", metavar="N", type=int, default=1, help="completions of each prompt [default: 1]")
    arguments.add_argument("--out", metavar="FILE", help="where to write; without it, standard output")
    arguments.add_argument("--json", action="store_true", help="print one JSON object instead of lines")
    given = arguments.read(argv)
    sampling = sampling_of(given)
    if bool(given.prompt) == bool(given.prompts):
        raise UserError("give either --prompt TEXT or --prompts FILE")
    if given.n < 1:
        raise UserError(f"--n must be at least 1, found {given.n}")
    model = find_model(given.model)
    out = place(given.out) if given.out is not None else None
    if out is not None and out.is_dir():
        raise UserError(f"--out {out} is a folder; name the file to write")

    from keel.commands.writer import Writer
    from keel.data.formats import read_prompts
    from keel.data.write import write_text

    asked = [Prompt(str(place), (Message("user", text),)) for place, text in enumerate(given.prompt)]
    prompts = tuple(read_prompts(given.prompts)) if given.prompts else tuple(asked)
    rows = [
        as_row(one)
        for one in Writer(model, given.template, given.device, sampling, given.seed).answer(prompts, given.n)
    ]
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    stops = dict(Counter(str(row["stop"]) for row in rows))
    if out is not None:
        write_text(out, "".join(f"{line}\n" for line in lines))
        report = {"file": given.out, "completions": len(rows), "stops": stops}
        print(json.dumps(report) if given.json else f"wrote {len(rows)} completions to {given.out}")
    elif given.json:
        print(json.dumps({"completions": rows, "stops": stops}, ensure_ascii=False))
    else:
        print("\n".join(lines))


def as_row(rollout: Rollout) -> dict[str, Any]:
    """What is written of a completion; the line is a demonstration that `keel sft` can read. `logprob` in nats."""
    return {
        "id": rollout.prompt.id,
        "prompt": [{"role": turn.role, "content": turn.content} for turn in rollout.prompt.messages],
        "completion": rollout.text,
        "stop": rollout.stop,
        "tokens": len(rollout.tokens),
        "logprob": sum(rollout.logprobs),
    }
