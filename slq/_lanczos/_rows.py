"""Inner products, norms and bases of vectors that are rows of an array, real or complex, on their own device.

With `reduce` each rank has some columns of these rows, and sums go over ranks.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from slq import _arrays
from slq._arrays import Array
from slq._shards import Reduce, own

# Passes that make rows orthonormal by their inner products: the first may leave anything, two more leave rounding.
_PASSES = 5


def conjugate(x: Array, xp: Any) -> Array:
    """Return the complex conjugate, real arrays as they are."""
    return xp.conj(x) if _arrays.is_complex(x.dtype) else x


def inner(rows: Array, others: Array, xp: Any, reduce: Reduce = own) -> Array:
    """Return the inner products of rows, conjugated, with others, shape (rows, others)."""
    return reduce(conjugate(xp.matmul(rows, conjugate(others, xp).T), xp))  # conjugates what is short


def squares(rows: Array, xp: Any, reduce: Reduce = own) -> Array:
    """Return the squared norms of rows, summed in the longest floats that there are."""
    dtype = _arrays.accumulator_dtype(xp, _arrays.device_of(rows))
    parts = (xp.real(rows), xp.imag(rows)) if _arrays.is_complex(rows.dtype) else (rows,)
    sums = [xp.sum(part * part, axis=-1, dtype=dtype) for part in parts]
    return reduce(sums[0] if len(sums) == 1 else sums[0] + sums[1])


def orthonormal(rows: Array, xp: Any, reduce: Reduce = own) -> tuple[Array, Array]:
    """Return orthonormal rows Q and the R with rows = R^T Q, a square matrix; of shards R is not triangular.

    Where columns are with several ranks, Q comes from the eigenvectors of the inner products, taken several times, as
    one pass leaves errors of the square of the condition number (Stathopoulos & Wu 2002,
    doi:10.1137/S1064827500370883). A direction that the rows do not have comes out as zeros then, or as rounding.
    """
    if reduce is own:
        columns, factor = xp.linalg.qr(rows.T)
        return columns.T, factor
    device, unit = _arrays.device_of(rows), _arrays.epsilon(rows.dtype)
    total = np.eye(rows.shape[0])
    for _ in range(_PASSES):
        gram = _arrays.to_host(inner(rows, rows, xp, reduce))
        if not np.isfinite(gram).all():
            total = np.full_like(gram, np.nan)
            break
        sizes = np.sqrt(np.diag(gram))
        divisor = np.where(sizes > 0, sizes, 1.0)
        values, vectors = np.linalg.eigh(gram / divisor[:, None] / divisor)
        roots = np.sqrt(np.maximum(values, len(gram) * unit))
        turn = (vectors / roots).T / divisor
        rows = xp.matmul(_arrays.from_host(turn, xp, dtype=rows.dtype, device=device), rows)
        total = (roots[:, None] * vectors.T * sizes) @ total
        if values[0] > 0.5:  # nearly orthonormal before: now to rounding
            break
    return rows, _arrays.from_host(total, xp, dtype=rows.dtype, device=device)
