"""Losses straight from preferences: golden numbers, hand arithmetic, identities, and finite differences."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from keel.maths.losses import bradley_terry
from keel.maths.preferences import dpo, ipo, kto, kto_baseline, odds_ratio, robust_dpo, simpo, smoothed

LN2 = 0.693147
numbers = st.floats(-5, 5)


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def surprise(x: float) -> float:
    """−log σ(x)."""
    return math.log1p(math.exp(-x))


def slope(loss: Tensor, at: Tensor) -> Tensor:
    return torch.autograd.grad(loss.sum(), at)[0]


ZERO, ONE, HALF = column(0.0), column(1.0), column(0.5)


def test_at_the_reference_every_loss_is_its_golden_number() -> None:
    assert dpo(ZERO, ZERO, ONE, ZERO, 0.3).item() == pytest.approx(LN2, abs=1e-6)
    assert dpo(ZERO, ZERO, smoothed(ONE, 0.1), ZERO, 0.3).item() == pytest.approx(LN2, abs=1e-6)
    assert robust_dpo(ZERO, ZERO, ONE, 0.3, 0.1).item() == pytest.approx(LN2, abs=1e-6)
    assert ipo(ZERO, ZERO, ONE, 0.2).item() == pytest.approx(1 / (4 * 0.2**2))
    for desirable in (True, False):
        assert kto(ZERO, torch.tensor([desirable]), 0.0, 0.1, 1.5, 1.5).item() == pytest.approx(1.5 / 2)


def test_dpo_by_hand() -> None:
    """h = (−1) − (−3) = 2 and β = .5, so −log σ(1); a margin of .25 leaves .75; p = .7 is the mean over labels."""
    assert dpo(column(-1), column(-3), ONE, ZERO, 0.5).item() == pytest.approx(surprise(1.0))
    assert dpo(column(-1), column(-3), ONE, column(0.25), 0.5).item() == pytest.approx(surprise(0.75))
    mixed = 0.7 * surprise(1.0) + 0.3 * surprise(-1.0)
    assert dpo(column(-1), column(-3), column(0.7), ZERO, 0.5).item() == pytest.approx(mixed)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(numbers, numbers, st.floats(0, 1), st.floats(0.01, 3), st.floats(-20, 20))
def test_what_depends_on_the_prompt_alone_changes_nothing(w: float, x: float, p: float, beta: float, c: float) -> None:
    for loss in (
        lambda a, b: dpo(a, b, column(p), ZERO, beta),
        lambda a, b: robust_dpo(a, b, column(p), beta, 0.2),
        lambda a, b: ipo(a, b, column(p), beta),
        lambda a, b: simpo(a, b, column(p), beta, 0.5),
    ):
        torch.testing.assert_close(loss(column(w + c), column(x + c)), loss(column(w), column(x)), atol=1e-8, rtol=1e-8)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(numbers, numbers, st.floats(0, 1))
def test_the_names_of_the_two_answers_do_not_matter(w: float, x: float, p: float) -> None:
    for loss in (
        lambda a, b, q: dpo(a, b, q, ZERO, 0.3),
        lambda a, b, q: robust_dpo(a, b, q, 0.3, 0.2),
        lambda a, b, q: ipo(a, b, q, 0.3),
        lambda a, b, q: simpo(a, b, q, 2.0, 0.5),
        lambda a, b, q: odds_ratio(-a.abs() - 0.1, -b.abs() - 0.1, q),
    ):
        swapped = loss(column(x), column(w), column(1 - p))
        torch.testing.assert_close(swapped, loss(column(w), column(x), column(p)), atol=1e-9, rtol=1e-9)


def test_dpo_is_bradley_terry_on_the_policys_own_rewards() -> None:
    chosen, rejected, p = column(0.3, -2), column(1.0, -2.5), column(1.0, 0.6)
    margin = column(0.0, 0.4)
    torch.testing.assert_close(
        dpo(chosen, rejected, p, margin, 0.7), bradley_terry(0.7 * chosen, 0.7 * rejected, p, margin)
    )


def test_conservative_dpo_has_no_gradient_where_the_source_says() -> None:
    """h* = logit(1 − ε)/β = 21.972 for ε = β = .1."""
    h = column(21.972245773).requires_grad_()
    loss = dpo(h, ZERO, smoothed(ONE, 0.1), ZERO, 0.1)
    assert abs(slope(loss, h).item()) < 1e-9
    for elsewhere in (20.0, 24.0):
        at = column(elsewhere).requires_grad_()
        assert abs(slope(dpo(at, ZERO, smoothed(ONE, 0.1), ZERO, 0.1), at).item()) > 1e-4


def test_smoothed_labels_by_hand() -> None:
    """A tie stays one, and .3 becomes .3·.9 + .7·.1."""
    torch.testing.assert_close(smoothed(column(1.0, 0.3, 0.5, 0.0), 0.1), column(0.9, 0.34, 0.5, 0.1))


def test_conservative_dpo_is_the_mean_over_its_flips() -> None:
    chosen, rejected = column(0.4), column(-1.1)
    both = 0.9 * dpo(chosen, rejected, ONE, ZERO, 0.5) + 0.1 * dpo(rejected, chosen, ONE, ZERO, 0.5)
    torch.testing.assert_close(dpo(chosen, rejected, smoothed(ONE, 0.1), ZERO, 0.5), both)


@pytest.mark.parametrize("flips", [0.0, 0.1, 0.4])
def test_the_mean_of_robust_dpo_over_flips_is_the_loss_on_clean_labels(flips: float) -> None:
    for w, x in ((0.4, -1.1), (-2.0, 0.5)):
        right = robust_dpo(column(w), column(x), ONE, 0.5, flips)
        wrong = robust_dpo(column(x), column(w), ONE, 0.5, flips)
        clean = dpo(column(w), column(x), ONE, ZERO, 0.5)
        torch.testing.assert_close((1 - flips) * right + flips * wrong, clean)
    torch.testing.assert_close(
        robust_dpo(column(w), column(x), HALF, 0.5, 0.0), dpo(column(w), column(x), HALF, ZERO, 0.5)
    )


def test_robust_dpo_by_hand() -> None:
    """h = 1, ε = .25: [.75·surprise(1) − .25·surprise(−1)]/.5."""
    found = robust_dpo(column(2.0), ZERO, ONE, 0.5, 0.25).item()
    assert found == pytest.approx((0.75 * surprise(1) - 0.25 * surprise(-1)) / 0.5)


def test_ipo_is_drawn_to_a_finite_place() -> None:
    """τ = .25, so h = 2 costs nothing; of a tie h = 0 is best, and the label .75 wants h = 1."""
    assert ipo(column(5.0), column(3.0), ONE, 0.25).item() == 0
    assert ipo(column(5.0), column(4.0), ONE, 0.25).item() == pytest.approx(1.0)
    for p, best in ((0.5, 0.0), (0.75, 1.0), (1.0, 2.0)):
        h = column(best).requires_grad_()
        assert slope(ipo(h, ZERO, column(p), 0.25), h).item() == pytest.approx(0, abs=1e-12)


def test_kto_by_hand() -> None:
    """r = 3, z₀ = 1, β = .5: good 1 − σ(1), bad 1 − σ(−1), times their weights."""
    sigmoid = 1 / (1 + math.exp(-1))
    good = kto(column(3.0), torch.tensor([True]), 1.0, 0.5, 2.0, 9.0).item()
    bad = kto(column(3.0), torch.tensor([False]), 1.0, 0.5, 9.0, 3.0).item()
    assert good == pytest.approx(2 * (1 - sigmoid))
    assert bad == pytest.approx(3 * sigmoid)


def test_ktos_baseline_is_no_less_than_nothing_and_has_no_gradient() -> None:
    mismatched = column(-1.0, 4.0).requires_grad_()
    assert kto_baseline(mismatched) == pytest.approx(1.5)
    assert kto_baseline(column(-1.0, -3.0)) == 0.0
    with pytest.raises(ValueError, match="needs a mismatched answer"):
        kto_baseline(column())


def test_simpo_by_hand() -> None:
    """Mean log-probs −1 and −2, β = 2, γ = .5: −log σ(2 − .5)."""
    assert simpo(column(-1.0), column(-2.0), ONE, 2.0, 0.5).item() == pytest.approx(surprise(1.5))
    # a tie demands the margin of both, and is best where they are alike
    d = column(0.0).requires_grad_()
    assert slope(simpo(d, ZERO, HALF, 2.0, 0.5), d).item() == pytest.approx(0)


def test_the_odds_ratio_by_hand() -> None:
    """P = .5 and .2: odds 1 and ¼, so −log σ(log 4) = log 1.25."""
    found = odds_ratio(column(math.log(0.5)), column(math.log(0.2)), ONE).item()
    assert found == pytest.approx(math.log(1.25))
    assert math.isfinite(odds_ratio(ZERO, column(-1.0), ONE).item())  # P = 1 within rounding
    with pytest.raises(ValueError, match="above 0"):
        odds_ratio(column(0.1), column(-1.0), ONE)


@pytest.mark.parametrize(
    "loss",
    [
        lambda w, x: dpo(w, x, column(1.0, 0.3), column(0.0, 0.2), 0.4),
        lambda w, x: robust_dpo(w, x, column(1.0, 0.3), 0.4, 0.2),
        lambda w, x: ipo(w, x, column(1.0, 0.3), 0.4),
        lambda w, x: kto(torch.cat((w, x)), torch.tensor([True, False, True, False]), 0.3, 0.4, 1.2, 0.8),
        lambda w, x: simpo(w, x, column(1.0, 0.3), 2.0, 0.5),
        lambda w, x: odds_ratio(w, x, column(1.0, 0.3)),
    ],
    ids=["dpo", "robust", "ipo", "kto", "simpo", "odds ratio"],
)
def test_gradients_by_finite_differences(loss: object) -> None:
    assert callable(loss)
    chosen, rejected = column(-0.7, -1.9).requires_grad_(), column(-1.1, -0.4).requires_grad_()
    assert torch.autograd.gradcheck(loss, (chosen, rejected))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: dpo(ZERO, ZERO, ONE, ZERO, 0.0), "must be above 0"),
        (lambda: dpo(ZERO, ZERO, column(1.1), ZERO, 0.1), "outside"),
        (lambda: dpo(ZERO, ZERO, ONE, column(-1.0), 0.1), "below 0"),
        (lambda: robust_dpo(ZERO, ZERO, ONE, 0.1, 0.5), "below a half"),
        (lambda: smoothed(ONE, -0.1), "at least 0"),
        (lambda: ipo(ZERO, ZERO, ONE, -1.0), "must be above 0"),
        (lambda: kto(ZERO, torch.tensor([True]), 0.0, 0.0), "must be above 0"),
        (lambda: kto(ZERO, torch.tensor([True]), 0.0, 0.1, -1.0), "0 or more"),
        (lambda: simpo(ZERO, ZERO, ONE, 2.0, -0.5), "below 0"),
    ],
)
def test_what_has_no_meaning_is_refused(call: object, words: str) -> None:
    assert callable(call)
    with pytest.raises(ValueError, match=words):
        call()


def test_dpo_on_exact_preferences_reaches_the_optimum() -> None:
    """Eight arms, all pairs with their true probabilities σ(r_i − r_j): π* ∝ π_ref·exp(r/β) to 1e-6."""
    beta = 0.5
    reward = column(0, 0.2, 1, -0.5, 0.6, 0.3, 1.2, -1)
    reference = torch.linspace(0, -2, 8, dtype=torch.float64).log_softmax(0)
    one, other = torch.combinations(torch.arange(8)).T
    truth = (reward[one] - reward[other]).sigmoid()
    theta = reference.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [theta], max_iter=500, tolerance_grad=1e-12, tolerance_change=1e-16, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        ratio = theta.log_softmax(0) - reference
        loss = dpo(ratio[one], ratio[other], truth, torch.zeros_like(truth), beta).mean()
        loss.backward()
        return loss

    for _ in range(5):
        optimizer.step(closure)
    best = np.exp(np.linspace(0, -2, 8) + reward.numpy() / beta)
    found = theta.detach().softmax(0).numpy()
    assert np.abs(found - best / best.sum()).sum() / 2 <= 1e-6
