"""The benchmark of a GPU: its counts by hand and by the library's own model, and all of its works on a processor."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks.gpu import MODELS, WORKS, Batch, Bench, Model, decoded, main

CPU = torch.device("cpu")


def test_weights_are_those_of_the_model() -> None:
    model = MODELS["tiny"]
    built = model.build(CPU)
    linear = [one.weight.numel() for one in built.model.modules() if isinstance(one, torch.nn.Linear)]
    assert sum(linear) == model.body
    assert built.lm_head.weight.numel() == model.head
    assert built.lm_head.weight is built.model.embed_tokens.weight
    cache = built(torch.tensor([[3, 4, 5]]), use_cache=True).past_key_values
    assert sum(layer.keys.numel() + layer.values.numel() for layer in cache.layers) == 3 * model.cache


def test_the_bytes_of_a_step_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """One layer of width 4, two heads in one group: 4·4·2 + 2·4·2 + 3·4·8 = 144 weights; a head of 10·4; 2·2 cached."""
    monkeypatch.setitem(MODELS, "hand", Model(4, 1, 2, 1, 8, 10))
    bench = Bench("hand", CPU, None)
    assert (bench.model.body, bench.model.head, bench.model.cache) == (144, 40, 4)
    row = decoded(bench, Batch(2, 3, 100, 11), seconds=7.0, reading=2.0)
    # two prompts of 100 are read once, six answers are 5.5 long on average
    assert row["bytes"] == 2 * 144 + 4 * 40 + 2 * 4 * (2 * 100 + 6 * 5.5)
    assert row["step"] == 0.5
    assert row["bytes_per_s"] == pytest.approx(row["bytes"] / 0.5)
    assert row["tokens_per_s"] == pytest.approx(66 / 7)


def test_all_works_run_on_a_processor(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--model", "tiny", "--device", "cpu", "--here", "--out", str(tmp_path)]) == 0
    rows = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))["rows"]
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == rows
    assert {row["work"] for row in rows} == set(WORKS)
    by = {(row["work"], row.get("batch")): row for row in rows}
    assert len(by) == len(rows)
    for row in rows:
        if row["work"] == "ppo":
            assert 0 <= row["sampler_kl"] < 1e-3
            assert row["sampling"] + row["learning"] == pytest.approx(row["seconds"], rel=0.2)
        elif row["work"] != "ceilings":
            assert row["tokens_per_s"] > 0
