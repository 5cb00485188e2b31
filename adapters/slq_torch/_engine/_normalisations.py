"""Batch norm with given statistics: an affine map of each channel, and nothing more to differentiate.

With y = x s + t, s = w / sqrt(var + eps) and t = b - mean s, the gradients are g s, sum g x and sum g. Along directions
q of x, V of s and v of t their derivatives are q s + x V + v by g, g V by x and sum q g by s; the way from s and t to w
and b is left to torch.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class _Affine(torch.autograd.Function):
    """x scale + shift, one pair of numbers for each channel."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
        ctx.save_for_backward(x, scale)
        return torch.addcmul(_channels(shift, x), x, _channels(scale, x))

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        mask = ctx.needs_input_grad
        compute: Any = _AffineGradients.apply if torch.is_grad_enabled() else _affine_gradients
        return compute(g, *ctx.saved_tensors, mask)


class _AffineGradients(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor, scale: Tensor, mask: tuple[bool, ...]) -> Any:
        ctx.save_for_backward(g, x, scale)
        ctx.set_materialize_grads(False)
        return _affine_gradients(g, x, scale, mask)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, q: Tensor | None, V: Tensor | None, v: Tensor | None) -> Any:
        g, x, scale = ctx.saved_tensors
        by_g, by_x, by_scale = ctx.needs_input_grad[:3]
        first: Tensor | None = None
        if by_g:
            first = torch.zeros_like(x) if q is None else q * _channels(scale, x)
            if V is not None:
                first.addcmul_(x, _channels(V, x))
            if v is not None:
                first.add_(_channels(v, x))
        second = g * _channels(V, x) if by_x and V is not None else None
        third = _sum(q * g) if by_scale and q is not None else None
        return first, second, third, None


def _affine_gradients(g: Tensor, x: Tensor, scale: Tensor, mask: tuple[bool, ...]) -> Any:
    return (
        g * _channels(scale, x) if mask[0] else None,
        _sum(g * x) if mask[1] else None,
        _sum(g) if mask[2] else None,
    )


def _channels(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *[1] * (like.ndim - 2))


def _sum(x: Tensor) -> Tensor:
    return x.sum([d for d in range(x.ndim) if d != 1])


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    """Stand in for `torch.nn.functional.batch_norm` with given statistics."""
    if training or running_mean is None or running_var is None:
        return NotImplemented
    scale = torch.rsqrt(running_var.detach() + eps)
    if weight is not None:
        scale = scale * weight
    shift = -running_mean.detach() * scale
    if bias is not None:
        shift = shift + bias
    apply: Any = _Affine.apply
    return apply(input, scale, shift)
