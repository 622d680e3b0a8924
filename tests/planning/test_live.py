"""Bytes that are there at one time: what is made counts until it goes, what was there before never does."""

from __future__ import annotations

import torch

from keel.planning.live import Live

KIB = 256  # numbers in float32


def test_made_and_gone() -> None:
    before = torch.ones(8 * KIB)
    with Live() as live:
        one = before + 1
        assert live.peak == 8 * 1024
        two = one * 2
        assert live.peak == 16 * 1024
        del one
        three = two[: 4 * KIB].clone()
    assert live.peak == 16 * 1024
    assert len(three) == 4 * KIB


def test_views_and_changes_in_place_count_once() -> None:
    before = torch.ones(8 * KIB)
    with Live() as live:
        before.view(2, -1).mul_(2)
        assert live.peak == 0
        made = before + 1
        made.view(2, -1).mul_(2)
    assert live.peak == 8 * 1024


def test_what_a_backward_pass_needs_counts_until_it_has_run() -> None:
    weight = torch.ones(8 * KIB, requires_grad=True)
    weight.grad = torch.zeros(8 * KIB)
    with Live() as live:
        total = (weight.sin() * weight).sum()  # keeps the sine
        held = live.peak
        total.backward()
    # forward: sine and product; backward: gradients of both factors, one of them times the cosine, and their sum
    assert held == 16 * 1024 + 4
    assert 24 * 1024 <= live.peak <= 48 * 1024
    assert weight.grad.abs().sum() > 0
