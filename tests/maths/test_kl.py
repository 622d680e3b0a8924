"""KL estimators, checked by enumerating every token: no sampling noise anywhere."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from keel.maths.kl import k1, k2, k3

Estimator = Callable[[Tensor, Tensor], Tensor]

Q = torch.tensor([0.4, 0.3, 0.15, 0.1, 0.05], dtype=torch.float64)  # the policy
P = torch.tensor([0.25, 0.25, 0.2, 0.2, 0.1], dtype=torch.float64)  # the reference
KL = 0.0955735

logits = st.lists(st.floats(-4, 4), min_size=5, max_size=5).map(lambda x: torch.tensor(x, dtype=torch.float64))


def mean_and_sd(estimator: Estimator, q: Tensor, p: Tensor) -> tuple[float, float]:
    value = estimator(q.log(), p.log())
    mean = (q * value).sum()
    return float(mean), float((q * (value - mean).square()).sum().sqrt())


def test_by_hand() -> None:
    # π = ½, π_ref = ¼: u = −ln 2.
    policy, reference = torch.tensor([0.5]).log(), torch.tensor([0.25]).log()
    torch.testing.assert_close(k1(policy, reference), torch.tensor([math.log(2)]))
    torch.testing.assert_close(k2(policy, reference), torch.tensor([math.log(2) ** 2 / 2]))
    torch.testing.assert_close(k3(policy, reference), torch.tensor([math.log(2) - 0.5]))


@pytest.mark.parametrize(("estimator", "mean", "sd"), [(k1, KL, 0.4168), (k2, 0.0914079, 0.0743), (k3, KL, 0.0948)])
def test_mean_and_spread(estimator: Estimator, mean: float, sd: float) -> None:
    found_mean, found_sd = mean_and_sd(estimator, Q, P)
    assert found_mean == pytest.approx(mean, abs=6e-8)
    assert found_sd == pytest.approx(sd, abs=6e-5)


def test_k3_the_wrong_way_round_is_told_apart() -> None:
    """Swapped arguments give .0919265, which looks right to one digit; right must mean right to six."""
    reversed_mean, _ = mean_and_sd(lambda logprobs, reference: k3(reference, logprobs), Q, P)
    assert reversed_mean == pytest.approx(0.0919265, abs=6e-8)
    mean, _ = mean_and_sd(k3, Q, P)
    assert mean == pytest.approx(KL, abs=1e-6)
    assert abs(mean - reversed_mean) > 3e-3


@settings(max_examples=50, deadline=None, derandomize=True)
@given(logits, logits)
def test_k1_and_k3_are_unbiased_for_any_two_policies(policy: Tensor, reference: Tensor) -> None:
    q, p = policy.softmax(0).numpy(), reference.softmax(0).numpy()
    divergence = sum(a * math.log(a / b) for a, b in zip(q, p, strict=True))
    for estimator in (k1, k3):
        mean, _ = mean_and_sd(estimator, torch.tensor(q), torch.tensor(p))
        assert mean == pytest.approx(divergence, abs=1e-10)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(logits, logits)
def test_k2_and_k3_are_never_negative(policy: Tensor, reference: Tensor) -> None:
    logprobs, reference = policy.log_softmax(0), reference.log_softmax(0)
    assert (k2(logprobs, reference) >= 0).all()
    assert (k3(logprobs, reference) >= 0).all()
    for estimator in (k1, k2, k3):
        assert (estimator(logprobs, logprobs) == 0).all()


def on_policy_gradient(estimator: Estimator, theta: Tensor, reference: Tensor) -> Tensor:
    """∇θ of the expected loss, where tokens come from π but the draw itself is not differentiated."""
    logprobs = theta.log_softmax(0)
    loss = (logprobs.detach().exp() * estimator(logprobs, reference)).sum()
    return torch.autograd.grad(loss, theta)[0]


def test_as_a_loss_only_k2_has_the_gradient_of_kl() -> None:
    theta = Q.log().requires_grad_()
    logprobs = theta.log_softmax(0)
    forward = torch.autograd.grad((logprobs.exp() * (logprobs - P.log())).sum(), theta)[0]
    backward = torch.autograd.grad((P * (P.log() - theta.log_softmax(0))).sum(), theta)[0]
    torch.testing.assert_close(on_policy_gradient(k2, theta, P.log()), forward, atol=1e-12, rtol=0)
    torch.testing.assert_close(on_policy_gradient(k1, theta, P.log()), torch.zeros(5).double(), atol=1e-12, rtol=0)
    # k3's is that of the other divergence, KL(π_ref‖π).
    torch.testing.assert_close(on_policy_gradient(k3, theta, P.log()), backward, atol=1e-12, rtol=0)
    assert (forward - backward).abs().max() > 1e-2


def test_weighted_by_the_ratio_k3_has_the_gradient_of_k2_on_every_token() -> None:
    theta = Q.log().requires_grad_()
    for token in range(5):
        logprobs = theta.log_softmax(0)[token : token + 1]
        reference = P.log()[token : token + 1]
        weighted = (logprobs - logprobs.detach()).exp() * k3(logprobs, reference)
        expected = torch.autograd.grad(k2(logprobs, reference).sum(), theta, retain_graph=True)[0]
        torch.testing.assert_close(torch.autograd.grad(weighted.sum(), theta)[0], expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("estimator", [k1, k2, k3])
def test_gradients_by_finite_differences(estimator: Estimator) -> None:
    logprobs, reference = Q.log().requires_grad_(), P.log().requires_grad_()
    assert torch.autograd.gradcheck(estimator, (logprobs, reference))


def test_k3_keeps_its_digits_while_the_policies_are_close() -> None:
    u = np.float32(1e-4)  # in float32, exp(u) − 1 − u has no correct digit here
    value = k3(torch.zeros(1), torch.tensor([u]))
    assert float(value) == pytest.approx(float(u) ** 2 / 2, rel=2e-3)


def test_any_shape() -> None:
    for estimator in (k1, k2, k3):
        assert estimator(torch.zeros(2, 3), torch.ones(2, 3)).shape == (2, 3)
