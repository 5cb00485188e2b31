"""tr A and tr A^2 of a symmetric matrix whose entries are stored: one pass over them, in float64, less than a product.

By blocks of rows, so that no copy of the matrix is made. Symmetry is not looked at: for another matrix the sum of
squares is no tr A^2, and who uses it must know.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from slq import _arrays
from slq._arrays import Array

Traces = tuple[float, float]

# Entries that are widened to float64 at a time, and rows of a sparse matrix.
_ENTRIES, _ROWS = 2**20, 65_536
# Below it squares of entries that matter may have lost digits.
_SMALLEST = 1e-280


def shifted_traces(traces: Traces, shift: float, n: int) -> Traces:
    """Return those of A + shift I."""
    first, second = traces
    return first + n * shift, second + shift * (2 * first + n * shift)


def dense_traces(matrix: Array, xp: Any) -> Traces | None:
    """Return (tr A, tr A^2) of a dense matrix of any array library; None on a device that has no float64."""
    n, device = int(matrix.shape[0]), _arrays.device_of(matrix)
    on_host = str(device).startswith("cpu")
    double = None if on_host else _arrays.accumulator_dtype(xp, device)
    if double is not None and _arrays.dtype_name(double) != "float64":
        return None
    rows, first, second = max(1, _ENTRIES // n), 0.0, 0.0
    for i in range(0, n, rows):
        j = min(i + rows, n)
        part = matrix[i:j, :]
        block = _arrays.to_host(part) if on_host else _arrays.cast(part, double, xp)
        own = block[:, i:j]
        identity = np.eye(own.shape[0])
        mask = identity if on_host else _arrays.from_host(identity, xp, dtype=double, device=device)
        library = np if on_host else xp
        first += float(library.sum(own * mask))
        with np.errstate(over="ignore", under="ignore"):
            second += float(library.sum(block * block))
    return usable(first, second)


def sparse_traces(matrix: Any) -> Traces | None:
    """Return (tr A, tr A^2) of a CSR matrix; entries given twice are added up first."""
    second, twice = 0.0, not matrix.has_canonical_format
    for i in range(0, matrix.shape[0], _ROWS):
        if twice:
            block = matrix[i : i + _ROWS].copy()
            block.sum_duplicates()
            values = block.data
        else:
            values = matrix.data[matrix.indptr[i] : matrix.indptr[min(i + _ROWS, matrix.shape[0])]]
        wide = values.astype(np.float64, copy=False)
        with np.errstate(over="ignore", under="ignore"):
            second += float(np.dot(wide, wide))
    return usable(float(matrix.diagonal().sum(dtype=np.float64)), second)


def usable(first: float, second: float) -> Traces | None:
    """Return the traces, or None where squares leave the range of float64."""
    return (first, second) if _SMALLEST < second < np.inf and np.isfinite(first) else None
