"""f(A) as an operator: whatever takes an operator takes a function of one, such as XTrace of exp(A).

Each product is an application by Lanczos (`slq.apply`), so it costs many products with A and is exact to a tolerance.
For tr f(A) by quadrature, which needs no application, there is `slq.trace`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from slq import _arrays
from slq._arrays import Array
from slq._operators._operators import Operator, as_operator
from slq._quadrature._integrands import Function, Name, integrand_of
from slq._traces._apply import apply

# An application is exact to so many roundings at best.
_ROUNDINGS = 100.0


def matrix_function(A: Any, f: Function | Name, /, rtol: float = 1e-10, *, memory: float | None = None) -> Operator:
    """Return f(A) as an operator, for example to estimate its trace by XTrace or its diagonal by XDiag.

    Pays where f makes eigenvalues decay, as exp(-t A) or a high power: then a sketch of f(A) holds most of it. A
    product costs as many products with A as `slq.apply` makes steps; `metadata` counts them under "products of A".

    Parameters
    ----------
    A : operator
        Anything that `slq.as_operator` takes.
    f : callable or str
        Vectorised function of eigenvalues, or a name as for `Spectrum.trace`.
    rtol : float, default 1e-10
        Error of a product, relative to its norm; in float32 what rounding leaves, 1e-5, if that is more. It is the
        operator's `noise`, which every result takes account of.
    memory : float, optional
        Bytes that the Krylov vectors of a product may take, up to 16 columns at a time; half of what is free by
        default. With less, vectors are made twice.

    Returns
    -------
    Operator
        Of the dimension, array library, device and dtype of A.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range. A product raises ValueError where f is undefined at a Ritz value.

    See Also
    --------
    apply : One application, with its error.
    trace : The trace of f(A) by quadrature.

    Examples
    --------
    >>> import numpy as np
    >>> import slq
    >>> operator, law = slq.gallery.laplacian_2d(20)
    >>> heat = slq.matrix_function(operator, lambda x: np.exp(-2 * x))
    >>> found, exact = slq.xtrace(heat, products=100, rng=0), law.trace(lambda x: np.exp(-2 * x))
    >>> bool(abs(found.value / exact - 1) < 1e-2)
    True
    """
    operator, integrand = as_operator(A), integrand_of(f)
    if not 0 < rtol < 1:
        msg = f"`rtol` must lie strictly between 0 and 1, got {rtol}: it is the relative error of a product."
        raise ValueError(msg)
    source = _Applications(operator, f, max(rtol, _ROUNDINGS * _arrays.epsilon(operator.dtype)), memory)
    source.metadata["kind"] = f"{integrand.name} of {operator.metadata.get('kind', 'operator')}"
    return Operator(
        operator.n,
        operator.dtype,
        source.product,
        operator.xp,
        operator.device,
        "F",
        source.noise,
        source.metadata,
        source=source,
        reduce=operator.reduce,
        rows=operator.rows,
    )


class _Applications:
    """Applies f(A) to blocks and counts what that costs."""

    def __init__(self, operator: Operator, f: Function | Name, rtol: float, memory: float | None) -> None:
        self._operator, self._f, self._memory = operator, f, memory
        self.noise = rtol
        self.metadata: dict[str, Any] = {"products of A": 0}

    def product(self, X: Array) -> Array:
        """Return f(A) X; columns of zeros stay what they are."""
        xp = self._operator.xp
        largest = xp.max(xp.abs(X), axis=0) if X.shape[0] else xp.sum(X, axis=0)
        sizes = _arrays.to_host(self._operator.reduce(largest))
        some = np.flatnonzero(sizes != 0)
        if not some.size:
            return xp.zeros_like(X)
        columns = [X[:, int(i)] for i in some]
        found = apply(self._operator, xp.stack(columns, axis=1), self._f, self.noise, memory=self._memory)
        self.metadata["products of A"] += found.products
        values = _arrays.cast(found.value, X.dtype, xp)
        if some.size == len(sizes):
            return values
        places = {int(i): values[:, j] for j, i in enumerate(some)}
        return xp.stack([places.get(i, xp.zeros_like(X[:, i])) for i in range(len(sizes))], axis=1)
