"""The matrix of all data of all ranks, each of which multiplies by its own share: vectors are cut into shards.

With A_r the mean over the w_r samples of rank r, A = sum_r w_r A_r / sum_r w_r. A product gathers the block, multiplies
by A_r, and scatters the sum of what came out: 2 n numbers per column, as one all-reduce would move, but Krylov vectors
take 1/p of the memory (Rajbhandari, Rasley, Ruwase & He 2020, arXiv:1910.02054, for optimiser states).
"""

import math
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any, Literal, final

import torch
from torch import Tensor
from torch.nn import Module
from torch.utils._pytree import tree_leaves

from slq._arrays import out_of_memory
from slq._errors import RunError
from slq._operators._linear import Linear
from slq_torch._curvature._operator import CurvatureOperator, check_rows
from slq_torch._ranks._ranks import Ranks, agreed, content


@final
class DataParallelOperator(Linear):
    """A curvature matrix of the data of all ranks; made by `slq_torch.distributed.data_parallel`.

    Attributes
    ----------
    shape : tuple of int
        (n, n) for n chosen scalar parameters.
    rows : tuple of range
        The rows of vectors that are here.
    dtype, device, xp, order
        Those of the rank's own operator.
    local : CurvatureOperator
        That operator: the matrix of the data that are here.
    """

    __slots__ = ("_notes", "_ranks", "_seen", "device", "dtype", "local", "rows", "shape", "xp")

    order: Literal["F"] = "F"

    def __init__(self, local: CurvatureOperator, ranks: Ranks, notes: tuple[str, ...]) -> None:
        self.local, self._ranks, self._notes = local, ranks, notes
        self.shape, self.dtype, self.device, self.xp = local.shape, local.dtype, local.device, local.xp
        self.rows: tuple[range, ...] = (ranks.rows(local.shape[0]),)
        self._seen: Tensor | None = None  # of each rank: how its product went, samples, loss, noise
        if _compare(local, ranks):
            self._notes += ("The first batch is the same on all ranks: their data should be disjoint shares.",)

    @property
    def reduce(self) -> Callable[[Any], Any]:
        """Sums a small array over ranks."""
        return self._ranks.sum

    @property
    def noise(self) -> float:
        """Relative error of a product beyond rounding: the largest of a rank's."""
        return 0.0 if self._seen is None else float(self._seen[:, 3].max())

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Facts of the rank's own operator, with samples and loss of all ranks."""
        known = {**self.local.metadata, "ranks": self._ranks.size, "split": "data"}
        if self._seen is not None and self._ranks.size > 1:
            weights = self._seen[:, 1]
            known |= {"samples": float(weights.sum()), "loss": float(weights @ self._seen[:, 2] / weights.sum())}
        return known | ({"notes": list(self._notes)} if self._notes else {})

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
        check_rows(X, self, len(self.rows[0]))
        n = self.shape[0]
        whole = self._ranks.gathered(X.detach().to(self.dtype).T.contiguous(), n)
        image, failure = whole[:0], None
        try:
            image = self.local.matmat(whole.T).T
        except Exception as error:
            failure = error
        weight = self._agree(image, failure)
        del whole
        return self._ranks.scattered(image.mul_(weight)).T

    def __matmul__(self, X: Tensor, /) -> Tensor:
        """Multiply with a block (rows here, b) or a vector (rows here,)."""
        return self.matmat(X[:, None])[:, 0] if X.ndim == 1 else self.matmat(X)

    def to_params(self, vector: Tensor, /) -> dict[str, Tensor] | list[Tensor]:
        """Gather a vector of which each rank has its rows, and cut it into tensors shaped like the parameters."""
        return self.local.to_params(self._ranks.gathered(vector[None], self.shape[0])[0])

    def __repr__(self) -> str:
        return f"DataParallelOperator(n={self.shape[0]:,}, rank {self._ranks.rank} of {self._ranks.size})"

    def _agree(self, image: Tensor, failure: Exception | None) -> float:
        """Return the weight of this rank's product; raise on all ranks what any of them met."""
        first = None if failure is not None else self.local._passes.first
        samples = math.nan if first is None or first.samples is None else first.samples
        finite = failure is not None or bool(torch.isfinite(image.sum()))
        state = 2.0 if failure is not None else float(not finite)
        loss = math.nan if first is None else first.mean
        self._seen = seen = self._ranks.seen(state, samples, loss, self.local.noise)
        if seen[:, 0].any():
            _tell(self._ranks, seen[:, 0], failure)
        weights = seen[:, 1]
        if len(weights) == 1:
            return 1.0
        if torch.isnan(weights).any():
            rank = int(torch.isnan(weights).nonzero()[0])
            msg = (
                f"`loss` returned a mean, but the number of samples on rank {rank} is not clear, so ranks cannot be "
                "weighted. Return (sum, count) from `loss`: the summed loss and the number of terms in it."
            )
            raise ValueError(msg)
        return float(weights[self._ranks.rank] / weights.sum())


def _tell(ranks: Ranks, states: Tensor, failure: Exception | None) -> None:
    """Raise, on all ranks, what went wrong on some."""
    said = ranks.told(None if failure is None else (f"{type(failure).__name__}: {failure}", out_of_memory(failure)))
    bad = [rank for rank, text in enumerate(said) if text is not None]
    if not bad:
        where = ", ".join(str(rank) for rank in states.nonzero()[:, 0].tolist())
        msg = (
            f"the product gave NaN or Inf on rank {where} of {ranks.size}. Common causes: a loss that overflows in "
            "half precision on one of its batches, damaged data or parameters there."
        )
        raise RunError(msg)
    text, memory = said[bad[0]]
    msg = f"rank {bad[0]} of {ranks.size} failed: {text}"
    raise (MemoryError(msg) if memory else RunError(msg)) from failure


def _compare(local: CurvatureOperator, ranks: Ranks) -> bool:
    """Refuse ranks with other versions, models or kinds of data; tell whether their first batch is the same."""
    passes, params = local._passes, local._params
    with passes.prepared():
        batch = next(iter(passes.batches), None)
    leaves = [leaf for leaf in tree_leaves(batch) if isinstance(leaf, Tensor)]
    facts = {
        "The versions of slq": version("slq"),
        "The versions of torch": torch.__version__,
        "The kinds of matrix": local.metadata["kind"],
        "The modes of the model": passes.mode if passes.module is None else (passes.mode, passes.module.training),
        "The sets of parameters": list(zip(params.names, [tuple(t.shape) for t in params.tensors], strict=True)),
        "The dtypes": (str(params.dtype), str(local.metadata["accumulate"])),
        "The values of the parameters": content(params.tensors),
        "The kinds of batches": [(str(leaf.dtype), leaf.ndim) for leaf in leaves],
    }
    agreed(ranks, facts)
    every = ranks.told(content(leaves))
    return ranks.size > 1 and bool(leaves) and all(found == every[0] for found in every)


def unwrapped(model: Any) -> tuple[Any, tuple[str, ...]]:
    """Return a model without DistributedDataParallel around it, and a note where there was one."""
    if isinstance(model, torch.nn.parallel.DistributedDataParallel):
        note = "DistributedDataParallel was taken off: it has no second derivatives, and products are summed here."
        inner: Module = model.module
        return inner, (note,)
    return model, ()
