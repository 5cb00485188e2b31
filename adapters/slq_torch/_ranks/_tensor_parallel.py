r"""Curvature of a model whose layers are cut over ranks that all see the same data (tensor parallelism, DTensor).

Every rank differentiates the loss by the pieces of the parameters that it has, plain tensors, of which the layers'
DTensors are made anew in each evaluation: a gradient is then cut as the parameters are, and so are its derivatives. No
piece of a cut parameter and none of its vectors ever leaves its rank. The first product is held against differences.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from importlib.metadata import version
from typing import Any, Literal, final

import array_api_compat.torch as torch_namespace
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from slq._arrays import out_of_memory
from slq._errors import RunError
from slq._operators._linear import Linear
from slq_torch._curvature._gauss_newton import GaussNewton
from slq_torch._curvature._jacobian import Sandwich, pull
from slq_torch._curvature._operator import check_rows
from slq_torch._engine._attention import Exchange, exchange_for
from slq_torch._engine._cut import cut, evaluated_at
from slq_torch._engine._differences import differences
from slq_torch._engine._strategies import Recipe
from slq_torch._engine._ways import SecondDerivatives
from slq_torch._model._parameters import Parameters
from slq_torch._model._passes import Call, Passes, tolerance
from slq_torch._ranks._entering import differentiable_entry, entered
from slq_torch._ranks._layout import Layout, layout, local, refuse_placements
from slq_torch._ranks._ranks import Ranks, agreed, content

Kind = Literal["hessian", "ggn"]
Way = Literal["auto", "graph", "finite-difference"]

_RECIPES: dict[Kind, Callable[[], Recipe]] = {"hessian": SecondDerivatives, "ggn": lambda: Sandwich(GaussNewton())}
# How many times the noise of differences the exact product may lie from them: that of a step twice as long is three
# times the error, and of one column others may have more.
_APART = 10.0


@final
class TensorParallelOperator(Linear):
    """A curvature matrix of a tensor-parallel model; made by `slq_torch.distributed.parameter_sharded`.

    Attributes
    ----------
    shape : tuple of int
        (n, n) for n chosen scalar parameters of the whole model.
    rows : tuple of range
        The rows of vectors that are here: those of the pieces of cut parameters, and a share of the others.
    dtype, device, xp, order
        Of the vectors, as for `CurvatureOperator`.
    noise : float
        Relative error of a product beyond rounding: 0 where it is exact, else as measured on the first column.
    """

    __slots__ = (
        "_asked", "_exact", "_exchanged", "_kind", "_layout", "_noise", "_notes", "_origin", "_params", "_passes",
        "_ranks", "_way",
    )  # fmt: skip

    order: Literal["F"] = "F"

    def __init__(self, params: Parameters, passes: Passes, ranks: Ranks, *, kind: Kind, strategy: Way) -> None:
        self._origin, self._ranks, self._kind, self._asked = params, ranks, kind, strategy
        refuse_placements(params, allowed="on each rank it must be cut along a dimension, or whole.", cut=False)
        self._layout: Layout = layout(params, ranks)
        leaves = tuple(local(tensor).requires_grad_() for tensor in params.tensors)
        self._params = replace(params, tensors=leaves)
        self._passes = Passes(self._loss_of(passes.loss), passes.model, passes.data, leaves, passes.mode)
        self._exact = _RECIPES[kind]().ways()[0]
        self._way: Way = "auto"
        self._noise, self._notes = 0.0, list[str]()
        self._exchanged: dict[str, Exchange] = {}
        self._compare()

    @property
    def shape(self) -> tuple[int, int]:
        """(n, n), of the whole model."""
        return self._origin.size, self._origin.size

    @property
    def rows(self) -> tuple[range, ...]:
        """The rows of vectors that are here."""
        return self._layout.rows

    @property
    def dtype(self) -> torch.dtype:
        """Of the vectors."""
        return self._params.vector_dtype

    @property
    def device(self) -> torch.device:
        """Of the pieces and the vectors."""
        return self._params.device

    @property
    def xp(self) -> Any:
        """Array namespace of the vectors."""
        return torch_namespace

    @property
    def noise(self) -> float:
        """Relative error of a product beyond rounding; 0 before the first."""
        half = self._params.dtype != self.dtype
        return max(self._noise, torch.finfo(self._params.dtype).eps if half else 0.0)

    @property
    def reduce(self) -> Callable[[Any], Any]:
        """Sums a small array over ranks."""
        return self._ranks.sum

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Facts that can be written as JSON; samples and loss are None before the first product."""
        first = self._passes.first
        return {
            "kind": self._kind,
            "parameters": self.shape[0],
            "parameter_names": list(self._params.names),
            "parameter_dtype": str(self._params.dtype),
            "mode": self._passes.mode,
            "engine": {"strategy": self._way, "notes": list(self._notes)},
            "ranks": self._ranks.size,
            "split": "parameters",
            "samples": None if first is None else first.samples,
            "loss": None if first is None else first.mean,
        }

    def matmat(self, X: Tensor, /) -> Tensor:
        """Multiply with a block of which this rank has its rows, all ranks together.

        Parameters
        ----------
        X : Tensor
            Shape (rows here, b).

        Returns
        -------
        Tensor
            The rows of A @ X that are here, shape (rows here, b).
        """
        check_rows(X, self, self._layout.here)
        unseen = self._passes.first is None
        rows = self._layout.spread(X.detach().to(self._params.dtype).T.contiguous(), self._ranks)
        with self._ranks.alone(), self._ranks.together("a product"), self._passes.prepared(), differentiable_entry():
            for leaf, tensor in zip(self._params.tensors, self._origin.tensors, strict=True):
                leaf.data = local(tensor)  # where the user has put other tensors into the parameters
            prints = list[list[int]]()

            def visit(call: Call) -> Tensor:
                if unseen:
                    prints.append(_fingerprint(call.batch))
                return self._multiply(call, rows)

            result = self._layout.kept(self._passes.mean(visit, self.dtype))
        if unseen:
            self._refuse_other_data(prints)
        bad = self._ranks.seen(float(not torch.isfinite(result).all()))[:, 0].nonzero()[:, 0].tolist()
        if bad:
            msg = f"the product gave NaN or Inf on rank {', '.join(map(str, bad))} of {self._ranks.size}."
            raise RunError(msg)
        return result.to(self.dtype).T

    def __matmul__(self, X: Tensor, /) -> Tensor:
        """Multiply with a block (rows here, b) or a vector (rows here,)."""
        return self.matmat(X[:, None])[:, 0] if X.ndim == 1 else self.matmat(X)

    def __repr__(self) -> str:
        return f"TensorParallelOperator(n={self.shape[0]:,}, rank {self._ranks.rank} of {self._ranks.size})"

    # -- products -----------------------------------------------------------------------------------------------------

    def _loss_of(self, loss: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        """Return the loss as a function of this rank's leaves."""

        def of_leaves(model: Any, batch: Any) -> Any:
            values = [entered(t, like) for t, like in zip(self._params.tensors, self._origin.tensors, strict=True)]
            found = evaluated_at(model, self._params, values, lambda: loss(model, batch))
            return tuple(map(_whole, found)) if isinstance(found, tuple) else _whole(found)

        return of_leaves

    def _multiply(self, call: Call, rows: Tensor) -> Tensor:
        if self._way == "auto" and len(rows) and self._norm(rows[0]):
            self._decide(call, rows[:1])
        return self._differences(call, rows) if self._way == "finite-difference" else self._exactly(call, rows)

    def _exactly(self, call: Call, rows: Tensor) -> Tensor:
        with self._kernels():
            return self._exact.multiply(self._exact.prepare(call, self._params), self._params, rows, False)

    def _differences(self, call: Call, rows: Tensor, *, stretch: float = 1.0) -> Tensor:
        """Multiply by differences: of gradients, or of outputs, whose image goes back through the graph."""
        params = self._params
        if self._kind == "hessian":
            return differences(call, params, rows, stretch=stretch, norm=self._norm)
        found = cut(call, params)
        shapes = [local(z).shape for z in found.outputs]
        sizes = [shape.numel() for shape in shapes]
        moved = differences(call, params, rows, stretch=stretch, norm=self._norm, function=_outputs, size=sum(sizes))
        result = torch.empty(len(rows), params.size, dtype=params.dtype, device=params.device)
        for j, tangents in enumerate(moved):
            pieces = [t.view(shape) for t, shape in zip(torch.split(tangents, sizes), shapes, strict=True)]
            along = [entered(piece, z) for piece, z in zip(pieces, found.outputs, strict=True)]
            params.join(pull(found.outputs, found.bend(along), params), out=result[j])
        return result

    @contextmanager
    def _kernels(self) -> Iterator[None]:
        with ExitStack() as stack:
            for exchange in self._exchanged.values():
                stack.enter_context(exchange.context())
            yield

    # -- the first product --------------------------------------------------------------------------------------------

    def _decide(self, call: Call, row: Tensor) -> None:
        """Multiply a column exactly and by differences; take the former where they agree to the latter's noise."""
        close, far = (self._differences(call, row, stretch=s)[0] for s in (1.0, 2.0))
        self._refuse_parts(close)
        floor = torch.finfo(row.dtype).eps
        scale = self._norm(close)
        noise = max(self._norm(close - far) / scale if scale else 0.0, floor)
        if self._asked != "finite-difference":
            if (why := self._differs(call, row, close, scale, noise)) is None:
                self._way = "graph"
                return
            if self._asked == "graph":
                msg = f'`strategy` is "graph", but {why}. Use strategy="finite-difference" or "auto".'
                raise ValueError(msg)
            self._notes.append(f"differences are taken: {why}")
        self._way, self._noise = "finite-difference", noise

    def _differs(self, call: Call, row: Tensor, close: Tensor, scale: float, noise: float) -> str | None:
        """Say why a column cannot be multiplied exactly, None if it can."""
        while True:
            try:
                exact = self._exactly(call, row)[0]
            except RuntimeError as error:
                if out_of_memory(error):
                    raise
                if (exchange := exchange_for(error, self._exchanged)) is None:
                    return f"autograd says {type(error).__name__}: {str(error).splitlines()[0]}"
                self._exchanged[exchange.name] = exchange
                self._notes.append(exchange.note)
            else:
                apart = self._norm(exact - close) / (scale or 1.0)
                if apart <= max(_APART * noise, tolerance(row.dtype)):
                    return None
                return (
                    f"the exact product is {apart:.2g} away from differences of gradients, whose noise is {noise:.2g}: "
                    "something in these layers has a backward that cannot be differentiated"
                )

    def _norm(self, vector: Tensor) -> float:
        """Return the norm of a vector of which every rank has its tensors' numbers."""
        return math.sqrt(float(self._ranks.sum(self._layout.kept(vector).double().square().sum())))

    def _refuse_parts(self, column: Tensor) -> None:
        """Refuse gradients of whole parameters that are not the same on all ranks: each then has a part of the sum."""
        here, whole = self._layout, self._layout.shared(column[None])
        if not whole.shape[1]:
            return
        pieces = torch.split(
            (here.gathered(here.kept(column[None]), self._ranks) - whole)[0], [here.sizes[i] for i in here.whole]
        )
        apart = [float(piece.abs().max()) if piece.numel() else 0.0 for piece in pieces]
        scale = self._norm(column)
        every = self._ranks.seen(max(apart), apart.index(max(apart)))
        rank = int(every[:, 0].argmax())
        if every[rank, 0] > math.sqrt(torch.finfo(column.dtype).eps) * scale:
            name = self._params.names[here.whole[int(every[rank, 1])]]
            msg = (
                f"The derivative by {name!r}, which every rank has whole, is not the same on rank {rank} of "
                f"{self._ranks.size} as on others: ranks see other data, or each has a part of the sum only. Give "
                "all ranks the same batches; use layers of torch.distributed.tensor.parallel, such as "
                "SequenceParallel, for modules that see a part of the activations."
            )
            raise ValueError(msg)

    # -- what ranks must have alike -----------------------------------------------------------------------------------

    def _compare(self) -> None:
        """Refuse ranks with other versions, other values of what all have whole, or other data."""
        passes, params = self._passes, self._origin
        facts = {
            "The versions of slq": version("slq"),
            "The versions of torch": torch.__version__,
            "The sets of parameters": list(zip(params.names, [tuple(t.shape) for t in params.tensors], strict=True)),
            "The modes of the model": passes.mode if passes.module is None else (passes.mode, passes.module.training),
            "The values of parameters that every rank has": content(
                self._params.tensors[i] for i in self._layout.whole
            ),
        }
        agreed(self._ranks, facts)
        with passes.prepared():
            batch = next(iter(passes.batches), None)
        self._refuse_other_data([_fingerprint(batch)])

    def _refuse_other_data(self, fingerprints: list[list[int]]) -> None:
        """Refuse batches that are not the same everywhere; the loss does not tell, which is summed from all of them."""
        every = self._ranks.told(fingerprints)
        if any(found != every[0] for found in every):
            rank = next(rank for rank, found in enumerate(every) if found != every[0])
            msg = (
                f"`data` are not the same on rank {rank} of {self._ranks.size} as on rank 0, but layers are cut over "
                "these ranks, which take the same batches together. Give all of them the same, in the same order; "
                "different shares are for models that torch.distributed.fsdp.fully_shard has sharded."
            )
            raise ValueError(msg)


def _fingerprint(batch: Any) -> list[int]:
    """Return checksums of the tensors of a batch that are whole on each rank."""
    leaves = [leaf for leaf in tree_leaves(batch) if isinstance(leaf, Tensor)]
    return content(leaf for leaf in leaves if not hasattr(leaf, "placements"))


def _outputs(call: Call, params: Parameters) -> Tensor:
    """Return all outputs of the model that the loss depends on, end to end."""
    return torch.cat([local(z).reshape(-1) for z in cut(call, params).outputs])


def _whole(value: Any) -> Any:
    """Return a plain tensor for a DTensor."""
    return value.full_tensor() if hasattr(value, "full_tensor") else value
