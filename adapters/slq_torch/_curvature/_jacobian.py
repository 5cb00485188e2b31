"""Products with matrices of the form J^T M J, J the Jacobian of some outputs z by the parameters.

Two ways to J v. Backwards: J^T u is linear in u, so the derivative of its graph by u gives J v, and one graph per
batch serves all columns and all later products. Forwards: dual numbers, one more forward pass per column, or all
vmapped, or traced once per batch. Source of the first: Townsend (2017), "A new trick for calculating Jacobian vector
products", a note.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd import forward_ad

from slq_torch._engine._strategies import KNOWN, Strategy
from slq_torch._model._errors import refuse_once_differentiable
from slq_torch._model._parameters import Parameters
from slq_torch._model._passes import Call
from slq_torch._model._quiet import quiet

Tensors = Sequence[Tensor]

# torch leaves these two without annotations.
_dual: Callable[[Tensor, Tensor], Tensor] = forward_ad.make_dual
_parts: Callable[[Tensor], Any] = forward_ad.unpack_dual


@dataclass(frozen=True, slots=True)
class Factors:
    """The matrix J^T M J of one batch.

    Attributes
    ----------
    outputs : sequence of Tensor
        z, with their graphs to the parameters.
    middle : callable
        Tensors shaped like z -> M times them. Runs under vmap.
    at : callable
        Values for the parameters -> z again. Runs under forward differentiation and vmap.
    """

    outputs: Tensors
    middle: Callable[[Tensors], Tensors]
    at: Callable[[Tensors], Tensors]


class Source(Protocol):
    """What makes the factors of a batch."""

    kind: str

    @property
    def facts(self) -> dict[str, Any]:
        """What the metadata tell of it."""
        ...

    def __call__(self, call: Call, params: Parameters) -> Factors:
        """Evaluate the loss of a batch."""
        ...


class Sandwich:
    """The matrix J^T M J of a source."""

    parts = 1

    def __init__(self, source: Source) -> None:
        self._source = source
        self.kind = source.kind

    @property
    def facts(self) -> dict[str, Any]:
        """What its source tells."""
        return self._source.facts

    def ways(self) -> tuple[Strategy, ...]:
        """J v backwards or forwards, J^T always backwards."""
        source = self._source
        return (
            Strategy("graph", self._graph, _backward, held=True),
            Strategy("graph-vmap", self._graph, _backward_all, held=True, vmapped=True),
            Strategy("forward", source, _forward, held=True, functional=True),
            Strategy("forward-over-reverse", source, _forward_all, held=True, vmapped=True, functional=True),
            Strategy("linearize", self._linearized, _pushed, held=True, functional=True),
        )

    def _graph(self, call: Call, params: Parameters) -> tuple[Factors, "Transposed"]:
        factors = self._source(call, params)
        return factors, Transposed(factors.outputs, params)

    def _linearized(self, call: Call, params: Parameters) -> tuple[Factors, Callable[..., Any]]:
        """Trace J at the parameters: a linear function with everything else computed."""
        factors = self._source(call, params)
        with torch.no_grad(), quiet(KNOWN):
            _, push = torch.func.linearize(lambda *new: tuple(factors.at(new)), *(t.detach() for t in params.tensors))
        return factors, push


class Transposed:
    """J^T u with its graph, linear in u."""

    __slots__ = ("_live", "_pulled", "at")

    def __init__(self, outputs: Tensors, params: Parameters, at: Tensors | None = None) -> None:
        """Take u at `at`, zero by default."""
        self.at = [u.detach().requires_grad_() for u in at or map(torch.zeros_like, outputs)]
        grads = torch.autograd.grad(outputs, params.tensors, self.at, create_graph=True, allow_unused=True)
        refuse_once_differentiable(grads)
        live = [(i, g) for i, g in enumerate(grads) if g is not None and g.requires_grad]
        self._live, self._pulled = [i for i, _ in live], [g for _, g in live]

    def push(self, columns: Tensors, j: int | None, inputs: Tensors) -> list[Tensor | None]:
        """Differentiate by `inputs` along column j of (b, *shape) per parameter, or along all of them at once."""
        if not self._pulled:
            return [None] * len(inputs)
        directions = [columns[i] if j is None else columns[i][j] for i in self._live]
        return list(
            torch.autograd.grad(
                self._pulled, inputs, directions, retain_graph=True, allow_unused=True, is_grads_batched=j is None
            )
        )

    def jacobian(self, columns: Tensors, j: int | None) -> list[Tensor]:
        """Return J v for column j, or (b, *shape) for all."""
        return self.shaped(self.push(columns, j, self.at), () if j is not None else (len(columns[0]),))

    def shaped(self, found: Sequence[Tensor | None], batch: tuple[int, ...]) -> list[Tensor]:
        """Put zeros where an output does not depend on the parameters."""
        return [u.new_zeros(*batch, *u.shape) if f is None else f for f, u in zip(found, self.at, strict=True)]


def pull(outputs: Tensors, cotangents: Tensors, params: Parameters, *, batched: bool = False) -> list[Tensor | None]:
    """Return J^T times cotangents shaped like the outputs, one per parameter; the graph is kept."""
    return list(
        torch.autograd.grad(
            outputs, params.tensors, cotangents, retain_graph=True, allow_unused=True, is_grads_batched=batched
        )
    )


def _backward(prepared: tuple[Factors, Transposed], params: Parameters, rows: Tensor, keep: bool) -> Tensor:
    factors, transposed = prepared
    columns = params.split(rows)
    return _pulled_each(factors, lambda j: transposed.jacobian(columns, j), len(rows), params)


def _backward_all(prepared: tuple[Factors, Transposed], params: Parameters, rows: Tensor, keep: bool) -> Tensor:
    factors, transposed = prepared
    with quiet(KNOWN):
        return _pulled_all(factors, transposed.jacobian(params.split(rows), None), params)


def _forward(factors: Factors, params: Parameters, rows: Tensor, keep: bool) -> Tensor:
    columns, values = params.split(rows), [t.detach() for t in params.tensors]

    def tangent(j: int) -> list[Tensor]:
        with torch.no_grad(), forward_ad.dual_level():
            duals = [_dual(v, c[j]) for v, c in zip(values, columns, strict=True)]
            pairs = [_parts(z) for z in factors.at(duals)]
            return [torch.zeros_like(p.primal) if p.tangent is None else p.tangent for p in pairs]

    with quiet(KNOWN):
        return _pulled_each(factors, tangent, len(rows), params)


def _forward_all(factors: Factors, params: Parameters, rows: Tensor, keep: bool) -> Tensor:
    values = tuple(t.detach() for t in params.tensors)

    def tangents(*directions: Tensor) -> list[Tensor]:
        return list(torch.func.jvp(lambda *new: tuple(factors.at(new)), values, directions)[1])

    with quiet(KNOWN):
        with torch.no_grad():
            pushed = torch.vmap(tangents)(*params.split(rows))
        return _pulled_all(factors, pushed, params)


def _pushed(prepared: tuple[Factors, Callable[..., Any]], params: Parameters, rows: Tensor, keep: bool) -> Tensor:
    factors, push = prepared
    columns = params.split(rows)

    def tangent(j: int) -> list[Tensor]:
        with torch.no_grad():
            return list(push(*(c[j] for c in columns)))

    with quiet(KNOWN):
        return _pulled_each(factors, tangent, len(rows), params)


def _pulled_each(factors: Factors, tangent: Callable[[int], Tensors], width: int, params: Parameters) -> Tensor:
    result = torch.empty(width, params.size, dtype=params.dtype, device=params.device)
    for j in range(width):
        params.join(pull(factors.outputs, factors.middle(tangent(j)), params), out=result[j])
    return result


def _pulled_all(factors: Factors, tangents: Tensors, params: Parameters) -> Tensor:
    cotangents = torch.vmap(factors.middle)(list(tangents))
    return params.join(pull(factors.outputs, cotangents, params, batched=True), (len(cotangents[0]),))
