"""The door through which slq finds us: the entry point of the group ``slq.adapters``.

It recognises objects and nothing more; what they become is decided in `_tensors`.
"""

from typing import Any

from torch import Tensor

from slq_torch._curvature._operator import CurvatureOperator
from slq_torch._tensors._tensors import MatrixOperator, matrix


def as_operator(obj: Any, /) -> CurvatureOperator | MatrixOperator | None:
    """Turn a torch object into a symmetric operator, or return None.

    Parameters
    ----------
    obj : object
        A dense or sparse 2-D tensor becomes the operator of `slq_torch.matrix`; an operator of
        this package is returned as it is.

    Returns
    -------
    CurvatureOperator, MatrixOperator or None
        None if `obj` is nothing this package knows, so that other adapters may try.

    Raises
    ------
    ValueError
        If `obj` is a tensor that is no square matrix.

    Examples
    --------
    >>> import torch, slq_torch
    >>> slq_torch.as_operator(torch.eye(3)).shape
    (3, 3)
    >>> slq_torch.as_operator("a text") is None
    True
    """
    if isinstance(obj, CurvatureOperator | MatrixOperator):
        return obj
    return matrix(obj) if isinstance(obj, Tensor) else None
