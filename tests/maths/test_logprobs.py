"""Token log-probabilities: the definition, exact gradients, and a peak that never holds [M, V]."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from keel.maths.logprobs import rows_at_once, token_logprobs, token_logprobs_and_entropy

M, D, V = 23, 5, 11


def problem(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """hidden [M, D], weight [V, D], bias [V], labels [M], upstream gradient [M]."""
    torch.manual_seed(0)
    hidden = torch.randn(M, D, dtype=dtype, requires_grad=True)
    weight = torch.randn(V, D, dtype=dtype, requires_grad=True)
    bias = torch.randn(V, dtype=dtype, requires_grad=True)
    return hidden, weight, bias, torch.randint(V, (M,)), torch.randn(M, dtype=dtype)


def dense(hidden: np.ndarray, weight: np.ndarray, bias: np.ndarray, temperature: float) -> np.ndarray:
    """The whole [M, V] of probabilities, in numpy."""
    weights = np.exp((hidden @ weight.T + bias) / temperature)
    return weights / weights.sum(1, keepdims=True)


def test_by_hand() -> None:
    # Odds 1 : 2 : 5 at τ = 1, and 1 : 4 : 25 at τ = ½.
    logits = torch.tensor([[0.0, math.log(2), math.log(5)]]).expand(3, 3)
    plain = token_logprobs_and_entropy(logits, lambda z: z, torch.tensor([0, 1, 2]))
    torch.testing.assert_close(plain.logprobs.exp(), torch.tensor([1 / 8, 2 / 8, 5 / 8]))
    entropy = -(1 / 8 * math.log(1 / 8) + 2 / 8 * math.log(2 / 8) + 5 / 8 * math.log(5 / 8))
    torch.testing.assert_close(plain.entropy, torch.full((3,), entropy))
    cool = token_logprobs_and_entropy(logits, lambda z: z, torch.tensor([0, 1, 2]), temperature=0.5)
    torch.testing.assert_close(cool.logprobs.exp(), torch.tensor([1 / 30, 4 / 30, 25 / 30]))


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("chunk", [1, 7, 22, 23, 1000])
def test_any_chunk_gives_the_dense_values_and_gradients(chunk: int, temperature: float) -> None:
    hidden, weight, bias, labels, upstream = problem()
    out = token_logprobs_and_entropy(hidden, lambda h: h @ weight.T + bias, labels, temperature, chunk)
    (out.logprobs * upstream).sum().backward()

    h, w, y, g = hidden.detach().numpy(), weight.detach().numpy(), labels.numpy(), upstream.numpy()
    probability = dense(h, w, bias.detach().numpy(), temperature)
    np.testing.assert_allclose(out.logprobs.detach(), np.log(probability[np.arange(M), y]), atol=1e-12)
    np.testing.assert_allclose(out.entropy, -(probability * np.log(probability)).sum(1), atol=1e-12)
    onehot = np.eye(V)[y]
    slope = g[:, None] * (onehot - probability) / temperature  # d loss / d logits
    np.testing.assert_allclose(hidden.grad, slope @ w, atol=1e-12)
    np.testing.assert_allclose(weight.grad, slope.T @ h, atol=1e-12)
    np.testing.assert_allclose(bias.grad, slope.sum(0), atol=1e-12)


@pytest.mark.parametrize("temperature", [0.3, 1.0])
@pytest.mark.parametrize("chunk", [1, 7, 23])
def test_without_the_entropy_the_same_numbers_and_gradients(chunk: int, temperature: float) -> None:
    hidden, weight, bias, labels, upstream = problem()
    rows: list[int] = []

    def head(h: Tensor) -> Tensor:
        rows.append(len(h))
        return h @ weight.T + bias

    alone = token_logprobs(hidden, head, labels, temperature, chunk)
    read = len(rows)
    ours = torch.autograd.grad((alone * upstream).sum(), (hidden, weight, bias))
    assert sum(rows[:read]) == sum(rows[read:]) == M  # and computed once more, chunk by chunk
    assert max(rows) <= chunk
    both = token_logprobs_and_entropy(hidden, head, labels, temperature, chunk)
    theirs = torch.autograd.grad((both.logprobs * upstream).sum(), (hidden, weight, bias))
    for mine, other in zip((alone, *ours), (both.logprobs, *theirs), strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-14)


def test_gradients_by_finite_differences() -> None:
    torch.manual_seed(1)
    hidden, weight, bias = (
        torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in [(5, 2), (4, 2), (4,)]
    )

    def logprobs(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        labels = torch.tensor([0, 3, 1, 1, 2])
        return token_logprobs_and_entropy(hidden, lambda h: torch.tanh(h @ weight.T + bias), labels, 0.7, 2).logprobs

    assert torch.autograd.gradcheck(logprobs, (hidden, weight, bias))


def test_entropy_carries_no_gradient() -> None:
    hidden, weight, bias, labels, _ = problem()
    out = token_logprobs_and_entropy(hidden, lambda h: h @ weight.T + bias, labels)
    assert out.logprobs.requires_grad
    assert not out.entropy.requires_grad


def test_head_sees_at_most_one_chunk_forward_and_backward() -> None:
    hidden, weight, bias, labels, _ = problem()
    rows: list[int] = []

    def head(h: Tensor) -> Tensor:
        rows.append(len(h))
        return h @ weight.T + bias

    out = token_logprobs_and_entropy(hidden, head, labels, chunk=10)
    assert rows == [10, 10, 3]
    out.logprobs.sum().backward()
    assert sorted(rows[3:]) == [3, 10, 10]  # computed once more, chunk by chunk


def test_without_gradient_each_row_is_read_once() -> None:
    hidden, weight, bias, labels, _ = problem()
    rows: list[int] = []

    def head(h: Tensor) -> Tensor:
        rows.append(len(h))
        return h @ weight.T + bias

    with torch.no_grad():
        out = token_logprobs_and_entropy(hidden, head, labels, chunk=10)
    assert rows == [10, 10, 3]
    assert not out.logprobs.requires_grad
    torch.testing.assert_close(out.logprobs, token_logprobs_and_entropy(hidden, head, labels).logprobs.detach())


class PeakBytes(TorchDispatchMode):
    """The largest sum of storages alive at one time, forward and backward, as every operation is seen."""

    def __init__(self) -> None:
        super().__init__()
        self.live = WeakIdKeyDictionary()
        self.peak = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                storage = leaf.untyped_storage()
                self.live[storage] = storage.nbytes()
        self.peak = max(self.peak, sum(self.live.values()))
        return out


@pytest.mark.parametrize("grad", [True, False])
def test_peak_grows_with_the_chunk_and_not_with_the_batch(grad: bool) -> None:
    m, d, v = 128, 4, 509
    whole = m * v * 4

    def peak(chunk: int) -> float:
        hidden, weight = torch.randn(m, d, requires_grad=grad), torch.randn(v, d, requires_grad=grad)
        labels = torch.randint(v, (m,))
        with PeakBytes() as bytes_alive:
            out = token_logprobs_and_entropy(hidden, lambda h: h @ weight.T, labels, 0.7, chunk)
            if grad:
                out.logprobs.sum().backward()
        return bytes_alive.peak / whole

    assert peak(m) > 1.5  # the meter sees [M, V] where it is held
    assert peak(8) < 6 * 8 / m


def test_half_precision_logits_are_widened_before_the_softmax() -> None:
    hidden, weight, _, labels, _ = problem(torch.bfloat16)
    out = token_logprobs_and_entropy(hidden, lambda h: h @ weight.T, labels, temperature=0.7)
    assert out.logprobs.dtype == out.entropy.dtype == torch.float32
    logits = (hidden @ weight.T).detach().double().numpy() / 0.7
    expected = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    np.testing.assert_allclose(out.logprobs.detach(), expected[np.arange(M), labels.numpy()], atol=2e-6)
    np.testing.assert_allclose(out.entropy, -(np.exp(expected) * expected).sum(1), atol=2e-6)


def test_forbidden_and_enormous_logits_stay_finite() -> None:
    logits = torch.tensor([[0.0, 0.0, -torch.inf], [1e4, 0.0, -1e4]])
    out = token_logprobs_and_entropy(logits, lambda z: z, torch.tensor([0, 1]))
    torch.testing.assert_close(out.logprobs, torch.tensor([-math.log(2), -1e4]))
    torch.testing.assert_close(out.entropy, torch.tensor([math.log(2), 0.0]))


def test_no_tokens_at_all() -> None:
    out = token_logprobs_and_entropy(
        torch.zeros(0, 2), lambda h: h @ torch.zeros(2, 3), torch.zeros(0, dtype=torch.long)
    )
    assert out.logprobs.shape == out.entropy.shape == (0,)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan])
def test_temperature_must_be_positive(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature must be above 0"):
        token_logprobs_and_entropy(torch.zeros(1, 2), lambda h: h, torch.tensor([0]), temperature)


@pytest.mark.parametrize(("vocabulary", "rows"), [(50, 1024), (2**15, 1024), (2**17, 256), (150_000, 223), (2**26, 1)])
def test_a_chunk_has_fewer_rows_where_the_vocabulary_is_large(vocabulary: int, rows: int) -> None:
    assert rows_at_once(vocabulary) == rows


def test_chunk_must_hold_a_row() -> None:
    with pytest.raises(ValueError, match="chunk must be at least 1"):
        token_logprobs_and_entropy(torch.zeros(1, 2), lambda h: h, torch.tensor([0]), chunk=0)
