r"""Central differences of gradients, where torch has no second derivative.

H v = (g(theta + h v) - g(theta - h v)) / (2 h) + O(h^2). The truncation grows with h^2 and the rounding with eps / h,
so the step balances them, per column: h = eps^(1/3) |theta| / |v|.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from slq_torch._engine._pull import gradients, pull
from slq_torch._model._parameters import Parameters
from slq_torch._model._passes import Call

Norm = Callable[[Tensor], float]


def _norm(vector: Tensor) -> float:
    return float(torch.linalg.vector_norm(vector))


def gradient(call: Call, params: Parameters) -> Tensor:
    """Return the gradient of a batch's loss, (n,)."""
    value, _, _ = call.evaluate()
    return params.join(torch.autograd.grad(value, params.tensors, allow_unused=True))


def differences(
    call: Call,
    params: Parameters,
    rows: Tensor,
    *,
    stretch: float = 1.0,
    norm: Norm = _norm,
    function: Callable[[Call, Parameters], Tensor] = gradient,
    size: int | None = None,
) -> Tensor:
    """Multiply the derivative of a function of the parameters with b rows by 2 b values of it, (b, size).

    By default that is the Hessian and the function the gradient. The parameters are moved and put back: for each row by
    eps^(1/3) of their norm, times `stretch`. With `norm` vectors may be parts of those of several ranks.
    """
    call.result  # noqa: B018 - records the loss before the parameters move
    origin = params.join([t.detach() for t in params.tensors])
    reach = stretch * math.pow(torch.finfo(params.dtype).eps, 1 / 3) * (norm(origin) or 1.0)
    result = torch.empty(len(rows), params.size if size is None else size, dtype=params.dtype, device=params.device)
    for j, row in enumerate(rows.to(params.dtype)):
        length = norm(row)
        if not length:
            result[j] = 0
            continue
        step = reach / length
        with _put_back(params):
            _move(params, origin, row, step)
            upper = function(call, params)
            _move(params, origin, row, -step)
            lower = function(call, params)
        torch.sub(upper, lower, out=result[j]).div_(2 * step)
    return result


def measured_noise(call: Call, params: Parameters, row: Tensor) -> float:
    """Measure the relative error on one row: against the exact product, or a step twice as long where there is none."""
    found = differences(call, params, row[None])[0]
    try:
        exact = pull(gradients(call.evaluate()[0], params), params, row[None])[0]
    except RuntimeError:
        exact = differences(call, params, row[None], stretch=2.0)[0]
    scale, apart = _norm(exact), _norm(found - exact)
    return max(apart / scale if scale else 0.0, torch.finfo(params.dtype).eps)


def _move(params: Parameters, origin: Tensor, row: Tensor, step: float) -> None:
    pieces = torch.split(torch.add(origin, row, alpha=step), params.sizes)
    for tensor, piece in zip(params.tensors, pieces, strict=True):
        tensor.data.copy_(piece.view(tensor.shape))  # .data: the version tells of changes that stay


@contextmanager
def _put_back(params: Parameters) -> Iterator[None]:
    copies = [tensor.detach().clone() for tensor in params.tensors]
    try:
        yield
    finally:
        for tensor, copy in zip(params.tensors, copies, strict=True):
            tensor.data.copy_(copy)
