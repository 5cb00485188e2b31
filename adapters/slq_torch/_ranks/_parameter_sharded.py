r"""The Hessian of a model whose parameters are sharded (FSDP2): differences of gradients, in the shards' own layout.

Second derivatives do not pass through FSDP, gradients do: H v = (g(theta + h v) - g(theta - h v)) / (2 h), where every
rank moves the piece of each parameter that it holds. No parameter and no vector is ever gathered but by FSDP itself,
layer by layer. The step is that of `_differences`.
"""

import math
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any, Literal, final

import array_api_compat.torch as torch_namespace
import torch
from torch import Tensor

from slq._errors import RunError
from slq._operators._linear import Linear
from slq_torch._curvature._operator import check_rows
from slq_torch._model._parameters import Parameters
from slq_torch._model._passes import Call, Passes
from slq_torch._ranks._layout import layout, local, refuse_placements
from slq_torch._ranks._ranks import Ranks, agreed

_ALLOWED = (
    "this split takes models whose parameters are all cut over the ranks, as torch.distributed.fsdp.fully_shard(model) "
    "does, or whose layers torch.distributed.tensor.parallel.parallelize_module has cut."
)


@final
class ParameterShardedOperator(Linear):
    """The Hessian of a sharded model; made by `slq_torch.distributed.parameter_sharded`.

    Attributes
    ----------
    shape : tuple of int
        (n, n) for n chosen scalar parameters of the whole model.
    rows : tuple of range
        The rows of vectors that are here: those of each parameter's shard.
    dtype, device, xp, order
        Of the vectors, as for `CurvatureOperator`.
    noise : float
        Relative error of a product, measured on the first column: by a step twice as long.
    """

    __slots__ = ("_batches", "_loss", "_noise", "_params", "_passes", "_ranks", "_weight", "rows", "shape")

    order: Literal["F"] = "F"

    def __init__(self, params: Parameters, passes: Passes, ranks: Ranks) -> None:
        self._params, self._passes, self._ranks = params, passes, ranks
        self.shape: tuple[int, int] = (params.size, params.size)
        refuse_placements(params, allowed=_ALLOWED, cut=True)
        self.rows = layout(params, ranks).rows
        self._noise, self._loss, self._weight, self._batches = 0.0, math.nan, math.nan, 0
        facts = {
            "The versions of slq": version("slq"),
            "The versions of torch": torch.__version__,
            "The sets of parameters": list(zip(params.names, [tuple(t.shape) for t in params.tensors], strict=True)),
            "The modes of the model": passes.mode if passes.module is None else (passes.mode, passes.module.training),
        }
        agreed(ranks, facts)

    @property
    def dtype(self) -> torch.dtype:
        """Of the vectors."""
        return self._params.vector_dtype

    @property
    def device(self) -> torch.device:
        """Of the shards and the vectors."""
        return self._params.device

    @property
    def xp(self) -> Any:
        """Array namespace of the vectors."""
        return torch_namespace

    @property
    def noise(self) -> float:
        """Relative error of a product; 0 before the first."""
        return self._noise

    @property
    def reduce(self) -> Callable[[Any], Any]:
        """Sums a small array over ranks."""
        return self._ranks.sum

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Facts that can be written as JSON; samples and loss are None before the first product."""
        known = not math.isnan(self._weight)
        return {
            "kind": "hessian",
            "parameters": self.shape[0],
            "parameter_names": list(self._params.names),
            "parameter_dtype": str(self._params.dtype),
            "mode": self._passes.mode,
            "engine": {"strategy": "finite-difference"},
            "ranks": self._ranks.size,
            "split": "parameters",
            "samples": self._weight if known else None,
            "loss": self._loss if known else None,
        }

    def matmat(self, X: Tensor, /) -> Tensor:
        """Multiply with a block of which this rank has its rows, all ranks together; 2 gradients per column.

        Parameters
        ----------
        X : Tensor
            Shape (rows here, b).

        Returns
        -------
        Tensor
            The rows of A @ X that are here, shape (rows here, b).
        """
        here = sum(len(part) for part in self.rows)
        check_rows(X, self, here)
        pieces = [local(tensor) for tensor in self._params.tensors]
        rows = X.detach().to(self._params.dtype).T.contiguous()
        with self._passes.prepared():
            origin = _flat(pieces)
            squares = torch.stack([torch.sum(v * v) for v in (origin, *rows)]).double()
            size, *norms = self._ranks.sum(squares).sqrt().tolist()
            reach = math.pow(torch.finfo(self._params.dtype).eps, 1 / 3) * (size or 1.0)
            try:
                with self._ranks.alone(), self._ranks.together("a gradient"):
                    result = torch.stack([self._column(v, norm, reach) for v, norm in zip(rows, norms, strict=True)])
            finally:
                _put(pieces, origin)
        bad = self._ranks.seen(float(not torch.isfinite(result).all()))[:, 0].nonzero()[:, 0].tolist()
        if bad:
            msg = f"the product gave NaN or Inf on rank {', '.join(map(str, bad))} of {self._ranks.size}."
            raise RunError(msg)
        return result.to(self.dtype).T

    def __matmul__(self, X: Tensor, /) -> Tensor:
        """Multiply with a block (rows here, b) or a vector (rows here,)."""
        return self.matmat(X[:, None])[:, 0] if X.ndim == 1 else self.matmat(X)

    def __repr__(self) -> str:
        return f"ParameterShardedOperator(n={self.shape[0]:,}, rank {self._ranks.rank} of {self._ranks.size})"

    def _column(self, v: Tensor, norm: float, reach: float) -> Tensor:
        if not norm:
            return torch.zeros_like(v)
        pieces = [local(tensor) for tensor in self._params.tensors]
        origin = _flat(pieces)

        def difference(step: float) -> Tensor:
            _put(pieces, torch.add(origin, v, alpha=step))
            upper = self._gradient()
            _put(pieces, torch.add(origin, v, alpha=-step))
            lower = self._gradient()
            _put(pieces, origin)
            return (upper - lower).div_(2 * step)

        if not self._batches:  # counted before anybody waits for others
            self._batches = int(self._ranks.seen(sum(1 for _ in self._passes.batches))[:, 0].max())
            self._gradient(first=True)
            found, other = difference(reach / norm), difference(2 * reach / norm)
            apart, whole = self._ranks.sum(torch.stack([(found - other).square().sum(), found.square().sum()]).double())
            self._noise = max(float((apart / whole).sqrt()) if whole else 0.0, torch.finfo(v.dtype).eps)
            return found
        return difference(reach / norm)

    def _gradient(self, *, first: bool = False) -> Tensor:
        """Return this rank's rows of the gradient of the mean loss over the data of all ranks.

        FSDP averages over ranks, and every rank must take part as often as the one with the most batches.
        """
        tensors, passes = self._params.tensors, self._passes
        for tensor in passes.module.parameters() if passes.module is not None else tensors:
            tensor.grad = None
        weights, losses, last, index = 0.0, 0.0, None, -1
        for index, batch in enumerate(passes.batches):
            weight, loss = self._backward(Call(passes.loss, passes.model, index, batch), 1.0)
            weights, losses, last = weights + weight, losses + weight * loss, batch
        for number in range(index + 1, self._batches):
            self._backward(Call(passes.loss, passes.model, number, last), 0.0)
        if first:
            self._weight, total = self._ranks.seen(weights, losses).sum(dim=0).tolist()
            self._loss = total / self._weight
        grads = [t.new_zeros(t.shape) if t.grad is None else t.grad for t in tensors]
        return _flat([local(g) for g in grads]) * (self._ranks.size / self._weight)

    def _backward(self, call: Call, factor: float) -> tuple[float, float]:
        """Add a batch's summed loss to the gradients; return its count and its mean loss."""
        value = call.value()
        _, count, summed = call.result
        if count is None:
            msg = (
                "`loss` returned a mean over a batch whose number of samples is not clear. Return (sum, count): the "
                "summed loss and the number of terms in it."
            )
            raise ValueError(msg)
        weight = float(count)
        torch.autograd.backward(value * (factor * (1.0 if summed else weight)))
        return weight, float(value.detach()) / (weight if summed else 1.0)


def _flat(pieces: list[Tensor]) -> Tensor:
    return torch.cat([piece.detach().reshape(-1) for piece in pieces])


def _put(pieces: list[Tensor], vector: Tensor) -> None:
    """Write a vector of this rank's rows into its shards."""
    with torch.no_grad():
        for piece, values in zip(pieces, torch.split(vector, [p.numel() for p in pieces]), strict=True):
            piece.data.copy_(values.view(piece.shape))
