"""The ways to a Hessian product. Each prepares what depends on a batch alone, then multiplies columns with it.

Which of them is used is decided in `_engine`. All of them differentiate the gradient, backward or forward; none is
`jvp(jacrev(loss))`, which is silently wrong through LayerNorm.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.func import jvp, vmap

from slq_torch._engine._differences import differences, measured_noise
from slq_torch._engine._forms import Form
from slq_torch._engine._formulas import Formulas
from slq_torch._engine._pull import gradients, pull
from slq_torch._engine._strategies import KNOWN, Strategy
from slq_torch._engine._traceable import Traceable
from slq_torch._model._parameters import Parameters
from slq_torch._model._passes import Call
from slq_torch._model._quiet import quiet


class SecondDerivatives:
    """The Hessian of the loss by the parameters."""

    kind = "hessian"
    parts = 1
    facts: dict[str, Any] = {}  # noqa: RUF012 - nothing to tell, never written to

    def ways(self) -> tuple[Strategy, ...]:
        """Double backward in three forms, forward over reverse in three, differences."""
        return (
            Strategy("graph", _graph, one_by_one, held=True),
            Strategy("fused", _fused, _fused_one_by_one, held=True),
            Strategy("graph-vmap", _graph, at_once, held=True, vmapped=True),
            Strategy("forward-over-reverse", _bare, _forward, vmapped=True, functional=True),
            Strategy("linearize", _linearized, _pushed, held=True, functional=True),
            Strategy("compile", _bare, _Compiled(), vmapped=True, functional=True, eager=False),
            Strategy("finite-difference", _bare, _differenced, eager=False, noise=measured_noise),
        )


def _graph(call: Call, params: Parameters) -> Any:
    return gradients(call.value(), params)


def one_by_one(grads: Any, params: Parameters, rows: Tensor, keep: bool) -> Tensor:
    """Pull columns through the graph of a gradient, one after the other."""
    return pull(grads, params, rows, keep=keep)


def _fused(call: Call, params: Parameters) -> Any:
    with Formulas():
        return _graph(call, params)


def _fused_one_by_one(grads: Any, params: Parameters, rows: Tensor, keep: bool) -> Tensor:
    with Formulas():  # for what is checkpointed and computed again
        return one_by_one(grads, params, rows, keep)


def at_once(grads: Any, params: Parameters, rows: Tensor, keep: bool) -> Tensor:
    """Pull columns through the graph of a gradient, vmapped."""
    return pull(grads, params, rows, at_once=True)


def _bare(call: Call, params: Parameters) -> Call:
    return call


def _differenced(call: Call, params: Parameters, rows: Tensor, keep: bool) -> Tensor:
    return differences(call, params, rows)


def _forward(call: Call, params: Parameters, rows: Tensor, keep: bool) -> Tensor:
    """Push columns forward through the gradient, vmapped."""
    form = Form(call, params)
    products, value = _tangents(partial(form.gradient, call.batch), params, rows)
    if form.told is not None:
        call.record(value, form.told[0], summed=form.told[1])
    return products


def _tangents(gradient: Callable[..., Any], params: Parameters, rows: Tensor) -> tuple[Tensor, Tensor]:
    primals = _detached(params)

    def column(*tangents: Tensor) -> Any:
        found: Any = jvp(gradient, primals, tangents, has_aux=True)
        return found[1:]

    with torch.no_grad(), quiet(KNOWN):
        products, values = vmap(column, randomness="same")(*params.split(rows))
    return params.join(products, (len(rows),)), values[0]


def _linearized(call: Call, params: Parameters) -> Callable[..., Any]:
    """Trace the derivative of the gradient at the parameters: a linear function with everything else computed."""
    call.result  # noqa: B018 - the trace cannot tell the loss
    form = Form(call, params)
    with torch.no_grad(), quiet(KNOWN), Traceable():
        _, push = torch.func.linearize(lambda *tensors: form.gradient(call.batch, *tensors)[0], *_detached(params))
    linear: Callable[..., Any] = push
    return linear


def _pushed(push: Callable[..., Any], params: Parameters, rows: Tensor, keep: bool) -> Tensor:
    pieces = params.split(rows)
    result = torch.empty(len(rows), params.size, dtype=params.dtype, device=params.device)
    with torch.no_grad(), quiet(KNOWN):
        for j in range(len(rows)):
            params.join(push(*(piece[j] for piece in pieces)), out=result[j])
    return result


class _Compiled:
    """torch.compile around the whole product of forward over reverse; batches of the same shapes share the code."""

    __slots__ = ("_function",)

    def __init__(self) -> None:
        self._function: Callable[..., Any] | None = None

    def __call__(self, call: Call, params: Parameters, rows: Tensor, keep: bool) -> Tensor:
        call.result  # noqa: B018 - compiled code cannot tell the loss
        if self._function is None:
            form = Form(call, params)

            def product(batch: Any, primals: tuple[Tensor, ...], tangents: list[Tensor]) -> Any:
                gradient = partial(_first, form, batch)
                return vmap(lambda *t: jvp(gradient, primals, t)[1], randomness="same")(*tangents)

            self._function = torch.compile(product, fullgraph=True, dynamic=False)
        with torch.no_grad(), quiet(".*"):
            products = self._function(call.batch, _detached(params), params.split(rows))
        return params.join(products, (len(rows),))


def _first(form: Form, batch: Any, *tensors: Tensor) -> Any:
    return form.gradient(batch, *tensors)[0]


def _detached(params: Parameters) -> tuple[Tensor, ...]:
    return tuple(tensor.detach() for tensor in params.tensors)
