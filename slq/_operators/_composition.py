"""Large operators made of smaller ones: Kronecker products and sums, and block diagonals. Nothing is formed.

Eigenvalues are known from those of the parts, if these are: all products, all sums, all together. What is here is for
parts that are themselves only known by products, and for sums of such operators with others.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from slq._arrays import Array
from slq._operators._operators import Operator, as_whole, multiplied, noise_of, require_one_home


def kron(*operators: Any) -> Operator:
    """Return the Kronecker product of symmetric or Hermitian operators.

    In the order of `numpy.kron`: the last operator's index runs fastest. A product costs n / n_i columns of each
    operator of dimension n_i, and one block more.

    Parameters
    ----------
    *operators : operator
        One or more, each anything that `slq.as_operator` takes; of one array library, device and dtype.

    Returns
    -------
    Operator
        Of the product of the dimensions. Its eigenvalues are all products of an eigenvalue from each.

    Raises
    ------
    TypeError
        If the operators differ in array library, device or dtype.
    ValueError
        If there is none.

    Examples
    --------
    >>> import numpy as np
    >>> import slq
    >>> operator = slq.kron(np.diag([1.0, 2.0]), np.diag([3.0, 5.0]))
    >>> operator.matmat(np.eye(4)).diagonal()
    array([ 3.,  5.,  6., 10.])
    """
    parts = _parts(operators)
    shape = tuple(part.n for part in parts)

    def product(X: Array) -> Array:
        block = X
        for axis in range(len(parts)):
            block = _along(parts, shape, axis, block)
        return block

    return _made("kron", parts, prod(shape), product)


def kronsum(*operators: Any) -> Operator:
    """Return the Kronecker sum A x I + I x B (and so on) of symmetric or Hermitian operators.

    This is how an operator on a grid is made of one for each axis: the last operator's axis runs fastest. A product
    costs n / n_i columns of each operator of dimension n_i, and two blocks more.

    Parameters
    ----------
    *operators : operator
        One or more, each anything that `slq.as_operator` takes; of one array library, device and dtype.

    Returns
    -------
    Operator
        Of the product of the dimensions. Its eigenvalues are all sums of an eigenvalue from each.

    Raises
    ------
    TypeError
        If the operators differ in array library, device or dtype.
    ValueError
        If there is none.

    Notes
    -----
    The first operator comes first, as in `slq.kron`; `scipy.sparse.kronsum` has it last.

    Examples
    --------
    >>> import numpy as np
    >>> import slq
    >>> operator = slq.kronsum(np.diag([1.0, 2.0]), np.diag([10.0, 20.0]))
    >>> operator.matmat(np.eye(4)).diagonal()
    array([11., 21., 12., 22.])
    """
    parts = _parts(operators)
    shape = tuple(part.n for part in parts)

    def product(X: Array) -> Array:
        total = _along(parts, shape, 0, X)
        for axis in range(1, len(parts)):
            total = total + _along(parts, shape, axis, X)
        return total

    return _made("kronsum", parts, prod(shape), product)


def block_diag(*operators: Any) -> Operator:
    """Return the block-diagonal operator of symmetric or Hermitian ones.

    A product costs one with each.

    Parameters
    ----------
    *operators : operator
        One or more, each anything that `slq.as_operator` takes; of one array library, device and dtype.

    Returns
    -------
    Operator
        Of the sum of the dimensions. Its eigenvalues are those of all operators.

    Raises
    ------
    TypeError
        If the operators differ in array library, device or dtype.
    ValueError
        If there is none.

    Examples
    --------
    >>> import numpy as np
    >>> import slq
    >>> slq.block_diag(np.eye(2), np.array([[7.0]])).matmat(np.ones((3, 1))).ravel()
    array([1., 1., 7.])
    """
    parts = _parts(operators)

    def product(X: Array) -> Array:
        images, start = [], 0
        for part in parts:
            image = _image(part, X[start : start + part.n, :])
            images.append(part.xp.asarray(image, copy=True))  # the next may come in the same memory
            start += part.n
        return part.xp.concat(images, axis=0)

    return _made("block_diag", parts, sum(part.n for part in parts), product)


def _along(parts: tuple[Operator, ...], shape: tuple[int, ...], axis: int, X: Array) -> Array:
    """Apply one operator along its axis of every column of X."""
    part, xp = parts[axis], parts[axis].xp
    before, after, columns = prod(shape[:axis]), prod(shape[axis + 1 :]), X.shape[1]
    points = xp.permute_dims(xp.reshape(X, (before, part.n, after, columns)), (1, 0, 2, 3))
    image = _image(part, xp.reshape(points, (part.n, before * after * columns)))
    points = xp.permute_dims(xp.reshape(image, (part.n, before, after, columns)), (1, 0, 2, 3))
    return xp.reshape(points, tuple(X.shape))


def _image(part: Operator, X: Array) -> Array:
    return multiplied(part, X)


def _parts(operators: tuple[Any, ...]) -> tuple[Operator, ...]:
    """Return all as operators that share a home."""
    parts = tuple(as_whole(operator) for operator in operators)
    if not parts:
        msg = "no operator was given. Pass one or more: kron(A, B)."
        raise ValueError(msg)
    require_one_home(parts)
    return parts


def _made(name: str, parts: tuple[Operator, ...], n: int, product: Callable[[Array], Array]) -> Operator:
    first = parts[0]
    kinds = ", ".join(str(part.metadata.get("kind", "operator")) for part in parts)
    return Operator(
        n,
        first.dtype,
        product,
        first.xp,
        first.device,
        noise=sum(map(noise_of, parts)),
        metadata={"kind": f"{name}({kinds})", "parts": [dict(part.metadata) for part in parts]},
    )
