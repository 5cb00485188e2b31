"""The door through which slq finds us: the entry points of the group ``slq.adapters``.

It recognises objects and nothing more; what they become is decided in `_matrix`.
"""

from typing import Any

from slq_cupy._matrix import MatrixOperator, is_matrix, matrix


def as_operator(obj: Any, /) -> MatrixOperator | None:
    """Turn a CuPy object into a symmetric operator, or return None.

    Parameters
    ----------
    obj : object
        A dense or sparse 2-D matrix or a cupyx LinearOperator becomes the operator of `slq_cupy.matrix`; an operator of
        this package is returned as it is.

    Returns
    -------
    MatrixOperator or None
        None if `obj` is nothing this package knows, so that slq may try what else it offers.

    Raises
    ------
    ValueError
        If `obj` is not square, or on another device than the current one.
    TypeError
        If its entries are complex.

    Examples
    --------
    >>> import cupy, slq_cupy
    >>> slq_cupy.as_operator(cupy.eye(3)).shape
    (3, 3)
    >>> slq_cupy.as_operator("a text") is None
    True
    """
    if isinstance(obj, MatrixOperator):
        return obj
    return matrix(obj) if is_matrix(obj) else None
