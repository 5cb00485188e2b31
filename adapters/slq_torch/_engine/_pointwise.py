"""Activations whose derivatives along a line are two products with numbers that are held.

For y = f(x) applied to each number the gradient is f'(x) g; its derivatives along q are f'(x) q by g and f''(x) g q by
x. Both factors do not depend on q, so they are computed once, when the graph is built, whatever f costs.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

Function = Callable[[Tensor], Tensor]


class _Pointwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, f: Function) -> Tensor:
        y, slope = _differentiated(f, x)
        ctx.save_for_backward(x, slope)
        ctx.f = f
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Any:
        x, slope = ctx.saved_tensors
        apply: Any = _Gradient.apply
        return (apply(g, x, slope, ctx.f) if torch.is_grad_enabled() else g * slope), None


class _Gradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, g: Tensor, x: Tensor, slope: Tensor, f: Function) -> Tensor:
        _, bend = _differentiated(lambda at: _differentiated(f, at, create_graph=True)[1], x)
        ctx.save_for_backward(slope, bend.mul_(g))
        return g * slope

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, q: Tensor) -> Any:
        slope, bend = ctx.saved_tensors
        return q * slope, q * bend, None, None


def _differentiated(f: Function, x: Tensor, *, create_graph: bool = False) -> tuple[Tensor, Tensor]:
    """Return f(x) and its slope."""
    with torch.enable_grad():
        at = x if create_graph else x.detach().requires_grad_()
        y = f(at)
        (slope,) = torch.autograd.grad(y, at, torch.ones_like(y), create_graph=create_graph)
    return (y, slope) if create_graph else (y.detach(), slope)


def pointwise(function: Callable[..., Tensor]) -> Callable[..., Any]:
    """Return a stand-in for a function that acts on each number of its first argument."""

    def stand_in(input: Tensor, *args: Any, **options: Any) -> Any:
        if any(isinstance(value, Tensor) for value in (*args, *options.values())) or options.get("inplace"):
            return NotImplemented
        apply: Any = _Pointwise.apply
        return apply(input, lambda x: function(x, *args, **options))

    return stand_in
