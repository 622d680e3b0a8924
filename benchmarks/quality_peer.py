"""TRL's side of `benchmarks.quality`: GRPO from the fine-tuned model, run by the Python of TRL's own environment.

    python -m benchmarks.quality_peer START --updates N --dtype fp32|bf16 --micro N …

prints one line of JSON: the seconds gone by at the end of every update, and the mean gold score of its answers.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

for _name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE", "TRL_EXPERIMENTAL_SILENCE"):
    os.environ.setdefault(_name, "1")

import torch  # noqa: E402
from datasets import Dataset  # noqa: E402
from transformers import AutoTokenizer, LlamaForCausalLM, TrainerCallback  # noqa: E402
from trl import GRPOConfig, GRPOTrainer  # noqa: E402

from keel.tasks.town_desk.facts import parse  # noqa: E402
from keel.tasks.town_desk.gold import gold_score  # noqa: E402


class Clock(TrainerCallback):
    """Seconds from the first step's beginning to each one's end, and the scores in between."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.gold: list[float] = []
        self._began: float | None = None

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """The first one starts the clock; its answers are sampled after this."""
        self._began = time.perf_counter() if self._began is None else self._began

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """An update is done."""
        assert self._began is not None
        self.seconds.append(time.perf_counter() - self._began)

    def score(self, completions: list[str], facts: list[str], **_: Any) -> list[float]:
        """Points of each answer."""
        points = [gold_score(parse(asked), text) for asked, text in zip(facts, completions, strict=True)]
        self.gold.append(fmean(points))
        return points


def main(argv: Sequence[str]) -> None:
    """Trains, and prints the curve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("start", type=Path)
    parser.add_argument("--dtype", choices=("fp32", "bf16"), required=True)
    for name in ("updates", "micro", "batch", "each", "longest"):
        parser.add_argument(f"--{name}", type=int, required=True)
    for name in ("rate", "beta"):
        parser.add_argument(f"--{name}", type=float, required=True)
    given = parser.parse_args(argv)
    folder = given.start / "sft" / "model"
    rows = [json.loads(line) for line in (given.start / "prompts.jsonl").read_text(encoding="utf-8").splitlines()]
    clock = Clock()
    with tempfile.TemporaryDirectory() as out:
        config = GRPOConfig(
            output_dir=out,
            use_cpu=True,
            bf16=given.dtype == "bf16",
            gradient_checkpointing=False,
            per_device_train_batch_size=given.micro,
            gradient_accumulation_steps=given.batch // given.micro,
            num_generations=given.each,
            max_completion_length=given.longest,
            max_steps=given.updates,
            temperature=1.0,
            loss_type="grpo",
            beta=given.beta,
            use_bias_correction_kl=False,
            learning_rate=given.rate,
            lr_scheduler_type="constant",
            shuffle_dataset=False,
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            seed=0,
        )
        trainer = GRPOTrainer(
            model=LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32),
            args=config,
            train_dataset=Dataset.from_list(rows),
            processing_class=AutoTokenizer.from_pretrained(folder),
            reward_funcs=clock.score,
            callbacks=[clock],
        )
        trainer.train()
    print(json.dumps({"seconds": clock.seconds, "gold": clock.gold}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
