"""Token log-probabilities: the definition, exact gradients, and a peak that never holds [M, V]."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from keel.maths.logprobs import Hold, LinearHead, token_logprobs, token_logprobs_and_entropy
from keel.planning.live import Live

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
    out = token_logprobs_and_entropy(hidden, lambda h: h @ weight.T + bias, labels, temperature, Hold(chunk))
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

    alone = token_logprobs(hidden, head, labels, temperature, Hold(chunk))
    read = len(rows)
    ours = torch.autograd.grad((alone * upstream).sum(), (hidden, weight, bias))
    assert sum(rows[:read]) == sum(rows[read:]) == M  # and computed once more, chunk by chunk
    assert max(rows) <= chunk
    both = token_logprobs_and_entropy(hidden, head, labels, temperature, Hold(chunk))
    theirs = torch.autograd.grad((both.logprobs * upstream).sum(), (hidden, weight, bias))
    for mine, other in zip((alone, *ours), (both.logprobs, *theirs), strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-14)


@pytest.mark.parametrize("hold", [Hold(7), Hold(7, M)], ids=["made again", "kept"])
@pytest.mark.parametrize("frozen", [None, "hidden", "weight"])
def test_a_linear_head_is_read_as_any_other(frozen: str | None, hold: Hold) -> None:
    hidden, weight, _, labels, upstream = problem()
    if frozen:
        {"hidden": hidden, "weight": weight}[frozen].requires_grad_(False)
    given = [one for one in (hidden, weight) if one.requires_grad]
    made: list[Tensor] = []

    def product(h: Tensor, w: Tensor) -> Tensor:
        made.append(h @ w.T)
        return made[-1]

    found = []
    for head in (LinearHead(weight, torch.float64, product), lambda h: h @ weight.T):
        out = token_logprobs_and_entropy(hidden, head, labels, 0.7, hold)
        assert not out.entropy.requires_grad
        alone = token_logprobs(hidden, head, labels, 0.7, hold)
        assert torch.equal(alone, out.logprobs)
        found.append([*out, *torch.autograd.grad((out.logprobs * upstream).sum(), given)])
    assert made
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-13)


def test_products_of_a_linear_heads_gradient_have_its_format() -> None:
    hidden, weight, _, labels, upstream = problem(torch.float32)
    found = []
    for head in (LinearHead(weight, torch.bfloat16), LinearHead(weight, torch.float32)):
        out = token_logprobs(hidden, head, labels, 0.7, Hold(M, M, torch.bfloat16))
        found.append([out, *torch.autograd.grad((out * upstream).sum(), (hidden, weight))])
    (ours, *rounded), (theirs, *exact) = found
    assert torch.equal(ours, theirs)
    for mine, other in zip(rounded, exact, strict=True):
        assert mine.dtype == torch.float32
        assert 1e-4 * other.norm() < (mine - other).norm() < 2**-7 * other.norm()


def test_gradients_by_finite_differences() -> None:
    torch.manual_seed(1)
    hidden, weight, bias = (
        torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in [(5, 2), (4, 2), (4,)]
    )

    def logprobs(hidden: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        labels = torch.tensor([0, 3, 1, 1, 2])
        return token_logprobs_and_entropy(
            hidden, lambda h: torch.tanh(h @ weight.T + bias), labels, 0.7, Hold(2)
        ).logprobs

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

    out = token_logprobs_and_entropy(hidden, head, labels, hold=Hold(10))
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
        out = token_logprobs_and_entropy(hidden, head, labels, hold=Hold(10))
    assert rows == [10, 10, 3]
    assert not out.logprobs.requires_grad
    torch.testing.assert_close(out.logprobs, token_logprobs_and_entropy(hidden, head, labels).logprobs.detach())


@pytest.mark.parametrize("grad", [True, False])
def test_peak_grows_with_the_chunk_and_not_with_the_batch(grad: bool) -> None:
    m, d, v = 128, 4, 509
    whole = m * v * 4

    def peak(chunk: int) -> float:
        hidden, weight = torch.randn(m, d, requires_grad=grad), torch.randn(v, d, requires_grad=grad)
        labels = torch.randint(v, (m,))
        with Live() as bytes_alive:
            out = token_logprobs_and_entropy(hidden, lambda h: h @ weight.T, labels, 0.7, Hold(chunk))
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
    assert Hold.of(vocabulary, torch.bfloat16, torch.device("cpu")).rows == rows


@pytest.mark.parametrize(("vocabulary", "kept"), [(4096, 4096), (2**17, 128), (2**25, 0)])
def test_what_is_kept_is_bounded(vocabulary: int, kept: int) -> None:
    rows = Hold.of(vocabulary, torch.float32, torch.device("cpu")).rows
    assert Hold.of(vocabulary, torch.bfloat16, torch.device("cpu")) == Hold(rows, kept, torch.bfloat16)


@pytest.mark.parametrize(("vocabulary", "rows", "kept"), [(4096, 8192, 65536), (2**17, 2048, 2048), (2**29, 1, 0)])
def test_a_gpu_holds_more(vocabulary: int, rows: int, kept: int) -> None:
    assert Hold.of(vocabulary, torch.bfloat16, torch.device("cuda")) == Hold(rows, kept, torch.bfloat16)


@pytest.mark.parametrize("kept", [0, M - 1, M, M + 1])
def test_a_call_of_few_rows_keeps_its_softmax_and_gives_the_same(kept: int) -> None:
    hidden, weight, bias, labels, upstream = problem()
    rows: list[int] = []

    def head(h: Tensor) -> Tensor:
        rows.append(len(h))
        return h @ weight.T + bias

    found = []
    for hold in (Hold(7), Hold(7, kept)):
        rows.clear()
        out = token_logprobs(hidden, head, labels, 0.7, hold)
        found.append([out, *torch.autograd.grad((out * upstream).sum(), (hidden, weight, bias))])
    assert sum(rows) == (M if kept >= M else 2 * M)
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-14)


def test_what_is_kept_is_as_narrow_as_asked_and_never_feeds_a_log_prob() -> None:
    hidden, weight, bias, labels, upstream = problem(torch.float32)
    kept: list[Tensor] = []
    hold = Hold(M, M, torch.bfloat16)
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        out = token_logprobs(hidden, lambda h: h @ weight.T + bias, labels, 0.7, hold)
    assert [x.dtype for x in kept if x.shape == (M, V)] == [torch.bfloat16]
    assert out.dtype == torch.float32
    assert torch.equal(out, token_logprobs(hidden, lambda h: h @ weight.T + bias, labels, 0.7, Hold(M)))
    (ours,) = torch.autograd.grad((out * upstream).sum(), hidden)
    (exact,) = torch.autograd.grad(
        (token_logprobs(hidden, lambda h: h @ weight.T + bias, labels, 0.7) * upstream).sum(), hidden
    )
    assert ours.dtype == torch.float32
    assert 0 < (ours - exact).norm() < 2**-8 * exact.norm()


def test_the_slope_of_a_label_that_is_nearly_certain_survives_rounding() -> None:
    # odds of 1 : 2¹⁴: π − 1 = −1/(1 + 2¹⁴), while bfloat16 has nothing between 1 − 2⁻⁸ and 1
    logits = torch.tensor([[math.log(2**14), 0.0]], requires_grad=True)
    token_logprobs(logits, lambda z: z, torch.tensor([0]), hold=Hold(1, 1, torch.bfloat16)).sum().backward()
    share = 1 / (1 + 2**14)
    torch.testing.assert_close(logits.grad, torch.tensor([[share, -share]]), rtol=2**-8, atol=0)


def test_chunk_must_hold_a_row() -> None:
    with pytest.raises(ValueError, match=r"hold\.rows must be at least 1"):
        token_logprobs_and_entropy(torch.zeros(1, 2), lambda h: h, torch.tensor([0]), hold=Hold(0))
