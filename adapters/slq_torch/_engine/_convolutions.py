"""Convolutions whose second derivative is two convolutions, one gradient by the input and one by the weight.

A convolution C(x, w) is bilinear, and so are its gradients X(g, w) by the input and W(g, x) by the weight. With
q and V the directions that X and W are differentiated along,

    by g: C(q, w) + C(x, V),    by x: X(g, V),    by w: W(g, q).

torch computes the third as a convolution with a kernel as large as the image, and the second as a transposed one; here
both are what a backward pass computes anyway. Images are laid out with channels last, which is faster on CPUs.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

How = tuple[list[int], list[int], list[int], bool, list[int], int]
Mask = list[bool]


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, how: How) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.how = how
        return torch.convolution(x, weight, bias, *how)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        mask = list(ctx.needs_input_grad[:3])
        compute: Any = _Gradients.apply if torch.is_grad_enabled() else _gradients
        return *compute(g, *ctx.saved_tensors, ctx.how, mask), None


class _Gradients(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor, weight: Tensor, how: How, mask: Mask) -> Any:
        ctx.save_for_backward(g, x, weight)
        ctx.set_materialize_grads(False)
        ctx.how = how
        return _gradients(g, x, weight, how, mask)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, q: Tensor | None, V: Tensor | None, v: Tensor | None) -> Any:
        g, x, weight = ctx.saved_tensors
        by_g, by_x, by_weight = ctx.needs_input_grad[:3]
        found: list[Tensor | None] = [None, None, None]
        if by_g:
            found[0] = _first_order(q, x, weight, V, v, ctx.how)
        if by_x and V is not None:
            found[1] = _gradients(g, x, V, ctx.how, [True, False, False])[0]
        if by_weight and q is not None:
            found[2] = _gradients(g, q, weight, ctx.how, [False, True, False])[1]
        return *found, None, None


def _first_order(
    q: Tensor | None, x: Tensor, weight: Tensor, V: Tensor | None, v: Tensor | None, how: How
) -> Tensor | None:
    """Return C(q, w) + C(x, V) + v, without what is missing."""
    first = None if q is None else torch.convolution(q, weight, v if V is None else None, *how)
    if V is None:
        return first if first is not None or v is None else torch.convolution(x, torch.zeros_like(weight), v, *how)
    second = torch.convolution(x, V, v, *how)
    return second if first is None else second.add_(first)


def _gradients(g: Tensor, x: Tensor, weight: Tensor, how: How, mask: Mask) -> Any:
    sizes = [g.shape[1]] if mask[2] else None
    found = torch.ops.aten.convolution_backward(g, x, weight, sizes, *how, mask)
    return tuple(part if wanted else None for part, wanted in zip(found, mask, strict=True))


def _convolve(
    dims: int,
    transposed: bool,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: int,
    dilation: Any,
) -> Any:
    if isinstance(padding, str) or x.ndim != dims + 2:
        return NotImplemented
    if dims == 2:
        x = x.contiguous(memory_format=torch.channels_last)
    spread = [_spread(value, dims) for value in (stride, padding, dilation, output_padding)]
    apply: Any = _Convolution.apply
    return apply(x, weight, bias, (*spread[:3], transposed, spread[3], groups))


def _spread(value: Any, dims: int) -> list[int]:
    values = [value] if isinstance(value, int) else list(value)
    return values * dims if len(values) == 1 else values


def convolution(dims: int) -> Any:
    """Return a stand-in for `torch.conv1d`, `torch.conv2d` or `torch.conv3d`."""

    def stand_in(
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Any:
        return _convolve(dims, False, input, weight, bias, stride, padding, 0, groups, dilation)

    return stand_in


def transposed_convolution(dims: int) -> Any:
    """Return a stand-in for `torch.conv_transpose1d`, `torch.conv_transpose2d` or `torch.conv_transpose3d`."""

    def stand_in(
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        dilation: Any = 1,
    ) -> Any:
        return _convolve(dims, True, input, weight, bias, stride, padding, output_padding, groups, dilation)

    return stand_in
