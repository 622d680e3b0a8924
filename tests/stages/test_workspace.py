"""Device and number format of a run."""

from __future__ import annotations

import pytest
import torch

from keel.stages.workspace import dtype_of

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("able", "expected"),
    [
        ({"avx512_bf16": True, "avx512_f": True}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
        ({"bf16": True, "neon": True}, torch.bfloat16),
        ({"avx512_bf16": False, "avx512_f": True}, torch.float32),
        ({"avx2": True}, torch.float32),
    ],
)
def test_a_processor_that_multiplies_bfloat16_does_so(
    able: dict[str, bool], expected: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    assert dtype_of("auto", CPU) == expected
    assert dtype_of("float32", CPU) == torch.float32
    assert dtype_of("bfloat16", CPU) == torch.bfloat16


@pytest.mark.parametrize("able", [True, False])
def test_a_gpu_that_only_emulates_bfloat16_does_not(able: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: not including_emulation and able)
    assert dtype_of("auto", GPU) == (torch.bfloat16 if able else torch.float32)


def test_another_device_stays_in_fp32() -> None:
    assert dtype_of("auto", torch.device("mps")) == torch.float32


def test_a_torch_that_cannot_tell_stays_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert dtype_of("auto", CPU) == torch.float32
