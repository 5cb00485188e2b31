"""Plain tensors made into DTensors, and back, with a backward that can be differentiated again.

Torch's `DTensor.from_local` sums the parts of a gradient over ranks where autograd does not see it: the derivative of
that gradient then lacks, silently, all that lies before. So it is in torch 2.13 wherever a plain activation enters a
tensor-parallel layer. Here the sum is a `redistribute`, which is in the graph.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


class _Entering(torch.autograd.Function):
    """Local tensor in, DTensor out; the gradient comes back placed alike, a sum in parts as the whole sum."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, make: Callable[[Tensor], Any]) -> Any:
        from torch.distributed.tensor import Replicate

        found = make(tensor.detach())
        ctx.mesh = found.device_mesh
        ctx.placements = [Replicate() if place.is_partial() else place for place in found.placements]
        return found

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None]:
        return grads[0].redistribute(ctx.mesh, ctx.placements).to_local(), None


_enter: Callable[..., Any] = _Entering.apply  # which torch leaves without annotations


def entered(tensor: Tensor, like: Any) -> Any:
    """Return a DTensor with a rank's piece in it, placed as another one is; the tensor itself for a plain one."""
    if not hasattr(like, "placements"):
        return tensor

    def make(piece: Tensor) -> Any:
        return like.from_local(piece, like.device_mesh, like.placements, shape=like.shape, stride=like.stride())

    return _enter(tensor, make)


@contextmanager
def differentiable_entry() -> Iterator[None]:
    """Let whatever calls `DTensor.from_local` meanwhile, such as layers in parallel, have such a backward."""
    from torch.distributed import tensor as tensors

    home: Any = tensors.DTensor
    original = home.from_local

    def from_local(local_tensor: Tensor, *places: Any, **options: Any) -> Any:
        if not (torch.is_grad_enabled() and local_tensor.requires_grad) or options.get("grad_placements"):
            return original(local_tensor, *places, **options)
        return _enter(local_tensor, lambda piece: original(piece, *places, **options))

    home.from_local = staticmethod(from_local)
    try:
        yield
    finally:
        home.from_local = staticmethod(original)
