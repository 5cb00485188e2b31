"""The door through which slq finds us: the entry point of the group ``slq.adapters``.

It recognises objects and nothing more; what they become is decided in `_matrices`.
"""

from typing import Any

import jax
from jax.experimental.sparse import BCOO, BCSR

from slq_jax._matrices import MatrixOperator, matrix
from slq_jax._operator import CurvatureOperator


def as_operator(obj: Any, /) -> CurvatureOperator | MatrixOperator | None:
    """Turn a JAX object into a symmetric operator, or return None.

    Parameters
    ----------
    obj : object
        A 2-D array or a BCOO or BCSR matrix becomes the operator of `slq_jax.matrix`; an operator of this package is
        returned as it is.

    Returns
    -------
    CurvatureOperator, MatrixOperator or None
        None if `obj` is nothing this package knows, so that other adapters may try.

    Raises
    ------
    ValueError
        If `obj` is an array that is no real square matrix.

    Examples
    --------
    >>> import jax.numpy as jnp, slq_jax
    >>> slq_jax.as_operator(jnp.eye(3)).shape
    (3, 3)
    >>> slq_jax.as_operator("a text") is None
    True
    """
    if isinstance(obj, CurvatureOperator | MatrixOperator):
        return obj
    return matrix(obj) if isinstance(obj, jax.Array | BCOO | BCSR) else None
