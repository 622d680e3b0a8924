"""The peer's side: TRL's own trainers, and generation by plain transformers; run by the peer environment's Python.

    python -m benchmarks.versus_trl.peer INPUTS WORKLOAD MODEL --dtype fp32|bf16 --micro N [--lora] [--overlay FOLDER]

prints one line of JSON, a `Measurement`. bf16 is TRL's own option (autocast over fp32 weights) where it trains, and
weights in bf16 where there is only generation. `--overlay` holds the last TRL with PPO, which needs it.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

for _name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE", "TRL_EXPERIMENTAL_SILENCE"):
    os.environ.setdefault(_name, "1")

import torch  # noqa: E402
from datasets import Dataset  # noqa: E402
from torch.utils.data import SequentialSampler  # noqa: E402
from transformers import (  # noqa: E402
    AutoTokenizer,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    TrainerCallback,
)

from benchmarks.versus_trl.inputs import Inputs, endings  # noqa: E402
from benchmarks.versus_trl.measure import Lap, Measurement, Memory, Stopwatch  # noqa: E402
from benchmarks.versus_trl.workloads import ENDINGS, NEW_TOKENS, Workload, find  # noqa: E402

LORA = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Setting:
    """What the peer may choose. `lora` puts adapters of rank 16 on the policy, as in Keel's shared layout."""

    dtype: str
    micro: int
    lora: bool


@dataclass(frozen=True)
class Bench:
    """One workload at work: its inputs, how many steps it makes in all, and the stopwatch that every step laps."""

    workload: Workload
    inputs: Inputs
    model: str
    setting: Setting
    steps: int
    watch: Stopwatch

    def language(self) -> Any:
        """The language model, weights in fp32."""
        return LlamaForCausalLM.from_pretrained(self.inputs.model(self.model), dtype=torch.float32)

    def scalar(self, role: str) -> Any:
        """The classifier of this role ("reward", "value")."""
        folder = self.inputs.model(f"{self.model}-{role}")
        return LlamaForSequenceClassification.from_pretrained(folder, num_labels=1, dtype=torch.float32)

    def tokenizer(self) -> Any:
        """The tokenizer that all models share; pads on the left."""
        return AutoTokenizer.from_pretrained(self.inputs.model(self.model))

    def rows(self, rows: Sequence[Any]) -> Sequence[Any]:
        """As many as the steps use, in the order of the data; ValueError where there are too few."""
        count = self.workload.rows(self.steps)
        if len(rows) < count:
            raise ValueError(f"{self.steps} steps need {count} rows, but the data has {len(rows)}")
        return rows[:count]

    def options(self, folder: str) -> dict[str, Any]:
        """Arguments that all trainers take. Nothing is logged, saved or recomputed."""
        return {
            "output_dir": folder,
            "use_cpu": True,
            "bf16": self.setting.dtype == "bf16",
            "gradient_checkpointing": False,
            "per_device_train_batch_size": self.setting.micro,
            "gradient_accumulation_steps": self.workload.batch // self.setting.micro,
            "learning_rate": 3e-6,
            "report_to": "none",
            "save_strategy": "no",
            "logging_strategy": "no",
            "disable_tqdm": True,
            "seed": 0,
        }


def run(bench: Bench) -> list[Lap]:
    """All steps of one workload, the first ones included."""
    kinds = {"sft": sft, "reward": reward, "dpo": dpo, "generate": generate, "grpo": grpo, "ppo": ppo}
    with tempfile.TemporaryDirectory() as folder:
        kinds[bench.workload.kind](bench, folder)
    return bench.watch.laps


class Laps(TrainerCallback):
    """A lap at the end of every `every`-th optimizer step; `count` holds the useful tokens since the last."""

    def __init__(self, watch: Stopwatch, every: int = 1) -> None:
        self._watch, self._every, self._taken = watch, every, 0
        self.count = 0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """The first step starts the stopwatch."""
        self._watch.start()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Counts the step."""
        self._taken += 1
        if self._taken % self._every == 0:
            self._watch.lap(self.count)
            self.count = 0


def in_order(trainer: type, laps: Laps) -> type:
    """A trainer that takes tokenized rows as they are, in their order, and counts the tokens that are not padding."""

    class InOrder(trainer):
        def _prepare_dataset(self, dataset: Dataset, *_: Any, **__: Any) -> Dataset:
            return dataset

        def _get_train_sampler(self, dataset: Dataset | None = None) -> SequentialSampler:
            return SequentialSampler(self.train_dataset if dataset is None else dataset)

        def training_step(self, model: Any, inputs: Any, *rest: Any, **others: Any) -> Any:
            laps.count += int(inputs["attention_mask"].sum())
            return super().training_step(model, inputs, *rest, **others)

    return InOrder


def offline(bench: Bench, trainer: type, config: Any, model: Any, rows: list[dict[str, Any]]) -> None:
    """Train on tokenized rows for as many steps as they give."""
    laps = Laps(bench.watch)
    data, tokenizer = Dataset.from_list(rows), bench.tokenizer()
    in_order(trainer, laps)(
        model=model, args=config, train_dataset=data, processing_class=tokenizer, callbacks=[laps]
    ).train()


def sft(bench: Bench, folder: str) -> None:
    """`trl.SFTTrainer`, padded."""
    from trl import SFTConfig, SFTTrainer

    rows = [{"input_ids": list(row.tokens)} for row in bench.rows(bench.inputs.demonstrations())]
    config = SFTConfig(max_length=None, max_steps=bench.steps, **bench.options(folder))
    offline(bench, SFTTrainer, config, bench.language(), rows)


def reward(bench: Bench, folder: str) -> None:
    """`trl.RewardTrainer`."""
    from trl import RewardConfig, RewardTrainer

    pairs = bench.rows(bench.inputs.pairs(bench.workload.data))
    rows = [
        {"chosen_ids": list(row.prompt + row.chosen), "rejected_ids": list(row.prompt + row.rejected)} for row in pairs
    ]
    config = RewardConfig(max_length=None, max_steps=bench.steps, **bench.options(folder))
    offline(bench, RewardTrainer, config, bench.scalar("reward"), rows)


def dpo(bench: Bench, folder: str) -> None:
    """`trl.DPOTrainer`; it reads the reference in every step, as ours does, since each pair is met once."""
    from trl import DPOConfig, DPOTrainer

    pairs = bench.rows(bench.inputs.pairs(bench.workload.data))
    rows = [
        {"prompt_ids": list(row.prompt), "chosen_ids": list(row.chosen), "rejected_ids": list(row.rejected)}
        for row in pairs
    ]
    config = DPOConfig(max_length=None, max_steps=bench.steps, beta=0.1, **bench.options(folder))
    offline(bench, DPOTrainer, config, bench.language(), rows)


def grpo(bench: Bench, folder: str) -> None:
    """`trl.GRPOTrainer`: one lap is sampling, scoring and all inner epochs."""
    from trl import GRPOConfig, GRPOTrainer

    workload = bench.workload
    laps = Laps(bench.watch, workload.epochs)

    def score(completion_ids: list[list[int]], **_: Any) -> list[float]:
        laps.count += sum(map(len, completion_ids))
        return [float(len(set(ids)) % 7) for ids in completion_ids]

    prompts = Dataset.from_list([{"prompt": row.text} for row in bench.rows(bench.inputs.prompts())])
    config = GRPOConfig(
        num_generations=workload.samples,
        max_completion_length=NEW_TOKENS,
        temperature=1.0,
        beta=0.04,
        num_iterations=workload.epochs,
        generation_kwargs={"min_new_tokens": NEW_TOKENS},
        shuffle_dataset=False,
        max_steps=bench.steps * workload.epochs,
        **bench.options(folder),
    )
    GRPOTrainer(
        model=bench.language(),
        args=config,
        train_dataset=prompts,
        processing_class=bench.tokenizer(),
        reward_funcs=score,
        callbacks=[laps],
    ).train()


def ppo(bench: Bench, folder: str) -> None:
    """`trl.experimental.ppo.PPOTrainer` of the overlay: one lap is sampling, scoring and all epochs."""
    trl_ppo = import_module("trl.experimental.ppo")
    workload = bench.workload
    data = Dataset.from_list([{"input_ids": list(row.tokens)} for row in bench.rows(bench.inputs.prompts())])
    adapters = None
    if bench.setting.lora:
        from peft import LoraConfig

        adapters = LoraConfig(r=16, lora_alpha=32, target_modules=list(LORA), task_type="CAUSAL_LM")
    config = trl_ppo.PPOConfig(
        num_mini_batches=1,
        total_episodes=workload.batch * bench.steps,
        response_length=NEW_TOKENS,
        num_ppo_epochs=workload.epochs,
        local_rollout_forward_batch_size=workload.batch,
        num_sample_generations=0,
        temperature=1.0,
        kl_coef=0.05,
        stop_token=None,
        **bench.options(folder),
    )
    trainer = trl_ppo.PPOTrainer(
        args=config,
        processing_class=bench.tokenizer(),
        model=bench.language(),
        ref_model=None if bench.setting.lora else bench.language(),
        reward_model=bench.scalar("reward"),
        value_model=bench.scalar("value"),
        train_dataset=data,
        eval_dataset=data.select(range(1)),
        peft_config=adapters,
        callbacks=[Updates(bench.watch, workload.batch * NEW_TOKENS)],
    )
    bench.watch.start()
    trainer.train()


class Updates(TrainerCallback):
    """A lap at the end of every update of PPO, which samples without an end of text, so always `tokens` tokens."""

    def __init__(self, watch: Stopwatch, tokens: int) -> None:
        self._watch, self._tokens = watch, tokens

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Called once per update, not per optimizer step."""
        self._watch.lap(self._tokens)


def generate(bench: Bench, folder: str) -> None:
    """`generate` of transformers on each step's prompts, all of one length."""
    workload = bench.workload
    dtype = torch.bfloat16 if bench.setting.dtype == "bf16" else torch.float32
    tokenizer, model = bench.tokenizer(), bench.language().to(dtype).eval()
    options: dict[str, Any] = {"max_new_tokens": NEW_TOKENS, "do_sample": True, "temperature": 1.0}
    options |= {"top_k": 0, "top_p": 1.0, "pad_token_id": tokenizer.pad_token_id}
    options |= {"num_return_sequences": workload.samples}
    ends = [tokenizer.eos_token_id]
    if workload.endings == "none":
        options["min_new_tokens"] = NEW_TOKENS
    else:
        ends = endings(bench.inputs.vocabulary(bench.model), ENDINGS)
    rows, size = bench.rows(bench.inputs.prompts()), workload.rows(1)
    torch.manual_seed(0)
    bench.watch.start()
    for step in range(bench.steps):
        prompts = torch.tensor([row.tokens for row in rows[step * size : (step + 1) * size]])
        with torch.inference_mode():
            out = model.generate(prompts, attention_mask=torch.ones_like(prompts), eos_token_id=ends, **options)
        bench.watch.lap(written(out[:, prompts.shape[1] :], ends if workload.endings == "random" else []))


def written(completions: torch.Tensor, ends: Sequence[int]) -> int:
    """Tokens of the completions [B, n], each up to and including its first end of text."""
    ended = torch.isin(completions, torch.tensor(list(ends), dtype=completions.dtype)).cumsum(1) > 0
    return int(completions.shape[0] * completions.shape[1] - ended[:, :-1].sum())


def main(argv: Sequence[str]) -> None:
    """Measures one workload, and prints the measurement."""
    parser = argparse.ArgumentParser()
    parser.add_argument("inputs", type=Path)
    parser.add_argument("workload")
    parser.add_argument("model")
    parser.add_argument("--dtype", choices=("fp32", "bf16"), required=True)
    parser.add_argument("--micro", type=int, required=True)
    parser.add_argument("--lora", action="store_true")
    parser.add_argument("--overlay")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--warmup", type=int)
    given = parser.parse_args(argv)
    workload = find(given.workload)
    warmup = workload.warmup if given.warmup is None else given.warmup
    steps = given.steps or workload.steps
    _import(workload, given.overlay)
    memory = Memory()
    setting = Setting(given.dtype, given.micro, given.lora)
    bench = Bench(workload, Inputs(given.inputs), given.model, setting, warmup + steps, Stopwatch())
    laps = run(bench)
    peak = memory.peak_mb()
    found = {"dtype": given.dtype, "micro": given.micro, "lora": given.lora, "threads": torch.get_num_threads()}
    found |= {"allocator": os.environ.get("GLIBC_TUNABLES", "as it is"), "wait": os.environ.get("OMP_WAIT_POLICY", "")}
    versions = {name: version(name) for name in ("torch", "transformers", "trl")}
    print(Measurement(workload.name, given.model, "peer", found, laps[warmup:], peak, versions).line(), flush=True)


def _import(workload: Workload, overlay: str | None) -> None:
    """Load what the workload needs before memory is counted."""
    if workload.kind == "ppo":
        if overlay is not None:
            sys.path.insert(0, overlay)
        import_module("trl.experimental.ppo.ppo_trainer")
        import_module("peft")
    elif workload.kind != "generate":
        import_module(f"trl.trainer.{workload.kind}_trainer")


if __name__ == "__main__":
    main(sys.argv[1:])
