"""FLOPs by hand, and the limit that they make."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.versus_trl.inputs import SMALL, TINY, Size
from benchmarks.versus_trl.work import Reader, Shape, limit_seconds, work_of
from benchmarks.versus_trl.workloads import find

PAIR = Shape(2, (3, 1))
# Width 4, 2 layers, feed-forward 5: 2·(4·16 + 3·20) = 248 weights; a head of 10 rows, 40 weights.
READER = Reader(Size(4, 2, 1, 5), 10)
BODY = 2 * 248 * 6 + 4 * 4 * 2 * 18
HEAD = 2 * 40 * 4


def test_the_weights_are_those_of_the_models() -> None:
    """With embedding and head of 4096 rows: 6.8 and 29.5 million, but for the norms."""
    assert TINY.body + 2 * 4096 * 256 == pytest.approx(6.8e6, rel=0.01)
    assert SMALL.body + 2 * 4096 * 512 == pytest.approx(29.5e6, rel=0.01)


def test_a_shape_counts_tokens_and_looks() -> None:
    assert PAIR.tokens == 6
    assert PAIR.predicted == 4
    # the prompt: 1 + 2; one completion: (2+1) + (2+2) + (2+3); the other: 2 + 1
    assert PAIR.looks == 3 + 12 + 3


def test_a_pass_costs_two_per_weight_and_token_and_four_per_look_layer_and_unit_of_width() -> None:
    assert READER.body([PAIR]) == BODY
    assert READER.head(4) == HEAD
    assert READER.logprobs([PAIR, PAIR]) == 2 * (BODY + HEAD)


def test_training_is_three_passes_and_under_adapters_two() -> None:
    assert work_of(find("sft"), READER, [PAIR]).flops == 3 * (BODY + HEAD)
    assert work_of(find("reward"), READER, [PAIR]).flops == 3 * BODY
    assert work_of(find("dpo"), READER, [PAIR]).flops == 4 * (BODY + HEAD)
    adapted = replace(find("sft"), layout="shared")
    assert work_of(adapted, READER, [PAIR]).flops == 2 * (BODY + HEAD)


def test_sampling_reads_the_prompt_and_decodes_all_but_the_first_token() -> None:
    prompt = 2 * 248 * 2 + 4 * 4 * 2 * 3 + 2 * 40
    work = work_of(find("generate"), READER, [PAIR])
    assert (work.flops, work.decoded) == (prompt, 2)
    grpo = work_of(find("grpo-4"), READER, [PAIR])
    assert (grpo.flops, grpo.decoded) == (prompt + 13 * (BODY + HEAD), 2)
    ppo = work_of(find("ppo-separate"), READER, [PAIR])
    assert ppo.flops == prompt + (BODY + HEAD) + 2 * BODY + 4 * 3 * (2 * BODY + HEAD)


def test_the_limit_adds_products_and_decoding() -> None:
    """10 GFLOP at 5 GFLOP/s, and 640 tokens in steps of 64 that take 20 ms: 2 s + 10·20 ms."""
    assert limit_seconds(10e9, 640, gflops=5, decode_ms=20, batch=64) == pytest.approx(2.2)
