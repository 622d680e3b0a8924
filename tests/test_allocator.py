"""The allocator's settings are taken on glibc, as often as one likes, and left alone elsewhere."""

from __future__ import annotations

import ctypes
import platform

import pytest
import torch

from keel.allocator import keep_freed_memory


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this system's C library is not glibc")
def test_glibc_takes_all_three_settings_as_often_as_they_are_made() -> None:
    assert keep_freed_memory()
    assert keep_freed_memory()
    numbers = torch.randn(1 << 20)  # large blocks come and go as before
    total = numbers.sum()
    del numbers
    assert torch.isfinite(total)
    assert torch.ones(1 << 21).sum() == 1 << 21


@pytest.mark.parametrize("library", [("", ""), ("musl", "1.2.4")])
def test_elsewhere_nothing_is_touched(library: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str | None) -> None:
        raise AssertionError("the C library was opened")

    monkeypatch.setattr(platform, "libc_ver", lambda: library)
    monkeypatch.setattr(ctypes, "CDLL", refuse)
    assert keep_freed_memory() is False


def test_a_setting_that_is_refused_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int]] = []

    class Library:
        @staticmethod
        def mallopt(name: int, value: int) -> int:
            asked.append((name, value))
            return 0 if name == -1 else 1

    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.36"))
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Library)
    assert keep_freed_memory() is False
    # malloc.h: M_MMAP_MAX −4, M_TRIM_THRESHOLD −1; an int holds 2³¹ − 1
    assert asked[:2] == [(-4, 0), (-1, 2**31 - 1)]
