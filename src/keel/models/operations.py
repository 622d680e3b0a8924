"""What a layer of the Llama family computes, with backward passes that keep little and read it seldom.

Autograd, left to itself, keeps every intermediate result: three copies of the stream for a norm, four of the wide rows
for a gated layer. Here an operation keeps its inputs and computes the rest again.

`format` is the number format of matrix products, to which their inputs are rounded; weights and their gradients stay in
the weights' own. Shape suffixes: T rows, I and O inputs and outputs of a product, R rank of an adapter, H heads, D head
width, E width of the stream, F of the gated layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.nn.functional import linear, silu
from torch.nn.functional import rms_norm as fused_rms_norm

from keel.maths.products import product_in


@dataclass(frozen=True)
class Weight:
    """One linear layer as it is read at the moment: W + scaling·up·down, and a bias."""

    weight: Float[Tensor, "O I"]
    bias: Float[Tensor, " O"] | None
    down: Float[Tensor, "R I"] | None = None
    up: Float[Tensor, "O R"] | None = None
    scaling: float = 0.0

    @staticmethod
    def of(module: nn.Module) -> Weight:
        """A linear layer, or one with adapters, of which at most one may be on."""
        if not isinstance(module, LoraLayer):
            assert isinstance(module, nn.Linear)
            return Weight(module.weight, module.bias)
        base = module.get_base_layer()
        names = () if module.disable_adapters else [name for name in module.active_adapters if name in module.lora_A]
        if not names:
            return Weight(base.weight, base.bias)
        (name,) = names
        return Weight(
            base.weight, base.bias, module.lora_A[name].weight, module.lora_B[name].weight, module.scaling[name]
        )


def product(x: Float[Tensor, "T I"], layer: Weight) -> Float[Tensor, "T O"]:
    """x·(W + s·up·down)ᵀ + b in the format of x. The adapter is added to W before the product, as the sampler does."""
    return _Product.apply(x, layer.weight, layer.bias, layer.down, layer.up, layer.scaling)  # type: ignore[no-any-return, no-untyped-call]


def gated(gate: Float[Tensor, "T F"], value: Float[Tensor, "T F"], layer: Weight) -> Float[Tensor, "T O"]:
    """(silu(gate) ⊙ value)·(W + s·up·down)ᵀ + b, in the format of the inputs."""
    return _Gated.apply(gate, value, layer.weight, layer.bias, layer.down, layer.up, layer.scaling)  # type: ignore[no-any-return, no-untyped-call]


def wide_product(x: Float[Tensor, "T I"], weight: Float[Tensor, "O I"], format: torch.dtype) -> Float[Tensor, "T O"]:
    """x·Wᵀ in the format of x and W (`wide_products`); only those of its backward pass are made in `format`."""
    return _WideProduct.apply(x, weight, format)  # type: ignore[no-any-return, no-untyped-call]


@contextmanager
def wide_products(x: Tensor, format: torch.dtype) -> Iterator[None]:
    """Within it, products of float32 with x on a CUDA device round their factors to 11 bits of mantissa (TF32) where
    the model's other products are made in a `format` of fewer bits; sums and results are float32 all the same.

    Without it they take six times as long there. On processors nothing changes.
    """
    if not x.is_cuda or format.itemsize >= 4:
        yield
        return
    products = torch.backends.cuda.matmul
    before, products.fp32_precision = products.fp32_precision, "tf32"
    try:
        yield
    finally:
        products.fp32_precision = before


def rms_norm(x: Float[Tensor, "*n E"], weight: Float[Tensor, " E"], eps: float, format: torch.dtype) -> Tensor:
    """w ⊙ x / √(mean x² + ε), computed in the format of x and rounded to `format`; shaped as x."""
    if x.is_cuda:  # where PyTorch has it as one kernel
        return fused_rms_norm(x, weight.shape, weight, eps).to(format)
    return _Norm.apply(x, weight, eps, format)  # type: ignore[no-any-return, no-untyped-call]


def rotate(x: Float[Tensor, "T H D"], cos: Float[Tensor, "T D"], sin: Float[Tensor, "T D"]) -> Float[Tensor, "T H D"]:
    """x ⊙ cos + (−x₂, x₁) ⊙ sin for the halves x₁, x₂ of each head (2104.09864), in the format of cos."""
    return _Rotation.apply(x, cos, sin)  # type: ignore[no-any-return, no-untyped-call]


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        down: Tensor | None,
        up: Tensor | None,
        scaling: float,
    ) -> Tensor:
        merged = _merged(weight, down, up, scaling, x.dtype)
        ctx.save_for_backward(x, merged, down, up)
        ctx.scaling, ctx.format = scaling, weight.dtype
        return linear(x, merged, None if bias is None else bias.to(x.dtype))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, merged, down, up = ctx.saved_tensors
        own = _own_gradients(ctx, ctx.needs_input_grad[1:], grad, x, down, up)
        return grad @ merged if ctx.needs_input_grad[0] else None, *own, None


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        gate: Tensor,
        value: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        down: Tensor | None,
        up: Tensor | None,
        scaling: float,
    ) -> Tensor:
        merged = _merged(weight, down, up, scaling, gate.dtype)
        ctx.save_for_backward(gate, value, merged, down, up)
        ctx.scaling, ctx.format = scaling, weight.dtype
        return linear(silu(gate).mul_(value), merged, None if bias is None else bias.to(gate.dtype))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        gate, value, merged, down, up = ctx.saved_tensors
        opened = silu(gate)
        inner = grad @ merged
        for_value = inner * opened
        for_gate = torch.ops.aten.silu_backward(inner.mul_(value), gate)
        own = _own_gradients(ctx, ctx.needs_input_grad[2:], grad, opened.mul_(value), down, up)
        return for_gate, for_value, *own, None


class _WideProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, format: torch.dtype) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.format = format
        with wide_products(x, format):
            return linear(x, weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        grad = grad.to(ctx.format)
        for_x = (grad @ weight.to(ctx.format)).to(x.dtype) if ctx.needs_input_grad[0] else None
        for_weight = product_in(weight.dtype, grad.T, x.to(ctx.format)) if ctx.needs_input_grad[1] else None
        return for_x, for_weight, None


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float, format: torch.dtype) -> Tensor:
        inverse = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)
        ctx.save_for_backward(x, weight, inverse)
        return (x * inverse).mul_(weight).to(format)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """d/dx = r·g − x·r³·(g·x)/E with r = 1/√(mean x² + ε) and g = w ⊙ dy."""
        x, weight, inverse = ctx.saved_tensors
        wide = grad.to(x.dtype)
        for_weight = None
        if ctx.needs_input_grad[1]:
            for_weight = (x * wide).mul_(inverse).flatten(0, -2).sum(0).to(weight.dtype)
        scaled = wide * weight
        along = (scaled * x).sum(-1, keepdim=True) * inverse.pow(3) / -x.shape[-1]
        return scaled.mul_(inverse).addcmul_(x, along), for_weight, None, None


class _Rotation(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        ctx.format = x.dtype
        return _turned(x, cos, sin)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """The inverse rotation: a rotation is orthogonal, whatever factor cos and sin share."""
        cos, sin = ctx.saved_tensors
        return _turned(grad, cos, -sin).to(ctx.format), None, None


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    wide = x.to(cos.dtype)
    first, second = wide[..., :half], wide[..., half:]
    cos, sin = cos[:, None, :half], sin[:, None, :half]
    turned = torch.empty_like(wide)
    torch.mul(first, cos, out=turned[..., :half]).addcmul_(second, sin, value=-1)
    torch.mul(second, cos, out=turned[..., half:]).addcmul_(first, sin)
    return turned


def _merged(
    weight: Tensor, down: Tensor | None, up: Tensor | None, scaling: float, format: torch.dtype
) -> Float[Tensor, "O I"]:
    if down is not None and up is not None:
        weight = torch.addmm(weight, up.to(weight.dtype), down.to(weight.dtype), alpha=scaling)
    return weight.to(format)


def _own_gradients(
    ctx: Any, needed: tuple[bool, ...], grad: Tensor, x: Tensor, down: Tensor | None, up: Tensor | None
) -> tuple[Tensor | None, ...]:
    """Gradients of weight, bias, down and up, from those of the product and its input.

    dW = dyᵀx,   d down = s·(dy·up)ᵀx,   d up = s·dyᵀ(x·downᵀ)
    """
    for_weight = product_in(ctx.format, grad.T, x) if needed[0] else None
    for_bias = grad.sum(0).to(ctx.format) if needed[1] else None
    if down is None or up is None or not (needed[2] or needed[3]):
        return for_weight, for_bias, None, None
    for_down = product_in(down.dtype, (grad @ _scaled(up, ctx.scaling, grad.dtype)).T, x)
    for_up = product_in(up.dtype, grad.T, x @ _scaled(down, ctx.scaling, x.dtype).T)
    return for_weight, for_bias, for_down, for_up


def _scaled(factor: Tensor, scaling: float, format: torch.dtype) -> Tensor:
    """s·factor, rounded once."""
    return torch.mul(factor, scaling, out=torch.empty_like(factor, dtype=format))
