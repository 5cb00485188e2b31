"""Products with matrices of the form J^T M J, J the Jacobian of some outputs z by the parameters.

Two ways to J v. Backwards: J^T u is linear in u, so the derivative of its graph by u gives J v, and
one graph per batch serves all columns. Forwards: dual numbers, one more forward pass per column.
Both are run on the first batch for each number of columns, then the faster one vmapped, and the
fastest that agrees is kept. Source of the first: Townsend (2017), "A new trick for calculating
Jacobian vector products", a note.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor
from torch.autograd import forward_ad

from slq_torch._errors import refuse_once_differentiable
from slq_torch._kernels import Kernels
from slq_torch._parameters import Parameters
from slq_torch._passes import Call
from slq_torch._quiet import quiet
from slq_torch._race import fastest

Tensors = Sequence[Tensor]
Way = Literal["backward", "forward", "backward, vmapped", "forward, vmapped"]

WAYS: tuple[Way, ...] = ("backward", "forward", "backward, vmapped", "forward, vmapped")
# What vmap says of operations that it loops over, and torch when it first loads its rules for dual numbers.
_KNOWN = r"There is a performance drop|`torch\.jit\.script` is deprecated"
# torch leaves these two without annotations.
_dual: Callable[[Tensor, Tensor], Tensor] = forward_ad.make_dual
_parts: Callable[[Tensor], Any] = forward_ad.unpack_dual
# vmap multiplies the memory of a pass by b, so it must win by a tenth to be worth it.
_HANDICAP: dict[Way, float] = {"backward, vmapped": 1.1, "forward, vmapped": 1.1}


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
    """The curvature J^T M J, by the way that was fastest for so many columns."""

    __slots__ = ("_kernels", "source", "ways")

    def __init__(self, source: Source) -> None:
        self.source, self._kernels = source, Kernels()
        self.ways: dict[int, Way] = {}

    @property
    def kind(self) -> str:
        """What its source says."""
        return self.source.kind

    @property
    def facts(self) -> dict[str, Any]:
        """The source's facts, the way chosen for each number of columns, and exchanged kernels."""
        ways = {str(width): way for width, way in self.ways.items()}
        return {**self.source.facts, "ways": ways, "notes": self._kernels.notes}

    def __call__(self, call: Call, params: Parameters, rows: Tensor) -> Tensor:
        """Return J^T M J times each row for one batch."""
        return self._kernels.run(lambda: self._rows(call, params, rows))

    def _rows(self, call: Call, params: Parameters, rows: Tensor) -> Tensor:
        if not len(rows):
            self.source(call, params)
            return torch.zeros_like(rows, dtype=params.dtype)
        columns = params.split(rows)
        if len(rows) not in self.ways:
            return self._try(call, params, columns)
        try:
            return self._product(self.ways[len(rows)], call, params, columns)
        except RuntimeError:  # out of memory, or a batch that takes another path in the model
            if self.ways[len(rows)] == "backward":
                raise
            self.ways[len(rows)] = "backward"
        return self._product("backward", call, params, columns)

    def _try(self, call: Call, params: Parameters, columns: Tensors) -> Tensor:
        width = len(columns[0])
        names = WAYS if width > 1 else WAYS[:2]

        def run(way: Way) -> Callable[[], Tensor]:
            return lambda: self._product(way, call, params, columns, check=True)

        self.ways[width], result = fastest({way: run(way) for way in names}, handicap=_HANDICAP)
        return result

    def _product(self, way: Way, call: Call, params: Parameters, columns: Tensors, *, check: bool = False) -> Tensor:
        factors = self.source(call, params)
        if way.startswith("forward"):
            return _forward(factors, columns, params, vmapped=way.endswith("vmapped"))
        return _backward(factors, columns, params, vmapped=way.endswith("vmapped"), check=check)


class Transposed:
    """J^T u with its graph, linear in u."""

    __slots__ = ("at", "columns", "pulled")

    def __init__(
        self, outputs: Tensors, params: Parameters, columns: Tensors, *, at: Tensors | None = None, check: bool = False
    ) -> None:
        """Take u at `at`, zero by default; `columns` are the (b, *shape) directions that will be asked for."""
        self.at = [u.detach().requires_grad_() for u in at or map(torch.zeros_like, outputs)]
        grads = torch.autograd.grad(outputs, params.tensors, self.at, create_graph=True, allow_unused=True)
        if check:
            refuse_once_differentiable(grads)
        live = [(g, c) for g, c in zip(grads, columns, strict=True) if g is not None and g.requires_grad]
        self.pulled, self.columns = [g for g, _ in live], [c for _, c in live]

    def push(self, j: int | None, inputs: Tensors) -> list[Tensor | None]:
        """Differentiate by `inputs` along column j, or along all of them at once."""
        if not self.pulled:
            return [None] * len(inputs)
        directions = self.columns if j is None else [c[j] for c in self.columns]
        return list(
            torch.autograd.grad(
                self.pulled, inputs, directions, retain_graph=True, allow_unused=True, is_grads_batched=j is None
            )
        )

    def jacobian(self, j: int | None) -> list[Tensor]:
        """Return J v for column j, or (b, *shape) for all."""
        found = self.push(j, self.at)
        width = () if j is not None else (len(self.columns[0]),) if self.columns else (1,)
        return [u.new_zeros(*width, *u.shape) if f is None else f for f, u in zip(found, self.at, strict=True)]


def pull(outputs: Tensors, cotangents: Tensors, params: Parameters, *, batched: bool = False) -> list[Tensor | None]:
    """Return J^T times cotangents shaped like the outputs, one per parameter; the graph is kept."""
    return list(
        torch.autograd.grad(
            outputs, params.tensors, cotangents, retain_graph=True, allow_unused=True, is_grads_batched=batched
        )
    )


def _backward(factors: Factors, columns: Tensors, params: Parameters, *, vmapped: bool, check: bool) -> Tensor:
    transposed = Transposed(factors.outputs, params, columns, check=check)
    if vmapped:
        with quiet(_KNOWN):
            return _pulled_all(factors, transposed.jacobian(None), params)
    return _pulled_each(factors, transposed.jacobian, len(columns[0]), params)


def _forward(factors: Factors, columns: Tensors, params: Parameters, *, vmapped: bool) -> Tensor:
    values = [t.detach() for t in params.tensors]

    def all_tangents(directions: Tensors) -> list[Tensor]:
        return list(torch.func.jvp(lambda *new: tuple(factors.at(new)), tuple(values), tuple(directions))[1])

    def tangent(j: int) -> list[Tensor]:
        with torch.no_grad(), forward_ad.dual_level():
            duals = [_dual(v, c[j]) for v, c in zip(values, columns, strict=True)]
            pairs = [_parts(z) for z in factors.at(duals)]
            return [torch.zeros_like(p.primal) if p.tangent is None else p.tangent for p in pairs]

    with quiet(_KNOWN):
        if not vmapped:
            return _pulled_each(factors, tangent, len(columns[0]), params)
        with torch.no_grad():
            pushed = torch.vmap(all_tangents)(list(columns))
        return _pulled_all(factors, pushed, params)


def _pulled_each(factors: Factors, tangent: Callable[[int], Tensors], width: int, params: Parameters) -> Tensor:
    result = torch.empty(width, params.size, dtype=params.dtype, device=params.device)
    for j in range(width):
        params.join(pull(factors.outputs, factors.middle(tangent(j)), params), out=result[j])
    return result


def _pulled_all(factors: Factors, tangents: Tensors, params: Parameters) -> Tensor:
    cotangents = torch.vmap(factors.middle)(list(tangents))
    return params.join(pull(factors.outputs, cotangents, params, batched=True), (len(cotangents[0]),))
