"""Inner products and norms of vectors that are rows of an array, real or complex, on their own device."""

from __future__ import annotations

from typing import Any

from slq import _arrays
from slq._arrays import Array


def conjugate(x: Array, xp: Any) -> Array:
    """Return the complex conjugate, real arrays as they are."""
    return xp.conj(x) if _arrays.is_complex(x.dtype) else x


def inner(rows: Array, others: Array, xp: Any) -> Array:
    """Return the inner products of rows, conjugated, with others, shape (rows, others)."""
    return conjugate(xp.matmul(rows, conjugate(others, xp).T), xp)  # conjugates what is short


def squares(rows: Array, xp: Any) -> Array:
    """Return the squared norms of rows, summed in the longest floats that there are."""
    dtype = _arrays.accumulator_dtype(xp, _arrays.device_of(rows))
    parts = (xp.real(rows), xp.imag(rows)) if _arrays.is_complex(rows.dtype) else (rows,)
    sums = [xp.sum(part * part, axis=-1, dtype=dtype) for part in parts]
    return sums[0] if len(sums) == 1 else sums[0] + sums[1]
