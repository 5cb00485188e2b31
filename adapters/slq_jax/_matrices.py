"""Dense and sparse JAX matrices as symmetric operators on their own device, with compiled products.

Symmetry is not checked here: that costs a pass over the matrix, and `slq.check` does it by products.
"""

from functools import partial
from typing import Any, Literal, NamedTuple, final

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.sparse import BCOO, BCSR

from slq._kernels._entries import dense_traces, usable
from slq._operators._linear import Linear
from slq_jax._krylov import recurrence
from slq_jax._parameters import x64_enabled
from slq_jax._placement import Placement, automatic, placement_of

# What an entry costs in a sum over unequal rows, in slots of an equal row: measured 8 on one core, n = 90,000.
_SCATTER = 8
# Slots of a row that are written out one by one; the rest goes through a loop.
_UNROLLED = 8


class Rows(NamedTuple):
    """A sparse matrix: w entries of each row as (w, n) arrays padded with zeros, and what is left of longer rows.

    Products gather and add, and scatter only what is left; 26 times as fast as those of BCSR and 60 times as those of
    BCOO for a Laplacian of n = 90,000 on one core.
    """

    columns: jax.Array
    values: jax.Array
    rest_rows: jax.Array
    rest_columns: jax.Array
    rest_values: jax.Array


@final
class MatrixOperator(Linear):
    """A JAX matrix as a symmetric operator; made by `slq_jax.matrix`."""

    __slots__ = ("_matrix", "_multiply", "device", "dtype", "krylov", "metadata", "shape")

    order: Literal["F"] = "F"

    def __init__(self, matrix: Any, multiply: Any, n: int, placement: Placement, facts: dict[str, Any]) -> None:
        self._matrix = matrix
        self._multiply = partial(jax.jit(multiply, static_argnames="placement"), placement=placement)
        values = matrix.values if isinstance(matrix, Rows) else matrix
        self.shape: tuple[int, int] = (n, n)
        self.dtype: Any = jnp.promote_types(values.dtype, jnp.float32)
        self.device: Any = placement.device
        self.krylov = partial(recurrence, placement)
        stored = values.dtype.name
        kind = "matrix" if stored == self.dtype.name else f"{stored} matrix, multiplied in {self.dtype.name}"
        self.metadata: dict[str, Any] = {"kind": kind, **facts, "dtype": stored, "device": str(self.device)}

    @property
    def xp(self) -> Any:
        """Array namespace of the vectors."""
        return jnp

    @property
    def traces(self) -> tuple[float, float] | None:
        """The traces of the matrix and of its square, exact up to rounding; None where float64 is not enough."""
        matrix = self._matrix
        if not isinstance(matrix, Rows):
            return dense_traces(matrix, jnp)
        values, rest = (np.asarray(part, dtype=np.float64) for part in (matrix.values, matrix.rest_values))
        own = float(values[np.asarray(matrix.columns) == np.arange(self.shape[0])].sum())
        own += float(rest[np.asarray(matrix.rest_rows) == np.asarray(matrix.rest_columns)].sum())
        return usable(own, float(np.sum(values * values) + np.sum(rest * rest)))

    def matmat(self, X: jax.Array, /) -> jax.Array:
        """Return the product A @ X as a new (n, b) array.

        Parameters
        ----------
        X : Array
            The (n, b) block of columns.

        Returns
        -------
        Array
            A @ X, shape (n, b).
        """
        result: jax.Array = self._multiply(self._matrix, X)
        return result

    def __matmul__(self, X: jax.Array, /) -> jax.Array:
        """Multiply with a block (n, b) or a vector (n,)."""
        return self.matmat(X[:, None])[:, 0] if X.ndim == 1 else self.matmat(X)

    def __repr__(self) -> str:
        return f"MatrixOperator(n={self.shape[0]}, {self.metadata['layout']}, {self.dtype.name}, {self.device})"


def matrix(array: Any, /) -> MatrixOperator:
    """Wrap a symmetric JAX matrix, dense or sparse, as an operator on its device.

    A dense array is used in place, without a copy; a sharded one stays sharded. A sparse one is rearranged once, on
    the host: entries slot by slot for all rows, the excess of a few long rows beside them; about as much memory again.

    Parameters
    ----------
    array : Array, BCOO or BCSR
        Shape (n, n), real. Integers and booleans become floating. Entries in half precision are multiplied in float32,
        in which they are exact. Repeated entries of a BCOO matrix are summed.

    Returns
    -------
    MatrixOperator
        With `shape`, `dtype` (of the vectors), `device`, `xp`, `order`, `metadata` and `matmat`.

    Raises
    ------
    TypeError
        If `array` is no JAX matrix, or a tracer.
    ValueError
        If it is not square and two-dimensional, or complex.

    Notes
    -----
    Dense products are computed at JAX's highest matmul precision: by default accelerators round the factors.

    Examples
    --------
    >>> import jax.numpy as jnp, slq_jax
    >>> A = slq_jax.matrix(jnp.diag(jnp.array([1.0, 2.0, 3.0])))
    >>> A.matmat(jnp.ones((3, 1))).T
    Array([[1., 2., 3.]], dtype=float32)
    """
    if isinstance(array, jax.core.Tracer):
        msg = "`array` is a tracer. An operator is made of arrays: call this outside of jax.jit, jax.grad and jax.vmap."
        raise TypeError(msg)
    if not isinstance(array, jax.Array | BCOO | BCSR):
        msg = (
            f"`array` must be a JAX array, BCOO or BCSR, got {type(array).__name__}. Use jax.numpy.asarray(...) first."
        )
        raise TypeError(msg)
    n = array.shape[0] if array.ndim else 0
    if array.ndim != 2 or array.shape != (n, n) or not n:
        msg = f"`array` must be square and two-dimensional, (n, n) with n > 0, got shape {tuple(array.shape)}."
        raise ValueError(msg)
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        msg = (
            f"`array` must be real, got {array.dtype.name}. A Hermitian H = R + iS has the spectrum of the real "
            "[[R, -S], [S, R]], each eigenvalue twice."
        )
        raise ValueError(msg)
    if isinstance(array, jax.Array):
        dense = automatic(_floating(array))
        return MatrixOperator(dense, _dense, n, placement_of(("A",), (dense,), n), {"layout": "dense"})
    entries = array.to_bcoo() if isinstance(array, BCSR) else array
    if entries.n_batch or entries.n_dense:
        msg = f"`array` must have scalar entries and no batch dimensions, got {entries}."
        raise ValueError(msg)
    placement = placement_of(("A",), (automatic(entries.data),), n)
    rows = _slots(entries, n, placement.device)
    facts = {"layout": type(array).__name__, "nonzeros": int(entries.nse)}
    return MatrixOperator(rows, _sparse, n, placement, facts)


def _floating(values: jax.Array) -> jax.Array:
    if jnp.issubdtype(values.dtype, jnp.floating):
        return values
    return values.astype(jnp.float64 if x64_enabled() else jnp.float32)


def _dense(array: jax.Array, X: jax.Array, placement: Placement) -> jax.Array:
    X = X.astype(jnp.promote_types(array.dtype, X.dtype))
    image = jnp.matmul(array.astype(X.dtype), X, precision=jax.lax.Precision.HIGHEST)
    return placement.place(image.T).T


def _sparse(rows: Rows, X: jax.Array, placement: Placement) -> jax.Array:
    dtype = jnp.promote_types(rows.values.dtype, X.dtype)

    def add(total: jax.Array, slot: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        columns, values = slot
        return total + values[:, None] * X[columns], None

    total = jnp.zeros(X.shape, dtype=dtype)
    total, _ = jax.lax.scan(add, total, (rows.columns, rows.values), unroll=_UNROLLED)
    if rows.rest_rows.size:
        terms = rows.rest_values[:, None].astype(dtype) * X[rows.rest_columns]
        total = total + jax.ops.segment_sum(terms, rows.rest_rows, X.shape[0], indices_are_sorted=True)
    return placement.place(total.T).T


def _slots(entries: BCOO, n: int, device: Any) -> Rows:
    """Arrange entries, on the host: one more slot as long as enough rows have an entry for it."""
    dtype = np.float64 if _floating(entries.data).dtype == np.float64 else np.float32
    indices, values = np.asarray(entries.indices), np.asarray(entries.data).astype(dtype)
    kept = (indices < n).all(axis=1)  # indices beyond the matrix are padding
    indices, values = indices[kept], values[kept]
    order = np.lexsort(indices.T[::-1])
    indices, values = indices[order], values[order]
    new = np.append(True, np.any(np.diff(indices, axis=0) != 0, axis=1))[: len(values)]
    (rows, columns), values = indices[new].T, np.add.reduceat(values, np.flatnonzero(new)) if len(values) else values
    counts = np.bincount(rows, minlength=n)
    longer = np.cumsum(np.bincount(counts)[::-1])[::-1]  # rows with at least so many entries
    width = int(np.sum(longer[1:] * _SCATTER > n))
    place = np.arange(len(rows)) - (np.cumsum(counts) - counts)[rows]
    inside = place < width
    slots = np.zeros((width, n), dtype=np.int32), np.zeros((width, n), dtype=dtype)
    for slot, entry in zip(slots, (columns, values), strict=True):
        slot[place[inside], rows[inside]] = entry[inside]
    rest = (x[~inside] for x in (rows.astype(np.int32), columns.astype(np.int32), values))
    return Rows(*(jax.device_put(x, device) for x in (*slots, *rest)))
