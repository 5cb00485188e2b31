"""One triangle of a symmetric matrix, given for the whole: seen from the places of the entries, before any product.

Whether a matrix with both triangles is symmetric is not looked at: the products of a run tell.
"""

from __future__ import annotations

from typing import Any

import numpy as np

# Rows looked at together.
_ROWS = 65_536


def require_two_triangles(matrix: Any) -> None:
    """Refuse a triangular matrix that is not diagonal: it is not symmetric, but often half of one that is.

    Stops at the first rows that have entries on both sides of the diagonal, which in a symmetric matrix come early.
    """
    below = above = False
    for first in range(0, matrix.shape[0], _ROWS):
        counts = np.diff(matrix.indptr[first : first + _ROWS + 1])
        entries = slice(int(matrix.indptr[first]), int(matrix.indptr[first]) + int(counts.sum()))
        offset = matrix.indices[entries] - np.repeat(np.arange(first, first + len(counts)), counts)
        offset[matrix.data[entries] == 0] = 0
        below, above = below or bool((offset < 0).any()), above or bool((offset > 0).any())
        if below and above:
            return
    if below or above:
        msg = (
            f"`A` is {'lower' if below else 'upper'} triangular, so it is not symmetric. If it is one triangle of a "
            "symmetric matrix, pass the whole: A + A.T - scipy.sparse.diags_array(A.diagonal())."
        )
        raise ValueError(msg)
