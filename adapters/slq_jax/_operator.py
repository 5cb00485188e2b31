"""A curvature matrix of a pytree of parameters as a symmetric operator: products only, never the matrix.

What a batch contributes is the business of a `Curvature`; here it is compiled, once per shape, and averaged over the
data. Spectra, traces and eigenpairs are slq's.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, Protocol, final

import jax
import jax.numpy as jnp

from slq._arrays import epsilon, free_memory
from slq._operators._linear import Linear
from slq_jax._columns import mapped
from slq_jax._krylov import recurrence
from slq_jax._parameters import X64, Parameters, x64_enabled
from slq_jax._passes import Passes
from slq_jax._placement import Placement

Leaves = Sequence[jax.Array]
# Share of the free memory that the columns of a product may take.
_SHARE = 0.25
# Compiling a product takes as long as many columns: up to so many times as many are multiplied to avoid it.
_WORTH_PADDING = 4
# No chunk is larger unless it is asked for.
_MOST = 64


class Curvature(Protocol):
    """What one batch contributes to the matrix."""

    @property
    def kind(self) -> str:
        """The name of the matrix, e.g. "hessian"."""
        ...

    def __call__(self, batch: Any, rebuild: Callable[[Leaves], Any], leaves: Leaves) -> tuple[Any, Any, Any]:
        """Return the product with the batch's matrix, the loss, and the count that the loss gave or None.

        Called while tracing. `rebuild` makes the user's tree from chosen leaves; the product takes and returns leaves.
        """
        ...


@final
class CurvatureOperator(Linear):
    """A curvature matrix of a loss; made by `slq_jax.hessian` and its like.

    Sums, differences and multiples (``H - G``, ``0.5 * H``) are operators again, and a number that is added stands for
    that multiple of the identity: ``G + 0.01`` is G with weight decay. Each term costs its own product.

    Attributes
    ----------
    shape : tuple of int
        (n, n) for n chosen scalar parameters.
    dtype : dtype
        Of the vectors: the parameters' dtype, float32 if that is a half precision.
    device : Device or NamedSharding
        Of the parameters; where new vectors are put.
    order : "F"
        Blocks are handled as (b, n) rows inside.
    noise : float
        Relative error of a product beyond the rounding of `dtype`: eps of half-precision parameters, else 0.
    """

    __slots__ = (
        "_accumulate",
        "_chunk",
        "_contribute",
        "_kind",
        "_memory",
        "_params",
        "_passes",
        "_placement",
        "_proven",
        "device",
        "dtype",
        "noise",
        "shape",
    )

    order: Literal["F"] = "F"

    def __init__(
        self,
        curvature: Curvature,
        params: Parameters,
        passes: Passes,
        placement: Placement,
        *,
        accumulate: Any,
        chunk: int | None,
        memory: float | None,
    ) -> None:
        self._params, self._passes, self._placement, self._kind = params, passes, placement, curvature.kind
        self.shape: tuple[int, int] = (params.size, params.size)
        self.dtype: Any = params.vector_dtype
        self.device: Any = placement.device
        self.noise: float = epsilon(params.dtype) if params.dtype != self.dtype else 0.0
        self._accumulate = checked_accumulate(accumulate, self.dtype)
        self._chunk = checked_chunk(chunk)
        self._memory = memory
        self._proven: set[int] = set()
        self._contribute = jax.jit(partial(_contribution, curvature, params, placement), static_argnames="limits")

    @property
    def xp(self) -> Any:
        """Array namespace of the vectors."""
        return jnp

    @property
    def metadata(self) -> dict[str, Any]:
        """Facts that can be written as JSON; samples and loss are None before the first product."""
        first = self._passes.first
        return {
            "kind": self._kind,
            "parameters": self.shape[0],
            "parameter_names": list(self._params.names),
            "parameter_dtype": self._params.dtype.name,
            "dtype": self.dtype.name,
            "accumulate": self._accumulate.name,
            "device": str(self.device),
            "batches": self._passes.length,
            "samples": None if first is None else first.samples,
            "loss": None if first is None else first.mean,
        }

    @property
    def krylov(self) -> Callable[..., Any]:
        """Makes the recurrence of a run; see `slq.Operator`."""
        return partial(recurrence, self._placement)

    def matmat(self, X: jax.Array, /) -> jax.Array:
        """Multiply the matrix with b columns in one pass over the data.

        Parameters
        ----------
        X : Array
            Shape (n, b); converted to `dtype` if it has another one.

        Returns
        -------
        Array
            A @ X, shape (n, b), `dtype`; cut over the parameters' mesh where there is one that divides n.
        """
        check_block(X, self.shape[0])
        while True:
            try:
                return self._product(X)
            except jax.errors.JaxRuntimeError as error:
                width = min(X.shape[1], self._chunk or _MOST)
                if "RESOURCE_EXHAUSTED" not in str(error) or width == 1:
                    raise
                self._chunk = width // 2  # and once more, with fewer columns at once

    def __matmul__(self, X: jax.Array, /) -> jax.Array:
        """Multiply with a block (n, b) or a vector (n,)."""
        return self.matmat(X[:, None])[:, 0] if X.ndim == 1 else self.matmat(X)

    def to_vector(self, values: Any, /) -> jax.Array:
        """Flatten a tree shaped like the parameters into (n,), `dtype`; leaves that are not chosen are passed over."""
        return self._params.to_vector(values)

    def to_params(self, vector: jax.Array, /) -> Any:
        """Cut a vector (n,) into a tree shaped like the parameters, with None for leaves that are not chosen."""
        return self._params.to_params(vector)

    def __repr__(self) -> str:
        return f"CurvatureOperator({self._kind}, n={self.shape[0]:,}, {self.dtype.name}, {self.device})"

    def _product(self, X: jax.Array) -> jax.Array:
        params, width = self._params, self._compiled_width(X.shape[1])
        asked, X = X.shape[1], jnp.pad(X, ((0, 0), (0, width - X.shape[1]))) if width > X.shape[1] else X
        if self._memory is None:
            self._memory = _SHARE * free_memory(jnp, self.device)
        limits = (self._memory, _MOST) if self._chunk is None else (math.inf, self._chunk)

        def visit(batch: Any, total: Any, weight: float) -> Any:
            return self._contribute(params.leaves, params.rest, batch, X, total, weight, limits=limits)

        total = jnp.zeros_like(X, dtype=self._accumulate)
        result = self._passes.mean(visit, total, epsilon(params.dtype)).astype(self.dtype)
        if width not in self._proven:  # a device tells that its memory ran out when it is waited for
            result.block_until_ready()
            self._proven.add(width)
        return result[:, :asked] if asked < width else result

    def _compiled_width(self, width: int) -> int:
        """Return the number of columns to multiply: a few more where that has been compiled already."""
        return min((w for w in self._proven if width <= w <= _WORTH_PADDING * width), default=width)


def _contribution(
    curvature: Curvature,
    params: Parameters,
    placement: Placement,
    leaves: Leaves,
    rest: Any,
    batch: Any,
    X: jax.Array,
    total: jax.Array,
    weight: Any,
    *,
    limits: tuple[float, int],
) -> tuple[jax.Array, jax.Array, Any]:
    """Return `total` plus weight times the batch's matrix times X, the loss and its count. To be compiled."""
    multiply, value, count = curvature(batch, lambda x: params.whole(x, rest), leaves)
    accumulate = total.dtype

    def row_of(row: jax.Array) -> jax.Array:
        pieces = [piece.astype(params.dtype) for piece in params.split(row)]
        return params.join(multiply(pieces), accumulate)

    rows = placement.place(X.T.astype(params.vector_dtype))
    images = mapped(row_of, rows, memory=limits[0], most=limits[1])
    return total + jnp.asarray(weight, accumulate) * placement.place(images).T, value, count


def checked_accumulate(accumulate: Any, dtype: Any) -> Any:
    if accumulate is None:
        return dtype
    name = jnp.dtype(accumulate).name
    if name not in ("float32", "float64"):
        msg = f"`accumulate` must be float32, float64 or None, got {name}."
        raise ValueError(msg)
    if name == "float64" and not x64_enabled():
        msg = f"`accumulate` is float64, but JAX is set to 32 bits. Call {X64} at the start of your program."
        raise ValueError(msg)
    if epsilon(name) > epsilon(dtype):
        msg = f"`accumulate` must not be less precise than the vectors, got {name} for {dtype.name}."
        raise ValueError(msg)
    return jnp.dtype(accumulate)


def checked_chunk(chunk: Any) -> int | None:
    if chunk is not None and (not isinstance(chunk, int) or isinstance(chunk, bool) or chunk < 1):
        msg = f"`chunk` must be a positive integer or None, got {chunk!r}."
        raise ValueError(msg)
    return chunk


def check_block(X: Any, n: int) -> None:
    if not isinstance(X, jax.Array):
        msg = f"`X` must be a JAX array, got {type(X).__name__}. Use jax.numpy.asarray(X)."
        raise TypeError(msg)
    if X.ndim != 2 or X.shape[0] != n:
        msg = f"`X` must have shape ({n}, b), got {tuple(X.shape)}. A single vector is v[:, None]."
        raise ValueError(msg)
    if jnp.issubdtype(X.dtype, jnp.complexfloating):
        msg = f"`X` must be real, got {X.dtype.name}."
        raise ValueError(msg)
