"""One token from a distribution: the random numbers, the filters, and what they make of the softmax."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import MinPLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from keel.rollout.generator import Sampling
from keel.rollout.sampling import allowed, draw, next_tokens, splitmix64, uniforms

ONE = Sampling(max_tokens=1)


def chi_square_p(counts: np.ndarray, expected: np.ndarray) -> float:
    """P(χ² ≥ observed), with bins of fewer than 8 expected draws merged into one."""
    rare = expected < 8
    bins = np.append(counts[~rare], counts[rare].sum()), np.append(expected[~rare], expected[rare].sum())
    used = bins[1] > 0
    statistic = ((bins[0][used] - bins[1][used]) ** 2 / bins[1][used]).sum()
    half = torch.tensor((used.sum() - 1) / 2, dtype=torch.float64)
    return float(torch.special.gammaincc(half, torch.tensor(statistic / 2, dtype=torch.float64)))


def test_splitmix64_gives_the_published_sequence_of_seed_1234567() -> None:
    states = np.uint64(1234567) + np.arange(1, 6, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    assert splitmix64(states).tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def test_a_number_depends_on_its_seed_and_step_alone() -> None:
    together = uniforms([3, 10**30, -1, 3], 7)
    assert np.array_equal(together[0], together[3])
    assert np.array_equal(together[1], uniforms([10**30 % 2**64], 7)[0])
    assert np.array_equal(together[2], uniforms([2**64 - 1], 7)[0])
    assert np.array_equal(together[:, :4], uniforms([3, 10**30, -1, 3], 4))


def test_a_stream_is_splitmix64_started_at_the_mixed_seed() -> None:
    def mix(state: int) -> int:
        state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        state = (state ^ (state >> 27)) * 0x94D049BB133111EB % 2**64
        return state ^ (state >> 31)

    golden = 0x9E3779B97F4A7C15
    expected = [[(mix((mix(seed) + s * golden) % 2**64) >> 11) / 2**53 for s in (1, 2, 3)] for seed in (42, golden)]
    assert uniforms([42, golden], 3).tolist() == expected


def test_numbers_are_uniform_and_neighbouring_seeds_and_steps_are_unrelated() -> None:
    u = uniforms(list(range(400)), 400)
    assert u.min() >= 0
    assert u.max() < 1
    counts = np.histogram(u, bins=64, range=(0, 1))[0]
    assert chi_square_p(counts, np.full(64, u.size / 64)) > 0.001
    pairs = [(u[:-1], u[1:]), (u[:, :-1], u[:, 1:]), (u[:-1, 1:], u[1:, :-1])]
    for one, other in pairs:  # under independence √n·correlation is standard normal
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) * one.size**0.5 < 4


def test_the_filters_by_hand() -> None:
    p = torch.tensor([[0.1, 0.4, 0.05, 0.3, 0.15]])

    def kept(sampling: Sampling) -> list[int]:
        return allowed(p, sampling)[0].nonzero().squeeze(-1).tolist()

    assert kept(ONE) == [0, 1, 2, 3, 4]
    assert kept(Sampling(1, top_k=2)) == [1, 3]
    assert kept(Sampling(1, top_p=0.6)) == [1, 3]
    assert kept(Sampling(1, top_p=0.71)) == [1, 3, 4]
    assert kept(Sampling(1, top_p=1e-9)) == [1]
    assert kept(Sampling(1, min_p=0.3)) == [1, 3, 4]
    assert kept(Sampling(1, min_p=1.0)) == [1]
    # .4/.85 = .47 and .7/.85 = .82: among the three most likely, two reach .8 and would not among all five.
    assert kept(Sampling(1, top_p=0.8)) == [1, 3, 4]
    assert kept(Sampling(1, top_p=0.8, top_k=3)) == [1, 3]


def test_a_prefix_that_reaches_top_p_exactly_is_enough() -> None:
    assert allowed(torch.tensor([[0.5, 0.25, 0.25]]), Sampling(1, top_p=0.5))[0].tolist() == [True, False, False]
    assert allowed(torch.tensor([[0.5, 0.25, 0.25]]), Sampling(1, min_p=0.5))[0].tolist() == [True, True, True]


def test_equal_probabilities_rank_by_token_id() -> None:
    assert allowed(torch.full((1, 6), 1 / 6), Sampling(1, top_k=2))[0].tolist() == [True, True] + [False] * 4


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(1, top_k=5),
        Sampling(1, top_p=0.7),
        Sampling(1, min_p=0.05),
        Sampling(1, top_k=9, top_p=0.8, min_p=0.1),
        Sampling(1, top_k=1000, top_p=0.999, min_p=1e-6),
    ],
)
def test_the_filters_agree_with_the_library(sampling: Sampling) -> None:
    logits = torch.randn(50, 40, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 2
    theirs = logits
    for warper in (
        TopKLogitsWarper(sampling.top_k) if sampling.top_k else None,
        TopPLogitsWarper(sampling.top_p) if sampling.top_p < 1 else None,
        MinPLogitsWarper(sampling.min_p) if sampling.min_p else None,
    ):
        theirs = warper(torch.zeros(1), theirs) if warper is not None else theirs
    assert torch.equal(allowed(logits.softmax(-1), sampling), theirs.isfinite())


def test_drawing_partitions_the_unit_interval_in_proportion() -> None:
    p = torch.tensor([0.0, 0.25, 0.0, 0.5, 0.25, 0.0])
    edges = torch.tensor([0.0, 0.2499999, 0.25, 0.7499999, 0.75, 1 - 2**-53], dtype=torch.float64)
    assert draw(p.expand(6, -1), None, edges).tolist() == [1, 1, 3, 3, 4, 4]
    keep = torch.tensor([True, False, True, True, True, True])
    # What is left is renormalised: 2/3 and 1/3.
    thirds = torch.tensor([0.0, 0.6666, 0.6667], dtype=torch.float64)
    assert draw(p.expand(3, -1), keep.expand(3, -1), thirds).tolist() == [3, 3, 4]


@pytest.mark.parametrize("filtered", [False, True])
@pytest.mark.parametrize("numbers", [1, 500, 501, 5000])
def test_drawing_a_few_rows_at_once_changes_nothing(
    filtered: bool, numbers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    draws = torch.Generator().manual_seed(0)
    probabilities = torch.randn(7, 250, generator=draws).softmax(-1)
    keep = torch.rand(7, 250, generator=draws) < 0.5 if filtered else None
    uniform = torch.rand(7, generator=draws)
    whole = draw(probabilities, keep, uniform)
    monkeypatch.setattr("keel.rollout.sampling._NUMBERS", numbers)
    assert torch.equal(draw(probabilities, keep, uniform), whole)


def test_the_ends_of_the_interval_never_reach_a_token_without_probability() -> None:
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(200, 1000, generator=generator) * 6
    logits[:, :5] = -torch.inf
    logits[:, -5:] = -torch.inf
    probabilities = logits.softmax(-1)
    keep = allowed(probabilities, Sampling(1, top_p=0.9))
    for u in (0.0, 1 - 2**-53, 1.0):  # 1.0 is what a caller's rounding may make of the second
        tokens = draw(probabilities, keep, torch.full((200,), u, dtype=torch.float64))
        assert keep.gather(-1, tokens[:, None]).all()
        assert (probabilities.gather(-1, tokens[:, None]) > 0).all()
        # The first and the last kept token with a weight, in order of id.
        ids = torch.arange(1000).expand_as(keep)
        weighty = keep & (probabilities.double() >= 2**-52)
        edge = ids.where(weighty, 1000).min(-1) if u == 0 else ids.where(weighty, -1).max(-1)
        assert torch.equal(tokens, edge.values)


@pytest.mark.parametrize(
    "sampling",
    [
        ONE,
        Sampling(1, temperature=0.6),
        Sampling(1, temperature=1.7),
        Sampling(1, top_k=6),
        Sampling(1, top_p=0.75),
        Sampling(1, min_p=0.08),
        Sampling(1, temperature=0.8, top_k=12, top_p=0.9, min_p=0.02),
    ],
)
def test_frequencies_are_those_of_the_exact_distribution(sampling: Sampling) -> None:
    draws = 40_000
    logits = torch.randn(30, generator=torch.Generator().manual_seed(3)) * 1.5
    exact = (logits.double() / sampling.temperature).softmax(-1)
    ranked, order = exact.sort(descending=True)
    # Written out once more, token by token: each filter on what the one before has left.
    kept = list(zip(order.tolist(), ranked.tolist(), strict=True))[: sampling.top_k or None]
    total, nucleus, running = sum(p for _, p in kept), [], 0.0
    for token, p in kept:
        if running < sampling.top_p * total:
            nucleus.append((token, p))
        running += p
    kept = [(token, p) for token, p in nucleus if p >= sampling.min_p * ranked[0].item()]
    expected = np.zeros(30)
    for token, p in kept:
        expected[token] = draws * p / sum(p for _, p in kept)

    u = torch.from_numpy(uniforms(list(range(draws)), 1)[:, 0])
    drawn = next_tokens(logits.expand(draws, -1), sampling, u)
    counts = np.bincount(drawn.tokens.numpy(), minlength=30)
    assert counts[expected == 0].sum() == 0
    assert chi_square_p(counts, expected) > 0.001


def test_chi_square_rejects_a_slightly_wrong_sampler() -> None:
    expected = np.full(10, 4000.0)
    assert chi_square_p(np.array([4250, 3750] + [4000] * 8), expected) < 0.001
    assert chi_square_p(np.array([4040, 3960] + [4000] * 8), expected) > 0.5


def test_log_probs_are_those_of_the_whole_vocabulary_at_the_temperature() -> None:
    logits = torch.randn(20, 50, generator=torch.Generator().manual_seed(4)).to(torch.bfloat16)
    u = torch.from_numpy(uniforms(list(range(20)), 1)[:, 0])
    drawn = next_tokens(logits, Sampling(1, temperature=0.7, top_k=3, top_p=0.9), u)
    scaled = logits.double() / 0.7
    exact = scaled.gather(-1, drawn.tokens[:, None]).squeeze(-1) - scaled.logsumexp(-1)
    assert drawn.logprobs.dtype == torch.float32
    assert (drawn.logprobs - exact).abs().max() < 1e-6


def test_greedy_is_the_limit_of_a_falling_temperature() -> None:
    logits = torch.randn(300, 50, generator=torch.Generator().manual_seed(5))
    u = torch.from_numpy(uniforms(list(range(300)), 1)[:, 0])
    greedy = next_tokens(logits, Sampling(1, temperature=0.0), u)
    cold = next_tokens(logits, Sampling(1, temperature=1e-5), u)
    warm = next_tokens(logits, Sampling(1, temperature=1.0), u)
    assert torch.equal(greedy.tokens, cold.tokens)
    assert not torch.equal(greedy.tokens, warm.tokens)
    exact = logits.double().log_softmax(-1).max(-1).values
    assert (greedy.logprobs - exact).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"temperature": -0.1}, "temperature is -0.1"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"top_p": 0.0}, "top_p is 0.0"),
        ({"top_p": 1.1}, "top_p is 1.1"),
        ({"top_k": -1}, "top_k is -1"),
        ({"min_p": 1.5}, "min_p is 1.5"),
        ({"stop": ("a", "")}, "stop string is empty"),
    ],
)
def test_settings_outside_their_range_are_refused(values: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Sampling(**{"max_tokens": 4, **values})
