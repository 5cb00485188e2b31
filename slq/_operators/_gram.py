"""Symmetric operators that know the singular values of a rectangular matrix: A^T A, and [[0, A], [A^T, 0]].

Of A^T A and A A^T, which have the same eigenvalues but for zeros, the smaller is taken. Lanczos on it is Golub-Kahan
bidiagonalisation with the bidiagonal matrix squared, so a singular value below about 1e-8 of the largest (3e-4 in
float32) is lost in rounding, as it would be in A^T A itself. The dilation squares nothing and keeps values down to
a rounding of the largest, for vectors of both sides together and, since each value has its negative, twice the steps.

Source: Golub & Kahan 1965, doi:10.1137/0702016.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse

from slq import _arrays
from slq._arrays import Array
from slq._operators._operators import Operator, columnwise, floating, home_of

Multiply = Callable[[Array], Array]


def gram(A: Any, /, *, like: Array | None = None) -> Operator:
    """Return the Gram operator A^T A, or A A^T where that is smaller; A^H A of a complex matrix.

    Its spectrum tells that of the singular values: ``s.count(a**2, b**2)`` of them lie in (a, b], the square root of
    ``s.quantile(q)`` is their quantile, ``s.nuclear_norm(gram=True)`` and ``s.schatten_norm(p, gram=True)`` are norms
    of A. A product costs one with A and one with its transpose.

    Parameters
    ----------
    A : array, sparse matrix or operator, shape (rows, columns)
        A matrix of any array library; a scipy.sparse matrix; or an object with `matmat` and `rmatmat`, `matvec` and
        `rmatvec`, or `@` and `.T`, such as SciPy's LinearOperator.
    like : array, optional
        For an object: an array whose library, dtype and device its vectors have. NumPy and the object's dtype by
        default.

    Returns
    -------
    Operator
        Of dimension min(rows, columns).

    Raises
    ------
    TypeError
        If `A` has no product, or none with its transpose.
    ValueError
        If `A` is not two-dimensional or is empty, or squares of its entries leave the range of its dtype.

    References
    ----------
    Golub & Kahan 1965, doi:10.1137/0702016.

    Examples
    --------
    >>> import numpy as np
    >>> import slq
    >>> A = np.diag([3.0, 4.0])[:, [0, 1, 1]]
    >>> s = slq.spectrum(slq.gram(A), rng=0)
    >>> round(float(s.nuclear_norm(gram=True)), 6)  # 3 + 4 sqrt(2)
    8.656854
    """
    shape = _shape_of(A)
    forward, adjoint, (dtype, xp, device) = _factors(A, like)
    first, second = (forward, adjoint) if shape[1] <= shape[0] else (adjoint, forward)
    return Operator(
        int(min(shape)),
        dtype,
        lambda X: second(first(X)),
        xp,
        device,
        metadata={"kind": f"Gram matrix of {shape[0]} × {shape[1]}"},
    )


def dilation(A: Any, /, *, like: Array | None = None) -> Operator:
    """Return the operator [[0, A], [A^H, 0]], whose eigenvalues are the singular values and their negatives.

    For small singular values, which `gram` loses in rounding. `s.count(a, b)` of them lie in (a, b] for 0 < a < b;
    traces of even functions are twice those over the singular values. As many further eigenvalues are zero as A has
    rows more than columns, or columns more than rows. A product costs one with A and one with its transpose, as that
    of `gram`.

    Parameters
    ----------
    A : array, sparse matrix or operator, shape (rows, columns)
        As for `gram`.
    like : array, optional
        As for `gram`.

    Returns
    -------
    Operator
        Of dimension rows + columns. An eigenvector is the left singular vector above the right one, over sqrt(2).

    Raises
    ------
    TypeError, ValueError
        As `gram`.

    References
    ----------
    Golub & Kahan 1965, doi:10.1137/0702016.

    Examples
    --------
    >>> import numpy as np
    >>> import slq
    >>> A = np.diag([1.0, 1e-12, 0.5])[:, [0, 1, 2, 2]]
    >>> [f"{value:.3g}" for value in slq.eigsh(slq.dilation(A), k=7, rng=0).values[4:]]
    ['1e-12', '0.707', '1']
    """
    rows, columns = _shape_of(A)
    forward, adjoint, (dtype, xp, device) = _factors(A, like)
    return Operator(
        rows + columns,
        dtype,
        lambda X: xp.concat([forward(X[rows:, :]), adjoint(X[:rows, :])], axis=0),
        xp,
        device,
        metadata={"kind": f"dilation of {rows} × {columns}"},
    )


def _shape_of(A: Any) -> tuple[int, int]:
    shape = tuple(getattr(A, "shape", ()))
    if len(shape) != 2 or min(shape) < 1:
        msg = f"`A` must be a matrix, two-dimensional and not empty, got {type(A).__name__} of shape {shape}."
        raise ValueError(msg)
    return int(shape[0]), int(shape[1])


def _factors(A: Any, like: Array | None) -> tuple[Multiply, Multiply, tuple[Any, Any, Any]]:
    """Return the products with A and with its adjoint, and dtype, namespace and device of the vectors."""
    if scipy.sparse.issparse(A):
        A = floating(A.tocsr())
        _require_squares(A.data, np)
        return A.__matmul__, A.conj().T.tocsr().__matmul__, home_of(A, None)
    if _arrays.is_array(A):
        xp = _arrays.namespace_of(A)
        A = floating(A, xp)
        _require_squares(A, xp)
        place = (xp.float32 if _arrays.is_half(A.dtype) else A.dtype, xp, _arrays.device_of(A))
        if _arrays.is_half(A.dtype):
            return partial(_arrays.widened_product, A, xp), partial(_arrays.widened_product, A.T, xp), place
        if _arrays.is_complex(A.dtype):  # conjugate the block, which is small, instead of the matrix
            return A.__matmul__, lambda Y: xp.conj(A.T @ xp.conj(Y)), place
        return A.__matmul__, A.T.__matmul__, place
    place = home_of(A, like)
    if hasattr(A, "matmat") and hasattr(A, "rmatmat"):
        return A.matmat, A.rmatmat, place
    if hasattr(A, "matvec") and hasattr(A, "rmatvec"):
        return columnwise(A.matvec, place[1], A.shape[0]), columnwise(A.rmatvec, place[1], A.shape[1]), place
    if hasattr(A, "__matmul__") and hasattr(A, "T") and not _arrays.is_complex(place[0]):
        return A.__matmul__, A.T.__matmul__, place
    msg = (
        f"`A` of type {type(A).__name__} has no product with its transpose. Give it `matmat` and `rmatmat`, `matvec` "
        "and `rmatvec`, or `@` and `.T`."
    )
    raise TypeError(msg)


def _require_squares(entries: Array, xp: Any) -> None:
    """Refuse a matrix whose entries have squares beyond the range of its dtype."""
    stored = entries.coalesce().values() if getattr(entries, "is_sparse", False) else entries  # torch
    size, limits = float(xp.max(xp.abs(stored))) if 0 not in stored.shape else 0.0, xp.finfo(entries.dtype)
    if size and not float(limits.smallest_normal) < size * size < float(limits.max):
        msg = (
            f"`A` has entries up to {size:.3g}, whose squares leave the range of {_arrays.dtype_name(entries.dtype)}. "
            "Divide A by its size first: its singular values are divided by the same."
        )
        raise ValueError(msg)
