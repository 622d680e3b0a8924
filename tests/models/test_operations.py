"""The family's operations: gradients by finite differences, and the whole stack against the library's own forward."""

from __future__ import annotations

import random

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor
from torch.nn.functional import linear, silu
from transformers import Qwen2Config

from keel.data.forest import grow
from keel.models import llama
from keel.models.backbone import Backbone
from keel.models.operations import Weight, gated, product, rms_norm, rotate, wide_product

from .small import CONFIGS, SHAPE, build, random_trees

FAMILY = {
    "llama": CONFIGS["llama"],
    "qwen2": Qwen2Config(**SHAPE),  # with biases
    "qwen3": CONFIGS["qwen3"],  # with norms of heads
}


def some(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64).requires_grad_()


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("adapted", [True, False])
def test_products_and_their_gradients(adapted: bool, biased: bool) -> None:
    x, gate, weight, down, up = some(5, 4), some(5, 4), some(3, 4), some(2, 4), some(3, 2)
    bias = some(3) if biased else None

    def layer(*given: Tensor) -> Weight:
        return Weight(given[0], bias, *(given[1:] if adapted else (None, None)), 0.7)

    def plain(x: Tensor) -> Tensor:
        return linear(x, weight + 0.7 * up @ down if adapted else weight, bias)

    torch.testing.assert_close(product(x, layer(weight, down, up)), plain(x))
    torch.testing.assert_close(gated(gate, x, layer(weight, down, up)), plain(silu(gate) * x))
    torch.testing.assert_close(wide_product(x, weight, torch.float64), x @ weight.T)
    assert torch.autograd.gradcheck(lambda x, *given: product(x, layer(*given)), (x, weight, down, up))
    assert torch.autograd.gradcheck(lambda g, x, *given: gated(g, x, layer(*given)), (gate, x, weight, down, up))
    assert torch.autograd.gradcheck(lambda x, weight: wide_product(x, weight, torch.float64), (x, weight))
    if bias is not None:
        assert torch.autograd.gradcheck(lambda b: product(x, Weight(weight, b)), (bias,))
        assert torch.autograd.gradcheck(lambda b: gated(gate, x, Weight(weight, b)), (bias,))


def test_a_frozen_layer_gets_no_gradient() -> None:
    x, weight, down, up = some(5, 4), some(3, 4).detach(), some(2, 4), some(3, 2)
    product(x, Weight(weight, None, down, up, 0.7)).sum().backward()
    assert weight.grad is None
    assert x.grad is not None
    assert down.grad is not None
    assert up.grad is not None


def test_norms_and_rotations_and_their_gradients() -> None:
    x, weight = some(4, 3, 6), some(6)
    expected = weight * x / (x.square().mean(-1, keepdim=True) + 1e-3).sqrt()
    torch.testing.assert_close(rms_norm(x, weight, 1e-3, torch.float64), expected)
    assert torch.autograd.gradcheck(lambda x, weight: rms_norm(x, weight, 1e-3, torch.float64), (x, weight))
    angles = torch.randn(4, 3, dtype=torch.float64)
    cos, sin = (1.3 * torch.cat([part, part], dim=1) for part in (angles.cos(), angles.sin()))  # 1.3: as yarn scales
    first, second = x.chunk(2, dim=-1)
    turned = x * cos[:, None] + torch.cat([-second, first], dim=-1) * sin[:, None]
    torch.testing.assert_close(rotate(x, cos, sin), turned)
    assert torch.autograd.gradcheck(lambda x: rotate(x, cos, sin), (x,))


@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize("family", FAMILY)
def test_states_and_gradients_are_those_of_the_library(family: str, adapted: bool) -> None:
    """In fp32, since the library's norms know no more: the library's own layers on the same forest."""
    model = build(FAMILY[family])
    if adapted:
        lora = LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)
        inject_adapter_in_model(lora, model.model, adapter_name="one")
    backbone = Backbone(model)
    assert backbone._own
    forest = grow(random_trees(random.Random(0)))
    weights = torch.randn(len(forest.sources), 24)
    found = []
    for own in (True, False):
        backbone._own = own
        states = backbone.hidden(forest, forest.sources)
        model.zero_grad()
        (states * weights).sum().backward()
        found.append((states.detach(), [one.grad for one in model.parameters() if one.requires_grad]))
    (ours, our_gradients), (theirs, their_gradients) = found
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5 * theirs.abs().max().item())
    assert sum(one is not None for one in our_gradients) > 10
    for mine, other in zip(our_gradients, their_gradients, strict=True):
        if mine is None or other is None:
            assert mine is other
            continue
        torch.testing.assert_close(mine, other, rtol=0, atol=2e-5 * max(1.0, other.abs().max().item()))


def test_a_model_that_its_own_pass_gets_wrong_is_left_to_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama, "rms_norm", lambda x, weight, eps, format: (1.01 * x * weight).to(format))
    backbone = Backbone(build(CONFIGS["llama"]))
    assert backbone.layout == "forest"
    assert not backbone._own
