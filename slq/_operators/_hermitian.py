"""The real form of a complex Hermitian matrix: the same products, on real and imaginary parts.

H = R + iS acts on x + iy as the real symmetric [[R, -S], [S, R]] on (x, y), where every eigenvalue of H occurs twice.
A Lanczos run of that from a random real vector *is* the complex run of H: (x, y)^T p(M) (x, y) = z^H p(H) z for every
real polynomial p, and a point of the real sphere is one of the complex sphere. So alpha and beta are the same numbers,
the vectors cost no byte and half the arithmetic of complex ones, and the law of the probes is known: eigenvalue weights
are Dirichlet(1, ..., 1), a trace scatters by Var f / (n + 1) instead of 2 Var f / (n + 2).

Here parts alternate, as in the memory of a complex array: no product copies its vectors.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from slq import _arrays
from slq._arrays import Array
from slq._operators._operators import Operator, as_operator, require_block, unknown_traces


def real_form(H: Any, /) -> Operator:
    """Return a complex Hermitian operator as a real symmetric one of twice the dimension, real ones as they are.

    `slq.spectrum` does this by itself and tells everything of H, and `slq.eigsh` takes H as it is. Other functions take
    the real form as they take any symmetric operator, and then every eigenvalue occurs twice: halve traces, and expect
    pairs of eigenvalues. A product costs one with H.

    Parameters
    ----------
    H : operator
        Anything that `slq.as_operator` takes.

    Returns
    -------
    Operator
        Of dimension 2 n, on vectors of alternating real and imaginary parts (``z.view(float)`` in NumPy); `copies` is
        2.

    Raises
    ------
    TypeError, ValueError
        As `slq.as_operator`.

    Examples
    --------
    >>> import numpy as np
    >>> import slq
    >>> pauli_y = np.array([[0, -1j], [1j, 0]])
    >>> slq.eigsh(slq.real_form(pauli_y), k=4).values.round(6)
    array([-1., -1.,  1.,  1.])
    """
    operator = as_operator(H)
    if not _arrays.is_complex(operator.dtype):
        return operator
    xp = operator.xp

    def product(X: Array) -> Array:
        Z = _arrays.as_complex(_arrays.rows_of(X, xp), operator.dtype, xp).T
        if operator.order == "C" and _arrays.is_numpy(xp):
            Z = np.ascontiguousarray(Z)
        block = operator.product(Z)
        require_block(block, Z)
        return _arrays.as_pairs(_arrays.rows_of(block, xp), xp).T

    return replace(
        operator,
        n=2 * operator.n,
        dtype=_arrays.working_dtype(operator.dtype, xp),
        product=product,
        order="F",
        krylov=None,
        traces=unknown_traces,  # those of the entries are not those of the real form
        metadata={**operator.metadata, "kind": f"complex Hermitian {operator.metadata.get('kind', 'operator')}"},
        deflates=False,
        copies=2,
        rows=operator.rows and tuple(range(2 * part.start, 2 * part.stop) for part in operator.rows),
    )


def parts_of(name: str, vectors: Any, operator: Operator) -> Any:
    """Return vectors of a matrix as those of its real form: complex columns as real and imaginary parts in turn."""
    if not _arrays.is_array(vectors):
        return vectors  # refused by whoever asked, who knows what it is for
    if operator.copies == 1:
        if _arrays.is_complex(vectors.dtype):
            msg = f"`{name}` is complex and `A` real. Pass real and imaginary parts as two columns."
            raise TypeError(msg)
        return vectors
    xp, n = operator.xp, operator.n // operator.copies
    if vectors.ndim not in (1, 2) or vectors.shape[0] != n:
        msg = f"`{name}` must have shape ({n},) or ({n}, k), got {tuple(vectors.shape)}."
        raise ValueError(msg)
    columns = vectors[:, None] if vectors.ndim == 1 else vectors
    columns = _arrays.as_pairs(_arrays.rows_of(_arrays.cast(columns, _field(operator), xp), xp), xp).T
    return columns[:, 0] if vectors.ndim == 1 else columns


def joined(vectors: Array, operator: Operator) -> Array:
    """Return vectors of a real form as those of the matrix: the inverse of `parts_of`."""
    if operator.copies == 1:
        return vectors
    xp = operator.xp
    columns = vectors[:, None] if vectors.ndim == 1 else vectors
    columns = _arrays.as_complex(_arrays.rows_of(columns, xp), _field(operator), xp).T
    return columns[:, 0] if vectors.ndim == 1 else columns


def _field(operator: Operator) -> Any:
    """Return the complex dtype whose parts a real form works with."""
    return _arrays.complex_dtype(operator.dtype, operator.xp)
